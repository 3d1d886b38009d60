package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

const (
	hourInterval = time.Minute
	hourMaxAge   = 3 * hourInterval
	hourTimeout  = 20 * time.Second
)

// TestHourOfFaults runs three tenants for an hour of fake time with a random step
// every few seconds. Scrapes must show what was served, the quota must hold, and
// everything must recover when the faults end.
func TestHourOfFaults(t *testing.T) {
	servertest.Slow(t)
	seeds := []uint64{1, 2, 3}
	if raceDetector {
		seeds = seeds[:1] // The race detector makes it ten times slower.
	}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { anHourOfFaults(t, newDice(seed)) })
		})
	}
}

func anHourOfFaults(t *testing.T, d dice) {
	length := time.Hour
	if testing.Short() {
		length = 10 * time.Minute
	}
	h := newHourTest(t)
	preview := h.addTenant(d, "preview", client.Limits{}, simulation.Options{Seed: 1, Machines: 1300, PageSize: 400})
	machines := h.addTenant(d, "machines", client.Limits{}, simulation.Options{Seed: 2, Machines: 500, PreviewStatus: 404, UnknownDomain404: true, StatsAsStrings: true})
	lowQuota := h.addTenant(d, "lowquota", client.Limits{CallsPerMinute: 6, CallsPerHour: 300}, simulation.Options{Seed: 3, Machines: 300, PageSize: 200, NextLinkLast: true})
	defer h.close()

	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(d.duration(time.Second, 20*time.Second))
		tenant := oneOf(d, preview, machines, lowQuota)
		if d.IntN(12) == 0 {
			tenant.changeList(d)
		} else {
			h.log(tenant.name + " " + randomStep(d, tenant.Tenant, hourDomains, h.decoyURL, time.Minute))
		}
		if d.IntN(20) == 0 {
			lowQuota.SetPreview(oneOf(d, 0, 0, 404, 410, 403))
		}
		h.check()
	}

	for _, tenant := range h.tenants {
		tenant.Clear()
	}
	cleared := time.Now()
	time.Sleep(longestPause + 3*hourInterval)
	h.check()
	for _, tenant := range h.tenants {
		tenant.checkRecovered(cleared)
	}
	h.close()
	if n := h.decoy.Count(simulation.Every); n > 0 {
		t.Errorf("%d calls reached the decoy host", n)
	}
	for _, tenant := range h.tenants {
		tenant.checkCalls()
	}
}

// longestPause is the client's longest pause after a rejected credential.
const longestPause = 5 * time.Minute

var hourDomains = []string{"evil.example", "bad.example", "worse.example", "quiet.example"}

// hourTest contains the tenants of one synctest bubble.
type hourTest struct {
	*testing.T
	registry   *prometheus.Registry
	metrics    *collector.Metrics
	exposition *collector.Exposition
	decoy      *simulation.Tenant
	decoyURL   string
	tenants    []*hourTenant
	steps      []string
	closing    sync.Once
	closers    []func()
}

func newHourTest(t *testing.T) *hourTest {
	registry := prometheus.NewRegistry()
	decoy := simulation.New(simulation.Options{})
	return &hourTest{
		T: t, registry: registry, metrics: collector.NewMetrics(registry), exposition: &collector.Exposition{},
		decoy: decoy, decoyURL: "http://127.0.0.1:1001",
	}
}

func (h *hourTest) log(step string) {
	h.steps = append(h.steps, time.Now().Format("15:04:05.000 ")+step)
}

// check compares a scrape with what was served. The first problem ends the test.
func (h *hourTest) check() {
	h.Helper()
	synctest.Wait()
	families, err := collector.Combine(h.registry, h.exposition).Gather()
	if err != nil {
		h.Fatal(err)
	}
	e := newExposition(families)
	var problems []string
	for _, tenant := range h.tenants {
		problems = append(problems, tenant.oracle.check(e, time.Now(), time.Now())...)
		problems = append(problems, tenant.countRefreshes(e)...)
	}
	if len(problems) > 0 {
		for _, step := range h.steps[max(0, len(h.steps)-25):] {
			h.Log(step)
		}
		for _, problem := range problems {
			h.Error(time.Now().Format("15:04:05.000"), problem)
		}
		h.FailNow()
	}
}

func (h *hourTest) close() {
	h.closing.Do(func() {
		for _, c := range slices.Backward(h.closers) {
			c()
		}
	})
}

// hourTenant is a simulated tenant and the collectors that query it.
type hourTenant struct {
	*simulation.Tenant
	test       *hourTest
	name       string
	quota      client.Limits
	oracle     *oracle
	list       []string
	file       string            // Contains the list.
	process    *collector.Shared // Loads the file.
	collectors []*countingCollector
}

