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

// assertionType is the type of a JWT client assertion in RFC 7523.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// maxTokenLifetime is the maximum lifetime that a token response may contain. Entra's
// tokens live for about an hour, those of managed identities for a day.
const maxTokenLifetime = 7 * 24 * time.Hour

// assumedTokenLifetime is the lifetime of a token whose response contains none. It is
// shorter than that of any service's tokens.
const assumedTokenLifetime = 10 * time.Minute

// maxTokenResponse is the maximum size of a token response in bytes. Real ones have a few
// kilobytes.
const maxTokenResponse = 256 << 10

// tokenURL returns the URL of the tenant's token endpoint.
func (s signIn) tokenURL(tenantID string) string {
	return s.login.JoinPath(url.PathEscape(tenantID), "oauth2", "v2.0", "token").String()
}

// post requests a token from the tenant's token endpoint. The parameter is client_secret
// or client_assertion. The secret is masked in every error.
func (s signIn) post(ctx context.Context, tenantID, clientID, parameter, secret string) (*oauth2.Token, error) {
	s.addSecret("client secret or assertion", secret)
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
	case !ok: // The error of x/oauth2 may contain the whole response, so it is not wrapped.
		e = tokenDecodeError(notTokenResponse)
	case e.Reason == ReasonAuth && e.Code == "" && e.advice == "":
		e.advice = "the response is not that of a token endpoint: check login_url, tenant_id and the proxy"
	}
	return nil, e
}

// RoundTrip makes a call for x/oauth2. A response with an error is an *Error, so that
// x/oauth2 only parses successful responses. Their content type is set to JSON, and a
// numeric expires_in is converted to a whole number of 32 bits.
func (s signIn) RoundTrip(request *http.Request) (*http.Response, error) {
	response, parsed, e := s.send(request)
	if e != nil {
		return nil, e
	}
	// x/oauth2 ignores an expires_in of 0 and rejects a fraction.
	if lifetime, ok := parseSeconds(scalarText(parsed["expires_in"])); ok && lifetime.Abs() >= time.Second {
		parsed["expires_in"] = fmt.Append(nil, int64(max(-math.MaxInt32, min(lifetime/time.Second, math.MaxInt32))))
	}
	body, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	response.Header.Set("Content-Type", "application/json")
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// send makes a token request and parses the response. The HTTP response is nil if there
// was none; its body is closed.
func (s signIn) send(request *http.Request) (*http.Response, tokenResponse, *Error) {
	response, body, e := s.transport.call(request)
	if e != nil {
		return nil, nil, e
	}
	parsed := parseTokenResponse(body)
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch success := response.StatusCode/100 == 2; {
	case success && mediaType == "text/html":
		e = tokenDecodeError("the response is an HTML page instead of a token: a proxy's sign-in page, or login_url names another service")
	case !success, parsed.isError():
		e = tokenRequestError(response, parsed, s.scope)
	}
	return response, parsed, e
}

// checkToken rejects a token that could not be used or not be renewed in time. If the
// expiry is missing, it sets it.
func checkToken(token *oauth2.Token, now time.Time) *Error {
	if token.Expiry.IsZero() {
		token.Expiry = now.Add(assumedTokenLifetime)
	}
	switch lifetime := token.Expiry.Sub(now); {
	case token.AccessToken == "":
		return tokenDecodeError("the response contains no access_token")
	case strings.ContainsFunc(token.AccessToken, func(r rune) bool { return r < ' ' || r > '~' }):
		return tokenDecodeError("the access_token contains invalid characters")
	case token.TokenType != "" && token.Type() != "Bearer":
		return tokenDecodeError("the token is not of type Bearer")
	case lifetime <= 0 || lifetime > maxTokenLifetime:
		return tokenDecodeError(fmt.Sprintf("the token expires in %s, which is not between 0 and %s", lifetime.Round(time.Second), maxTokenLifetime))
	}
	return nil
}

// notTokenResponse is the message for a response with neither an error nor a token.
const notTokenResponse = "the response is not the JSON object with an access_token that a token endpoint sends"

func tokenDecodeError(message string) *Error {
	return &Error{API: Token, Reason: ReasonDecode, Message: message}
}

// tokenTransport makes the HTTP calls for tokens. It limits their time and size, reads the
// whole response and reports each call to the observer. It does not follow redirects.
type tokenTransport struct {
	base      http.RoundTripper
	timeout   time.Duration
	observer  Observer
	userAgent string
	// skew is how far the clock of the last response was ahead of this machine's. It is
	// nil until a response had a Date header.
	skew atomic.Pointer[time.Duration]
}

// call makes one call and returns the response and its body.
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
			err = fmt.Errorf("unpack the response: %w", err)
		} else if body, err = io.ReadAll(io.LimitReader(unpacked, maxTokenResponse+1)); err != nil {
			err = fmt.Errorf("read the response: %w", err)
		}
	}
	switch {
	case err != nil:
		return nil, nil, transportError(caller, Token, t.timeout, "reach "+request.URL.Host, err)
	case len(body) > maxTokenResponse:
		return nil, nil, tokenDecodeError(fmt.Sprintf("the response is larger than %d bytes", maxTokenResponse))
	}
	code = strconv.Itoa(response.StatusCode)
	t.compareClock(response, start)
	return response, body, nil
}

// compareClock compares the response's Date header with this machine's clock. The response
// was made between start and now; only a Date outside of that span is skew.
func (t *tokenTransport) compareClock(response *http.Response, start time.Time) {
	date, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return
	}
	// A Date header has no fraction: so it means the whole second.
	skew := max(time.Until(date), 0) + min(date.Add(time.Second).Sub(start), 0)
	t.skew.Store(&skew)
}
