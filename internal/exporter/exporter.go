// Package exporter runs the tenants of one configuration, each with its client
// and collectors. It spreads their starts over time, replaces them on reload, and
// reports their status.
package exporter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/storage"
)

// Options configure an Exporter.
type Options struct {
	// Load reads the current configuration. Required.
	Load func() (*config.Config, error)
	// Source describes where the configuration comes from. The status page shows
	// it.
	Source string
	// Registry receives the exporter's own metrics. Required.
	Registry *prometheus.Registry
	// Storage keeps values and spent quota across restarts. Nil means no storage.
	Storage *storage.Storage
	// StorageSuccess reports whether the last write to the storage succeeded. Nil
	// means that no storage is configured.
	StorageSuccess func() bool
	// UserAgent is sent with every API request.
	UserAgent string
	// Logger is required.
	Logger *slog.Logger

	// transport returns a tenant's HTTP transport, for tests without a network.
	// Nil means the transport of the tenant's configuration.
	transport func(tenant string) http.RoundTripper
}

// Exporter runs the tenants of the configuration last applied. Its methods are
// safe for concurrent use.
type Exporter struct {
	options    Options
	metrics    *collector.Metrics
	exposition *collector.Exposition
	reloads    *reloads
	shared     collector.Shared // Shared by all tenants.
	quotas     *client.Quotas
	ready      atomic.Bool

	apply      sync.Mutex  // Locked while a configuration is applied.
	once       bool        // Once was called: collectors refresh one time only.
	sweepTimer *time.Timer // The next sweep. Nil before the first reload.
	stores     map[string]collector.Store

	mu      sync.RWMutex
	config  *config.Config
	tenants map[string]*tenant
}

// New returns an Exporter without tenants.
func New(o Options) *Exporter {
	if o.StorageSuccess != nil {
		o.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mde_exporter_storage_success",
			Help: "1 while the last write to --storage.path succeeded, 0 while a restart would lose values or spent quota. Absent without storage.",
		}, func() float64 { return collector.BoolValue(o.StorageSuccess()) }))
	}
	return &Exporter{
		options:    o,
		metrics:    collector.NewMetrics(o.Registry),
		exposition: &collector.Exposition{},
		reloads:    newReloads(o.Registry),
		quotas:     newQuotas(o.Storage),
		stores:     make(map[string]collector.Store),
		config:     &config.Config{},
		tenants:    make(map[string]*tenant),
	}
}

// Gatherer returns a gatherer of the registry and of all tenants' series.
// Gathering neither calls an API nor waits for one.
func (e *Exporter) Gatherer() prometheus.Gatherer {
	return collector.Combine(e.options.Registry, e.exposition)
}

// TenantGatherer returns a gatherer of only these tenants' series. It returns
// false if a name is not in the configuration in force.
func (e *Exporter) TenantGatherer(names []string) (prometheus.Gatherer, bool) {
	_, tenants := e.inForce()
	if slices.ContainsFunc(names, func(name string) bool { return tenants[name] == nil }) {
		return nil, false
	}
	return collector.OnlyTenants(e.Gatherer(), names), true
}

// Reload loads the configuration and applies it. Unchanged collectors keep
// running with their values, schedule and quota. Removed ones stop, and their
// series disappear. All new tenants are built before a running one is touched, so
// a failed reload changes nothing.
func (e *Exporter) Reload() error {
	e.apply.Lock()
	defer e.apply.Unlock()
	err := e.load((*tenant).start)
	e.reloads.record(err)
	if err == nil {
		e.sweep()
		e.scheduleSweep()
		e.options.Logger.Info("Loaded configuration", "from", e.options.Source, "tenants", len(e.config.Tenants))
	}
	return err
}

// Changed loads the configuration and reports whether a Reload would have a
// different result than the last one: different settings or a different error.
func (e *Exporter) Changed() bool {
	c, err := e.options.Load()
	_, failed := e.reloads.last()
	if err != nil {
		return err.Error() != failed
	}
	inForce, _ := e.inForce()
	return failed != "" || !slices.EqualFunc(c.Tenants, inForce.Tenants, (*config.Tenant).Equal)
}

