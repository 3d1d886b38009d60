package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
)

const (
	testScope  = "https://api.example/.default"
	testSecret = "s3cr3t+of&the=test"
)

// fakeAPI is a sign-in host in memory, for tests in fake time. It responds by its handler
// and keeps the form of each request.
type fakeAPI struct {
	handler http.HandlerFunc

	mu    sync.Mutex
	forms []url.Values
}

func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.forms = append(f.forms, form)
		f.mu.Unlock()
		r.PostForm = form
	}
	w := httptest.NewRecorder()
	f.handler(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (f *fakeAPI) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.forms)
}

// observed is an Observer that records calls.
type observed struct {
	mu    sync.Mutex
	calls []string
}

func (o *observed) Call(api API, code string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, string(api)+" "+code)
}

func (o *observed) QuotaWait(API, time.Duration) {}

// testTokens returns the tokens of a client with a sign-in host that uses the handler.
func testTokens(credential Credential, handler http.HandlerFunc) (*tokens, *fakeAPI) {
	f := &fakeAPI{handler: handler}
	t := newTokens(testOptions(credential, f), testScope, &throttle{}, &redactor{})
	t.transport.base = f // A managed identity has a transport of its own.
	return t, f
}

func testOptions(credential Credential, transport http.RoundTripper) Options {
	return Options{
		LoginURL:       &url.URL{Scheme: "https", Host: "login.example"},
		Credential:     credential,
		Transport:      transport,
		RequestTimeout: 30 * time.Second,
		Observer:       noObserver{},
		UserAgent:      "mde_exporter/test",
	}
}

// giveToken writes a token response.
func giveToken(w http.ResponseWriter, token string, lifetime time.Duration) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":%d,"ext_expires_in":%[1]d,"access_token":%q}`, int(lifetime.Seconds()), token)
}

