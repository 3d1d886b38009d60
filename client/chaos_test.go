package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// TestRandomFaultsForAnHour reads a fleet and looks up domains for an hour, against a
// server with random errors. A successful refresh must count each machine, the quota must
// count each request that arrived, the server must not get more calls than the limits, and
// no goroutine may be left.
func TestRandomFaultsForAnHour(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { faultyHour(t, seed) })
		})
	}
}

func faultyHour(t *testing.T, seed uint64) {
	const pages, rows = 7, 40
	api := newFakeAPI(t, nil)
	random := rand.New(rand.NewPCG(seed, 1)) // Guarded by the mutex of the fakeAPI.
	api.handler = func(w http.ResponseWriter, r *http.Request) {
		api.mu.Lock()
		fault := random.IntN(60)
		delay := time.Duration(random.Int64N(int64(2 * time.Second)))
		api.mu.Unlock()
		time.Sleep(delay)
		if fault < len(faults) {
			faults[fault](w, r)
			return
		}
		if strings.Contains(r.URL.Path, "domains") {
			respond(200, `{"value":[{"id":"a"},{"id":"b"}]}`)(w, r)
			return
		}
		page, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
		respond(200, fleetPage(page, pages, rows))(w, r)
	}
	o := api.options(t)
	o.RequestTimeout = 20 * time.Second
	o.Quota = client.Limits{CallsPerMinute: 30, CallsPerHour: 400}
	c := newClient(t, o)

	start, whole, failed := time.Now(), 0, 0
	for time.Since(start) < time.Hour {
		ctx, cancel := context.WithTimeout(client.WithRetryDeadline(t.Context(), time.Now().Add(4*time.Minute)), 5*time.Minute)
		ids, err := collect(t, c.SecurityStates(ctx), func(s *client.SecurityState) client.MachineID { return s.ID })
		distinct := make(map[client.MachineID]bool)
		for _, id := range ids {
			distinct[id] = true
		}
		switch {
		case err != nil:
			failed++
		case len(distinct) != pages*rows || len(ids) != pages*rows+pages-1:
			t.Fatalf("%d rows, %d distinct", len(ids), len(distinct))
		default:
			whole++
		}
		for range 5 {
			machines, err := collect(t, c.DomainMachines(ctx, "evil.example"), func(*client.Machine) int { return 0 })
			if err == nil && len(machines) != 2 {
				t.Fatalf("%d machines", len(machines))
			}
		}
		cancel()
		time.Sleep(time.Minute)
	}
	if whole == 0 || failed == 0 {
		t.Errorf("%d refreshes succeeded, %d failed: want some of both", whole, failed)
	}

	for name, path := range map[client.API]string{client.MachineSecurityStates: "states", client.DomainMachines: "domains"} {
		calls := api.requestsTo(path)
		inHour := 0
		for i, call := range calls {
			if i >= o.Quota.CallsPerMinute && call.at.Sub(calls[i-o.Quota.CallsPerMinute].at) < time.Minute {
				t.Errorf("%s: more than %d calls in the minute before %v", name, o.Quota.CallsPerMinute, call.at)
			}
			if i >= o.Quota.CallsPerHour && call.at.Sub(calls[i-o.Quota.CallsPerHour].at) < time.Hour {
				t.Errorf("%s: more than %d calls in the hour before %v", name, o.Quota.CallsPerHour, call.at)
			}
			if time.Since(call.at) < time.Hour {
				inHour++
			}
		}
		if use := c.Quota(name); use.HourCalls != inHour {
			t.Errorf("%s: the quota counts %d calls, %d arrived", name, use.HourCalls, inHour)
		}
	}
}

// fleetPage returns a page of a fleet. Each page but the first repeats a row of the
// previous one.
func fleetPage(page, pages, rows int) string {
	var b strings.Builder
	b.WriteString(`{`)
	if page+1 < pages {
		fmt.Fprintf(&b, `"@odata.nextLink":"?$skiptoken=%d",`, page+1)
	}
	b.WriteString(`"value":[`)
	if page > 0 {
		fmt.Fprintf(&b, `{"id":"%d"},`, page*rows-1)
	}
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%d"}`, page*rows+i)
	}
	b.WriteString(`]}`)
	return b.String()
}

var faults = []http.HandlerFunc{
	respond(500, ""),
	respond(503, "", "Retry-After", "20"),
	respond(429, "", "Retry-After", "45"),
	respond(429, ""),
	respond(401, ""),
	respond(200, `{"value":[{"id":"a"},`),
	respond(200, `<html>`),
	respond(302, "", "Location", "https://elsewhere.example/"),
	respond(410, ""),
	func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"value":[{"id":"a"},`))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
}
