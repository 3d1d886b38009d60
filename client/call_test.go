package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

const oneState = `{"value":[{"id":"a","build":14393}]}`

func TestRetryAfterOf429IsWaitedExactly(t *testing.T) {
	for _, test := range []struct {
		name       string
		retryAfter func() string
		want       time.Duration
	}{
		{"in seconds", func() string { return "37" }, 37 * time.Second},
		{"until a date", func() string { return time.Now().Add(2 * time.Minute).UTC().Format(http.TimeFormat) }, 2 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				throttled := false
				api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
					if !throttled {
						throttled = true
						respond(429, `{"error":{"code":"TooManyRequests"}}`, "Retry-After", test.retryAfter())(w, r)
						return
					}
					respond(200, oneState)(w, r)
				})
				got, err := builds(t.Context(), t, api.client(t))
				if err != nil || len(got) != 1 {
					t.Fatalf("builds %v, error %v", got, err)
				}
				calls := api.requestsTo("states")
				if len(calls) != 2 || calls[1].at.Sub(calls[0].at) != test.want {
					t.Errorf("calls %v, want two that are %v apart", calls, test.want)
				}
				if got, want := api.codes(client.MachineSecurityStates), "429 200"; got != want {
					t.Errorf("codes %q, want %q", got, want)
				}
				if api.waits != test.want {
					t.Errorf("observed wait %v, want %v", api.waits, test.want)
				}
			})
		})
	}
}

func Test429DelaysAllCallsToThatAPIOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/first/") && time.Since(start) < time.Second {
				respond(429, "", "Retry-After", "60")(w, r)
				return
			}
			respond(200, `{"value":[]}`)(w, r)
		})
		c := api.client(t)
		ask := func(domain string) {
			for _, err := range c.DomainMachines(t.Context(), domain) {
				t.Error(err)
			}
		}
		var first sync.WaitGroup
		first.Go(func() { ask("first") })
		synctest.Wait()
		ask("second")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("the second domain was requested after %v, want a minute", waited)
		}
		first.Wait()
		if _, err := builds(t.Context(), t, c); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("another API was delayed until %v", waited)
		}
	})
}

func Test429WithoutRetryAfterBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(429, ""))
		ctx := client.WithRetryDeadline(t.Context(), time.Now().Add(10*time.Minute))
		_, err := builds(ctx, t, api.client(t))
		checkError(t, err, client.ReasonThrottled, "HTTP 429")
		checkIncreasingPauses(t, api.requestsTo("states"), 10)
	})
}

// checkIncreasingPauses fails unless the number of calls is at least atLeast and the
// pauses between them increase up to a minute.
func checkIncreasingPauses(t *testing.T, calls []request, atLeast int) {
	t.Helper()
	if len(calls) < atLeast {
		t.Errorf("%d calls, want at least %d", len(calls), atLeast)
	}
	last := time.Duration(0)
	for i := 1; i < len(calls); i++ {
		pause := calls[i].at.Sub(calls[i-1].at)
		if pause <= last && pause < 45*time.Second {
			t.Errorf("a pause of %v after one of %v", pause, last)
		}
		last = pause
	}
}

func TestRetryAfterPastDeadlineFailsImmediatelyAndStaysInEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(429, "", "Retry-After", "3600"))
		c := api.client(t)
		start := time.Now()
		ctx := client.WithRetryDeadline(t.Context(), start.Add(15*time.Minute))
		for range 2 {
			_, err := builds(ctx, t, c)
			checkError(t, err, client.ReasonThrottled)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v, want no wait", waited)
		}
		if calls := api.requestsTo("states"); len(calls) != 1 {
			t.Errorf("%d calls, want 1: the service asked for none before an hour", len(calls))
		}
	})
}