// respondError writes an error response of Entra.
func respondError(w http.ResponseWriter, status int, code string, number int, description string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"error_description":%q,"error_codes":[%d],"timestamp":"2026-01-01 00:00:00Z","trace_id":"11111111","correlation_id":"22222222"}`,
		code, fmt.Sprintf("AADSTS%d: %s", number, description), number)
}

func wrongSecret(w http.ResponseWriter, _ *http.Request) {
	respondError(w, http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided.\r\nTrace ID: 11111111-aaaa\r\nCorrelation ID: 22222222-bbbb")
}

func secretCredential() ClientSecret {
	return ClientSecret{TenantID: "tenant", ClientID: "app", Secret: testSecret}
}

// mustToken returns a token and fails the test on an error.
func mustToken(t *testing.T, tokens *tokens) string {
	t.Helper()
	token, err := tokens.token(t.Context())
	if err != nil {
		t.Fatalf("no token: %v", err)
	}
	return token.AccessToken
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenRequestSendsSecretToTenantTokenEndpoint(t *testing.T) {
	tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.Method+" "+r.URL.String(), "POST https://login.example/tenant/oauth2/v2.0/token"; got != want {
			t.Errorf("request is %s, want %s", got, want)
		}
		if got := r.Header.Get("User-Agent"); got != "mde_exporter/test" {
			t.Errorf("user agent is %q", got)
		}
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("the secret is also in a header: %q", got)
		}
		giveToken(w, "one", time.Hour)
	})
	if got := mustToken(t, tokens); got != "one" {
		t.Errorf("token is %q", got)
	}
	want := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"app"},
		"client_secret": {testSecret}, "scope": {testScope},
	}
	if got := f.forms[0].Encode(); got != want.Encode() {
		t.Errorf("form is %s, want %s", got, want.Encode())
	}
}

func TestConcurrentCallersShareOneTokenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			giveToken(w, "one", time.Hour)
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if token, err := tokens.token(t.Context()); err != nil || token.AccessToken != "one" {
					t.Errorf("token %v, error %v", token, err)
				}
			})
		}
		wg.Wait()
		if got := f.requests(); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

func TestCancelledWaiterKeepsSharedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(10 * time.Second)
			giveToken(w, "one", time.Hour)
		})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			start := time.Now()
			if _, err := tokens.token(impatient); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v, want the deadline", err)
			}
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("waited %s, want 1s", waited)
			}
		})
		synctest.Wait() // The impatient caller has started the request.
		wg.Go(func() {
			if _, err := tokens.token(t.Context()); err != nil {
				t.Errorf("the patient caller got %v", err)
			}
		})
		wg.Wait()
		if got := f.requests(); got != 1 {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

func TestRequestIsCancelledWithoutWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		start := time.Now()
		tokens, _ := testTokens(secretCredential(), func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			ended <- time.Since(start)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tokens.token(ctx); ReasonOf(err) != ReasonTimeout {
			t.Errorf("error is %v, want a timeout", err)
		}
		if got := <-ended; got != time.Second {
			t.Errorf("the request ended after %s, want 1s", got)
		}
		// synctest.Test waits for every goroutine of the bubble.
	})
}

func TestCancelledWaiterGetsLastAttemptError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		patient, end := context.WithTimeout(t.Context(), time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = tokens.token(patient) })
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tokens.token(impatient)
		if ReasonOf(err) != ReasonThrottled || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want reason throttled and the deadline", err)
		}
		end()
		wg.Wait()
	})
}

func TestNoPauseBeyondDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := tokens.token(ctx)
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != ReasonThrottled || e.RetryAfter != time.Hour {
			t.Errorf("error is %v, want reason throttled", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %s, want no wait", waited)
		}
	})
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	for name, test := range map[string]struct{ lifetime, renewed time.Duration }{
		"an hour's token five minutes before":            {time.Hour, 55 * time.Minute},
		"a day's token five minutes before":              {24 * time.Hour, 24*time.Hour - 5*time.Minute},
		"a minute's token with a fifth of its life left": {time.Minute, 48 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
					n++
					giveToken(w, fmt.Sprint("token", n), test.lifetime)
				})
				mustToken(t, tokens)
				time.Sleep(test.renewed - time.Millisecond)
				if got := mustToken(t, tokens); got != "token1" {
					t.Errorf("token is %s before its renewal", got)
				}
				time.Sleep(time.Millisecond)
				if got := mustToken(t, tokens); got != "token2" || f.requests() != 2 {
					t.Errorf("token is %s after %d requests, want token2 after 2", got, f.requests())
				}
			})
		})
	}
}

func TestValidTokenIsUsedWhileRenewalFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			if down {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			giveToken(w, "good", time.Hour)
		})
		mustToken(t, tokens)
		down = true
		time.Sleep(56 * time.Minute)
		start := time.Now()
		for range 10 {
			if got := mustToken(t, tokens); got != "good" {
				t.Fatalf("token is %s", got)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %s although the token is valid", waited)
		}
		if got := f.requests(); got != 2 {
			t.Errorf("%d requests, want one and one renewal", got)
		}

		time.Sleep(5 * time.Minute) // Now it has expired.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if token, err := tokens.token(ctx); ReasonOf(err) != ReasonServer {
			t.Errorf("token %v, error %v: an expired token must not be used", token, err)
		}
	})
}

func TestRejectedTokenIsReplaced(t *testing.T) {
	n := 0
	tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
		n++
		giveToken(w, fmt.Sprint("token", n), time.Hour)
	})
	first, err := tokens.token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tokens.reject(first)
	if got := mustToken(t, tokens); got != "token2" {
		t.Errorf("token is %s, want a new one", got)
	}
	tokens.reject(first) // A late call that still used the old one.
	if got := mustToken(t, tokens); got != "token2" {
		t.Errorf("token is %s: rejecting an old token must leave the new one", got)
	}
}

func TestRejectedCredentialIsNotRetriedImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var asked []time.Duration
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, time.Since(start))
			wrongSecret(w, r)
		})
		var first string
		for range 20 * 60 { // One call a second for twenty minutes.
			_, err := tokens.token(t.Context())
			if ReasonOf(err) != ReasonAuth {
				t.Fatalf("error is %v", err)
			}
			first = cmp.Or(first, err.Error())
			if err.Error() != first {
				t.Fatalf("error changed from %q to %q", first, err)
			}
			time.Sleep(time.Second)
		}
		want := []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute, 12 * time.Minute, 17 * time.Minute}
		if !slices.Equal(asked, want) {
			t.Errorf("the token endpoint was called at %v, want %v", asked, want)
		}
	})
}

func TestChangedCredentialIsTriedImmediately(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "secret"), "old")
	tokens, f := testTokens(ClientSecret{TenantID: "tenant", ClientID: "app", SecretFile: file}, func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("client_secret") != "new" {
			wrongSecret(w, r)
			return
		}
		giveToken(w, "good", time.Hour)
	})
	for range 3 {
		if _, err := tokens.token(t.Context()); ReasonOf(err) != ReasonAuth {
			t.Fatalf("error is %v", err)
		}
	}
	if got := f.requests(); got != 1 {
		t.Errorf("%d requests with the old secret, want 1", got)
	}
	writeFile(t, file, "new\n")
	if got := mustToken(t, tokens); got != "good" {
		t.Errorf("token is %q", got)
	}
}

func TestRejectedChangedCredentialStartsWithShortPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := writeFile(t, filepath.Join(t.TempDir(), "secret"), "old")
		start := time.Now()
		var asked []time.Duration
		tokens, _ := testTokens(ClientSecret{TenantID: "tenant", ClientID: "app", SecretFile: file}, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, time.Since(start))
			wrongSecret(w, r)
		})
		for second := range 150 {
			if second == 70 {
				writeFile(t, file, "new, and wrong too")
			}
			_, _ = tokens.token(t.Context())
			time.Sleep(time.Second)
		}
		if want := []time.Duration{0, 60 * time.Second, 70 * time.Second, 130 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("the token endpoint was called at %v, want %v", asked, want)
		}
	})
}

func TestSuccessResetsCredentialRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := true
		tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, r *http.Request) {
			if wrong {
				wrongSecret(w, r)
				return
			}
			giveToken(w, "good", time.Hour)
		})
		for range 2 {
			if _, err := tokens.token(t.Context()); err == nil {
				t.Fatal("no error")
			}
			time.Sleep(time.Minute)
		}
		wrong = false
		time.Sleep(time.Minute)
		good, err := tokens.token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The next rejection starts with a short pause again.
		wrong = true
		tokens.reject(good)
		before := f.requests()
		for range 61 {
			_, _ = tokens.token(t.Context())
			time.Sleep(time.Second)
		}
		if got := f.requests() - before; got != 2 {
			t.Errorf("%d requests in a minute and a second after a new rejection, want 2", got)
		}
	})
}

func TestTemporaryTokenErrorsAreRetried(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"a 503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a 429 with Retry-After": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"Entra's temporarily_unavailable": func(w http.ResponseWriter, _ *http.Request) {
			respondError(w, 400, "temporarily_unavailable", 90033, "Busy.")
		},
		"a hanging response": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, r *http.Request) {
					if n++; n <= 2 {
						fault(w, r)
						return
					}
					giveToken(w, "good", time.Hour)
				})
				start := time.Now()
				if got := mustToken(t, tokens); got != "good" {
					t.Errorf("token is %s", got)
				}
				if n != 3 {
					t.Errorf("%d requests, want 3", n)
				}
				if waited := time.Since(start); name == "a 429 with Retry-After" && waited < 14*time.Second {
					t.Errorf("waited %s in all, Retry-After said 7s twice", waited)
				}
			})
		})
	}
}

func TestTokenWithoutExpiryIsRenewedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, api := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"token_type":"Bearer","access_token":"t0k3n"}`)
		})
		for range 60 {
			mustToken(t, tokens)
			time.Sleep(time.Minute)
		}
		if got := api.requests(); got < 6 || got > 20 {
			t.Errorf("%d requests in an hour, want one every few minutes", got)
		}
	})
}

