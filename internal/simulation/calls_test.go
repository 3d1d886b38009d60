package simulation_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestCallsAreRecorded(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 100, CallLog: 4}, simulation.ListenOptions{})
	token := f.token(t, apiScope)
	f.get(t, f.APIURL+"/api/machines?$top=10&$skip=95", token)
	f.get(t, f.APIURL+"/api/nothing", token)
	f.Fail(simulation.Machines, simulation.Fault{Reset: true, Times: 1})
	f.client.CloseIdleConnections()
	f.get(t, f.APIURL+"/api/machines", token)
	f.get(t, f.APIURL+"/api/deviceavinfo", "")

	calls := f.ended()
	if len(calls) != 4 || calls[0].Number != 2 || calls[3].Number != 5 {
		t.Fatalf("%+v", calls)
	}
	first := calls[0]
	if first.API != simulation.Machines || first.Target != "/api/machines?$top=10&$skip=95" || first.Status != 200 ||
		first.Rows != 10 || first.Audience != simulation.APIAudience || !first.Done || first.View.Tally().Total != 100 {
		t.Errorf("%+v", first)
	}
	if c := calls[1]; c.API != simulation.Unknown || c.Status != 404 {
		t.Errorf("%+v", c)
	}
	if c := calls[2]; !c.Broken || c.Status != 0 {
		t.Errorf("%+v", c)
	}
	if c := calls[3]; c.Status != 401 || c.Authorized {
		t.Errorf("%+v", c)
	}
	for _, c := range []struct {
		api      simulation.API
		statuses []int
		want     int
	}{
		{simulation.Every, nil, 5},
		{simulation.Machines, nil, 2},
		{simulation.Machines, []int{200}, 1},
		{simulation.Machines, []int{0}, 1},
		{simulation.Every, []int{200, 401}, 3},
		{simulation.DomainStats, nil, 0},
	} {
		if n := f.Count(c.api, c.statuses...); n != c.want {
			t.Errorf("%d calls of %s with %v, want %d", n, c.api, c.statuses, c.want)
		}
	}
	if m := f.Misdirected(); len(m) != 1 || m[0].Target != "/api/nothing" {
		t.Errorf("misdirected: %+v", m)
	}
	f.ForgetCalls()
	if len(f.Calls()) != 0 || f.Count(simulation.Every) != 0 {
		t.Error("calls remain after ForgetCalls")
	}
	f.get(t, f.APIURL+"/api/machines", token)
	if c := f.ended(); len(c) != 1 || c[0].Number != 6 {
		t.Errorf("%+v", c)
	}
}

// ended returns the calls once all of them have ended on the server, which may be
// a moment after the client's.
func (f *servedTenant) ended() []simulation.Call {
	for {
		calls := f.Calls()
		if !slices.ContainsFunc(calls, func(c simulation.Call) bool { return !c.Done }) {
			return calls
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTokensAtOtherOriginsAreMisdirected(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{Separate: true})
	token := f.token(t, apiScope)
	if a := f.get(t, f.APIURL+"/api/machines", token); a.status != 200 || len(f.Misdirected()) != 0 {
		t.Fatalf("%d, misdirected %v", a.status, f.Misdirected())
	}
	for i, target := range []string{f.GraphURL + "/api/machines", f.LoginURL + "/api/machines", f.APIURL + statesPath} {
		if a := f.get(t, target, token); a.status != 404 {
			t.Errorf("%s: %d", target, a.status)
		}
		if n := len(f.Misdirected()); n != i+1 {
			t.Errorf("%s: %d misdirected", target, n)
		}
	}
}

func TestLimitsAreCountedExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, simulation.Options{
			Machines: 1, TokenLifetime: 24 * time.Hour,
			Limits: map[simulation.API]simulation.Limit{simulation.Machines: {PerMinute: 3, PerHour: 5}},
		}, simulation.ListenOptions{InMemory: true})
		token := f.token(t, apiScope)
		start := time.Now()
		for _, step := range []struct {
			at         time.Duration
			status     int
			retryAfter string
		}{
			{0, 200, ""},
			{10 * time.Second, 200, ""},
			{20 * time.Second, 200, ""},
			{20 * time.Second, 429, "40"},
			{59500 * time.Millisecond, 429, "1"},
			{time.Minute, 200, ""},
			{time.Minute, 429, "10"},
			{90 * time.Second, 200, ""},
			{30 * time.Minute, 429, "1800"},
			{time.Hour - time.Second, 429, "1"},
			{time.Hour, 200, ""},
			{time.Hour, 429, "10"},
		} {
			time.Sleep(step.at - time.Since(start))
			a := f.get(t, f.APIURL+"/api/machines", token)
			if a.status != step.status || a.header.Get("Retry-After") != step.retryAfter {
				t.Errorf("at %s: %d, Retry-After %q", step.at, a.status, a.header.Get("Retry-After"))
			}
			if a := f.get(t, f.APIURL+"/api/deviceavinfo", token); a.status != 200 {
				t.Errorf("at %s another API: status %d", step.at, a.status)
			}
		}
		if n := f.Busiest(simulation.Machines, time.Minute); n != 6 {
			t.Errorf("%d calls in the busiest minute", n)
		}
		if n := f.Busiest(simulation.Machines, 2*time.Hour); n != 12 {
			t.Errorf("%d calls in two hours", n)
		}
	})
}

func TestDocumentedLimits(t *testing.T) {
	want := map[simulation.API]simulation.Limit{
		simulation.MachineSecurityStates:    {PerMinute: 100, PerHour: 1500},
		simulation.Machines:                 {PerMinute: 100, PerHour: 1500},
		simulation.DeviceAVInfo:             {PerMinute: 30, PerHour: 1000},
		simulation.DomainMachines:           {PerMinute: 100, PerHour: 1500},
		simulation.DomainStats:              {PerMinute: 100, PerHour: 1500},
		simulation.ExposureScore:            {PerMinute: 100, PerHour: 1500},
		simulation.DeviceGroupExposureScore: {PerMinute: 100, PerHour: 1500},
		simulation.DeviceSecureScore:        {PerMinute: 100, PerHour: 1500},
		simulation.Alerts:                   {PerMinute: 100, PerHour: 1500},
	}
	if got := simulation.DocumentedLimits(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
}
