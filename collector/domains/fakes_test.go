package domains

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// Options are the settings that tests change.
type Options struct {
	Config
	collector.Env
	Interval, MaxAge time.Duration
	Attention        *attention.Index // Nil means a new one.
}

func newDomains(w *collectortest.World, c Client, domains []string, change ...func(*Options)) *Collector {
	o := Options{Env: w.Env("watched_domains"), Interval: time.Hour, MaxAge: 3 * time.Hour}
	o.Domains = domains
	o.Shared = &collector.Shared{}
	for _, f := range change {
		f(&o)
	}
	return o.collector(c)
}

func (o Options) collector(c Client) *Collector {
	o.RefreshInterval, o.Config.MaxAge = model.Duration(o.Interval), model.Duration(o.MaxAge)
	if o.Attention != nil {
		o.Shared = &collector.Shared{}
		collector.Share(o.Shared, func() (*attention.Index, func()) { return o.Attention, nil })
	}
	return New(o.Config, o.Env, c)
}

// currentMaxAge returns the age at which values are withdrawn.
func (w *Collector) currentMaxAge() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lists[0].expiry
}

// fakeListFile replaces the watch-list file of a collector in tests with fake time. It
// reads no disk.
type fakeListFile struct {
	files   *Lists
	process *collector.Shared
}

func newFakeListFile(domains ...string) *fakeListFile {
	f := &fakeListFile{&Lists{lists: map[string]*usedList{"list.txt": {}}, lastRead: time.Now().Add(10_000 * time.Hour)}, &collector.Shared{}}
	collector.Share(f.process, func() (*Lists, func()) { return f.files, nil })
	f.setDomains(domains)
	return f
}

func (f *fakeListFile) setDomains(domains []string) {
	f.files.mu.Lock()
	defer f.files.mu.Unlock()
	f.files.lists["list.txt"].list = &List{Domains: sortedSet(domains)}
}

// watch makes f the watch list of a collector.
func (f *fakeListFile) watch(o *Options) {
	o.Process, o.Domains, o.Files = f.process, nil, []string{"list.txt"}
}

// set changes the list and reloads the collector.
func (f *fakeListFile) set(d *Collector, domains ...string) {
	f.setDomains(domains)
	d.Reloaded()
}

// machineSets implements attention.ByID.
type machineSets map[client.MachineID]attention.PropertySet

func (m machineSets) Len() int { return len(m) }

func (m machineSets) Properties(id client.MachineID) attention.PropertySet { return m[id] }

// refusedDomains is a Client whose credential is invalid.
type refusedDomains struct {
	quickDomains
	mu    sync.Mutex
	calls int
}

func (f *refusedDomains) DomainMachines(context.Context, string) iter.Seq2[*client.Machine, error] {
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
	return collectortest.RowsOf[client.Machine](&client.Error{API: client.Token, Status: 401, Reason: client.ReasonAuth, Code: "invalid_client"})
}

func (f *refusedDomains) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// hangingDomain is a transport that never responds to lookups of one domain.
type hangingDomain struct {
	*fakeAPI
	domain string
}

func (h *hangingDomain) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, h.domain) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return h.fakeAPI.RoundTrip(r)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// id returns a machine id, a different one for each number.
func id(n int) client.MachineID {
	return client.MachineID{0: 1, 16: byte(n >> 24), 17: byte(n >> 16), 18: byte(n >> 8), 19: byte(n)}
}

// newClient returns a real client that uses the transport.
func newClient(t testing.TB, transport http.RoundTripper, ledger client.Ledger, observer client.Observer) *client.Client {
	t.Helper()
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	c, err := client.New(client.Options{
		LoginURL: at("login.example"), GraphURL: at("graph.example"), APIURL: at("api.example"),
		GraphScope: "graph", APIScope: "api", Transport: transport, Quotas: client.NewQuotas(func(client.QuotaKey) client.Ledger { return ledger }), Observer: observer,
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "of-no-worth"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.JoinQuotas()
	return c
}

// emptyLedger is a ledger without earlier calls.
type emptyLedger struct{}

func (emptyLedger) Spent(client.API) []time.Time { return nil }
func (emptyLedger) Spend(client.API, time.Time)  {}

// refreshOnce refreshes a collector once.
func refreshOnce(t *testing.T, w *collectortest.World, c collector.Collector) {
	t.Helper()
	if err := w.Refresher(c, 15*time.Minute).Once(t.Context()); err != nil {
		t.Fatal(err)
	}
}