// A refresh with a short interval fails before the pause is over. The following ones must
// not make a request during the pause either.
func TestNoTokenRequestDuringSignInPause(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		retryAfter string
		most       int // Requests in 20 seconds of refreshes, one a second.
	}{
		"429 in seconds":          {429, "30", 1},
		"503 in seconds":          {503, "30", 1},
		"429 without Retry-After": {429, "", 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				busy := true
				one, api := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
					if !busy {
						giveToken(w, "good", time.Hour)
						return
					}
					if test.retryAfter != "" {
						w.Header().Set("Retry-After", test.retryAfter)
					}
					w.WriteHeader(test.status)
				})
				other := newTokens(testOptions(secretCredential(), api), "other/.default", one.throttle, &redactor{})
				for range 20 {
					for _, audience := range []*tokens{one, other} {
						_, err := audience.token(WithRetryDeadline(t.Context(), time.Now().Add(time.Second)))
						if ReasonOf(err) != ReasonThrottled && test.status == 429 {
							t.Fatalf("error %v, want reason throttled", err)
						}
					}
					time.Sleep(time.Second)
				}
				if got := api.requests(); got > test.most {
					t.Errorf("%d requests, want at most %d", got, test.most)
				}
				busy = false
				time.Sleep(time.Minute)
				if got := mustToken(t, one); got != "good" {
					t.Errorf("token is %s", got)
				}
			})
		})
	}
}

