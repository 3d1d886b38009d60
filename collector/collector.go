// Package collector is the engine that runs the collectors of all tenants and exposes
// their metrics.
//
// A Collector reads entities from the APIs and turns them into metric families. A
// Refresher runs it periodically. An Exposition keeps the last families of every tenant
// and collector for the next scrape. A scrape never calls an API or waits for one.
package collector

import (
	"context"
	"time"
)

// Collector refreshes one subject of one tenant. Start and Refresh are called
// by one goroutine at a time; Reloaded and Page may be called at any time.
type Collector interface {
	// Start is called once, before the first Refresh. It publishes the values from the
	// Store and returns when the newest of them was read, or the zero time if there are
	// none. A collector that also publishes during a refresh keeps the Publisher. The
	// context ends if there will be no Refresh.
	Start(ctx context.Context, p *Publisher) (newest time.Time)
	// Refresh calls the APIs and returns what the Refresher publishes. It returns early
	// when the context ends.
	Refresh(ctx context.Context) (Outcome, error)
	// Follow runs concurrently with Refresh, after Start, and reacts to changes such as
	// those of files. It returns soon after the context has ended, or earlier if there is
	// nothing to follow. The run ends after Follow has returned.
	Follow(ctx context.Context)
	// Reloaded is called after a reload of the configuration that keeps or starts the
	// collector.
	Reloaded()
	// Page returns the collector's part of the status page. It does not wait for an API.
	Page() Page
}

// Outcome is the result of one refresh, in addition to its error.
type Outcome struct {
	// Snapshot replaces what the collector exposes, in one step with the metrics about
	// the refresh. It is ignored if the refresh failed. Nil keeps what was published
	// before: a collector that publishes during the refresh returns nil.
	Snapshot *Snapshot
	// Pending means that some values were never read yet, such as those of domains at the
	// end of a long list. Without an error, such a refresh is neither a success nor a
	// failure: it is not counted, and mde_refresh_success is absent after it.
	// Refresher.Once repeats refreshes that are pending, with or without an error.
	Pending bool
	// Partial means that the error concerns only a part, such as one domain of many, and
	// that the collector retries that part itself.
	Partial bool
}
