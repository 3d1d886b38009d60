package simulation

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault describes how a call fails. The zero Fault has no effect. Fields combine,
// in the order in which they are declared.
type Fault struct {
	// Delay is the time before anything else happens.
	Delay time.Duration
	// Hang sends no response: the call ends when the client cancels it or the
	// server is closed.
	Hang bool
	// Reset breaks the connection without a response. Go's client repeats a GET
	// by itself if the connection had served another call before. The repetition
	// is another call here, which gets the next fault.
	Reset bool

	// Header is added to the response.
	Header http.Header
	// RetryAfter is the Retry-After header as sent: seconds or an HTTP date.
	RetryAfter string
	// Redirect responds with a redirect to this URL, with status 302 unless
	// Status is set.
	Redirect string
	// Status replaces the response: with Body as its body, with no body if NoBody
	// is set, else with the service's error for this status.
	Status int
	NoBody bool
	// Body is the response body, with status 200 unless Status is set. It is sent
	// as HTML if it begins with "<", else as JSON.
	Body string

	// NextLink replaces the @odata.nextLink. With this field and those below, the
	// response is otherwise unchanged.
	NextLink string
	// Endless adds a new nextLink to each response that leads to the first page
	// again.
	Endless bool
	// Truncate breaks the connection after this number of body bytes on the wire.
	// With Stall the connection stays open without further data.
	Truncate int
	Stall    bool

	// Match selects the calls that fail. Nil means all calls of the API.
	Match func(*http.Request) bool
	// Skip is the number of calls that succeed before the fault.
	Skip int
	// Times is the number of calls that fail. Zero means all, until Clear.
	Times int
	// For is the duration of the fault after Fail. Zero means until Clear.
	For time.Duration

	until time.Time
}

// SignInPage is the response of a proxy or portal in place of an API.
const SignInPage = `<!DOCTYPE html><html><head><title>Sign in to your account</title></head><body><form method="post"></form></body></html>`

// Fail adds faults for an API, or for Every. A call gets the first one that
// matches; faults of its own API come before those of Every.
func (t *Tenant) Fail(api API, faults ...Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range faults {
		if f.For > 0 {
			f.until = time.Now().Add(f.For)
		}
		t.faults[api] = append(t.faults[api], &f)
	}
}

// Clear removes the faults of the named APIs, or all if none is named. Hanging
// calls keep hanging.
func (t *Tenant) Clear(apis ...API) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(apis) == 0 {
		clear(t.faults)
	}
	for _, api := range apis {
		delete(t.faults, api)
	}
}

// takeFault returns a copy of the call's fault, and whether there is one.
func (t *Tenant) takeFault(api API, r *http.Request) (Fault, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, key := range [...]API{api, Every} {
		for i, f := range t.faults[key] {
			if f.For > 0 && !now.Before(f.until) || f.Match != nil && !f.Match(r) {
				continue
			}
			if f.Skip > 0 {
				f.Skip--
				continue
			}
			if f.Times == 1 {
				t.faults[key] = slices.Delete(slices.Clone(t.faults[key]), i, i+1)
			} else if f.Times > 1 {
				f.Times--
			}
			return *f, true
		}
	}
	return Fault{}, false
}

// fail applies the call's fault and reports whether it sent a response.
func (x *exchange) fail() bool {
	f := &x.fault
	ctx := x.r.Context()
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
		}
	}
	if f.Hang {
		<-ctx.Done()
	}
	if f.Hang || f.Reset || ctx.Err() != nil {
		x.call.Broken = true
		reset(x.response.w)
	}

	x.response.truncate, x.response.hang = f.Truncate, f.Stall
	header := x.response.w.Header()
	maps.Copy(header, f.Header)
	if f.RetryAfter != "" {
		header.Set("Retry-After", f.RetryAfter)
	}
	status := f.Status
	if f.Redirect != "" {
		header.Set("Location", f.Redirect)
		status = cmp.Or(status, http.StatusFound)
	}
	switch {
	case f.Body != "":
		contentType := jsonType
		if strings.HasPrefix(f.Body, "<") {
			contentType = "text/html; charset=utf-8"
		}
		x.response.text(cmp.Or(status, http.StatusOK), contentType, f.Body)
	case f.NoBody:
		x.response.start(cmp.Or(status, http.StatusOK))
	case status != 0:
		x.rejectStatus(status)
	default:
		return false
	}
	return true
}

// reset breaks the connection, with a TCP reset if possible.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: resets the stream
	}
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	panic(http.ErrAbortHandler)
}
