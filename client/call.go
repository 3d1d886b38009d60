package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// A service is a host and the audience whose tokens it takes. No token of it is
// ever sent anywhere else.
type service struct {
	url    *url.URL
	tokens *tokens
	// refused is when the service last refused a token that had just been got, in
	// Unix nanoseconds.
	refused atomic.Int64
}

// freshTokenPause is how long after the refusal of a fresh token no other is
// asked for, and how old a token is at least before a 403 makes another one worth
// asking for: a service that refuses them all must not cost a token request for
// every call.
const freshTokenPause = 5 * time.Minute

// An answer is the body of a successful call, which is read while it arrives. It
// must be closed.
type answer struct {
	body     io.Reader
	header   http.Header
	err      error             // Why the body could not be read to its end.
	explain  func(error) error // What that means to the caller.
	finished func(error)       // Ends the call, of which the body may be broken.
}

// get makes one call and tries it again where that helps. The answer has status
// 200 and an unread body.
func (c *Client) get(ctx context.Context, api API, u *url.URL) (*answer, error) {
	var a *answer
	svc := c.serviceOf(api)
	renewed := false
	report, _ := ctx.Value(attemptErrorsKey{}).(func(error))
	err := retry(ctx, func(ctx context.Context) (err error) {
		if report != nil {
			defer func() { report(c.secrets.error(err)) }()
		}
		var token *oauth2.Token
		a, token, err = c.attempt(ctx, api, u)
		if isStatus(err, http.StatusForbidden) {
			svc.tokens.doubt(token, freshTokenPause)
		}
		if !isStatus(err, http.StatusUnauthorized) || renewed || !svc.mayRenew() {
			return err
		}
		renewed = true
		svc.tokens.reject(token)
		if a, _, err = c.attempt(ctx, api, u); isStatus(err, http.StatusUnauthorized) {
			svc.refused.Store(time.Now().UnixNano())
		}
		return err
	})
	return a, err
}

// mayRenew tells whether a new token may help where one was refused.
func (s *service) mayRenew() bool {
	return time.Since(time.Unix(0, s.refused.Load())) > freshTokenPause
}

// attempt makes one call: it waits for quota, then gets the token, then sends
// the request. It returns the token it used.
func (c *Client) attempt(ctx context.Context, api API, u *url.URL) (*answer, *oauth2.Token, error) {
	svc := c.serviceOf(api)
	if !sameOrigin(u, svc.url) {
		return nil, nil, &Error{API: api, Reason: ReasonPagination, Message: "a token is not sent to " + origin(u)}
	}
	slot, err := c.share(api).take(ctx)
	if err != nil {
		return nil, nil, err
	}
	token, err := svc.tokens.token(ctx)
	if err != nil {
		slot.end(false)
		return nil, nil, finalError{err} // What can be tried again was, by the tokens.
	}
	a, err := c.send(ctx, api, u, token, slot)
	return a, token, err
}

// send sends the request and looks at the answer's status.
func (c *Client) send(caller context.Context, api API, u *url.URL, token *oauth2.Token, slot *slot) (*answer, error) {
	ctx, cancel := context.WithTimeout(caller, c.timeout)
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, slot.trace(ctx)), http.MethodGet, u.String(), nil)
	if err != nil {
		cancel()
		slot.end(false)
		return nil, &Error{API: api, Reason: ReasonOther, Err: err}
	}
	token.SetAuthHeader(req)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", c.userAgent)

	start := time.Now()
	resp, err := c.http.Do(req)
	slot.end(err == nil)
	if err != nil {
		err = transportError(caller, api, c.timeout, "no answer", err)
		cancel()
		c.observer.Call(api, "error", time.Since(start))
		return nil, err
	}
	finished := func(broken error) {
		_ = resp.Body.Close()
		cancel()
		code := strconv.Itoa(resp.StatusCode)
		if broken != nil {
			code = "error"
		}
		c.observer.Call(api, code, time.Since(start))
	}
	if resp.StatusCode == http.StatusOK {
		c.share(api).accepted()
		return &answer{
			body:   resp.Body,
			header: resp.Header,
			explain: func(broken error) error {
				return transportError(caller, api, c.timeout, "the answer breaks off", broken)
			},
			finished: finished,
		}, nil
	}
	err = c.statusError(api, resp)
	finished(nil)
	return nil, err
}

