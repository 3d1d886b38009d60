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

// Reason classifies why a call failed. It is a value of the reason label of
// mde_refresh_failures_total.
type Reason string

// The reasons. An operator must act on the first two.
const (
	// ReasonAuth: no token could be obtained, or a new token was rejected.
	ReasonAuth Reason = "auth"
	// ReasonForbidden: the token is valid, but a role or a consent is missing.
	ReasonForbidden Reason = "forbidden"
	// ReasonThrottled: the service asked to wait longer than a refresh may.
	ReasonThrottled Reason = "throttled"
	// ReasonTimeout: a call did not end within the request timeout.
	ReasonTimeout Reason = "timeout"
	// ReasonNetwork: no connection, or a broken one.
	ReasonNetwork Reason = "network"
	// ReasonServer: the service returned a 5xx.
	ReasonServer Reason = "server"
	// ReasonDecode: the response is not what the API documents, or too large.
	ReasonDecode Reason = "decode"
	// ReasonPagination: the pages repeat, never end or leave the host.
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

// Error is the error of one call. It never contains a token or a secret.
type Error struct {
	API    API
	Reason Reason
	// Status is the HTTP status of the response, 0 if there was none.
	Status int
	// Code is the service's error code, such as "ResourceNotFound" or, from the sign-in
	// host, "invalid_client".
	Code string
	// Message describes what happened.
	Message string
	// RetryAfter is how long the service asked to wait, 0 if it did not.
	RetryAfter time.Duration
	// Err is the underlying error, such as that of the connection. It may be nil.
	Err error

	// advice is what to fix, empty if unknown. Error prints it.
	advice string
	// gatePause is how long the gate of the API stays closed because of this error.
	gatePause time.Duration
	// permanent means that a retry does not help, even if the Reason is temporary.
	permanent bool
}

// Error returns the API, the status, the service's code and message, what to fix and the
// underlying error.
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

// joinTexts joins the texts that are not empty.
func joinTexts(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), separator)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// NotFound reports whether the service itself reports that the resource does not exist:
// a 404 with a JSON error code such as "ResourceNotFound". Any other 404 may come from a
// gateway.
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

// ReasonOf returns the Reason of an Error, ReasonTimeout for an expired context and
// ReasonOther for any other error.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ReasonTimeout
	}
	return ReasonOther
}

// interrupted returns the error of a call whose context ended, such as "during a call".
func interrupted(ctx context.Context, api API, when string) *Error {
	return &Error{API: api, Reason: ReasonOf(ctx.Err()), Message: "interrupted " + when, Err: ctx.Err()}
}
