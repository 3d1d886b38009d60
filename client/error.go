package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Reason classifies why a call failed. Its value is what the reason label of
// mde_refresh_failures_total shows.
type Reason string

// The reasons, from the one an operator must act on to the one nobody foresaw.
const (
	// ReasonAuth: no token could be had, or a fresh one was not accepted.
	ReasonAuth Reason = "auth"
	// ReasonForbidden: the token is good, a role or a consent is missing.
	ReasonForbidden Reason = "forbidden"
	// ReasonThrottled: the service asked to wait longer than a refresh may.
	ReasonThrottled Reason = "throttled"
	// ReasonTimeout: a call did not end within the request timeout.
	ReasonTimeout Reason = "timeout"
	// ReasonNetwork: no connection, or a broken one.
	ReasonNetwork Reason = "network"
	// ReasonServer: the service answered with a 5xx.
	ReasonServer Reason = "server"
	// ReasonDecode: the answer is not what the API documents, or too large.
	ReasonDecode Reason = "decode"
	// ReasonPagination: the chain of pages repeats, never ends or leaves the host.
	ReasonPagination Reason = "pagination"
	// ReasonOther: everything else, such as an unexpected 4xx.
	ReasonOther Reason = "other"
)

// Reasons lists every Reason.
func Reasons() []Reason {
	return []Reason{
		ReasonAuth, ReasonForbidden, ReasonThrottled, ReasonTimeout, ReasonNetwork,
		ReasonServer, ReasonDecode, ReasonPagination, ReasonOther,
	}
}

// Error is the failure of one call. It never holds a token or a secret.
type Error struct {
	API    API
	Reason Reason
	// Status is the HTTP status of the answer, 0 where there was none.
	Status int
	// Code is the service's own word for the failure, such as
	// "ResourceNotFound" or, from the sign-in host, "invalid_client".
	Code string
	// Message says what happened.
	Message string
	// RetryAfter is how long the service asked to wait, 0 where it did not.
	RetryAfter time.Duration
	// Err is the cause, where the failure has one below HTTP.
	Err error

	// advice says what to fix, where that is known. Error prints it.
	advice string
	// held is how long the gate of the API stays closed because of this failure.
	held time.Duration
	// final means that trying again does not help, whatever the Reason.
	final bool
}

// Error names the API, the status, the service's code and message, what to fix and
// the cause.
func (e *Error) Error() string {
	status, cause := "", ""
	if e.Status != 0 {
		status = fmt.Sprintf("HTTP %d", e.Status)
	}
	if e.Err != nil {
		cause = e.Err.Error()
	}
	return joinTexts(": ", string(e.API), status, e.Code, joinTexts("; ", e.Message, e.advice), cause)
}

// joinTexts joins those that are not empty.
func joinTexts(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), separator)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NotFound reports whether the service itself says that what was asked for does
// not exist: a 404 with a JSON error code that means so. Any other 404, such as a
// gateway's page, says nothing about the resource.
func (e *Error) NotFound() bool {
	return e.API != Token && e.Status == http.StatusNotFound &&
		slices.ContainsFunc(notFoundCodes, func(code string) bool { return strings.EqualFold(code, e.Code) })
}

// notFoundCodes are the error codes of a resource that does not exist: those of
// the Defender API, then those of Microsoft Graph.
var notFoundCodes = []string{"NotFound", "ResourceNotFound", "ItemNotFound", "Request_ResourceNotFound"}

// IsNotFound reports whether err is an Error that is NotFound.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.NotFound()
}

// ReasonOf classifies any error of this package; an error from elsewhere is
// ReasonOther, an expired context ReasonTimeout.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ReasonTimeout
	}
	return ReasonOther
}

// interrupted reports that the caller's context ended, and amid what.
func interrupted(ctx context.Context, api API, amid string) *Error {
	return &Error{API: api, Reason: ReasonOf(ctx.Err()), Message: "interrupted " + amid, Err: ctx.Err()}
}
