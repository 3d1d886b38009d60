package exporter

import (
	"context"
	"sync"

	"github.com/mde-exporter/mde_exporter/collector"
)

// A run is one collector of one tenant, with its refresher in a goroutine.
type run struct {
	config    collector.Config
	collector collector.Collector
	refresher *collector.Refresher
	cancel    context.CancelFunc // Nil before start.
	running   sync.WaitGroup
}

// start runs the refresher, unless it runs already.
func (r *run) start() {
	if r.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.refresher.Run(ctx) })
}

// stop returns when the refresh under way has ended.
func (r *run) stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
}

// stopAll ends the refreshes of the runs and returns when they have ended.
func stopAll(runs []*run) {
	var wg sync.WaitGroup
	for _, r := range runs {
		wg.Go(r.stop)
	}
	wg.Wait()
}
