package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// assertionType is what RFC 7523 calls an assertion that is a JWT.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxTokenLifetime is longer than any access token lives: Entra's live for an
// hour or so, those of managed identities for a day.
const maxTokenLifetime = 7 * 24 * time.Hour

// assumedTokenLifetime is that of a token whose answer does not say how long it
// lives, shorter than any service's.
const assumedTokenLifetime = 10 * time.Minute

// maxTokenAnswer bounds the body of a token answer. Real ones take a few kilobytes.
const maxTokenAnswer = 256 << 10

// tokenURL is the address of the tenant's token endpoint.
func (s signIn) tokenURL(tenantID string) string {
	return s.login.JoinPath(url.PathEscape(tenantID), "oauth2", "v2.0", "token").String()
}

// withSecret returns an exchange that shows a client secret.
func (s signIn) withSecret(tenantID, clientID, secret string) func(context.Context) (*oauth2.Token, error) {
	return func(ctx context.Context) (*oauth2.Token, error) {
		return s.request(ctx, secret, &clientcredentials.Config{
			ClientID:     clientID,
			ClientSecret: secret,
			TokenURL:     s.tokenURL(tenantID),
		})
	}
}

// withAssertion returns an exchange that shows the assertion that sign returns.
func (s signIn) withAssertion(tenantID, clientID string, sign func() (string, error)) func(context.Context) (*oauth2.Token, error) {
	return func(ctx context.Context) (*oauth2.Token, error) {
		assertion, err := sign()
		if err != nil {
			return nil, &Error{API: Token, Reason: ReasonAuth, Err: err}
		}
		return s.request(ctx, assertion, &clientcredentials.Config{
			ClientID: clientID,
			TokenURL: s.tokenURL(tenantID),
			EndpointParams: url.Values{
				"client_assertion_type": {assertionType},
				"client_assertion":      {assertion},
			},
		})
	}
}

// request makes one token request. The secret it shows is taken out of every
// error, should the far end repeat it.
func (s signIn) request(ctx context.Context, secret string, config *clientcredentials.Config) (*oauth2.Token, error) {
	s.learn("client secret or assertion", secret)
	config.Scopes = []string{s.scope}
	config.AuthStyle = oauth2.AuthStyleInParams
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, s.client))
	if err != nil {
		return nil, tokenError(err, s.scope)
	}
	if err := checkToken(token, time.Now()); err != nil {
		return nil, err
	}
	return token, nil
}

// checkToken refuses a token that could not be used or not be renewed in time. An
// answer need not say when its token expires.
func checkToken(token *oauth2.Token, now time.Time) error {
	if token.Expiry.IsZero() {
		token.Expiry = now.Add(assumedTokenLifetime)
	}
	switch lifetime := token.Expiry.Sub(now); {
	case token.AccessToken == "":
		return tokenDecodeError("the answer holds no access_token")
	case strings.ContainsFunc(token.AccessToken, func(r rune) bool { return r < ' ' || r > '~' }):
		return tokenDecodeError("the access_token holds characters that no token has")
	case token.TokenType != "" && token.Type() != "Bearer":
		return tokenDecodeError("the answer holds a token that is not of type Bearer")
	case lifetime <= 0 || lifetime > maxTokenLifetime:
		return tokenDecodeError(fmt.Sprintf("the answer's token would expire in %s: neither a past time nor one beyond %s is credible", lifetime.Round(time.Second), maxTokenLifetime))
	}
	return nil
}

func tokenDecodeError(message string) *Error {
	return &Error{API: Token, Reason: ReasonDecode, Message: message}
}

// tokenTransport makes the HTTP calls for tokens: each bounded in time and
// size, read to its end, and told to the observer.
type tokenTransport struct {
	base      http.RoundTripper
	scope     string
	timeout   time.Duration
	observer  Observer
	userAgent string
	// skew is how far the last answer's clock was ahead of ours, in
	// nanoseconds; nil before an answer named its time.
	skew atomic.Pointer[time.Duration]
}

// RoundTrip makes one call. The answer's body is in memory when it returns.
func (t *tokenTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	start := time.Now()
	response, err := t.roundTrip(request)
	code := "error"
	if err == nil {
		code = strconv.Itoa(response.StatusCode)
		t.compareClock(response, start)
	}
	t.observer.Call(Token, code, time.Since(start))
	return response, err
}

func (t *tokenTransport) roundTrip(request *http.Request) (*http.Response, error) {
	caller := request.Context()
	ctx, cancel := context.WithTimeout(caller, t.timeout)
	defer cancel()
	request = request.Clone(ctx)
	request.Header.Set("User-Agent", t.userAgent)
	request.Header.Set("Accept", "application/json")
	response, err := t.base.RoundTrip(request)
	if err != nil {
		return nil, unreached(caller, request.URL.Host, t.timeout, err)
	}
	defer response.Body.Close()
	body, err := readTokenBody(response)
	switch {
	case err != nil:
		return nil, unreached(caller, request.URL.Host, t.timeout, err)
	case len(body) > maxTokenAnswer:
		return nil, tokenDecodeError(fmt.Sprintf("the answer is larger than %d bytes, no token answer is", maxTokenAnswer))
	}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if response.StatusCode < 300 && mediaType == "text/html" {
		return nil, tokenDecodeError("the answer is an HTML page instead of a token: a proxy's sign-in page, or login_url names another service")
	}
	if answer := parseTokenAnswer(body); answer != nil {
		if response.StatusCode == http.StatusOK && answer.isError() {
			return nil, answerError(response, body, t.scope)
		}
		response.Header.Set("Content-Type", "application/json") // Whatever it was sent as.
		body = answer.plain()
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// unreached is the error of a call that the host did not answer, or not to the end.
func unreached(caller context.Context, host string, timeout time.Duration, err error) error {
	return transportError(caller, Token, timeout, "reach "+host, err)
}

// compareClock compares the answer's Date with our clock. The answer was made at
// some time between start and now; only what lies beyond both is skew.
func (t *tokenTransport) compareClock(response *http.Response, start time.Time) {
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return
	}
	var skew time.Duration
	// A Date header has no fraction: it stands for the whole second.
	if late := time.Until(date); late > 0 {
		skew = late
	} else if early := date.Add(time.Second).Sub(start); early < 0 {
		skew = early
	}
	t.skew.Store(&skew)
}
