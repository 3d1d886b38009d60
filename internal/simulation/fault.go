package simulation

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is what goes wrong with a call. The zero Fault does nothing; its fields
// combine, in the order in which they stand here.
type Fault struct {
	// Delay passes before anything else happens.
	Delay time.Duration
	// Hang never answers: the call ends when the client gives up or the server
	// is closed.
	Hang bool
	// Reset breaks the connection without an answer. Go's client repeats a GET
	// by itself where that connection had served another call before; the
	// repetition is another call here, and meets the next fault.
	Reset bool

	// Header is added to the answer.
	Header http.Header
	// RetryAfter is that header, as it is sent: seconds or an HTTP date.
	RetryAfter string
	// Redirect answers with a redirect to this URL, 302 unless Status says otherwise.
	Redirect string
	// Status is answered instead of what the call asked for: with Body, with
	// nothing where NoBody is set, and else with the error that the service
	// sends with this status.
	Status int
	NoBody bool
	// Body is the answer's body, with status 200 unless Status says otherwise.
	// It is sent as HTML where it begins with "<", else as JSON.
	Body string

	// NextLink stands in the answer as its @odata.nextLink. The answer is else
	// the ordinary one, as it is with the fields below.
	NextLink string
	// Endless gives the answer a nextLink that was never there before and
	// leads to the first page again.
	Endless bool
	// Truncate ends the body after so many bytes, as they leave, and breaks the
	// connection; with Stall it leaves the connection open and sends no more.
	Truncate int
	Stall    bool

	// Match tells which calls the fault is for. Nil means all of the API.
	Match func(*http.Request) bool
	// Skip is how many calls go well before the fault.
	Skip int
	// Times is how many calls it spoils. Zero means all, until Clear.
	Times int
	// For is how long it lasts after Fail. Zero means until Clear.
	For time.Duration

	until time.Time
}

// SignInPage is what a proxy or a portal answers instead of an API.
const SignInPage = `<!DOCTYPE html><html><head><title>Sign in to your account</title></head><body><form method="post"></form></body></html>`

// Fail scripts faults for an API, or for Every. A call meets the first that is
// for it, those of its own API before those for Every.
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

// Clear takes back the faults of the named APIs, or all of them where none is
// named. A call that hangs keeps hanging.
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

// takeFault returns a copy of the fault that a call meets, if there is one.
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

// fail does what the call's fault says and reports whether it answered.
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
		reset(x.answer.w)
	}

	x.answer.truncate, x.answer.hang = f.Truncate, f.Stall
	header := x.answer.w.Header()
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
		x.answer.text(cmp.Or(status, http.StatusOK), contentType, f.Body)
	case f.NoBody:
		x.answer.start(cmp.Or(status, http.StatusOK))
	case status != 0:
		x.refuseStatus(status)
	default:
		return false
	}
	return true
}

// reset breaks the connection: where it can, with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the stream is reset
	}
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	panic(http.ErrAbortHandler)
}
