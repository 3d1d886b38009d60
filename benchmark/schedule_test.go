package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"golang.org/x/time/rate"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/domains"
)

var long = flag.Bool("long", false, "also simulate 1,000 and 10,000 domains")

// TestSchedule looks up the domains of a watch list as fast as the quota allows, in
// fake time: with two token buckets of golang.org/x/time/rate, like common limiters,
// and with this exporter. The service counts calls and throttles none.
func TestSchedule(t *testing.T) {
	var table strings.Builder
	table.WriteString("\n| domains | limiter | worst minute | worst hour | first covered after | oldest value |\n|---|---|---|---|---|---|\n")
	for _, n := range []int{10, 100, 1000, 10_000} {
		if n > 100 && !*long {
			continue
		}
		for _, watcher := range []struct {
			name  string
			watch func(context.Context, *testing.T, *service, int)
			exact bool
		}{
			{"two token buckets", watchByBuckets, false},
			{"mde_exporter", watchByExporter, true},
		} {
			t.Run(fmt.Sprint(n, " domains by ", watcher.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					api := &service{random: rand.New(rand.NewPCG(uint64(n), 1)), lookups: make(map[string][]time.Time)}
					start := time.Now()
					ctx, cancel := context.WithCancel(t.Context())
					var running sync.WaitGroup
					running.Go(func() { watcher.watch(ctx, t, api, n) })
					ideal := time.Duration(n) * time.Hour / callsPerHour
					time.Sleep(2*ideal + 3*time.Hour)
					cancel()
					running.Wait()
					minute, hour := api.worst(time.Minute), api.worst(time.Hour)
					if watcher.exact && (minute > callsPerMinute || hour > callsPerHour) {
						t.Errorf("%d calls in a minute, %d in an hour", minute, hour)
					}
					covered, oldest := api.ages(start)
					if len(api.lookups) != n {
						t.Errorf("%d of %d domains looked up", len(api.lookups), n)
					}
					fmt.Fprintf(&table, "| %s | %s | %s | %s | %v | %v |\n", collector.Number(n), watcher.name, collector.Number(minute), collector.Number(hour), covered.Round(time.Second), oldest.Round(time.Second))
				})
			})
		}
	}
	t.Log(table.String())
}

// The documented limits.
const (
	callsPerMinute = 100
	callsPerHour   = 1500
)

func domainNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("d%05d.example", i)
	}
	return names
}

// watchByBuckets looks up the domains in a loop and waits for both buckets before each
// call.
func watchByBuckets(ctx context.Context, _ *testing.T, api *service, n int) {
	minute := rate.NewLimiter(rate.Limit(callsPerMinute)/60, callsPerMinute)
	hour := rate.NewLimiter(rate.Limit(callsPerHour)/3600, callsPerHour)
	for {
		for _, domain := range domainNames(n) {
			if minute.Wait(ctx) != nil || hour.Wait(ctx) != nil {
				return
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example/api/domains/"+domain+"/machines", nil)
			if err != nil {
				return
			}
			if response, err := api.RoundTrip(r); err == nil {
				_ = response.Body.Close()
			}
		}
	}
}

// watchByExporter runs the exporter's collector, client and quota.
func watchByExporter(ctx context.Context, t *testing.T, api *service, n int) {
	at := func(host string) *url.URL { return &url.URL{Scheme: "https", Host: host} }
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("contoso")
	c, err := client.New(client.Options{
		LoginURL: at("login.example"), GraphURL: at("graph.example"), APIURL: at("api.example"),
		GraphScope: "graph", APIScope: "api", Transport: api, Observer: metrics,
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "of-no-worth"},
	})
	if err != nil {
		t.Error(err)
		return
	}
	interval := time.Duration(n) * time.Hour / callsPerHour
	logger := slog.New(slog.DiscardHandler)
	var section domains.Config
	section.Defaults()
	section.Domains = domainNames(n)
	section.RefreshInterval, section.MaxAge = model.Duration(interval), model.Duration(10*interval)
	domains := section.New(collector.Env{
		Tenant: "contoso", Name: "watched_domains", Client: c, Logger: logger, Metrics: metrics,
		Shared: &collector.Shared{}, Process: &collector.Shared{},
	})
	collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "contoso", Name: "watched_domains", Logger: logger},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(interval), Continuous: true},
		Collector: domains, Exposition: &collector.Exposition{},
	}).Run(ctx)
}

// service simulates the service. A request takes 10 to 200 ms to arrive, and the
// response as long to return.
type service struct {
	mu      sync.Mutex
	random  *rand.Rand
	calls   []time.Time
	lookups map[string][]time.Time // By domain.
}

func (f *service) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	f.delay()
	body := `{"value":[]}`
	if r.Method == http.MethodPost {
		body = `{"access_token":"of-no-worth","token_type":"Bearer","expires_in":86400}`
	} else {
		f.record(strings.Split(r.URL.Path, "/")[3])
	}
	f.delay()
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func (f *service) delay() {
	f.mu.Lock()
	wait := 10*time.Millisecond + time.Duration(f.random.Int64N(int64(190*time.Millisecond)))
	f.mu.Unlock()
	time.Sleep(wait)
}

func (f *service) record(domain string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.calls = append(f.calls, now)
	f.lookups[domain] = append(f.lookups[domain], now)
}

// worst returns the largest number of calls in any span.
func (f *service) worst(span time.Duration) int {
	most, first := 0, 0
	for i, call := range f.calls {
		for call.Sub(f.calls[first]) >= span {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// ages returns when every domain had been looked up, and the maximum age of a value
// after that.
func (f *service) ages(start time.Time) (covered, oldest time.Duration) {
	for _, times := range f.lookups {
		covered = max(covered, times[0].Sub(start))
		for i := range len(times) - 1 {
			oldest = max(oldest, times[i+1].Sub(times[i]))
		}
	}
	return covered, oldest
}
