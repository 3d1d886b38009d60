package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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

// post asks the tenant's token endpoint. The parameter, client_secret or
// client_assertion, shows the secret, which is taken out of every error, should the
// far end repeat it.
func (s signIn) post(ctx context.Context, tenantID, clientID, parameter, secret string) (*oauth2.Token, error) {
	s.learn("client secret or assertion", secret)
	config := clientcredentials.Config{
		ClientID:       clientID,
		TokenURL:       s.tokenURL(tenantID),
		Scopes:         []string{s.scope},
		EndpointParams: url.Values{parameter: {secret}},
		AuthStyle:      oauth2.AuthStyleInParams,
	}
	if parameter == "client_assertion" {
		config.EndpointParams.Set("client_assertion_type", assertionType)
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: s}))
	e, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		if e = checkToken(token, time.Now()); e == nil {
			return token, nil
		}
	case !ok: // The error of x/oauth2 may print the whole answer, so it is not kept as a cause.
		e = tokenDecodeError(notToken)
	case e.Reason == ReasonAuth && e.Code == "" && e.advice == "":
		e.advice = "the answer is not that of a token endpoint: check login_url, tenant_id and the proxy"
	}
	return nil, e
}

// RoundTrip makes a call for x/oauth2. A refusal is an *Error, so that x/oauth2 reads
// only answers without one: as JSON, whatever type they were sent as, with expires_in
// a whole number of 32 bits where it is a number at all.
func (s signIn) RoundTrip(request *http.Request) (*http.Response, error) {
	response, answer, e := s.ask(request)
	if e != nil {
		return nil, e
	}
	// x/oauth2 takes 0 for no lifetime at all, and refuses a fraction.
	if lifetime, ok := parseSeconds(scalarText(answer["expires_in"])); ok && lifetime.Abs() >= time.Second {
		answer["expires_in"] = fmt.Append(nil, int64(max(-math.MaxInt32, min(lifetime/time.Second, math.MaxInt32))))
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	response.Header.Set("Content-Type", "application/json")
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// ask makes a token request and reads its answer. The response, whose body is closed,
// is nil without an answer.
func (s signIn) ask(request *http.Request) (*http.Response, tokenAnswer, *Error) {
	response, body, e := s.transport.call(request)
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
	}
	return response, answer, e
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

// notToken is the message of an answer that is no refusal and holds no token.
const notToken = "the answer is not the JSON object with an access_token that a token endpoint sends"

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
	request = request.Clone(ctx)
	request.Header.Set("User-Agent", t.userAgent)
	request.Header.Set("Accept", "application/json")
	response, err := t.base.RoundTrip(request)
	if err == nil {
		defer response.Body.Close()
		var unpacked io.Reader
		if unpacked, err = new(unpacker).open(response.Body, response.Header); err != nil {
			err = fmt.Errorf("unpack the answer: %w", err)
		} else if body, err = io.ReadAll(io.LimitReader(unpacked, maxTokenAnswer+1)); err != nil {
			err = fmt.Errorf("read the answer: %w", err)
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
	// A Date header has no fraction: it stands for the whole second.
	skew := max(time.Until(date), 0) + min(date.Add(time.Second).Sub(start), 0)
	t.skew.Store(&skew)
}