func TestRetryAfterOf503StaysInEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(503, "", "Retry-After", "30"))
		c := api.client(t)
		for range 29 { // Refreshes that may wait one second.
			if _, err := builds(client.WithRetryDeadline(t.Context(), time.Now().Add(time.Second)), t, c); err == nil {
				t.Error("no error")
			}
			time.Sleep(time.Second)
		}
		if calls := api.requestsTo("states"); len(calls) != 1 {
			t.Errorf("%d calls within the pause, want 1", len(calls))
		}
		_, err := builds(client.WithRetryDeadline(t.Context(), time.Now().Add(time.Second)), t, c)
		checkError(t, err, client.ReasonServer, "HTTP 503")
		if calls := api.requestsTo("states"); len(calls) != 2 || calls[1].at.Sub(calls[0].at) != 30*time.Second {
			t.Errorf("calls %v, want two that are 30s apart", calls)
		}
		for _, domain := range []string{"one", "another"} {
			for _, err := range c.DomainMachines(client.WithRetryDeadline(t.Context(), time.Now()), domain) {
				checkError(t, err, client.ReasonServer, "HTTP 503") // Neither waits for the other.
			}
		}
	})
}

func TestTemporaryErrorsAreRetriedWithBackoff(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  http.HandlerFunc
		reason client.Reason
		text   string
		code   string
	}{
		{"a server error", respond(503, `{"error":{"code":"ServiceUnavailable","message":"busy"}}`), client.ReasonServer, "HTTP 503: ServiceUnavailable: busy", "503"},
		{"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, client.ReasonNetwork, "EOF", "error"},
		{"a server that hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, client.ReasonTimeout, "within 10s", "error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.fault)
				o := api.options(t)
				o.RequestTimeout = 10 * time.Second
				c := newClient(t, o)
				_, err := builds(t.Context(), t, c)
				checkError(t, err, test.reason, test.text)
				checkIncreasingPauses(t, api.requestsTo("states"), 5)
				if got, want := api.codes(client.MachineSecurityStates), strings.TrimSpace(strings.Repeat(test.code+" ", 5)); got != want {
					t.Errorf("codes %q, want %q", got, want)
				}

				start := time.Now()
				_, err = builds(client.WithRetryDeadline(t.Context(), start.Add(time.Second/2)), t, c)
				checkError(t, err, test.reason)
				if calls := api.requestsTo("states"); len(calls) != 6 {
					t.Errorf("%d calls, want one more and none past the retry deadline", len(calls)-5)
				}
			})
		})
	}
}

func TestTemporaryErrorsBetweenPagesAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			switch calls++; calls {
			case 1:
				respond(200, `{"@odata.nextLink":"?$skiptoken=2","value":[{"build":1},{"build":2}]}`)(w, r)
			case 2:
				respond(500, "")(w, r)
			case 3:
				panic(http.ErrAbortHandler)
			default:
				respond(200, `{"value":[{"build":3}]}`)(w, r)
			}
		})
		got, err := builds(t.Context(), t, api.client(t))
		if fmt.Sprint(got) != "[1 2 3]" || err != nil {
			t.Errorf("builds %v, error %v", got, err)
		}
	})
}

func TestOtherClientErrorsAreNotRetriedAndNameTheFix(t *testing.T) {
	states := func(c *client.Client, ctx context.Context) error {
		for _, err := range c.SecurityStates(ctx) {
			return err
		}
		return nil
	}
	machines := func(c *client.Client, ctx context.Context) error {
		for _, err := range c.Machines(ctx) {
			return err
		}
		return nil
	}
	statistics := func(c *client.Client, ctx context.Context) error {
		_, err := c.DomainStatistics(ctx, "evil.example")
		return err
	}
	for _, test := range []struct {
		name    string
		call    func(*client.Client, context.Context) error
		handler http.HandlerFunc
		reason  client.Reason
		texts   []string
	}{
		{"400 with a message", states, respond(400, `{"error":{"code":"BadRequest","message":"no such\nsegment"}}`), client.ReasonOther, []string{"HTTP 400: BadRequest: no such segment"}},
		{"403 of machines", machines, respond(403, `{"error":{"code":"Forbidden","message":"no"}}`), client.ReasonForbidden, []string{"HTTP 403", "no; ", "Machine.Read.All"}},
		{"403 of statistics", statistics, respond(403, ""), client.ReasonForbidden, []string{"URL.Read.All"}},
		{"403 of the preview", states, respond(403, "<html>"), client.ReasonForbidden, []string{"preview"}},
		{"404", machines, respond(404, ""), client.ReasonOther, []string{"HTTP 404", "not a response of the API itself: check the URL"}},
		{"410 with a body of HTML", states, respond(410, "<html>gone</html>"), client.ReasonOther, []string{"HTTP 410"}},
		{"a body that is not an error", states, respond(418, `{"error":"teapot"}`), client.ReasonOther, []string{"HTTP 418"}},
		{"a very long body", states, respond(400, `{"error":{"message":"`+strings.Repeat("word,", 1000)+`"}}`), client.ReasonOther, []string{"word,word", "…"}},
		{"a redirect", states, respond(302, "", "Location", "https://elsewhere.example/?secret=1"), client.ReasonOther, []string{"redirects are not followed", "elsewhere.example"}},
		{"a 300 response", states, respond(300, ""), client.ReasonOther, []string{"redirects are not followed"}},
		{"204", states, respond(204, ""), client.ReasonOther, []string{"HTTP 204"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				start := time.Now()
				err := test.call(api.client(t), t.Context())
				checkError(t, err, test.reason, test.texts...)
				if len(err.Error()) > 600 || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %q is too long or contains a secret", err)
				}
				if waited := time.Since(start); waited != 0 || len(api.requestsTo("")) != 2 {
					t.Errorf("%d requests in %v, want one token request and one call without a pause", len(api.requestsTo("")), waited)
				}
			})
		})
	}
}

