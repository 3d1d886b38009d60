package client

import (
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

// post asks the tenant's token endpoint. The parameter, client_secret or
// client_assertion, shows the secret, which is taken out of every error, should the
// far end repeat it.
func (s signIn) post(ctx context.Context, tenantID, clientID, parameter, secret string) (*oauth2.Token, error) {
	s.learn("client secret or assertion", secret)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "scope": {s.scope}, parameter: {secret}}
	if parameter == "client_assertion" {
		form.Set("client_assertion_type", assertionType)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.tokenURL(tenantID), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, &Error{API: Token, Reason: ReasonOther, Err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	token, _, e := s.ask(request, tokenAnswer.strictExpiry)
	switch {
	case e == nil:
		return token, nil
	case e.Reason == ReasonAuth && e.Code == "" && e.advice == "":
		e.advice = "the answer is not that of a token endpoint: check login_url, tenant_id and the proxy"
	}
	return nil, e
}

// ask makes a token request and reads its answer, whose header it returns as well;
// that is nil without an answer.
func (s signIn) ask(request *http.Request, expiry func(tokenAnswer, time.Time) (time.Time, bool)) (*oauth2.Token, http.Header, *Error) {
	response, body, e := s.transport.call(request) //nolint:bodyclose // call has closed it.
	if e != nil {
		return nil, nil, e
	}
	answer := parseTokenAnswer(body)
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch good := response.StatusCode/100 == 2; {
	case good && mediaType == "text/html":
		e = tokenDecodeError("the answer is an HTML page instead of a token: a proxy's sign-in page, or login_url names another service")
	case !good, answer.isError():
		e = answerError(response, answer, s.scope)
	default:
		var token *oauth2.Token
		if token, e = answer.token(time.Now(), expiry); e == nil {
			return token, response.Header, nil
		}
	}
	return nil, response.Header, e
}

// checkToken refuses a token that could not be used or not be renewed in time. An
// answer need not say when its token expires.
func checkToken(token *oauth2.Token, now time.Time) *Error {
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

// tokenTransport makes the HTTP calls for tokens: each bounded in time and size,
// read to its end, and reported to the observer. It follows no redirect.
type tokenTransport struct {
	base      http.RoundTripper
	timeout   time.Duration
	observer  Observer
	userAgent string
	// skew is how far the last answer's clock was ahead of ours, in
	// nanoseconds; nil before an answer named its time.
	skew atomic.Pointer[time.Duration]
}

// call makes one call, and returns the answer's body beside it.
func (t *tokenTransport) call(request *http.Request) (response *http.Response, body []byte, e *Error) {
	start, code := time.Now(), "error"
	defer func() { t.observer.Call(Token, code, time.Since(start)) }()
	caller := request.Context()
	ctx, cancel := context.WithTimeout(caller, t.timeout)
	defer cancel()
	request = request.WithContext(ctx)
	request.Header.Set("User-Agent", t.userAgent)
	request.Header.Set("Accept", "application/json")
	response, err := t.base.RoundTrip(request)
	if err == nil {
		defer response.Body.Close()
		var unpacked io.Reader
		if unpacked, err = new(unpacker).open(response.Body, response.Header); err == nil {
			body, err = io.ReadAll(io.LimitReader(unpacked, maxTokenAnswer+1))
		}
	}
	switch {
	case err != nil:
		return nil, nil, transportError(caller, Token, t.timeout, "reach "+request.URL.Host, err)
	case len(body) > maxTokenAnswer:
		return nil, nil, tokenDecodeError(fmt.Sprintf("the answer is larger than %d bytes, no token answer is", maxTokenAnswer))
	}
	code = strconv.Itoa(response.StatusCode)
	t.compareClock(response, start)
	return response, body, nil
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
