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

// scriptedAPIs is a far end that gives the same answer to every call of an API,
// by the last part of its path.
type scriptedAPIs map[string]scriptedAnswer

type scriptedAnswer struct {
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

func jsonAnswer(status int, body string) scriptedAnswer {
	return scriptedAnswer{status, "application/json", body}
}

// ownError is an error as the service itself sends it.
func ownError(status int, code string) scriptedAnswer {
	return jsonAnswer(status, `{"error":{"code":"`+code+`","message":"as scripted","target":"00000000"}}`)
}

// gatewayAnswers are what stands between the exporter and the service.
func gatewayAnswers() map[string]scriptedAnswer {
	answers := map[string]scriptedAnswer{
		"404 of Kong":        jsonAnswer(404, `{"message":"no Route matched with those values"}`),
		"404 of Spring":      jsonAnswer(404, `{"timestamp":"2026-01-01T00:00:00Z","status":404,"error":"Not Found","path":"/"}`),
		"404 of API gateway": jsonAnswer(404, `{"statusCode":404,"message":"Resource not found"}`),
		"404 with a number":  jsonAnswer(404, `{"error":{"code":404,"message":"Not Found"}}`),
		"404 of another API": jsonAnswer(404, `{"error":{"code":"DeploymentNotFound","message":"x"}}`),
	}
	for _, status := range []int{401, 403, 404, 410} {
		answers[fmt.Sprint(status, " HTML")] = scriptedAnswer{status, "text/html", "<html><title>" + http.StatusText(status) + "</title></html>"}
		answers[fmt.Sprint(status, " without a body")] = scriptedAnswer{status: status}
	}
	return answers
}

// healthyAPIs are a far end of 3 machines, of which one has its antivirus off.
func healthyAPIs() scriptedAPIs {
	row := func(n int) string {
		return fmt.Sprintf(`{"id":"%040x","osBuild":19045,"osProcessor":"x64","healthStatus":"Active","onboardingStatus":"Onboarded"}`, n)
	}
	return scriptedAPIs{
		"token":                 jsonAnswer(200, `{"access_token":"of-no-worth","token_type":"Bearer","expires_in":3600}`),
		"machines":              jsonAnswer(200, `{"value":[`+row(1)+`,`+row(2)+`,`+row(3)+`]}`),
		"deviceavinfo":          jsonAnswer(200, fmt.Sprintf(`{"value":[{"machineId":"%040x","osKind":"windows","avMode":"2","dataRefreshTimestamp":"%s"}]}`, 1, time.Now().UTC().Format(time.RFC3339))),
		"machinesecuritystates": jsonAnswer(200, fmt.Sprintf(`{"value":[{"id":"%040x","build":14393,"architecture":"Amd64","propertiesRequireAttention":["AntivirusNotReporting"]}]}`, 1)),
	}
}

func TestAGatewaysAnswerChangesNothing(t *testing.T) {
	for api, source := range map[string]string{"machines": SourceMachines, "deviceavinfo": SourceMachines, "machinesecuritystates": SourceAuto} {
		for name, answer := range gatewayAnswers() {
			t.Run(api+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, far := collectortest.NewWorld(), healthyAPIs()
					s := newStates(w, newClient(t, far), func(o *Options) { o.Source = source })
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					before, healthy := w.Exposed(t), far[api]
					far[api] = answer
					for range 2 * keptRefusals {
						if err := w.Refresh(t.Context(), s); err == nil {
							t.Error("no error")
						}
						if after := w.Exposed(t); after != before {
							t.Fatalf("before:\n%s\nafter:\n%s", before, after)
						}
						time.Sleep(time.Minute)
					}
					far[api] = healthy
					if err := w.Refresh(t.Context(), s); err != nil || w.Exposed(t) != before {
						t.Errorf("error %v and once the gateway has gone:\n%s", err, w.Exposed(t))
					}
				})
			})
		}
	}
}

func TestTheServicesOwnWordsAreAccepted(t *testing.T) {
	const machines, off = `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`, `mde_machines_attention{architecture="Amd64",os_build="19045",property="AntivirusOff",tenant="contoso"}`
	for name, tc := range map[string]struct {
		api              string
		answer           scriptedAnswer
		machines, avOff  string
		incomplete, fail bool
	}{
		"no machines":             {"machines", ownError(404, "ResourceNotFound"), "", "", false, false},
		"no antivirus rows":       {"deviceavinfo", ownError(404, "NotFound"), "3", "", true, false},
		"no role":                 {"deviceavinfo", ownError(403, "Forbidden"), "3", "", true, false},
		"a switched-off feature":  {"deviceavinfo", ownError(403, "DisabledFeature"), "3", "", true, false},
		"a revoked token":         {"deviceavinfo", ownError(401, "Unauthorized"), "3", "1", false, true},
		"an API that has gone":    {"deviceavinfo", ownError(410, "Gone"), "3", "", true, false},
		"a bad request":           {"deviceavinfo", ownError(400, "BadRequest"), "3", "1", false, true},
		"machines that need more": {"machines", ownError(403, "Forbidden"), "3", "1", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, far := collectortest.NewWorld(), healthyAPIs()
				s := newStates(w, newClient(t, far), func(o *Options) { o.Source = SourceMachines })
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				far[tc.api] = tc.answer
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

func TestNoMachinesWithoutAntivirusRowsIsIncomplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, far := collectortest.NewWorld(), healthyAPIs()
		far["machines"], far["deviceavinfo"] = ownError(404, "NotFound"), ownError(403, "Forbidden")
		s := newStates(w, newClient(t, far), func(o *Options) { o.Source = SourceMachines })
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := w.Exposed(t); collectortest.Value(got, `mde_security_states_incomplete{part="antivirus",tenant="contoso"}`) != "1" {
			t.Errorf("exposed:\n%s", got)
		}
	})
}