// Read reads the body as it was sent, and remembers why it broke.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		a.err = err
	}
	return n, err
}

// close ends the call, once: its connection can be used again if the body was
// read to its end.
func (a *answer) close() {
	if a.finished != nil {
		a.finished(a.err)
		a.finished = nil
	}
}

// broken returns why the body could not be read, or nil where it could.
func (a *answer) broken() error {
	if a.err == nil {
		return nil
	}
	return a.explain(a.err)
}

// transportError tells why no answer came, or only a part of it; what says which,
// of a connection that broke.
func transportError(caller context.Context, api API, timeout time.Duration, what string, err error) error {
	if caller.Err() != nil {
		return interrupted(caller, api, "amid a call")
	}
	// The error of http.Client repeats the URL, with tokens of the chain of pages.
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return &Error{API: api, Reason: ReasonTimeout, Message: "no complete answer within " + timeout.String(), Err: err}
	}
	return &Error{API: api, Reason: ReasonNetwork, Message: what, Err: err}
}

// statusError turns an answer other than 200 into an error that says what to mend.
func (c *Client) statusError(api API, resp *http.Response) error {
	e := &Error{API: api, Reason: ReasonOther, Status: resp.StatusCode}
	e.Code, e.Message = readErrorBody(resp)
	status := resp.StatusCode
	switch {
	case status == http.StatusTooManyRequests:
		e.Reason = ReasonThrottled
		e.RetryAfter = retryAfter(resp.Header)
		e.held = c.share(api).refused(e.RetryAfter)
		return e
	case status >= 500:
		e.Reason = ReasonServer
		e.RetryAfter = retryAfter(resp.Header)
		// A domain that cannot be looked up holds no other one back.
		if e.RetryAfter > 0 && !api.row().isPerDomain() {
			e.held = c.share(api).refused(e.RetryAfter)
			return e
		}
	case status == http.StatusUnauthorized:
		e.Reason = ReasonAuth
		e.explain("the token is not accepted; check the API's scope and that the tenant is licensed")
	case status == http.StatusForbidden:
		e.Reason = ReasonForbidden
		if role := api.Role(); role != "" {
			e.explain("the app registration needs the application permission " + role + " with admin consent")
		} else {
			e.explain("the app registration has no access to this preview; the source machines needs none")
		}
	case status == http.StatusNotFound && !e.NotFound():
		e.explain("not an answer of the API itself: check the URL, and the proxy or gateway before it")
	case status >= 300 && status < 400:
		e.Message = "redirects are not followed" + redirectTarget(resp)
	}
	c.share(api).accepted()
	return e
}

func redirectTarget(resp *http.Response) string {
	if target, err := resp.Location(); err == nil && target.Host != "" {
		return "; this one leads to " + target.Host
	}
	return ""
}

// maxErrorBody is how much of the body of an error is looked at.
const maxErrorBody = 16 << 10

// readErrorBody finds the service's own code and message. A body that is empty or
// HTML has none.
func readErrorBody(resp *http.Response) (code, message string) {
	body, err := new(unpacker).open(io.LimitReader(resp.Body, maxErrorBody), resp.Header)
	if err != nil {
		return "", ""
	}
	content, _ := io.ReadAll(io.LimitReader(body, maxErrorBody))
	var parsed struct {
		Error struct {
			Code    any `json:"code"`
			Message any `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(content, byteOrderMark), &parsed); err != nil {
		return "", ""
	}
	code, _ = parsed.Error.Code.(string)
	message, _ = parsed.Error.Message.(string)
	return code, message
}

func isStatus(err error, status int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.API != Token && e.Status == status
}

// sameOrigin tells whether two URLs have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool { return a.User == nil && origin(a) == origin(b) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return fmt.Sprintf("%s://%s", u.Scheme, net.JoinHostPort(strings.ToLower(u.Hostname()), port))
}
