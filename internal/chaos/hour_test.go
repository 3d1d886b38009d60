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

// TestAnHourOfFaults runs three tenants for an hour of fake time in which
// something happens every few seconds. Nothing that is shown may differ from
// what was served; the quota holds; and all is well again after the faults.
func TestAnHourOfFaults(t *testing.T) {
	servertest.Slow(t)
	seeds := []uint64{1, 2, 3}
	if raceDetector {
		seeds = seeds[:1] // An hour takes ten times as long.
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
	h := newHour(t)
	preview := h.tenant(d, "preview", client.Limits{}, simulation.Options{Seed: 1, Machines: 1300, PageSize: 400})
	machines := h.tenant(d, "machines", client.Limits{}, simulation.Options{Seed: 2, Machines: 500, PreviewStatus: 404, UnknownDomain404: true, StatsAsStrings: true})
	thrifty := h.tenant(d, "thrifty", client.Limits{CallsPerMinute: 6, CallsPerHour: 300}, simulation.Options{Seed: 3, Machines: 300, PageSize: 200, NextLinkLast: true})
	defer h.close()

	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(d.duration(time.Second, 20*time.Second))
		far := one(d, preview, machines, thrifty)
		if d.IntN(12) == 0 {
			far.changeList(d)
		} else {
			h.log(far.name + " " + mischief(d, far.Tenant, hourDomains, h.decoyURL, time.Minute))
		}
		if d.IntN(20) == 0 {
			thrifty.SetPreview(one(d, 0, 0, 404, 410, 403))
		}
		h.check()
	}

	for _, far := range h.tenants {
		far.Clear()
	}
	cleared := time.Now()
	time.Sleep(longestPause + 3*hourInterval)
	h.check()
	for _, far := range h.tenants {
		far.checkRecovered(cleared)
	}
	h.close()
	if n := h.decoy.Count(simulation.Every); n > 0 {
		t.Errorf("%d calls reached a host they were led to", n)
	}
	for _, far := range h.tenants {
		far.checkCalls()
	}
}

// longestPause is that of the client after a refused credential.
const longestPause = 5 * time.Minute

var hourDomains = []string{"evil.example", "bad.example", "worse.example", "quiet.example"}

