// Package collector counts what the Defender APIs of a tenant tell and exposes
// the counts.
//
// A Collector turns entities into a plain result and the result into metric
// families; a Refresher runs it again and again; an Exposition holds the last
// families of every tenant and collector for the next scrape. A scrape never
// calls an API and never waits for one.
package collector

import (
	"context"
	"time"
)

// Collector refreshes one subject of one tenant. Start and Refresh are called
// by one goroutine at a time; Reloaded and Page may be called at any time.
type Collector interface {
	// Start is called once, before the first Refresh. It publishes the values
	// that a Store kept, through the Publisher of this run, and returns when the
	// newest of them was read, the zero time where there are none. A collector
	// that publishes as it goes keeps the Publisher. The context ends when no
	// Refresh is to follow.
	Start(ctx context.Context, p *Publisher) (newest time.Time)
	// Refresh asks the APIs and returns what the Refresher publishes, whole or
	// not at all. It returns early when the context ends.
	Refresh(ctx context.Context) (Outcome, error)
	// Follow runs beside Refresh, after Start, and reacts to what changes
	// meanwhile. It returns soon after the context has ended, or earlier where
	// there is nothing to follow; the run has not ended before it has returned.
	Follow(ctx context.Context)
	// Reloaded is called when the configuration was loaded again and the collector
	// is one of those in force, running or about to start.
	Reloaded()
	// Page describes the collector for people. It waits for no API.
	Page() Page
}

// Outcome is what one refresh did, beside its error.
type Outcome struct {
	// Snapshot replaces what the collector exposes, in one step with the metrics
	// about the refresh. It is ignored where the refresh failed. Nil leaves what
	// was published before: a collector that publishes as it goes returns nil,
	// since a newer snapshot of its own could be overwritten.
	Snapshot *Snapshot
	// Pending says that a part was never read so far, such as domains of a long
	// list that is filled for the first time. Without an error such a refresh is
	// neither a success nor a failure: it is not counted, and mde_refresh_success
	// is absent after it. Refresher.Once repeats a refresh as long as it is
	// pending, with an error or without.
	Pending bool
	// Partial says of an error that only a part failed, such as one domain of
	// many, and that the collector retries it by its own schedule.
	Partial bool
}
