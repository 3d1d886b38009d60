package attention

import (
	"context"
	"testing"
	"time"
)

func TestFollowWaitsForTheRunningCall(t *testing.T) {
	f := &Index{}
	calls, begin, end := 0, make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Follow(ctx, func() {
			calls++
			begin <- struct{}{}
			<-end
		})
	}()
	<-begin // Initial call.
	end <- struct{}{}
	set := make(chan struct{})
	go func() { defer close(set); f.Set(&State{}) }()
	<-begin
	cancel()
	select {
	case <-ended:
		t.Error("Follow returned during a call")
	case <-time.After(20 * time.Millisecond):
	}
	end <- struct{}{}
	<-ended
	<-set
	f.Set(&State{})
	if calls != 2 {
		t.Errorf("%d calls, want an initial one and one for the first Set", calls)
	}
}
