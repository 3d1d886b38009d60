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

// Snapshot is what a collector exposes. It is immutable once it is published.
type Snapshot struct {
	// Blocks are the series. No series occurs in two of them.
	Blocks []*Block
	// At is the time of the oldest values, exposed as
	// mde_refresh_last_success_timestamp_seconds. The zero time means that some values
	// were not read yet.
	At time.Time
	// Share, if not nil, is called when the snapshot is published, to pass values to
	// other collectors of the tenant. What they publish before it returns appears in the
	// same scrape as the snapshot.
	Share func()
}

// Publisher publishes the snapshots of one run of a collector in an Exposition. Once it is
// closed or withdrawn it does nothing, so that a run that has ended cannot overwrite what
// its successor exposes. It is safe for concurrent use.
type Publisher struct {
	exposition *Exposition
	key        exposedKey
	closed     bool // Guarded by the exposition's lock.
	withdrawn  func()
	ready      atomic.Bool
}

// Publisher returns a Publisher for a collector of a tenant. It has no effect before its
// first use.
func (e *Exposition) Publisher(tenant, collector string) *Publisher {
	return &Publisher{exposition: e, key: exposedKey{tenant, collector}}
}

// Publish replaces what the collector exposes. It does not change the metrics about its
// refreshes, except for the time of the values.
func (p *Publisher) Publish(s Snapshot) {
	p.publish(&s, nil)
}

// Ready makes the collector ready before its first refresh has ended, because it exposes
// values or because a part failed.
func (p *Publisher) Ready() { p.ready.Store(true) }

// Close makes the Publisher do nothing from now on. What was published stays exposed until
// a successor replaces it.
func (p *Publisher) Close() {
	p.exposition.mu.Lock()
	defer p.exposition.mu.Unlock()
	p.closed = true
}

// OnWithdraw sets a function that Withdraw calls, for example to withdraw the values that
// the collector passed to others. It may only be called in Collector.Start.
func (p *Publisher) OnWithdraw(f func()) { p.withdrawn = f }

// Withdraw closes the Publisher and removes every series of the collector, which has no
// successor.
func (p *Publisher) Withdraw() {
	p.exposition.mu.Lock()
	p.closed = true
	p.exposition.remove(p.key)
	p.exposition.mu.Unlock()
	if p.withdrawn != nil {
		p.withdrawn()
	}
}

// begin creates the series that exist before the first refresh has finished. It keeps what
// a predecessor published and counted.
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

// pending records the end of a refresh that was neither a success nor a failure.
func (p *Publisher) pending() {
	p.publish(nil, func(r *refreshes) { r.last = noResult })
}

// at returns the time of the oldest exposed values.
func (p *Publisher) at() time.Time {
	p.exposition.mu.Lock()
	defer p.exposition.mu.Unlock()
	if x := p.exposition.collectors[p.key]; x != nil {
		return x.latest.snapshot.At
	}
	return time.Time{}
}

// publish replaces the snapshot and changes the metrics about refreshes in one step. A nil
// argument leaves that part unchanged.
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

// swap is publish without Share. It returns false if the Publisher is closed.
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

// refreshes contains the metrics about the refreshes of a collector. The counts continue
// when a run replaces another.
type refreshes struct {
	interval time.Duration
	finished int
	failures map[client.Reason]int // Immutable.
	last     lastRefresh
	duration time.Duration
}

// lastRefresh is the result of the last refresh.
type lastRefresh int

const (
	noResult lastRefresh = iota
	lastFailed
	lastSucceeded
)

func (r *refreshes) finish(last lastRefresh, duration time.Duration) {
	r.finished++
	r.last, r.duration = last, duration
}

// block builds the series. It returns nil if the tenant's name is not a valid label value.
func (r *refreshes) block(key exposedKey, at time.Time) *Block {
	b := NewBlock(key.tenant, time.Time{})
	b.Add(refreshesFamily, float64(r.finished), key.collector)
	for _, reason := range client.Reasons() {
		b.Add(refreshFailuresFamily, float64(r.failures[reason]), key.collector, string(reason))
	}
	b.Add(refreshIntervalFamily, r.interval.Seconds(), key.collector)
	if r.last != noResult {
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