func TestTokenErrorsNameTheFix(t *testing.T) {
	for name, test := range map[string]struct {
		status      int
		code        string
		number      int
		description string
		want        []string
	}{
		"a wrong secret":              {401, "invalid_client", 7000215, "Invalid client secret provided.\r\nTrace ID: 9", []string{"HTTP 401", "invalid_client", "AADSTS7000215: Invalid client secret provided", "secret's value, not its id"}},
		"an expired secret":           {401, "invalid_client", 7000222, "The provided client secret keys are expired. Trace ID: 9", []string{"AADSTS7000222", "has expired: create a new one"}},
		"an unknown app":              {400, "unauthorized_client", 700016, "Application with identifier 'app' was not found in the directory 'x'.", []string{"HTTP 400", "unauthorized_client", "check client_id and tenant_id"}},
		"an unknown tenant":           {400, "invalid_request", 90002, "Tenant 'tenant' not found.", []string{"AADSTS90002", "check tenant_id and cloud"}},
		"an unknown API":              {400, "invalid_resource", 500011, "The resource principal was not found.", []string{"AADSTS500011", testScope, "check cloud and api_scope"}},
		"an unregistered certificate": {401, "invalid_client", 700027, "The certificate is not registered.", []string{"upload it to the app registration"}},
		"an unknown number":           {400, "invalid_client", 999, "Something new.", []string{"AADSTS999: Something new", "rejects the app's credential"}},
		"an unknown code":             {403, "brand_new", 999, "Something new.", []string{"HTTP 403", "brand_new", "AADSTS999: Something new"}},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, f := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
				respondError(w, test.status, test.code, test.number, test.description)
			})
			_, err := tokens.token(t.Context())
			e, ok := errors.AsType[*Error](err)
			if !ok || e.API != Token || e.Reason != ReasonAuth || e.Status != test.status || e.Code != test.code {
				t.Fatalf("error is %#v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "Trace ID") || strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error %q is not one line without ids", err)
			}
			if _, err := tokens.token(t.Context()); err == nil || f.requests() != 1 {
				t.Errorf("a rejected credential was tried %d times", f.requests())
			}
		})
	}
}

func TestUnusableTokenResponsesAreDistinguished(t *testing.T) {
	json := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body)
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  Reason
		want    string
	}{
		"an HTML page with 200": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<html>Sign in")
		}, ReasonDecode, "HTML page"},
		"a redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(http.StatusFound)
		}, ReasonAuth, "redirect, which is not followed"},
		"a 300 response":                 {scripted(http.StatusMultipleChoices, ""), ReasonAuth, "redirect, which is not followed"},
		"a missing page":                 {scripted(http.StatusNotFound, "<html>", "Content-Type", "text/html"), ReasonAuth, "not that of a token endpoint"},
		"an oversized response":          {json(`{"access_token":"` + strings.Repeat("a", maxTokenResponse) + `"}`), ReasonDecode, "larger than"},
		"not JSON":                       {json(`access granted`), ReasonDecode, "not the JSON object"},
		"an empty body":                  {json(``), ReasonDecode, "not the JSON object"},
		"no access_token":                {json(`{"token_type":"Bearer","expires_in":3599}`), ReasonDecode, "access_token"},
		"a type other than Bearer":       {json(`{"token_type":"pop","expires_in":3599,"access_token":"t0k3n"}`), ReasonDecode, "not of type Bearer"},
		"a token with a line break":      {json(`{"token_type":"Bearer","expires_in":3599,"access_token":"t0k3n\r\nX: y"}`), ReasonDecode, "contains invalid characters"},
		"an expiry in the past":          {json(`{"token_type":"Bearer","expires_in":-5,"access_token":"t0k3n"}`), ReasonDecode, "which is not between 0 and 168h"},
		"an expiry that is too far away": {json(`{"token_type":"Bearer","expires_in":99999999999,"access_token":"t0k3n"}`), ReasonDecode, "which is not between 0 and 168h"},
		"an expiry that is not a number": {json(`{"token_type":"Bearer","expires_in":"t0k3n","access_token":"t0k3n"}`), ReasonDecode, "not the JSON object"},
		"an error with 200":              {json(`{"error":"invalid_client","error_description":"AADSTS7000215: Invalid."}`), ReasonAuth, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			tokens, _ := testTokens(secretCredential(), test.handler)
			token, err := tokens.token(t.Context())
			if ReasonOf(err) != test.reason || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("error is %v (%s), want %q (%s)", err, ReasonOf(err), test.want, test.reason)
			}
			if token != nil {
				t.Error("a token is returned with the error")
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), "t0k3n") {
				t.Errorf("the error contains the token: %v", err)
			}
		})
	}
}