// uncompressed requests no compression, which is slow with the race detector. The
// program's test covers it.
type uncompressed struct{ *http.Transport }

func (u uncompressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Accept-Encoding")
	return u.Transport.RoundTrip(r)
}

// countingCollector counts successful and failed refreshes.
type countingCollector struct {
	name string
	collector.Collector

	mu         sync.Mutex
	succeeded  int
	failed     int
	unexpected []error
}

func (c *countingCollector) Refresh(ctx context.Context) (collector.Outcome, error) {
	outcome, err := c.Collector.Refresh(ctx)
	if err != nil && ctx.Err() != nil || err == nil && outcome.Pending {
		return outcome, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.succeeded++
		return outcome, nil
	}
	c.failed++
	if e, ok := errors.AsType[*client.Error](err); client.ReasonOf(err) == client.ReasonOther && (!ok || !isRedirect(e.Status) && !isRejectedPreview(e)) {
		c.unexpected = append(c.unexpected, err)
	}
	return outcome, err
}

// isRejectedPreview reports an error after which, in several refreshes, the
// source changes.
func isRejectedPreview(e *client.Error) bool {
	return e.API == client.MachineSecurityStates && e.Status >= 400 && e.Status < 500
}

// isRedirect reports a status whose reason is intentionally other.
func isRedirect(status int) bool { return status >= 300 && status < 400 }

func (h *hourTest) addTenant(d dice, name string, quota client.Limits, o simulation.Options) *hourTenant {
	h.Helper()
	o.Limits = simulation.DocumentedLimits()
	tenant := &hourTenant{Tenant: simulation.New(o), test: h, name: name, quota: quota, file: filepath.Join(h.TempDir(), "list.txt"), process: &collector.Shared{}}
	tenant.writeList(hourDomains)
	server, err := tenant.Listen(simulation.ListenOptions{InMemory: true})
	if err != nil {
		h.Fatal(err)
	}
	transport := server.Transport()
	transport.DisableCompression = true
	origin, err := url.Parse(server.APIURL)
	if err != nil {
		h.Fatal(err)
	}
	metrics := h.metrics.Tenant(name)
	c, err := client.New(client.Options{
		LoginURL: origin, GraphURL: origin, APIURL: origin,
		GraphScope: simulation.GraphAudience + "/.default", APIScope: simulation.APIAudience + "/.default",
		Credential:     client.ClientSecret{TenantID: tenant.TenantID(), ClientID: tenant.ClientID(), Secret: tenant.ClientSecret()},
		Transport:      uncompressed{transport},
		RequestTimeout: hourTimeout,
		Quota:          quota,
		Observer:       metrics,
	})
	if err != nil {
		h.Fatal(err)
	}
	metrics.SetClient(c)
	var sections config.Collectors
	shared := &collector.Shared{}
	ctx, cancel := context.WithCancel(h.Context())
	var running sync.WaitGroup
	for kind, section := range sections.All() {
		section.Defaults()
		schedule := section.Common()
		if !schedule.Enabled {
			continue
		}
		schedule.RefreshInterval, schedule.MaxAge = model.Duration(hourInterval), model.Duration(hourMaxAge)
		if kind == "watched_domains" {
			sections.WatchedDomains.Files, sections.WatchedDomains.Statistics, sections.WatchedDomains.MachineInfoLimit = []string{tenant.file}, true, 3
		}
		countingCollector := &countingCollector{name: kind, Collector: section.New(collector.Env{
			Tenant: name, Name: kind, Client: c, Metrics: metrics, Logger: slog.New(slog.DiscardHandler), Shared: shared, Process: tenant.process,
		})}
		tenant.collectors = append(tenant.collectors, countingCollector)
		r := collector.NewRefresher(collector.RefresherOptions{
			Env:       collector.Env{Tenant: name, Name: kind, Logger: slog.New(slog.DiscardHandler)},
			Schedule:  collector.Schedule{RefreshInterval: model.Duration(hourInterval), Continuous: schedule.Continuous},
			Collector: countingCollector, StartDelay: d.duration(0, time.Second), Exposition: h.exposition,
		})
		running.Go(func() { r.Run(ctx) })
	}
	tenant.oracle = newOracle(name, tenant.Tenant)
	tenant.oracle.statesMaxAge, tenant.oracle.domainsMaxAge = hourMaxAge, hourMaxAge
	tenant.oracle.late = hourTimeout
	tenant.oracle.grace = 2 * time.Millisecond // The rounding of a timestamp in seconds.
	h.closers = append(h.closers, func() {
		cancel()
		running.Wait()
		transport.CloseIdleConnections()
		server.Close()
	})
	h.tenants = append(h.tenants, tenant)
	return tenant
}

