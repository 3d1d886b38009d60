package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
)

// tenant is one tenant of the configuration. A reload builds a new one, which
// reuses the client and the running collectors that did not change.
type tenant struct {
	config     *config.Tenant
	client     *client.Client
	metrics    *collector.TenantMetrics
	exposition *collector.Exposition
	shared     *collector.Shared // Shared by the collectors of one client.
	store      collector.Store
	logger     *slog.Logger
	runs       []*run // One for each of config.Collectors. Nil means disabled.
}

// run is one collector of one tenant.
type run struct {
	name      string
	config    collector.Config
	collector collector.Collector
	refresher *collector.Refresher
}

// stopAll stops the runs and returns when their refreshes have ended.
func stopAll(runs []*run) {
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(r.refresher.Stop)
	}
	wg.Wait()
}

// newTenant builds a tenant without starting it. Its first refreshes wait for the
// delay. It reuses what it can from old, the running tenant of the same name; old
// may be nil.
func (e *Exporter) newTenant(c *config.Tenant, old *tenant, delay time.Duration) (*tenant, error) {
	t := &tenant{config: c, exposition: e.exposition}
	if old != nil {
		t.metrics = old.metrics
	} else {
		t.metrics = e.metrics.Tenant(c.Name)
	}
	if err := e.connect(t, old); err != nil {
		return nil, err
	}
	sameClient := old != nil && old.client == t.client
	if sameClient {
		t.shared = old.shared
	} else {
		t.shared = &collector.Shared{}
	}
	t.store, t.logger = e.store(c.Name), e.options.Logger.With("tenant", c.Name)
	var last <-chan struct{} // Started by the collector before.
	for name, section := range c.All() {
		var r *run
		switch i := len(t.runs); {
		case !section.Common().Enabled:
		case sameClient && old.runs[i] != nil && reflect.DeepEqual(old.runs[i].config, section):
			r = old.runs[i]
		default:
			r = e.newRun(t, name, section, delay, old == nil, last)
		}
		if r != nil {
			last = r.refresher.Started()
		}
		t.runs = append(t.runs, r)
	}
	return t, nil
}

// newRun builds a collector of the tenant and its refresher. The collector
// publishes its stored values after those of the one whose Started channel is
// given.
func (e *Exporter) newRun(t *tenant, name string, section collector.Config, delay time.Duration, resume bool, after <-chan struct{}) *run {
	env := collector.Env{
		Tenant: t.config.Name, Name: name, Client: t.client, Metrics: t.metrics, Store: t.store, Logger: e.options.Logger,
		Shared: t.shared, Process: &e.shared, Once: e.once,
	}
	r := &run{name: name, config: section, collector: section.New(env)}
	r.refresher = collector.NewRefresher(collector.RefresherOptions{
		Env: env, Schedule: *section.Common(), Collector: r.collector, StartDelay: delay, Resume: resume, Exposition: e.exposition, After: after,
	})
	return r
}

// connect sets the tenant's client: the old one if no setting of it changed, else
// a new one. Both spend the quota of the app registration.
func (e *Exporter) connect(t, old *tenant) error {
	if old != nil && old.config.SameClient(t.config) {
		t.client = old.client
		return nil
	}
	o, err := t.config.ClientOptions()
	if err != nil {
		return err
	}
	if e.options.transport != nil {
		o.Transport = e.options.transport(t.config.Name)
	}
	o.UserAgent, o.Observer, o.Quotas = e.options.UserAgent, t.metrics, e.quotas
	t.client, err = client.New(o)
	return err
}

// start starts the collectors that are not yet running.
func (t *tenant) start() {
	t.metrics.SetClient(t.client)
	go t.client.ReadCredential(context.Background()) // Times out by itself.
	claimStore(t.store, t.directory(), t.logger)
	for _, r := range t.enabled() {
		r.refresher.Go()
	}
}

// once refreshes every collector one time, in the order of config.Collectors: a
// collector that shares values comes before those that read them.
func (t *tenant) once(ctx context.Context) error {
	t.metrics.SetClient(t.client)
	claimStore(t.store, t.directory(), t.logger)
	var failed error
	for _, r := range t.enabled() {
		if err := r.refresher.Once(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("tenant %s: %s: %w", t.config.Name, r.name, err))
		}
	}
	return failed
}

// enabled returns the runs of the enabled collectors.
func (t *tenant) enabled() []*run {
	return slices.DeleteFunc(slices.Clone(t.runs), func(r *run) bool { return r == nil })
}

func (t *tenant) ready() bool {
	return !slices.ContainsFunc(t.enabled(), func(r *run) bool { return !r.refresher.Ready() })
}

// handOverTo stops the collectors that the next tenant of the same name does not
// reuse. It then removes the series of collectors that next does not have, or has
// for another Entra tenant, in a single scrape. Next is nil if the tenant was
// removed.
func (t *tenant) handOverTo(next *tenant) {
	if next == nil {
		next = &tenant{}
		defer t.metrics.Delete()
	}
	otherDirectory := next.client == nil || next.directory() != t.directory()
	var replaced, removed []*run
	for i, r := range t.runs {
		var successor *run
		if i < len(next.runs) {
			successor = next.runs[i]
		}
		if r == nil || r == successor {
			continue
		}
		replaced = append(replaced, r)
		if successor == nil || otherDirectory {
			removed = append(removed, r)
		}
	}
	stopAll(replaced)
	t.exposition.Together(t.config.Name, func() {
		for _, r := range removed {
			r.refresher.Withdraw()
		}
	})
}