func TestTokenErrorsMaskSecret(t *testing.T) {
	// A server that repeats the request in every part of the response that errors use.
	echo := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			for _, shown := range []string{"client_secret", "client_assertion"} {
				if s := r.PostForm.Get(shown); s != "" {
					fmt.Fprint(w, strings.NewReplacer("RAW", s, "ESCAPED", url.QueryEscape(s)).Replace(body))
				}
			}
		}
	}
	assertion := writeFile(t, filepath.Join(t.TempDir(), "token"), "header.payload+of&the=test.signature")
	for _, credential := range []Credential{
		secretCredential(),
		WorkloadIdentity{TenantID: "tenant", ClientID: "app", TokenFilePath: assertion},
	} {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 500} {
			for _, contentType := range []string{"application/json", "text/html", "text/plain", "application/x-www-form-urlencoded"} {
				for _, body := range []string{
					`{"error":"RAW","error_description":"client_secret=RAW&x ESCAPED","error_codes":[1]}`,
					`{"Error":"RAW","Error_Description":"RAW"}`, `{"expires_in":"RAW"}`, `RAW`, `error=ESCAPED&error_description=ESCAPED`,
				} {
					tokens, _ := testTokens(credential, echo(status, contentType, body))
					_, err := tokens.attempt(t.Context())
					if err == nil {
						t.Fatalf("%d %s %s: no error", status, contentType, body)
					}
					observed := fmt.Sprintf("%v %+v %#v %q", err, err, err, err)
					for e := err; e != nil; e = errors.Unwrap(e) {
						observed += fmt.Sprintf("%v %#v", e, e)
					}
					if strings.Contains(observed, "of&the=test") || strings.Contains(observed, url.QueryEscape("of&the=test")) {
						t.Errorf("%d %s %s: the error contains the secret: %s", status, contentType, body, observed)
					}
					if _, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
						t.Errorf("%d %s %s: the error contains the response", status, contentType, body)
					}
				}
			}
		}
	}
}

func TestUnreadableSecretFileIsNamedWithoutRequest(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"missing":   filepath.Join(dir, "missing"),
		"empty":     writeFile(t, filepath.Join(dir, "empty"), "\n"),
		"oversized": writeFile(t, filepath.Join(dir, "oversized"), strings.Repeat("s3cr3t", maxCredentialFile/6+1)),
		"directory": dir,
	} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				key        string
				credential Credential
			}{
				{"client_secret_file", ClientSecret{TenantID: "tenant", ClientID: "app", SecretFile: path}},
				{"token_file_path", WorkloadIdentity{TenantID: "tenant", ClientID: "app", TokenFilePath: path}},
				{"certificate_path", Certificate{TenantID: "tenant", ClientID: "app", CertificatePath: path}},
			} {
				tokens, f := testTokens(test.credential, wrongSecret)
				_, err := tokens.token(t.Context())
				if ReasonOf(err) != ReasonAuth || !strings.Contains(fmt.Sprint(err), path) || !strings.Contains(fmt.Sprint(err), test.key) {
					t.Errorf("error is %v, want one that names %s and %s", err, test.key, path)
				}
				if strings.Contains(fmt.Sprint(err), "s3cr3t") {
					t.Errorf("the error contains the content: %v", err)
				}
				if f.requests() != 0 {
					t.Error("a request was made without a credential")
				}
			}
		})
	}
}

func TestWorkloadIdentityReadsTokenFileForEachRequest(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "token"), "first.federated.token\n")
	tokens, f := testTokens(WorkloadIdentity{TenantID: "tenant", ClientID: "app", TokenFilePath: file}, func(w http.ResponseWriter, _ *http.Request) {
		giveToken(w, "good", time.Hour)
	})
	for _, want := range []string{"first.federated.token", "second.federated.token"} {
		token, err := tokens.token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		form := f.forms[len(f.forms)-1]
		if got := form.Get("client_assertion"); got != want {
			t.Errorf("assertion is %q, want %q", got, want)
		}
		if got := form.Get("client_assertion_type"); got != assertionType || form.Has("client_secret") {
			t.Errorf("form is %v", form)
		}
		writeFile(t, file, "second.federated.token")
		tokens.reject(token)
	}
}

func TestAudiencesHaveSeparateTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeAPI{handler: func(w http.ResponseWriter, r *http.Request) {
			scope := r.PostForm.Get("scope")
			if scope == "https://graph.example/.default" {
				time.Sleep(time.Second) // The other response arrives first.
			}
			giveToken(w, "for-"+strings.TrimSuffix(strings.TrimPrefix(scope, "https://"), "/.default"), time.Hour)
		}}
		o := Options{LoginURL: &url.URL{Scheme: "https", Host: "login.example"}, Credential: secretCredential(), Transport: f, RequestTimeout: time.Minute, Observer: noObserver{}}
		graph := newTokens(o, "https://graph.example/.default", &throttle{}, &redactor{})
		api := newTokens(o, testScope, &throttle{}, &redactor{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := mustToken(t, graph); got != "for-graph.example" {
					t.Errorf("Graph's token is %s", got)
				}
			})
			wg.Go(func() {
				if got := mustToken(t, api); got != "for-api.example" {
					t.Errorf("the API's token is %s", got)
				}
			})
		}
		wg.Wait()
		if got := f.requests(); got != 2 {
			t.Errorf("%d requests, want 2", got)
		}
	})
}

func TestObserverSeesEveryTokenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, r *http.Request) {
			switch n++; n {
			case 1:
				w.WriteHeader(http.StatusBadGateway)
			case 2:
				<-r.Context().Done()
			default:
				giveToken(w, "good", time.Hour)
			}
		})
		var observed observed
		tokens.transport.observer = &observed
		mustToken(t, tokens)
		if want := []string{"token 502", "token error", "token 200"}; !slices.Equal(observed.calls, want) {
			t.Errorf("the observer saw %q, want %q", observed.calls, want)
		}
	})
}

func TestHangingTokenEndpointTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := testTokens(secretCredential(), func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		start := time.Now()
		_, err := tokens.attempt(t.Context())
		if ReasonOf(err) != ReasonTimeout || time.Since(start) != 30*time.Second {
			t.Errorf("after %s: %v (%s), want a timeout after 30s", time.Since(start), err, ReasonOf(err))
		}
	})
}

func FuzzTokenResponse(f *testing.F) {
	for _, seed := range []string{
		`{"token_type":"Bearer","expires_in":3599,"access_token":"t0k3n"}`,
		`{"token_type":"Bearer","expires_in":"3599","expires_on":"1900000000","access_token":"t0k3n"}`,
		`{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.\r\nTrace ID: 1","error_codes":[7000215]}`,
		`{"expires_in":-1,"access_token":""}`, `{"expires_in":1e99}`, `<html>`, `null`, `[]`, ``,
		"{\"error\":\"\\u0000\\u202e\",\"error_description\":\"\xff\"}",
	} {
		f.Add(200, "application/json", seed)
		f.Add(401, "text/plain", seed)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, body string) {
		if status < 200 || status > 599 || strings.Contains(body, testSecret) {
			t.Skip()
		}
		for _, credential := range []Credential{secretCredential(), ManagedIdentity{Endpoint: "http://127.0.0.1/token"}} {
			tokens, _ := testTokens(credential, nil)
			tokens.transport.base = roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})
			token, err := tokens.attempt(t.Context())
			if err != nil {
				if e, ok := errors.AsType[*Error](err); !ok || e.API != Token {
					t.Fatalf("error of another kind: %#v", err)
				}
				if text := err.Error(); strings.ContainsAny(text, "\r\n\x00") || len(text) > 2000 {
					t.Fatalf("error is not one short line: %q", text)
				}
				continue
			}
			left := time.Until(token.Expiry)
			if token.AccessToken == "" || token.Type() != "Bearer" || left <= -time.Second || left > maxTokenLifetime {
				t.Fatalf("unusable token accepted: %q %q %s", token.AccessToken, token.TokenType, left)
			}
			// An accepted token must be sendable in a header.
			request := httptest.NewRequest(http.MethodGet, "/", nil)
			token.SetAuthHeader(request)
			if err := request.Write(io.Discard); err != nil {
				t.Fatalf("unsendable token accepted: %v", err)
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTokenAllowsAllPrintableCharacters(t *testing.T) {
	tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) { giveToken(w, "~ t0k3n ~", time.Hour) })
	if got := mustToken(t, tokens); got != "~ t0k3n ~" {
		t.Errorf("token %q", got)
	}
}

func TestTokenRequestRestartsAfterLastWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := testTokens(secretCredential(), func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(10 * time.Second) // Even if no caller waits for the response.
			giveToken(w, "t0k3n", time.Hour)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tokens.token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		mustToken(t, tokens)
	})
}
