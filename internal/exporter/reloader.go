package exporter

import (
	"context"
	"sync"
	"time"
)

// A Reloader runs reloads one at a time and never holds up who asks for one.
// Requests that come while a reload runs share the next one, however many they
// are. Its methods may be called concurrently.
type Reloader struct {
	reload func() error
	wanted chan struct{} // Holds one element while a reload is to begin.

	mu   sync.Mutex
	next *pendingReload // The reload that has not begun; nil while nobody asked for one.
}

// pendingReload is a reload that was asked for. The error is set when done is closed.
type pendingReload struct {
	done chan struct{}
	err  error
}

// NewReloader returns a Reloader of the function; nothing happens until Run.
func NewReloader(reload func() error) *Reloader {
	return &Reloader{reload: reload, wanted: make(chan struct{}, 1)}
}

// Run reloads whenever that is asked for, until the context ends. A reload that
// runs then is not interrupted.
func (r *Reloader) Run(ctx context.Context) {
	for {
		select {
		case <-r.wanted:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		current := r.next
		r.next = nil
		r.mu.Unlock()
		current.err = r.reload()
		close(current.done)
	}
}

// Request asks for a reload that begins after the call. It does not wait for it.
func (r *Reloader) Request() { r.request() }

// Reload asks for a reload that begins after the call and returns its error. The
// error is the context's where that ends first; the reload takes place all the same.
func (r *Reloader) Reload(ctx context.Context) error {
	pending := r.request()
	select {
	case <-pending.done:
		return pending.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watch asks every interval whether the configuration changed, and reloads it then,
// until the context ends.
func (r *Reloader) Watch(ctx context.Context, interval time.Duration, changed func() bool) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if changed() {
				_ = r.Reload(ctx) // The function that reloads reports it.
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reloader) request() *pendingReload {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &pendingReload{done: make(chan struct{})}
		r.wanted <- struct{}{} // Run took the one before when it took next.
	}
	return r.next
}
