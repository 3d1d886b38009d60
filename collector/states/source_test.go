package states

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// scriptedAPIs is a transport with a fixed response for each API, by the last element
// of the path.
type scriptedAPIs map[string]scriptedResponse

type scriptedResponse struct {
	status     int
	kind, body string
}

func (s scriptedAPIs) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	a := s[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	header := http.Header{"Content-Type": {a.kind}}
	if a.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ=="`)
	}
	return &http.Response{
		StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(a.body)),
		Header: header, Body: io.NopCloser(bytes.NewBufferString(a.body)),
	}, nil
}

func jsonResponse(status int, body string) scriptedResponse {
	return scriptedResponse{status, "application/json", body}
}

// serviceError returns an error in the format of the service itself.
func serviceError(status int, code string) scriptedResponse {
	return jsonResponse(status, `{"error":{"code":"`+code+`","message":"as scripted","target":"00000000"}}`)
}

// gatewayResponses returns errors of proxies and gateways between the exporter and the
// service.
func gatewayResponses() map[string]scriptedResponse {
	responses := map[string]scriptedResponse{
		"404 of Kong":        jsonResponse(404, `{"message":"no Route matched with those values"}`),
		"404 of Spring":      jsonResponse(404, `{"timestamp":"2026-01-01T00:00:00Z","status":404,"error":"Not Found","path":"/"}`),
		"404 of API gateway": jsonResponse(404, `{"statusCode":404,"message":"Resource not found"}`),
		"404 with a number":  jsonResponse(404, `{"error":{"code":404,"message":"Not Found"}}`),
		"404 of another API": jsonResponse(404, `{"error":{"code":"DeploymentNotFound","message":"x"}}`),
	}
	for _, status := range []int{401, 403, 404, 410} {
		responses[fmt.Sprint(status, " HTML")] = scriptedResponse{status, "text/html", "<html><title>" + http.StatusText(status) + "</title></html>"}
		responses[fmt.Sprint(status, " without a body")] = scriptedResponse{status: status}
	}
	return responses
}

// healthyAPIs returns the responses of a tenant with 3 machines, one of them with its
// antivirus off.
func healthyAPIs() scriptedAPIs {
	row := func(n int) string {
		return fmt.Sprintf(`{"id":"%040x","osBuild":19045,"osProcessor":"x64","healthStatus":"Active","onboardingStatus":"Onboarded"}`, n)
	}
	return scriptedAPIs{
		"token":                 jsonResponse(200, `{"access_token":"of-no-worth","token_type":"Bearer","expires_in":3600}`),
		"machines":              jsonResponse(200, `{"value":[`+row(1)+`,`+row(2)+`,`+row(3)+`]}`),
		"deviceavinfo":          jsonResponse(200, fmt.Sprintf(`{"value":[{"machineId":"%040x","osKind":"windows","avMode":"2","dataRefreshTimestamp":"%s"}]}`, 1, time.Now().UTC().Format(time.RFC3339))),
		"machinesecuritystates": jsonResponse(200, fmt.Sprintf(`{"value":[{"id":"%040x","build":14393,"architecture":"Amd64","propertiesRequireAttention":["AntivirusNotReporting"]}]}`, 1)),
	}
}

func TestGatewayErrorsKeepTheValues(t *testing.T) {
	for api, source := range map[string]string{"machines": SourceMachines, "deviceavinfo": SourceMachines, "machinesecuritystates": SourceAuto} {
		for name, response := range gatewayResponses() {
			t.Run(api+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, apis := collectortest.NewWorld(), healthyAPIs()
					s := newStates(w, newClient(t, apis), func(o *Options) { o.Source = source })
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					before, healthy := w.Exposed(t), apis[api]
					apis[api] = response
					for range 2 * keptRefusals {
						if err := w.Refresh(t.Context(), s); err == nil {
							t.Error("no error")
						}
						if after := w.Exposed(t); after != before {
							t.Fatalf("before:\n%s\nafter:\n%s", before, after)
						}
						time.Sleep(time.Minute)
					}
					apis[api] = healthy
					if err := w.Refresh(t.Context(), s); err != nil || w.Exposed(t) != before {
						t.Errorf("after the gateway's errors: error %v, exposed:\n%s", err, w.Exposed(t))
					}
				})
			})
		}
	}
}