// hour is what runs in one bubble.
type hour struct {
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

func newHour(t *testing.T) *hour {
	registry := prometheus.NewRegistry()
	decoy := simulation.New(simulation.Options{})
	return &hour{
		T: t, registry: registry, metrics: collector.NewMetrics(registry), exposition: &collector.Exposition{},
		decoy: decoy, decoyURL: "http://127.0.0.1:1001",
	}
}

func (h *hour) log(step string) {
	h.steps = append(h.steps, time.Now().Format("15:04:05.000 ")+step)
}

// check compares a scrape with what was served. The first fault ends the test.
func (h *hour) check() {
	h.Helper()
	synctest.Wait()
	families, err := collector.Combine(h.registry, h.exposition).Gather()
	if err != nil {
		h.Fatal(err)
	}
	e := newExposition(families)
	var faults []string
	for _, far := range h.tenants {
		faults = append(faults, far.witness.check(e, time.Now(), time.Now())...)
		faults = append(faults, far.countRefreshes(e)...)
	}
	if len(faults) > 0 {
		for _, step := range h.steps[max(0, len(h.steps)-25):] {
			h.Log(step)
		}
		for _, fault := range faults {
			h.Error(time.Now().Format("15:04:05.000"), fault)
		}
		h.FailNow()
	}
}

func (h *hour) close() {
	h.closing.Do(func() {
		for _, c := range slices.Backward(h.closers) {
			c()
		}
	})
}

// hourTenant is a far end and the collectors that ask it.
type hourTenant struct {
	*simulation.Tenant
	hour       *hour
	name       string
	quota      client.Limits
	witness    *witness
	list       []string
	file       string            // Holds the list.
	process    *collector.Shared // Reads the file.
	collectors []*counted
}

// uncompressed asks for no compression: it would take most of the time under the
// race detector, and the program's test has it.
type uncompressed struct{ *http.Transport }

func (u uncompressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Accept-Encoding")
	return u.Transport.RoundTrip(r)
}

// counted counts how refreshes end.
type counted struct {
	name string
	collector.Collector

	mu         sync.Mutex
	good, bad  int
	unexpected []error
}

func (c *counted) Refresh(ctx context.Context) (collector.Outcome, error) {
	outcome, err := c.Collector.Refresh(ctx)
	if err != nil && ctx.Err() != nil || err == nil && outcome.Pending {
		return outcome, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.good++
		return outcome, nil
	}
	c.bad++
	if e, ok := errors.AsType[*client.Error](err); client.ReasonOf(err) == client.ReasonOther && (!ok || !isRedirect(e.Status) && !isRefusedPreview(e)) {
		c.unexpected = append(c.unexpected, err)
	}
	return outcome, err
}

// isRefusedPreview tells the refusal that, in one refresh after the other, makes
// the source change.
func isRefusedPreview(e *client.Error) bool {
	return e.API == client.MachineSecurityStates && e.Status >= 400 && e.Status < 500
}

// isRedirect tells what counts as other, and says so.
func isRedirect(status int) bool { return status >= 300 && status < 400 }

func (h *hour) tenant(d dice, name string, quota client.Limits, o simulation.Options) *hourTenant {
	h.Helper()
	o.Limits = simulation.DocumentedLimits()
	far := &hourTenant{Tenant: simulation.New(o), hour: h, name: name, quota: quota, file: filepath.Join(h.TempDir(), "list.txt"), process: &collector.Shared{}}
	far.writeList(hourDomains)
	server, err := far.Listen(simulation.ListenOptions{InMemory: true})
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
		Credential:     client.ClientSecret{TenantID: far.TenantID(), ClientID: far.ClientID(), Secret: far.ClientSecret()},
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
			sections.WatchedDomains.Files, sections.WatchedDomains.Statistics, sections.WatchedDomains.MachineInfoLimit = []string{far.file}, true, 3
		}
		counted := &counted{name: kind, Collector: section.New(collector.Env{
			Tenant: name, Name: kind, Client: c, Metrics: metrics, Logger: slog.New(slog.DiscardHandler), Shared: shared, Process: far.process,
		})}
		far.collectors = append(far.collectors, counted)
		r := collector.NewRefresher(collector.RefresherOptions{
			Env:       collector.Env{Tenant: name, Name: kind, Logger: slog.New(slog.DiscardHandler)},
			Schedule:  collector.Schedule{RefreshInterval: model.Duration(hourInterval), Continuous: schedule.Continuous},
			Collector: counted, StartDelay: d.duration(0, time.Second), Exposition: h.exposition,
		})
		running.Go(func() { r.Run(ctx) })
	}
	far.witness = newWitness(name, far.Tenant)
	far.witness.statesMaxAge, far.witness.domainsMaxAge = hourMaxAge, hourMaxAge
	far.witness.late = hourTimeout
	far.witness.grace = 2 * time.Millisecond // What a timestamp in seconds loses.
	h.closers = append(h.closers, func() {
		cancel()
		running.Wait()
		transport.CloseIdleConnections()
		server.Close()
	})
	h.tenants = append(h.tenants, far)
	return far
}

// changeList takes a domain off the watch list, or puts all on it.
func (far *hourTenant) changeList(d dice) {
	list := hourDomains
	if d.IntN(2) == 0 {
		gone := one(d, hourDomains...)
		list = slices.DeleteFunc(slices.Clone(hourDomains), func(name string) bool { return name == gone })
	}
	far.hour.log(far.name + " watches " + fmt.Sprint(list))
	far.writeList(list)
	far.process.Load()
	far.collectors[1].Reloaded()
}