// Once loads the configuration and refreshes every collector of every tenant one
// time. Watched domains wait for the quota. It returns the joined errors of all
// failed refreshes.
func (e *Exporter) Once(ctx context.Context) error {
	e.apply.Lock()
	defer e.apply.Unlock()
	e.once = true
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		failed []error
	)
	err := e.load(func(t *tenant) {
		wg.Go(func() {
			err := t.once(ctx)
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
	})
	e.reloads.record(err)
	wg.Wait()
	return errors.Join(append(failed, err)...)
}

// Progress returns the progress of collectors that read item by item, summed over
// all tenants.
func (e *Exporter) Progress() collector.Progress {
	_, tenants := e.inForce()
	var sum collector.Progress
	for _, t := range tenants {
		for _, r := range t.enabled() {
			p := r.collector.Page().Progress
			sum = collector.Progress{Done: sum.Done + p.Done, Total: sum.Total + p.Total, What: cmp.Or(p.What, sum.What)}
		}
	}
	return sum
}

// load loads the configuration, builds its tenants and swaps them in.
func (e *Exporter) load(start func(*tenant)) error {
	c, err := e.options.Load()
	if err != nil {
		return err
	}
	next, err := e.prepare(c)
	if err != nil {
		return err
	}
	e.swap(c, next, start)
	return nil
}

// Ready reports whether every collector has values or has failed once. Once true
// it stays true, after a reload too.
func (e *Exporter) Ready() bool {
	if e.ready.Load() {
		return true
	}
	_, tenants := e.inForce()
	for _, t := range tenants {
		if !t.ready() {
			return false
		}
	}
	e.ready.Store(true)
	return true
}

// Close stops every tenant and returns when the last refresh has ended.
func (e *Exporter) Close() {
	e.apply.Lock()
	defer e.apply.Unlock()
	var wg sync.WaitGroup
	for _, t := range e.tenants {
		wg.Go(func() { stopAll(t.enabled()) })
	}
	wg.Wait()
	e.closeClients(e.tenants, nil)
	if e.sweepTimer != nil {
		e.sweepTimer.Stop()
	}
}

// prepare builds the tenants of a configuration without starting them. It returns
// the running tenant where the configuration did not change.
func (e *Exporter) prepare(c *config.Config) (map[string]*tenant, error) {
	next := make(map[string]*tenant, len(c.Tenants))
	var (
		problems error
		delay    time.Duration
	)
	for _, tc := range c.Tenants {
		old := e.tenants[tc.Name]
		if old != nil && old.config.Equal(tc) {
			next[tc.Name] = old
			continue
		}
		t, err := e.newTenant(tc, old, delay)
		delay += client.StartSpacing
		if err != nil {
			problems = errors.Join(problems, fmt.Errorf("tenant %s: %w", tc.Name, err))
		}
		next[tc.Name] = t
	}
	if problems != nil {
		return nil, problems
	}
	e.shared.Load()
	return next, nil
}

// swap stops removed and changed tenants, puts the next tenants in force and
// starts the new ones.
func (e *Exporter) swap(c *config.Config, next map[string]*tenant, start func(*tenant)) {
	e.applyQuotas(c, next)
	var wg sync.WaitGroup
	for name, old := range e.tenants {
		if next[name] != old {
			wg.Go(func() { old.handOverTo(next[name]) })
		}
	}
	wg.Wait()

	e.mu.Lock()
	last := e.tenants
	e.config, e.tenants = c, next
	e.mu.Unlock()
	for name := range e.stores {
		if next[name] == nil {
			delete(e.stores, name)
		}
	}

	e.closeClients(last, next)
	var replacing []*run
	for _, tc := range c.Tenants {
		t, old := next[tc.Name], last[tc.Name]
		if old != nil {
			for _, r := range t.enabled() {
				r.collector.Reloaded()
			}
		}
		if t != old {
			start(t)
			if old != nil {
				replacing = append(replacing, t.enabled()...)
			}
		}
	}
	awaitStarted(replacing)
}

// startTimeout limits how long a reload waits until the new collectors have
// replaced the series of the old ones. Only a hanging storage takes longer.
const startTimeout = 5 * time.Second

// awaitStarted returns when scrapes no longer contain series of the collectors
// that these runs replace, or after startTimeout.
func awaitStarted(runs []*run) {
	timeout := time.After(startTimeout)
	for _, r := range runs {
		select {
		case <-r.refresher.Started():
		case <-timeout:
			return
		}
	}
}

// store returns the store that keeps a tenant's values across its collectors: on
// disk with storage, else in memory.
func (e *Exporter) store(tenant string) collector.Store {
	if e.options.Storage != nil {
		return e.options.Storage.Tenant(tenant)
	}
	if e.stores[tenant] == nil {
		e.stores[tenant] = &collector.MemoryStore{}
	}
	return e.stores[tenant]
}
