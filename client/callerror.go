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

// transportError returns the error of a call that got no response or only a part of it.
// The message describes what happened if the connection failed.
func transportError(caller context.Context, api API, timeout time.Duration, message string, err error) *Error {
	if caller.Err() != nil {
		return interrupted(caller, api, "during a call")
	}
	// The error of http.Client contains the URL, whose query may contain tokens.
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return &Error{API: api, Reason: ReasonTimeout, Message: "no complete response within " + timeout.String(), Err: err}
	}
	return &Error{API: api, Reason: ReasonNetwork, Message: message, Err: err}
}

// statusError returns the error for a response with a status other than 200, with what
// to fix.
func (c *Client) statusError(api API, resp *http.Response) error {
	e := &Error{API: api, Status: resp.StatusCode}
	e.Code, e.Message = readErrorBody(resp)
	e.Reason, e.RetryAfter = retryableStatus(resp)
	// A 5xx with Retry-After for one domain does not delay the other domains.
	if e.Reason == ReasonThrottled || e.RetryAfter > 0 && !api.row().isPerDomain() {
		e.gatePause = c.share(api).backOff(e.RetryAfter)
		return e
	}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		e.Reason = ReasonAuth
		e.advice = "the API rejects the token; check the API's scope and that the tenant is licensed"
	case status == http.StatusForbidden:
		e.Reason = ReasonForbidden
		if role := api.Role(); role != "" {
			e.advice = "the app registration needs the application permission " + role + " with admin consent"
		} else {
			e.advice = "the app registration has no access to this preview; the source machines needs none"
		}
	case status == http.StatusNotFound && !e.NotFound():
		e.advice = "not a response of the API itself: check the URL, and the proxy or gateway in front of it"
	case status >= 300 && status < 400:
		e.Message = "redirects are not followed"
		if target, err := resp.Location(); err == nil && target.Host != "" {
			e.Message += "; this one points to " + target.Host
		}
	}
	c.share(api).resetBackoff()
	return e
}

// maxErrorBody is how many bytes of an error's body are read.
const maxErrorBody = 16 << 10

// readErrorBody returns the service's error code and message. Both are empty if the body
// is not JSON.
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