func TestServiceErrorsAreAccepted(t *testing.T) {
	const machines, off = `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`, `mde_machines_attention{architecture="Amd64",os_build="19045",property="AntivirusOff",tenant="contoso"}`
	for name, tc := range map[string]struct {
		api              string
		response         scriptedResponse
		machines, avOff  string
		incomplete, fail bool
	}{
		"no machines":            {"machines", serviceError(404, "ResourceNotFound"), "", "", false, false},
		"no antivirus rows":      {"deviceavinfo", serviceError(404, "NotFound"), "3", "", true, false},
		"no role":                {"deviceavinfo", serviceError(403, "Forbidden"), "3", "", true, false},
		"a switched-off feature": {"deviceavinfo", serviceError(403, "DisabledFeature"), "3", "", true, false},
		"a revoked token":        {"deviceavinfo", serviceError(401, "Unauthorized"), "3", "1", false, true},
		"a removed API":          {"deviceavinfo", serviceError(410, "Gone"), "3", "", true, false},
		"a bad request":          {"deviceavinfo", serviceError(400, "BadRequest"), "3", "1", false, true},
		"no role for machines":   {"machines", serviceError(403, "Forbidden"), "3", "1", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, apis := collectortest.NewWorld(), healthyAPIs()
				s := newStates(w, newClient(t, apis), func(o *Options) { o.Source = SourceMachines })
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				apis[tc.api] = tc.response
				if err := w.Refresh(t.Context(), s); (err != nil) != tc.fail {
					t.Errorf("error %v", err)
				}
				got, incomplete := w.Exposed(t), fmt.Sprint(collector.BoolValue(tc.incomplete))
				if collectortest.Value(got, machines) != tc.machines || collectortest.Value(got, off) != tc.avOff || collectortest.Value(got, `mde_security_states_incomplete{part="antivirus",tenant="contoso"}`) != incomplete {
					t.Errorf("want %q machines, %q with the antivirus off, incomplete %s:\n%s", tc.machines, tc.avOff, incomplete, got)
				}
			})
		})
	}
}

func TestEmptyTenantWithoutAntivirusRowsIsIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, apis := collectortest.NewWorld(), healthyAPIs()
		apis["machines"], apis["deviceavinfo"] = serviceError(404, "NotFound"), serviceError(403, "Forbidden")
		s := newStates(w, newClient(t, apis), func(o *Options) { o.Source = SourceMachines })
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := w.Exposed(t); collectortest.Value(got, `mde_security_states_incomplete{part="antivirus",tenant="contoso"}`) != "1" {
			t.Errorf("exposed:\n%s", got)
		}
	})
}

// previewThen returns a collector that has read the preview once, and what it exposes.
func previewThen(t *testing.T, w *collectortest.World, f *fakeStates, change ...func(*Options)) (s *Collector, before string) {
	t.Helper()
	f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
	s = newStates(w, f, change...)
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s, w.Exposed(t)
}

const fromMachines = `mde_security_states_source_info{source="machines",tenant="contoso"}`

func refusedPreview(status int) func(func(*client.SecurityState, error) bool) {
	return collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, status))
}

