package simulation_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

func TestFaults(t *testing.T) {
	const machines = "/api/machines?$top=10000"
	for name, c := range map[string]struct {
		fault simulation.Fault
		want  func(result) bool
	}{
		"status with the service's error": {
			simulation.Fault{Status: 503},
			func(a result) bool { return a.status == 503 && strings.Contains(string(a.body), "ServiceUnavailable") },
		},
		"status without body": {
			simulation.Fault{Status: 404, NoBody: true},
			func(a result) bool { return a.status == 404 && len(a.body) == 0 },
		},
		"throttling with Retry-After": {
			simulation.Fault{Status: 429, RetryAfter: "Fri, 31 Dec 1999 23:59:59 GMT"},
			func(a result) bool {
				return a.status == 429 && a.header.Get("Retry-After") == "Fri, 31 Dec 1999 23:59:59 GMT"
			},
		},
		"sign-in page as HTML": {
			simulation.Fault{Body: simulation.SignInPage},
			func(a result) bool {
				return a.status == 200 && strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && string(a.body) == simulation.SignInPage
			},
		},
		"broken JSON": {
			simulation.Fault{Body: `{"value":[`},
			func(a result) bool { return a.status == 200 && string(a.body) == `{"value":[` },
		},
		"redirect": {
			simulation.Fault{Redirect: "https://elsewhere.example/"},
			func(a result) bool {
				return a.status == 302 && a.header.Get("Location") == "https://elsewhere.example/"
			},
		},
		"additional headers": {
			simulation.Fault{Header: http.Header{"Date": {"Fri, 31 Dec 1999 23:59:59 GMT"}}},
			func(a result) bool {
				return a.status == 200 && a.header.Get("Date") == "Fri, 31 Dec 1999 23:59:59 GMT"
			},
		},
		"connection reset": {
			simulation.Fault{Reset: true},
			func(a result) bool { return a.err != nil },
		},
		"truncated body": {
			simulation.Fault{Truncate: 100},
			func(a result) bool { return a.status == 200 && errors.Is(a.err, io.ErrUnexpectedEOF) },
		},
		"nextLink to another host": {
			simulation.Fault{NextLink: "https://elsewhere.example/page"},
			func(a result) bool {
				return strings.Contains(string(a.body), `"@odata.nextLink":"https://elsewhere.example/page","value":[{`)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 100}, simulation.ListenOptions{})
			c.fault.Times = 1
			token := f.token(t, apiScope)
			f.client.CloseIdleConnections()
			f.Fail(simulation.Machines, c.fault)
			if a := f.get(t, f.APIURL+machines, token); !c.want(a) {
				t.Errorf("%d %v %v %.200s", a.status, a.err, a.header, a.body)
			}
			if n := len(rows(t, f.get(t, f.APIURL+machines, token))); n != 105 {
				t.Errorf("%d rows after the fault", n)
			}
		})
	}
}

func TestBrokenStreamsOverHTTP2(t *testing.T) {
	for name, fault := range map[string]simulation.Fault{
		"reset": {Reset: true},
		"cut":   {Truncate: 100},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 100}, simulation.ListenOptions{TLS: true})
			token := f.token(t, apiScope)
			f.Fail(simulation.Machines, fault)
			if a := f.get(t, f.APIURL+"/api/machines", token); a.err == nil {
				t.Errorf("%d", a.status)
			}
			f.Clear()
			if a := f.get(t, f.APIURL+"/api/machines", token); a.err != nil || a.status != 200 {
				t.Errorf("%d %v", a.status, a.err)
			}
		})
	}
}

func TestFaultsSelectCalls(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 5}, simulation.ListenOptions{})
	token := f.token(t, apiScope)
	status := func(path string) int { return f.get(t, f.APIURL+path, token).status }

	f.Fail(simulation.Machines, simulation.Fault{Status: 500, Skip: 1, Times: 2}, simulation.Fault{Status: 502, Times: 1})
	var got []int
	for range 5 {
		got = append(got, status("/api/machines"))
	}
	// The second fault applies to the call that the first one skips.
	if want := []int{502, 500, 500, 200, 200}; !equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	f.Fail(simulation.DomainMachines, simulation.Fault{Status: 404, Match: func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "bad.example")
	}})
	if status("/api/domains/bad.example/machines") != 404 || status("/api/domains/good.example/machines") != 200 {
		t.Error("the fault did not apply to exactly one domain")
	}

	f.Fail(simulation.Every, simulation.Fault{Status: 503})
	if status("/api/machines") != 503 || f.signIn(t, f.form(apiScope)).status != 503 || status("/api/domains/bad.example/machines") != 404 {
		t.Error("faults of one API must come before those of Every")
	}
	f.Clear(simulation.Every)
	if status("/api/machines") != 200 || status("/api/domains/bad.example/machines") != 404 {
		t.Error("Clear(Every) must clear only the outage")
	}
	f.Clear()
	if status("/api/domains/bad.example/machines") != 200 {
		t.Error("a fault remains after Clear")
	}
}

func equal(a, b []int) bool {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestSignInFaultsHaveEntraFormat(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	for status, word := range map[int]string{400: "invalid_request", 401: "invalid_client", 429: "temporarily_unavailable", 503: "temporarily_unavailable"} {
		f.Fail(simulation.Token, simulation.Fault{Status: status, Times: 1})
		if a := f.signIn(t, f.form(apiScope)); a.status != status || a.object(t)["error"] != word {
			t.Errorf("%d: %d %s", status, a.status, a.body)
		}
	}
}

func TestEndlessChainsNeverRepeatALink(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 5}, simulation.ListenOptions{})
	f.Fail(simulation.Every, simulation.Fault{Endless: true})
	f.Fail(simulation.Token, simulation.Fault{})
	for _, c := range []struct{ link, scope string }{
		{f.GraphURL + statesPath, graphScope},
		{f.APIURL + "/api/machines?$top=100", apiScope},
		{f.APIURL + "/api/deviceavinfo?$top=100", apiScope},
	} {
		seen := map[string]bool{}
		token := f.token(t, c.scope)
		for range 4 {
			a := f.get(t, c.link, token)
			if len(rows(t, a)) == 0 {
				t.Error("an empty page")
			}
			c.link, _ = a.object(t)["@odata.nextLink"].(string)
			if c.link == "" || seen[c.link] {
				t.Errorf("nextLink %q", c.link)
			}
			seen[c.link] = true
		}
	}
}

func TestHangingCallsEndWhenClientCancels(t *testing.T) {
	for name, fault := range map[string]simulation.Fault{
		"before the response": {Hang: true},
		"during the body":     {Truncate: 10, Stall: true},
		"in a long delay":     {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{}, simulation.ListenOptions{})
			token := f.token(t, apiScope)
			f.Fail(simulation.Machines, fault)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.APIURL+"/api/machines", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			if a := f.do(t, r); !errors.Is(a.err, context.DeadlineExceeded) {
				t.Errorf("%d %v", a.status, a.err)
			}
		})
	}
}

func TestFaultTimesIsExactForConcurrentCalls(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1}, simulation.ListenOptions{})
	f.Fail(simulation.Machines, simulation.Fault{Status: http.StatusServiceUnavailable, Skip: 4, Times: 20})
	token := f.token(t, apiScope)
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 5 {
				f.get(t, f.APIURL+"/api/machines?$top=1", token)
			}
		})
	}
	calls.Wait()
	if n := f.Count(simulation.Machines, http.StatusServiceUnavailable); n != 20 {
		t.Errorf("%d calls failed, want 20", n)
	}
}
