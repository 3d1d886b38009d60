package attention

import (
	"context"
	"testing"
	"time"
)

func TestFollowingAFleetEndsWithNoCallUnderWay(t *testing.T) {
	f := &Index{}
	f.Expect(time.Hour)
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
	<-begin // For what was set before.
	end <- struct{}{}
	set := make(chan struct{})
	go func() { defer close(set); f.Set(&State{}) }()
	<-begin
	cancel()
	select {
	case <-ended:
		t.Error("the end does not wait for the call under way")
	case <-time.After(20 * time.Millisecond):
	}
	end <- struct{}{}
	<-ended
	<-set
	f.Set(&State{})
	if calls != 2 {
		t.Errorf("%d calls, want one at the beginning and one for the first set", calls)
	}
}