func TestRetriesOnceWithNewTokenAfter401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := "Bearer graph-1"
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == revoked {
				respond(401, "")(w, r)
				return
			}
			respond(200, oneState)(w, r)
		})
		got, err := builds(t.Context(), t, api.client(t))
		if err != nil || len(got) != 1 {
			t.Errorf("builds %v, error %v", got, err)
		}
		if tokens, calls := api.requestsTo("token"), api.requestsTo("states"); len(tokens) != 2 || len(calls) != 2 {
			t.Errorf("%d token requests and %d calls, want 2 and 2", len(tokens), len(calls))
		}
	})
}

func TestRepeated401DoesNotRequestTokenForEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(401, `{"error":{"code":"Unauthorized","message":"no"}}`))
		c := api.client(t)
		for range 10 {
			_, err := builds(t.Context(), t, c)
			checkError(t, err, client.ReasonAuth, "HTTP 401: Unauthorized: no", "scope")
		}
		if tokens, calls := api.requestsTo("token"), api.requestsTo("states"); len(tokens) > 3 || len(calls) != 11 {
			t.Errorf("%d token requests for %d calls", len(tokens), len(calls))
		}
		time.Sleep(time.Hour)
		before := len(api.requestsTo("token"))
		_, err := builds(t.Context(), t, c)
		checkError(t, err, client.ReasonAuth)
		if len(api.requestsTo("token")) == before {
			t.Error("no new token was requested an hour later")
		}
	})
}

// A token contains its roles, so a new role needs a new token.
func TestNewRoleTakesEffectAfterTokenRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var old []string // Tokens from before the grant.
		granted, signInFails, attempts := false, false, 0
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			token := r.Header.Get("Authorization")
			if !granted {
				old = append(old, token)
			}
			if slices.Contains(old, token) {
				respond(403, "")(w, r)
				return
			}
			respond(200, oneState)(w, r)
		})
		o := api.options(t)
		base := o.Transport
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				if attempts++; signInFails {
					return nil, errors.New("the sign-in host is down")
				}
			}
			return base.RoundTrip(r)
		})
		c := newClient(t, o)
		refused := func() {
			t.Helper()
			_, err := builds(t.Context(), t, c)
			checkError(t, err, client.ReasonForbidden)
		}
		for range 10 {
			refused()
			time.Sleep(time.Second)
		}
		if n := len(api.requestsTo("token")); n != 1 {
			t.Errorf("%d token requests after 403s with one new token, want 1", n)
		}
		time.Sleep(5 * time.Minute)
		signInFails = true
		refused() // The token is old enough to be replaced,
		for range 5 {
			refused() // but no new token is available.
		}
		if attempts != 2 {
			t.Errorf("%d token requests while the sign-in host was down, want 1", attempts-1)
		}
		granted, signInFails = true, false
		time.Sleep(time.Minute)
		if got, err := builds(t.Context(), t, c); err != nil || len(got) != 1 {
			t.Errorf("after the grant: builds %v, error %v", got, err)
		}
	})
}

func TestTokensAreSentOnlyToTheirHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, `{"value":[],"organizationPrevalence":1}`))
		c := api.client(t)
		for range c.SecurityStates(t.Context()) {
			t.Error("a row is yielded, want none")
		}
		for range c.Machines(t.Context()) {
			t.Error("a row is yielded, want none")
		}
		if _, err := c.DomainStatistics(t.Context(), "evil.example"); err != nil {
			t.Error(err)
		}
		hosts := map[string]string{"127.0.0.1:1": "", "127.0.0.1:2": "Bearer graph-", "127.0.0.1:3": "Bearer api-"}
		for _, r := range api.requestsTo("") {
			if !strings.HasPrefix(r.token, hosts[r.host]) || hosts[r.host] == "" && r.token != "" {
				t.Errorf("%s got the token %q", r.host, r.token)
			}
		}
		if len(api.requestsTo("")) != 5 {
			t.Errorf("%d requests, want two for tokens and three calls", len(api.requestsTo("")))
		}
	})
}

func TestBrokenBodyFailsTheRead(t *testing.T) {
	begin := func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"value":[{"build":1},{"build":2`))
		_ = http.NewResponseController(w).Flush()
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		reason  client.Reason
		code    string
		text    string
	}{
		{"the connection breaks", func(w http.ResponseWriter, _ *http.Request) { begin(w); panic(http.ErrAbortHandler) }, client.ReasonNetwork, "error", "the response is truncated"},
		{"the body hangs", func(w http.ResponseWriter, r *http.Request) { begin(w); <-r.Context().Done() }, client.ReasonTimeout, "error", "no complete response"},
		{"the body is shorter than announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			begin(w)
		}, client.ReasonNetwork, "error", "the response is truncated"},
		{"the JSON is truncated", func(w http.ResponseWriter, _ *http.Request) { begin(w) }, client.ReasonDecode, "200", "not what the API documents"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				got, err := builds(t.Context(), t, api.client(t))
				checkError(t, err, test.reason, test.text)
				if fmt.Sprint(got) != "[1]" {
					t.Errorf("builds %v before the error", got)
				}
				if codes := api.codes(client.MachineSecurityStates); codes != test.code {
					t.Errorf("codes %q, want %q", codes, test.code)
				}
			})
		})
	}
}

func TestObservedDurationIncludesBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = w.Write([]byte(`{"value":[`))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * time.Second)
			_, _ = w.Write([]byte(`]}`))
		})
		if _, err := builds(t.Context(), t, api.client(t)); err != nil {
			t.Fatal(err)
		}
		for _, o := range api.observed {
			if o.api == client.MachineSecurityStates && o.took != 3*time.Second {
				t.Errorf("observed %v, want 3s", o.took)
			}
		}
	})
}

func TestCancelledCallReturnsContextError(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"during a call", hang},
		{"during a pause before a retry", respond(500, "")},
		{"during a Retry-After pause", respond(429, "", "Retry-After", "600")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeAPI(t, test.handler).client(t)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(500*time.Millisecond, cancel)
				start := time.Now()
				_, err := builds(ctx, t, c)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want that of the context", err)
				}
				if waited := time.Since(start); waited != 500*time.Millisecond {
					t.Errorf("returned after %v, want 500ms", waited)
				}
				if use := c.Quota(client.MachineSecurityStates); use.MinuteCalls != 1 {
					t.Errorf("quota %+v, want one call", use)
				}
			})
		})
	}
}

// This test uses a real network, because it depends on the behavior of net/http.
func TestRequestResentByNetHTTPCountsTwice(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			respond(200, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "Content-Type", "application/json")(w, r)
			return
		}
		mu.Lock()
		calls++
		breaks := calls == 2
		mu.Unlock()
		if breaks { // net/http retries, because the connection was used before.
			panic(http.ErrAbortHandler)
		}
		respond(200, `{"value":[]}`)(w, r)
	}))
	defer server.Close()
	c := newClient(t, serverOptions(t, server))
	for range 2 {
		for _, err := range c.DomainMachines(t.Context(), "evil.example") {
			t.Fatal(err)
		}
	}
	if use := c.Quota(client.DomainMachines); calls != 3 || use.MinuteCalls != 3 {
		t.Errorf("%d calls arrived, the quota counts %d, want 3", calls, use.MinuteCalls)
	}
}

func TestHTTP2CallsAreCounted(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("protocol %s", r.Proto)
		}
		if strings.HasSuffix(r.URL.Path, "/token") {
			respond(200, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "Content-Type", "application/json")(w, r)
			return
		}
		respond(200, `{"value":[]}`)(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	o := serverOptions(t, server)
	o.Transport = server.Client().Transport
	c := newClient(t, o)
	for range 3 {
		for _, err := range c.DomainMachines(t.Context(), "evil.example") {
			t.Fatal(err)
		}
	}
	if use := c.Quota(client.DomainMachines); use.MinuteCalls != 3 {
		t.Errorf("the quota counts %d calls, want 3", use.MinuteCalls)
	}
}

// serverOptions returns the options of a client whose endpoints are all one server.
func serverOptions(t *testing.T, server *httptest.Server) client.Options {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return client.Options{
		LoginURL: u, GraphURL: u, APIURL: u, GraphScope: "graph", APIScope: "api",
		Credential: client.ClientSecret{TenantID: "tenant", ClientID: "app", Secret: "s"},
	}
}

func TestErrorBodyIsReadInEveryContentEncoding(t *testing.T) {
	const body = `{"error":{"code":"DisabledFeature","message":"no"}}`
	for encoding, packed := range map[string]string{
		"gzip": gzipped(t, body), "GZIP": gzipped(t, body), "x-gzip": gzipped(t, body),
		"deflate": deflated(t, body), "Deflate": zlibbed(t, body), "identity": body, "": body,
	} {
		synctest.Test(t, func(t *testing.T) {
			api := newFakeAPI(t, respond(403, packed, "Content-Encoding", encoding))
			_, err := builds(t.Context(), t, api.client(t))
			checkError(t, err, client.ReasonForbidden, "DisabledFeature: no; ")
		})
	}
}

func TestCallWithoutConnectionTraceCountsIfItGetsAResponse(t *testing.T) {
	for _, responds := range []bool{true, false} {
		o := (&fakeAPI{}).options(t)
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			switch {
			case strings.HasSuffix(r.URL.Path, "/token"):
				respond(200, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)(w, r)
			case !responds:
				return nil, errors.New("no route")
			default:
				respond(200, oneState)(w, r)
			}
			return w.Result(), nil
		})
		c := newClient(t, o)
		_, err := builds(client.WithRetryDeadline(t.Context(), time.Now()), t, c)
		want := 0
		if responds {
			want = 1
		}
		if use := c.Quota(client.MachineSecurityStates); (err == nil) != responds || use.HourCalls != want {
			t.Errorf("responds %t: %d calls are counted, error %v", responds, use.HourCalls, err)
		}
	}
}

func TestPauseUpToRetryDeadlineIsWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := false
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			if !throttled {
				throttled = true
				respond(429, "", "Retry-After", "30")(w, r)
				return
			}
			respond(200, oneState)(w, r)
		})
		got, err := builds(client.WithRetryDeadline(t.Context(), time.Now().Add(30*time.Second)), t, api.client(t))
		if err != nil || len(got) != 1 {
			t.Errorf("builds %v, error %v", got, err)
		}
	})
}

func TestTokenIsRenewedAfter403FiveMinutesAfterItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := ""
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			token := r.Header.Get("Authorization")
			if first == "" {
				first = token
			}
			if token == first {
				respond(403, "")(w, r)
				return
			}
			respond(200, oneState)(w, r)
		})
		c := api.client(t)
		for _, wait := range []time.Duration{0, 5 * time.Minute} {
			time.Sleep(wait)
			_, err := builds(t.Context(), t, c)
			checkError(t, err, client.ReasonForbidden)
		}
		if got, err := builds(t.Context(), t, c); err != nil || len(got) != 1 {
			t.Errorf("the token is not renewed: builds %v, error %v", got, err)
		}
	})
}
