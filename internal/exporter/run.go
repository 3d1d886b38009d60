package exporter

import (
	"context"
	"sync"

	"github.com/mde-exporter/mde_exporter/collector"
)

// A run is a refresher in its goroutine.
type run struct {
	refresher *collector.Refresher
	ctx       context.Context // Ends when the run is to stop.
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// start runs the refresher, unless it runs already.
func (r *run) start() {
	if r.cancel != nil {
		return
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.running.Go(func() { r.refresher.Run(r.ctx) })
}

// stop returns when the refresh under way has ended.
func (r *run) stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
}
