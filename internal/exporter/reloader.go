package exporter

import (
	"context"
	"sync"
	"time"
)

// A Reloader runs reloads one at a time. Requests during a reload share the next
// one, so callers never queue up more than one reload. Its methods are safe for
// concurrent use.
type Reloader struct {
	reload func() error
	wanted chan struct{} // Contains one element while a reload is requested and has not begun.

	mu   sync.Mutex
	next *pendingReload // The reload that has not begun. Nil means none was requested.
}

// pendingReload is a requested reload. err is valid once done is closed.
type pendingReload struct {
	done chan struct{}
	err  error
}

// NewReloader returns a Reloader that calls reload. Nothing runs until Run is
// called.
func NewReloader(reload func() error) *Reloader {
	return &Reloader{reload: reload, wanted: make(chan struct{}, 1)}
}

// Run runs the requested reloads until the context ends. It does not interrupt a
// running reload.
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

// Request requests a reload that begins after the call. It does not wait for it.
func (r *Reloader) Request() { r.request() }

// Reload requests a reload that begins after the call, waits for it and returns
// its error. If the context ends first, Reload returns the context's error and
// the reload still runs.
func (r *Reloader) Reload(ctx context.Context) error {
	pending := r.request()
	select {
	case <-pending.done:
		return pending.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watch calls changed every interval and reloads if it returns true, until the
// context ends.
func (r *Reloader) Watch(ctx context.Context, interval time.Duration, changed func() bool) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if changed() {
				_ = r.Reload(ctx) // The reload function logs it.
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
		r.wanted <- struct{}{} // Never blocks: Run emptied the channel before it took next.
	}
	return r.next
}
