package states

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// Options are the settings that tests change.
type Options struct {
	Config
	collector.Env
	Interval, MaxAge time.Duration
}

func newStates(w *collectortest.World, c Client, change ...func(*Options)) *Collector {
	o := Options{Env: w.Env("security_states"), MaxAge: 45 * time.Minute}
	o.Defaults()
	for _, f := range change {
		f(&o)
	}
	o.RefreshInterval, o.Config.MaxAge = model.Duration(o.Interval), model.Duration(o.MaxAge)
	return New(o.Config, o.Env, c)
}

// fakeStates is a Client that returns the rows of the test.
type fakeStates struct {
	StateRows     func(yield func(*client.SecurityState, error) bool)
	MachineRows   func(yield func(*client.Machine, error) bool)
	AntivirusRows func(yield func(*client.AntivirusHealth, error) bool)
	Calls         []client.API
}

func (f *fakeStates) ContainsSecret(string) bool { return false }

func (f *fakeStates) SecurityStates(context.Context) iter.Seq2[*client.SecurityState, error] {
	f.Calls = append(f.Calls, client.MachineSecurityStates)
	return f.StateRows
}

func (f *fakeStates) Machines(context.Context) iter.Seq2[*client.Machine, error] {
	f.Calls = append(f.Calls, client.Machines)
	return f.MachineRows
}

func (f *fakeStates) AntivirusHealth(context.Context) iter.Seq2[*client.AntivirusHealth, error] {
	f.Calls = append(f.Calls, client.DeviceAVInfo)
	return f.AntivirusRows
}

// state returns a row of the preview.
func state(n int, build, architecture string, properties ...string) client.SecurityState {
	return client.SecurityState{ID: id(n), Build: []byte(build), Architecture: []byte(architecture), Properties: collectortest.TextList(properties...)}
}

// apiError returns an error that the service itself sent.
func apiError(api client.API, status int) error {
	e := &client.Error{API: api, Status: status, Reason: client.ReasonOther, Message: "as scripted"}
	e.Code = map[int]string{400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "ResourceNotFound", 410: "Gone"}[status]
	switch {
	case status >= 500:
		e.Reason = client.ReasonServer
	case status == 401:
		e.Reason = client.ReasonAuth
	case status == 403:
		e.Reason = client.ReasonForbidden
	}
	return e
}

// failingStore is a Store that always fails.
type failingStore struct{}

var errDiskFull = errors.New("disk full")

func (failingStore) Load(string, any) (bool, error) { return false, errDiskFull }
func (failingStore) Save(string, any) error         { return errDiskFull }
func (failingStore) Delete(string) error            { return errDiskFull }
func (failingStore) Keys(string) ([]string, error)  { return nil, errDiskFull }

// id returns a machine id, a different one for each number.
func id(n int) client.MachineID {
	return client.MachineID{0: 1, 16: byte(n >> 24), 17: byte(n >> 16), 18: byte(n >> 8), 19: byte(n)}
}

// newClient returns a real client that uses the transport.
func newClient(t testing.TB, transport http.RoundTripper) *client.Client {
	t.Helper()
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	c, err := client.New(client.Options{
		LoginURL: at("login.example"), GraphURL: at("graph.example"), APIURL: at("api.example"),
		GraphScope: "graph", APIScope: "api", Transport: transport,
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "of-no-worth"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.JoinQuotas()
	return c
}
