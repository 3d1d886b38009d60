package domains

import (
	"context"
	"iter"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// statesOptions are the states settings that tests change.
type statesOptions struct {
	states.Config
	collector.Env
	MaxAge time.Duration
}

// statesOf returns a collector of the states that domains are joined with.
func statesOf(w *collectortest.World, c states.Client, change ...func(*statesOptions)) *states.Collector {
	o := statesOptions{Env: w.Env("security_states"), MaxAge: 45 * time.Minute}
	o.Defaults()
	for _, f := range change {
		f(&o)
	}
	o.RefreshInterval, o.Config.MaxAge = 0, model.Duration(o.MaxAge)
	return states.New(o.Config, o.Env, c)
}

// fakeStates is a states.Client that returns the rows of the test.
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
func state(n int, properties ...string) client.SecurityState {
	return client.SecurityState{ID: id(n), Build: []byte("19045"), Architecture: []byte("Amd64"), Properties: collectortest.TextList(properties...)}
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
