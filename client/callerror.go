package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// transportError explains why no answer came, or only a part of it; what says which,
// of a connection that broke.
func transportError(caller context.Context, api API, timeout time.Duration, what string, err error) *Error {
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

// statusError turns an answer other than 200 into an error that says what to fix.
func (c *Client) statusError(api API, resp *http.Response) error {
	e := &Error{API: api, Status: resp.StatusCode}
	e.Code, e.Message = readErrorBody(resp)
	e.Reason, e.RetryAfter = comeBack(resp)
	// A domain that cannot be looked up holds no other one back.
	if e.Reason == ReasonThrottled || e.RetryAfter > 0 && !api.row().isPerDomain() {
		e.held = c.share(api).refused(e.RetryAfter)
		return e
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		e.Reason = ReasonAuth
		e.advice = "the token is not accepted; check the API's scope and that the tenant is licensed"
	case status == http.StatusForbidden:
		e.Reason = ReasonForbidden
		if role := api.Role(); role != "" {
			e.advice = "the app registration needs the application permission " + role + " with admin consent"
		} else {
			e.advice = "the app registration has no access to this preview; the source machines needs none"
		}
	case status == http.StatusNotFound && !e.NotFound():
		e.advice = "not an answer of the API itself: check the URL, and the proxy or gateway before it"
	case status >= 300 && status < 400:
		e.Message = "redirects are not followed"
		if target, err := resp.Location(); err == nil && target.Host != "" {
			e.Message += "; this one leads to " + target.Host
		}
	}
	c.share(api).accepted()
	return e
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
