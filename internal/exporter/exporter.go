// Package exporter runs the tenants of one configuration, each
// with its client and collectors. It starts them spread out, swaps them when the
// configuration is loaded again, and reports how they stand.
package exporter

import (
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
	// Load reads the configuration as it is now. Required.
	Load func() (*config.Config, error)
	// Source says where the configuration comes from, for the page.
	Source string
	// Registry takes the instruments that measure the exporter itself. Required.
	Registry *prometheus.Registry
	// Storage keeps values and spent quota across restarts. Nil keeps none.
	Storage *storage.Storage
	// StorageSuccess reports whether the last write to the storage succeeded. Nil
	// means that no storage was asked for.
	StorageSuccess func() bool
	// UserAgent is sent with every call to an API.
	UserAgent string
	// Logger is required.
	Logger *slog.Logger

	// transport carries a tenant's calls, for tests without a network. Nil means
	// that each tenant has the one of its configuration.
	transport func(tenant string) http.RoundTripper
}

// Exporter runs the tenants of the configuration last applied. Its methods may
// be called concurrently.
type Exporter struct {
	options    Options
	metrics    *collector.Metrics
	exposition *collector.Exposition
	reloads    *reloads
	shared     collector.Shared // Of all tenants.
	quotas     *client.Quotas
	ready      atomic.Bool

	apply  sync.Mutex  // Held while a configuration is applied.
	once   bool        // Nothing is refreshed twice.
	again  *time.Timer // The sweep to come, nil before the first reload.
	stores map[string]collector.Store

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

// Gatherer gathers the registry and the values of all tenants. Gathering calls
// no API and waits for none.
func (e *Exporter) Gatherer() prometheus.Gatherer {
	return collector.Combine(e.options.Registry, e.exposition)
}

// TenantGatherer gathers the series of these tenants alone. It reports false
// where one of them is not in the configuration in force.
func (e *Exporter) TenantGatherer(names []string) (prometheus.Gatherer, bool) {
	_, tenants := e.inForce()
	if slices.ContainsFunc(names, func(name string) bool { return tenants[name] == nil }) {
		return nil, false
	}
	return collector.OnlyTenants(e.Gatherer(), names), true
}

// Reload loads the configuration and applies it: what did not change keeps
// running, with its values, its schedule and its quota; what is gone stops and
// loses its series. The new tenants are built whole before anything of the old ones
// is touched, so an error changes nothing.
func (e *Exporter) Reload() error {
	e.apply.Lock()
	defer e.apply.Unlock()
	err := e.load((*tenant).start)
	e.reloads.record(err)
	if err == nil {
		e.sweep()
		e.sweepAgain()
		e.options.Logger.Info("Loaded configuration", "from", e.options.Source, "tenants", len(e.config.Tenants))
	}
	return err
}

// Changed loads the configuration and reports whether that has another result than
// the last Reload: other settings, or another error.
func (e *Exporter) Changed() bool {
	c, err := e.options.Load()
	_, failed := e.reloads.last()
	if err != nil {
		return err.Error() != failed
	}
	inForce, _ := e.inForce()
	return failed != "" || !slices.EqualFunc(c.Tenants, inForce.Tenants, (*config.Tenant).Equal)
}

// Once loads the configuration, refreshes every collector of every tenant one
// time, which takes as long as the quota needs to ask every watched domain, and
// returns what failed.
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

// Progress returns how much of what is read one by one was tried so far, all
// tenants together.
func (e *Exporter) Progress() collector.Progress {
	_, tenants := e.inForce()
	var sum collector.Progress
	for _, t := range tenants {
		for _, r := range t.enabled() {
			if p := r.collector.Page().Progress; p.Total > 0 {
				sum = collector.Progress{Done: sum.Done + p.Done, Total: sum.Total + p.Total, What: p.What}
			}
		}
	}
	return sum
}

// load makes the tenants of the configuration as it is now and swaps them in.
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

// Ready reports whether every collector has something to show or has failed once.
// It stays true once it was: a reload makes nothing unready.
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
	e.leaveQuotas(e.tenants, nil)
	if e.again != nil {
		e.again.Stop()
	}
}

// prepare makes the tenants of a configuration, those that did not change being
// the running ones. It starts none.
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
		for name, t := range next {
			t.discard(e.tenants[name])
		}
		return nil, problems
	}
	e.shared.Load()
	return next, nil
}

// swap stops what is no longer wanted, makes the next tenants those in force and
// starts the new ones among them.
func (e *Exporter) swap(c *config.Config, next map[string]*tenant, start func(*tenant)) {
	e.takeQuotas(c, next)
	var wg sync.WaitGroup
	for name, old := range e.tenants {
		if next[name] != old {
			wg.Go(func() { old.leaveTo(next[name]) })
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

	e.leaveQuotas(last, next)
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

// startPatience is how long a reload waits for the collectors that it replaces
// to be replaced in the exposition, too. Only a storage that hangs takes longer.
const startPatience = 5 * time.Second

// awaitStarted returns when a scrape shows nothing of the collectors that these
// runs replace, so that what a reload removes is gone when it has ended.
func awaitStarted(runs []*run) {
	timeout := time.After(startPatience)
	for _, r := range runs {
		select {
		case <-r.refresher.Started():
		case <-timeout:
			return
		}
	}
}

// store returns where a tenant's values outlive its collectors.
func (e *Exporter) store(tenant string) collector.Store {
	if e.options.Storage != nil {
		return e.options.Storage.Tenant(tenant)
	}
	if e.stores[tenant] == nil {
		e.stores[tenant] = &collector.MemoryStore{}
	}
	return e.stores[tenant]
}
