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
// by one goroutine at a time; Notes may be called at any time.
type Collector interface {
	// Name is the value of the collector label, such as "security_states".
	Name() string
	// Start is called once, before the first Refresh. It publishes the values a
	// Store kept and returns when they were collected, the zero time where
	// there are none. The context ends when no Refresh is to follow.
	Start(ctx context.Context) time.Time
	// Refresh asks the APIs and publishes what they tell, whole or not at all.
	// It returns early when the context ends.
	Refresh(ctx context.Context) error
	// Notes tell an operator, in sentences, what is limited and how to mend it.
	Notes() []string
}