func TestAutoFallsBackAfterConsecutiveRefusals(t *testing.T) {
	temporary, html := refusedPreview(503), collectortest.RowsOf[client.SecurityState](&client.Error{API: client.MachineSecurityStates, Status: 404, Reason: client.ReasonOther})
	noToken := collectortest.RowsOf[client.SecurityState](&client.Error{API: client.Token, Status: 400, Reason: client.ReasonAuth, Code: "invalid_resource"})
	type response = func(func(*client.SecurityState, error) bool)
	for name, tc := range map[string]struct {
		responses []response // One a minute, after a first success.
		moves     bool       // Whether the last response, and none before it, changes the source.
	}{
		"a claims challenge":                     {[]response{refusedPreview(401)}, false},
		"three refusals in a row":                {[]response{refusedPreview(401), refusedPreview(403), refusedPreview(404)}, false},
		"four refusals in a row":                 {[]response{refusedPreview(410), refusedPreview(410), refusedPreview(410), refusedPreview(410)}, true},
		"no more Graph tokens":                   {[]response{noToken, noToken, noToken, noToken}, true},
		"temporary failure between refusals":     {[]response{refusedPreview(403), refusedPreview(403), temporary, refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"gateway error between refusals":         {[]response{refusedPreview(403), refusedPreview(403), html, refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"success between refusals":               {[]response{refusedPreview(403), refusedPreview(403), refusedPreview(403), collectortest.RowsOf(nil, previewFleet()...), refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"gateway errors for half an hour":        {slices.Repeat([]response{html}, 30), false},
		"gateway errors until the values expire": {slices.Repeat([]response{html}, 45), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := collectortest.NewWorld(), machineFleet()
				s, before := previewThen(t, w, f)
				for i, response := range tc.responses {
					time.Sleep(time.Minute)
					f.StateRows = response
					err := w.Refresh(t.Context(), s)
					got := w.Exposed(t)
					if tc.moves && i == len(tc.responses)-1 {
						if err != nil || collectortest.Value(got, fromMachines) != "1" {
							t.Fatalf("last response: error %v\n%s", err, got)
						}
						continue
					}
					var rows int
					response(func(*client.SecurityState, error) bool { rows++; return true })
					if succeeds := rows > 1; (err == nil) != succeeds || got != before {
						t.Fatalf("response %d: error %v\n%s", i+1, err, got)
					}
				}
				if warned := strings.Contains(w.Log.String(), "level=WARN"); warned != tc.moves {
					t.Errorf("warned %v:\n%s", warned, w.Log)
				}
			})
		})
	}
}

func TestRefusalsAreCountedAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		keep := func(o *Options) { o.Store = store }
		w, f := collectortest.NewWorld(), machineFleet()
		_, before := previewThen(t, w, f, keep)
		f.StateRows = refusedPreview(403)
		for run := range keptRefusals {
			time.Sleep(time.Minute)
			w = collectortest.NewWorld()
			s := newStates(w, f, keep)
			s.Start(t.Context(), w.Publisher(s))
			if err := w.Refresh(t.Context(), s); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("refused refresh %d of 3", run+1)) {
				t.Errorf("run %d: error %v", run+1, err)
			}
			if got := w.Exposed(t); got != before {
				t.Errorf("run %d:\n%s", run+1, got)
			}
		}
		w = collectortest.NewWorld()
		s := newStates(w, f, keep)
		s.Start(t.Context(), w.Publisher(s))
		if err := w.Refresh(t.Context(), s); err != nil || collectortest.Value(w.Exposed(t), fromMachines) != "1" {
			t.Errorf("error %v and exposed:\n%s", err, w.Exposed(t))
		}

		calls := len(f.Calls)
		w = collectortest.NewWorld()
		s = newStates(w, f, keep)
		s.Start(t.Context(), w.Publisher(s))
		if err := w.Refresh(t.Context(), s); err != nil || slices.Contains(f.Calls[calls:], client.MachineSecurityStates) {
			t.Errorf("error %v, calls immediately after the fallback %v", err, f.Calls[calls:])
		}
	})
}

func TestInvalidStoredSourceIsIgnored(t *testing.T) {
	for _, text := range []string{`[]`, `{"refusals":-1}`, `{"left":"2999-01-01T00:00:00Z"}`} {
		w, f := collectortest.NewWorld(), machineFleet()
		f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
		s := newStates(w, f, func(o *Options) {
			o.Store = &collector.MemoryStore{Values: map[string]string{"security_states_source": text}}
		})
		s.Start(t.Context(), w.Publisher(s))
		if err := w.Refresh(t.Context(), s); err != nil || !slices.Contains(f.Calls, client.MachineSecurityStates) {
			t.Errorf("%s: error %v, calls %v", text, err, f.Calls)
		}
		if !strings.Contains(w.Log.String(), "level=WARN") {
			t.Errorf("%s: log %s", text, w.Log)
		}
	}
}

func TestUnavailablePreviewIsRequestedAgainWithinAnHour(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Second, 5 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, 50 * time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := collectortest.NewWorld(), machineFleet()
				var requested []time.Time
				f.StateRows = func(yield func(*client.SecurityState, error) bool) {
					requested = append(requested, time.Now())
					refusedPreview(404)(yield)
				}
				s := newStates(w, f, func(o *Options) { o.Interval, o.MaxAge = interval, 3*interval })
				for start := time.Now(); time.Since(start) < 8*time.Hour; time.Sleep(time.Duration(float64(interval) * (0.95 + rand.Float64()/10))) {
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				if len(requested) < 8 || len(requested) > 17 {
					t.Errorf("requested %d times in 8 hours", len(requested))
				}
				for i := range requested[1:] {
					if pause := requested[i+1].Sub(requested[i]); pause > time.Hour {
						t.Errorf("requested again after %s", pause)
					}
				}
			})
		})
	}
}

func TestStartWithoutPreviewLogsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		collectortest.RunFor(t, w.Refresher(newStates(w, machineFleet()), 15*time.Minute), time.Hour)
		log := w.Log.String()
		if !strings.Contains(log, `level=INFO msg="Graph preview unavailable, falling back to /api/machines"`) || !strings.Contains(log, "status=404") {
			t.Errorf("log without the fallback:\n%s", log)
		}
		for _, level := range []slog.Level{slog.LevelWarn, slog.LevelError} {
			if strings.Contains(log, "level="+level.String()) {
				t.Errorf("log with %s:\n%s", level, log)
			}
		}
	})
}