// changeList removes a domain from the watch list, or adds all.
func (tenant *hourTenant) changeList(d dice) {
	list := hourDomains
	if d.IntN(2) == 0 {
		removed := oneOf(d, hourDomains...)
		list = slices.DeleteFunc(slices.Clone(hourDomains), func(name string) bool { return name == removed })
	}
	tenant.test.log(tenant.name + " watches " + fmt.Sprint(list))
	tenant.writeList(list)
	tenant.process.Load()
	tenant.collectors[1].Reloaded()
}

func (tenant *hourTenant) writeList(list []string) {
	tenant.list = list
	next := tenant.file + "~"
	if err := errors.Join(os.WriteFile(next, []byte(strings.Join(list, "\n")), 0o600), os.Rename(next, tenant.file)); err != nil {
		tenant.test.Fatal(err)
	}
}

// countRefreshes compares the counters with the results of refreshes.
func (tenant *hourTenant) countRefreshes(e exposition) (problems []string) {
	for _, c := range tenant.collectors {
		c.mu.Lock()
		succeeded, failed := c.succeeded, c.failed
		if len(c.unexpected) > 0 {
			problems = append(problems, fmt.Sprintf("%s %s: a failure with reason other: %v", tenant.name, c.name, c.unexpected[0]))
		}
		c.mu.Unlock()
		refreshes, _ := e.value("mde_refreshes_total", "tenant", tenant.name, "collector", c.name)
		failures := sum(e.samples("mde_refresh_failures_total", "tenant", tenant.name, "collector", c.name))
		if int(refreshes) != succeeded+failed || int(failures) != failed {
			problems = append(problems, fmt.Sprintf("%s %s: %v refreshes and %v failures are counted, %d succeeded and %d failed", tenant.name, c.name, refreshes, failures, succeeded, failed))
		}
	}
	watched, ok := e.value("mde_watched_domains", "tenant", tenant.name)
	if ok && int(watched) != len(tenant.list) {
		problems = append(problems, fmt.Sprintf("%s: %v domains are watched, %d are on the list", tenant.name, watched, len(tenant.list)))
	}
	for _, s := range e.samples("mde_watched_domain_last_success_timestamp_seconds", "tenant", tenant.name) {
		if !slices.Contains(tenant.list, s.labels["domain"]) {
			problems = append(problems, tenant.name+": "+s.labels["domain"]+" has series but is not on the list")
		}
	}
	return problems
}

// checkRecovered checks that everything was fetched since the faults ended.
func (tenant *hourTenant) checkRecovered(since time.Time) {
	tenant.test.Helper()
	families, _ := collector.Combine(tenant.test.registry, tenant.test.exposition).Gather()
	e := newExposition(families)
	for _, c := range tenant.collectors {
		success, _ := e.value("mde_refresh_success", "tenant", tenant.name, "collector", c.name)
		at, _ := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", tenant.name, "collector", c.name)
		if success != 1 || fromUnix(at).Before(since) {
			tenant.test.Errorf("%s %s: success %v at %s, faults ended at %s", tenant.name, c.name, success, fromUnix(at), since)
		}
	}
	for _, domain := range tenant.list {
		at, _ := e.value("mde_watched_domain_last_success_timestamp_seconds", "tenant", tenant.name, "domain", domain)
		machines, ok := e.value("mde_watched_domain_machines", "tenant", tenant.name, "domain", domain)
		want := tenant.Now().DomainTally(domain).Machines
		if fromUnix(at).Before(since) || !ok || int(machines) != want {
			tenant.test.Errorf("%s: %s has %v machines at %s, want %d", tenant.name, domain, machines, fromUnix(at), want)
		}
	}
	if n, want := int(sum(e.samples("mde_machines", "tenant", tenant.name))), tenant.Now().Tally().Total; n != want {
		tenant.test.Errorf("%s: %d machines, want %d", tenant.name, n, want)
	}
}

// checkCalls checks the calls that the tenant received.
func (tenant *hourTenant) checkCalls() {
	tenant.test.Helper()
	for _, c := range tenant.Misdirected() {
		tenant.test.Errorf("%s: misdirected token: %s for %q", tenant.name, c.Target, c.Audience)
	}
	for api, limit := range simulation.DocumentedLimits() {
		if tenant.quota != (client.Limits{}) {
			limit.PerMinute, limit.PerHour = tenant.quota.CallsPerMinute, tenant.quota.CallsPerHour
		}
		if n := tenant.Busiest(api, time.Minute); n > limit.PerMinute {
			tenant.test.Errorf("%s: %d calls of %s within a minute", tenant.name, n, api)
		}
		if n := tenant.Busiest(api, time.Hour); n > limit.PerHour {
			tenant.test.Errorf("%s: %d calls of %s within an hour", tenant.name, n, api)
		}
	}
}