func (far *hourTenant) writeList(list []string) {
	far.list = list
	next := far.file + "~"
	if err := errors.Join(os.WriteFile(next, []byte(strings.Join(list, "\n")), 0o600), os.Rename(next, far.file)); err != nil {
		far.hour.Fatal(err)
	}
}

// countRefreshes compares the counters with how refreshes ended.
func (far *hourTenant) countRefreshes(e exposition) (faults []string) {
	for _, c := range far.collectors {
		c.mu.Lock()
		good, bad := c.good, c.bad
		if len(c.unexpected) > 0 {
			faults = append(faults, fmt.Sprintf("%s %s: a failure without a reason: %v", far.name, c.name, c.unexpected[0]))
		}
		c.mu.Unlock()
		refreshes, _ := e.value("mde_refreshes_total", "tenant", far.name, "collector", c.name)
		failures := sum(e.samples("mde_refresh_failures_total", "tenant", far.name, "collector", c.name))
		if int(refreshes) != good+bad || int(failures) != bad {
			faults = append(faults, fmt.Sprintf("%s %s: %v refreshes and %v failures are counted, %d succeeded and %d failed", far.name, c.name, refreshes, failures, good, bad))
		}
	}
	watched, ok := e.value("mde_watched_domains", "tenant", far.name)
	if ok && int(watched) != len(far.list) {
		faults = append(faults, fmt.Sprintf("%s: %v domains are watched, %d are on the list", far.name, watched, len(far.list)))
	}
	for _, s := range e.samples("mde_watched_domain_last_success_timestamp_seconds", "tenant", far.name) {
		if !slices.Contains(far.list, s.labels["domain"]) {
			faults = append(faults, far.name+": "+s.labels["domain"]+" has series and is not on the list")
		}
	}
	return faults
}

// checkRecovered sees that everything was asked since the faults ended.
func (far *hourTenant) checkRecovered(since time.Time) {
	far.hour.Helper()
	families, _ := collector.Combine(far.hour.registry, far.hour.exposition).Gather()
	e := newExposition(families)
	for _, c := range far.collectors {
		success, _ := e.value("mde_refresh_success", "tenant", far.name, "collector", c.name)
		at, _ := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", far.name, "collector", c.name)
		if success != 1 || fromUnix(at).Before(since) {
			far.hour.Errorf("%s %s: success %v at %s, faults ended at %s", far.name, c.name, success, fromUnix(at), since)
		}
	}
	for _, domain := range far.list {
		at, _ := e.value("mde_watched_domain_last_success_timestamp_seconds", "tenant", far.name, "domain", domain)
		machines, ok := e.value("mde_watched_domain_machines", "tenant", far.name, "domain", domain)
		want := far.Now().DomainTally(domain).Machines
		if fromUnix(at).Before(since) || !ok || int(machines) != want {
			far.hour.Errorf("%s: %s has %v machines at %s, not %d", far.name, domain, machines, fromUnix(at), want)
		}
	}
	if n, want := int(sum(e.samples("mde_machines", "tenant", far.name))), far.Now().Tally().Total; n != want {
		far.hour.Errorf("%s: %d machines, not %d", far.name, n, want)
	}
}

// checkCalls looks at what reached the far end.
func (far *hourTenant) checkCalls() {
	far.hour.Helper()
	for _, c := range far.Misdirected() {
		far.hour.Errorf("%s: a token at the wrong place: %s for %q", far.name, c.Target, c.Audience)
	}
	for api, limit := range simulation.DocumentedLimits() {
		if far.quota != (client.Limits{}) {
			limit.PerMinute, limit.PerHour = far.quota.CallsPerMinute, far.quota.CallsPerHour
		}
		if n := far.Busiest(api, time.Minute); n > limit.PerMinute {
			far.hour.Errorf("%s: %d calls of %s within a minute", far.name, n, api)
		}
		if n := far.Busiest(api, time.Hour); n > limit.PerHour {
			far.hour.Errorf("%s: %d calls of %s within an hour", far.name, n, api)
		}
	}
}