// previewThen is a fleet whose preview answered once and then does so no more.
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

func TestAuto(t *testing.T) {
	passing, html := refusedPreview(503), collectortest.RowsOf[client.SecurityState](&client.Error{API: client.MachineSecurityStates, Status: 404, Reason: client.ReasonOther})
	noToken := collectortest.RowsOf[client.SecurityState](&client.Error{API: client.Token, Status: 400, Reason: client.ReasonAuth, Code: "invalid_resource"})
	type answer = func(func(*client.SecurityState, error) bool)
	for name, tc := range map[string]struct {
		answers []answer // After a first one that is a fleet, a minute from each other.
		moves   bool     // At the last answer, and not before.
	}{
		"a claims challenge":                    {[]answer{refusedPreview(401)}, false},
		"three refusals in a row":               {[]answer{refusedPreview(401), refusedPreview(403), refusedPreview(404)}, false},
		"four refusals in a row":                {[]answer{refusedPreview(410), refusedPreview(410), refusedPreview(410), refusedPreview(410)}, true},
		"no Graph token any more":               {[]answer{noToken, noToken, noToken, noToken}, true},
		"a passing fault among the refusals":    {[]answer{refusedPreview(403), refusedPreview(403), passing, refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"a gateway's page among the refusals":   {[]answer{refusedPreview(403), refusedPreview(403), html, refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"a success among the refusals":          {[]answer{refusedPreview(403), refusedPreview(403), refusedPreview(403), collectortest.RowsOf(nil, previewFleet()...), refusedPreview(403), refusedPreview(403), refusedPreview(403)}, false},
		"a gateway's page for half an hour":     {slices.Repeat([]answer{html}, 30), false},
		"a gateway's page until values expired": {slices.Repeat([]answer{html}, 45), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := collectortest.NewWorld(), machineFleet()
				s, before := previewThen(t, w, f)
				for i, answer := range tc.answers {
					time.Sleep(time.Minute)
					f.StateRows = answer
					err := w.Refresh(t.Context(), s)
					got := w.Exposed(t)
					if tc.moves && i == len(tc.answers)-1 {
						if err != nil || collectortest.Value(got, fromMachines) != "1" {
							t.Fatalf("at the last answer: error %v\n%s", err, got)
						}
						continue
					}
					var rows int
					answer(func(*client.SecurityState, error) bool { rows++; return true })
					if succeeds := rows > 1; (err == nil) != succeeds || got != before {
						t.Fatalf("at answer %d: error %v\n%s", i+1, err, got)
					}
				}
				if warned := strings.Contains(w.Log.String(), "level=WARN"); warned != tc.moves {
					t.Errorf("warned %v:\n%s", warned, w.Log)
				}
			})
		})
	}
}

func TestRefusalsCountOnAfterARestart(t *testing.T) {
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
			t.Errorf("error %v and, right after the source was left, the calls %v", err, f.Calls[calls:])
		}
	})
}

func TestAStoredSourceThatMakesNoSenseIsIgnored(t *testing.T) {
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

func TestALeftPreviewIsAskedAgainWithinTheHour(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Second, 5 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, 50 * time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := collectortest.NewWorld(), machineFleet()
				var asked []time.Time
				f.StateRows = func(yield func(*client.SecurityState, error) bool) {
					asked = append(asked, time.Now())
					refusedPreview(404)(yield)
				}
				s := newStates(w, f, func(o *Options) { o.Interval, o.MaxAge = interval, 3*interval })
				for start := time.Now(); time.Since(start) < 8*time.Hour; time.Sleep(time.Duration(float64(interval) * (0.95 + rand.Float64()/10))) {
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				if len(asked) < 8 || len(asked) > 17 {
					t.Errorf("asked %d times in 8 hours", len(asked))
				}
				for i := range asked[1:] {
					if pause := asked[i+1].Sub(asked[i]); pause > time.Hour {
						t.Errorf("asked again after %s", pause)
					}
				}
			})
		})
	}
}

func TestAStartWithoutAPreviewWarnsNobody(t *testing.T) {
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
