package collector

import (
	"context"
	"sync"
	"time"
)

// Periodic is a Collector that reads a whole result at each refresh. R is plain data that
// is stored as JSON. The last result is exposed until it is older than MaxAge.
type Periodic[R any] struct {
	Env    Env
	MaxAge time.Duration
	// Read calls the APIs. Show adds the series of a result to a Block.
	Read func(context.Context) (R, error)
	Show func(*BlockBuilder, R)
	// Describe returns the page of a result that is exposed. Its MaxAge is set later.
	Describe func(R) Page

	mu   sync.Mutex
	last *reading[R] // Nil until a result was read.
}

// reading is a result and the time at which its refresh began.
type reading[R any] struct {
	At     time.Time `json:"at"`
	Result R         `json:"result"`
}

// Start implements Collector.
func (p *Periodic[R]) Start(_ context.Context, to *Publisher) time.Time {
	var r reading[R]
	memory := p.Env.Memory()
	if !memory.Load(p.Env.Name, &r) {
		return time.Time{}
	}
	err := CheckTime(r.At)
	var snapshot *Snapshot
	if err == nil {
		snapshot, err = p.snapshot(&r)
	}
	if err != nil {
		memory.logger.Warn("Ignoring stored values", "err", err)
		return time.Time{}
	}
	if IsFresh(r.At, p.MaxAge) {
		to.Ready()
	}
	to.Publish(*snapshot)
	return r.At
}

// Refresh implements Collector.
func (p *Periodic[R]) Refresh(ctx context.Context) (Outcome, error) {
	r := reading[R]{At: Wall(time.Now())}
	var err error
	if r.Result, err = p.Read(ctx); err != nil {
		return Outcome{}, err
	}
	snapshot, err := p.snapshot(&r)
	if err != nil {
		return Outcome{}, err
	}
	p.Env.Memory().Save(p.Env.Name, r)
	return Outcome{Snapshot: snapshot}, nil
}

// snapshot returns the Snapshot of r and makes r the last result.
func (p *Periodic[R]) snapshot(r *reading[R]) (*Snapshot, error) {
	b := NewBlock(p.Env.Tenant, r.At.Add(p.MaxAge))
	p.Show(b, r.Result)
	block, err := b.Build()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = r
	return &Snapshot{Blocks: []*Block{block}, At: r.At}, nil
}

// Follow implements Collector. It returns immediately.
func (*Periodic[R]) Follow(context.Context) {}

// Reloaded implements Collector.
func (*Periodic[R]) Reloaded() {}

// Page implements Collector.
func (p *Periodic[R]) Page() (page Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.last == nil:
	case IsFresh(p.last.At, p.MaxAge):
		page = p.Describe(p.last.Result)
	default:
		page.Summary = Withdrawn(p.MaxAge)
	}
	page.MaxAge = p.MaxAge
	return page
}
