package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
)

// tenant is one tenant of the configuration. What a reload does not change is
// shared by the tenants before and after it: the client, a collector that runs.
type tenant struct {
	config     *config.Tenant
	client     *client.Client
	metrics    *collector.TenantMetrics
	exposition *collector.Exposition
	fleet      *collector.Fleet // Of the client.
	store      collector.Store
	logger     *slog.Logger
	states     *securityStates // Nil where it is switched off.
	domains    *watchedDomains // Nil where it is switched off.
}

type securityStates struct {
	run
	collector *collector.SecurityStates
}

// newTenant makes a tenant without starting it; its first refreshes wait for the
// delay. It takes over what it can from the tenant of the same name that runs,
// if there is one. What it returns with an error is to be discarded.
func (e *Exporter) newTenant(c *config.Tenant, old *tenant, delay time.Duration) (*tenant, error) {
	t := &tenant{config: c, exposition: e.exposition}
	if old != nil {
		t.metrics = old.metrics
	} else {
		t.metrics = e.metrics.Tenant(c.Name)
	}
	if err := e.connect(t, old); err != nil {
		return t, err
	}
	sameClient := old != nil && old.client == t.client
	if sameClient {
		t.fleet = old.fleet
	} else {
		t.fleet = collector.NewFleet(c.SecurityStates.MaxAge)
	}
	logger, store := e.options.Logger, e.store(c.Name)
	t.store, t.logger = store, logger.With("tenant", c.Name)

	switch s := c.SecurityStates; {
	case !s.Enabled:
	case sameClient && old.states != nil && old.config.SecurityStates == s:
		t.states = old.states
	default:
		states := collector.NewSecurityStates(collector.SecurityStatesOptions{
			Tenant: c.Name, Client: t.client, Source: s.Source, Interval: s.RefreshInterval, MaxAge: s.MaxAge, RevisionLabel: s.RevisionLabel, MaxMachines: s.MaxMachines,
			Fleet: t.fleet, Logger: logger, Metrics: t.metrics, Store: store,
		})
		t.states = &securityStates{collector: states}
		t.states.refresher = collector.NewRefresher(collector.RefresherOptions{
			Tenant: c.Name, Collector: states, Interval: s.RefreshInterval, StartDelay: delay, Resume: old == nil, Store: store,
			Exposition: e.exposition, Logger: logger,
		})
	}

	switch w := c.WatchedDomains; {
	case !w.Enabled:
	case sameClient && old.domains != nil && old.config.WatchedDomains.Equal(w):
		t.domains = old.domains
	default:
		list := e.lists.List(w.Files)
		domains := collector.NewWatchedDomains(collector.WatchedDomainsOptions{
			Tenant: c.Name, Client: t.client, Domains: w.WithList(list), Statistics: w.Statistics, MachineInfoLimit: w.MachineInfoLimit,
			Interval: w.RefreshInterval, MaxAge: w.MaxAge, Fleet: t.fleet, WholeList: e.once,
			Logger: logger, Metrics: t.metrics, Store: store,
		})
		t.domains = &watchedDomains{collector: domains, config: w, lists: e.lists}
		t.domains.list.Store(list)
		t.domains.refresher = collector.NewRefresher(collector.RefresherOptions{
			Tenant: c.Name, Collector: domains, Interval: w.RefreshInterval, StartDelay: delay, Continuous: true, Resume: old == nil, Store: store,
			Exposition: e.exposition, Logger: logger,
		})
	}
	return t, nil
}

// connect gives the tenant the client of the old one, where nothing about it
// changed, or a new one. Either way it spends the quota of its app registration.
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

// start runs what is not running yet.
func (t *tenant) start() {
	t.metrics.SetClient(t.client)
	go t.client.ReadCredential(context.Background()) // Bounded in time.
	t.prepareToRun()
	if t.states != nil {
		t.states.start()
	}
	if t.domains != nil {
		t.domains.start()
	}
}

// prepareToRun does what comes before the collectors run that are new.
func (t *tenant) prepareToRun() {
	claimStore(t.store, t.directory(), t.logger)
	t.withdrawFleet()
}

// withdrawFleet withdraws joins with a fleet that is not counted any more.
func (t *tenant) withdrawFleet() {
	if t.states == nil {
		t.fleet.Withdraw()
	}
}

// once refreshes every collector one time: the states first, so that the domains
// are joined with them.
func (t *tenant) once(ctx context.Context) error {
	t.metrics.SetClient(t.client)
	t.prepareToRun()
	var failed error
	for _, r := range t.runs() {
		if err := r.refresher.Once(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("tenant %s: %s: %w", t.config.Name, r.refresher.Status().Collector, err))
		}
	}
	return failed
}

// lookAgain makes the tenant of a reload ask again for what was refused before,
// and watch the lists that the reload has read.
func (t *tenant) lookAgain() {
	if t.states != nil {
		t.states.collector.LookAgain()
	}
	if t.domains != nil {
		t.domains.update()
	}
}

// runs are the collectors that are switched on.
func (t *tenant) runs() []*run {
	var runs []*run
	if t.states != nil {
		runs = append(runs, &t.states.run)
	}
	if t.domains != nil {
		runs = append(runs, &t.domains.run)
	}
	return runs
}

func (t *tenant) ready() bool {
	for _, r := range t.runs() {
		if !r.refresher.Ready() {
			return false
		}
	}
	return true
}

// stop ends the refreshes and returns when they have ended.
func (t *tenant) stop() { stopAll(t.runs()) }

func stopAll(runs []*run) {
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(r.stop)
	}
	wg.Wait()
}

// discard gives up a tenant that was never started, the old one going on.
func (t *tenant) discard(old *tenant) {
	if t == nil || t == old {
		return
	}
	if old == nil {
		t.metrics.Delete()
	}
	if t.client != nil && (old == nil || t.client != old.client) {
		t.client.Close()
	}
}

// leaveTo stops what the next tenant of the same name does not share, and then
// removes the series of what it does not have, or has of another directory, all in
// one scrape. Next is nil where there is none.
func (t *tenant) leaveTo(next *tenant) {
	if next == nil {
		next = &tenant{}
		defer t.metrics.Delete()
	}
	elsewhere := next.client == nil || next.directory() != t.directory()
	var left, gone []*run
	if t.states != nil && t.states != next.states {
		left = append(left, &t.states.run)
		if next.states == nil || elsewhere {
			gone = append(gone, &t.states.run)
		}
	}
	if t.domains != nil && t.domains != next.domains {
		left = append(left, &t.domains.run)
		if next.domains == nil || elsewhere {
			gone = append(gone, &t.domains.run)
		}
	}
	stopAll(left)
	t.exposition.Together(t.config.Name, func() {
		for _, r := range gone {
			r.refresher.Withdraw()
		}
		if next.fleet == t.fleet {
			next.withdrawFleet()
		}
	})
}
