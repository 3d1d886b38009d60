package collector

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

var (
	refreshesFamily = newCounter("mde_refreshes_total",
		"Total number of refreshes, successful or not.", "collector")
	refreshFailuresFamily = newCounter("mde_refresh_failures_total",
		"Total number of refreshes that failed, by reason; auth and forbidden need a person to act.", "collector", "reason")
	refreshSuccessFamily = NewFamily("mde_refresh_success",
		"1 when the last refresh succeeded, 0 when it failed and older values are still served. Absent until a refresh has finished.", "collector")
	refreshLastSuccessFamily = NewFamily("mde_refresh_last_success_timestamp_seconds",
		"How old the values are at worst: when the last successful refresh began to read them or, for watched domains, when the domain with the oldest count was read.", "collector")
	refreshDurationFamily = NewFamily("mde_refresh_duration_seconds",
		"How long the last refresh took.", "collector")
	refreshIntervalFamily = NewFamily("mde_refresh_interval_seconds",
		"The configured refresh interval.", "collector")
)

// Snapshot is what a collector exposes and how old that is. It is immutable once
// it is published.
type Snapshot struct {
	// Blocks are the series. No series occurs in two of them.
	Blocks []*Block
	// At is how old the values are at worst: it is exposed as
	// mde_refresh_last_success_timestamp_seconds. The zero time means that not
	// everything was read so far.
	At time.Time
	// Share, if not nil, is called as the snapshot is published and hands values
	// to other collectors of the tenant. What these publish before it returns
	// appears in the same scrape as the snapshot.
	Share func()
}

// Publisher is the way of one run of a collector into an Exposition. Once it is
// closed or withdrawn it does nothing any more, so that a run that has ended
// cannot overwrite what its successor exposes. It may be used concurrently.
type Publisher struct {
	exposition *Exposition
	key        exposedKey
	closed     bool // Guarded by the exposition's lock.
	withdrawn  func()
	ready      atomic.Bool
}

// Publisher returns the way into the exposition of a collector of a tenant.
// Nothing is exposed through it before its first use.
func (e *Exposition) Publisher(tenant, collector string) *Publisher {
	return &Publisher{exposition: e, key: exposedKey{tenant, collector}}
}

// Publish replaces what the collector exposes. The metrics about its refreshes
// stay, except for the time of the values, which is the snapshot's.
func (p *Publisher) Publish(s Snapshot) {
	p.publish(&s, nil)
}

// Ready says that the collector has something to show, or failed to read a part,
// before its first refresh has ended.
func (p *Publisher) Ready() { p.ready.Store(true) }

// Close ends the use of the Publisher. What was published stays exposed, for a
// successor to replace.
func (p *Publisher) Close() {
	p.exposition.mu.Lock()
	defer p.exposition.mu.Unlock()
	p.closed = true
}

// OnWithdraw makes Withdraw call a func, such as one that withdraws what the
// collector handed to others. It is for Collector.Start.
func (p *Publisher) OnWithdraw(f func()) { p.withdrawn = f }

// Withdraw removes every series of the collector and ends the use of the
// Publisher. The collector has no successor.
func (p *Publisher) Withdraw() {
	p.exposition.mu.Lock()
	p.closed = true
	p.exposition.remove(p.key)
	p.exposition.mu.Unlock()
	if p.withdrawn != nil {
		p.withdrawn()
	}
}

// begin makes the series that exist before the first refresh has finished. What
// a predecessor published and counted stays.
func (p *Publisher) begin(interval time.Duration) {
	p.publish(nil, func(r *refreshes) { r.interval = interval })
}

// succeeded publishes the result of a refresh together with its success.
func (p *Publisher) succeeded(s *Snapshot, duration time.Duration) {
	p.publish(s, func(r *refreshes) { r.finish(lastSucceeded, duration) })
}

func (p *Publisher) failed(err error, duration time.Duration) {
	p.publish(nil, func(r *refreshes) {
		r.finish(lastFailed, duration)
		r.failures = maps.Clone(r.failures)
		if r.failures == nil {
			r.failures = make(map[client.Reason]int)
		}
		r.failures[client.ReasonOf(err)]++
	})
}

// pending says that a refresh has ended that was neither a success nor a failure.
func (p *Publisher) pending() {
	p.publish(nil, func(r *refreshes) { r.last = noneFinished })
}

// at is how old the exposed values are at worst.
func (p *Publisher) at() time.Time {
	p.exposition.mu.Lock()
	defer p.exposition.mu.Unlock()
	if x := p.exposition.collectors[p.key]; x != nil {
		return x.latest.snapshot.At
	}
	return time.Time{}
}

// publish swaps in a snapshot together with a change of the metrics about
// refreshes. Nil leaves the one or the other.
func (p *Publisher) publish(s *Snapshot, change func(*refreshes)) {
	if s == nil || s.Share == nil {
		p.swap(s, change)
		return
	}
	p.exposition.Together(p.key.tenant, func() {
		if p.swap(s, change) {
			s.Share()
		}
	})
}

// swap reports false where the Publisher is closed.
func (p *Publisher) swap(s *Snapshot, change func(*refreshes)) bool {
	return p.exposition.update(p, func(x *exposure) {
		if s != nil {
			x.snapshot = Snapshot{Blocks: s.Blocks, At: Wall(s.At)}
		}
		if change != nil {
			change(&x.refreshes)
		}
		x.begun = x.begun || change != nil
	})
}

// refreshes is what is exposed about the refreshes of a collector. Runs that
// follow one another count on.
type refreshes struct {
	interval time.Duration
	finished int
	failures map[client.Reason]int // Immutable.
	last     lastRefresh
	duration time.Duration
}

// lastRefresh is how the last refresh ended.
type lastRefresh int

const (
	noneFinished lastRefresh = iota
	lastFailed
	lastSucceeded
)

func (r *refreshes) finish(last lastRefresh, duration time.Duration) {
	r.finished++
	r.last, r.duration = last, duration
}

// block builds the series. An error, as of a tenant whose name cannot be a label
// value, leaves them out like all others of that tenant.
func (r *refreshes) block(key exposedKey, at time.Time) *Block {
	b := NewBlock(key.tenant, time.Time{})
	b.Add(refreshesFamily, float64(r.finished), key.collector)
	for _, reason := range client.Reasons() {
		b.Add(refreshFailuresFamily, float64(r.failures[reason]), key.collector, string(reason))
	}
	b.Add(refreshIntervalFamily, r.interval.Seconds(), key.collector)
	if r.last != noneFinished {
		b.Add(refreshSuccessFamily, BoolValue(r.last == lastSucceeded), key.collector)
	}
	if r.finished > 0 {
		b.Add(refreshDurationFamily, r.duration.Seconds(), key.collector)
	}
	if !at.IsZero() {
		b.Add(refreshLastSuccessFamily, UnixSeconds(at), key.collector)
	}
	block, _ := b.Build()
	return block
}
