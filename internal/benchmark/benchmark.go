// Package benchmark measures the exporter beside other programs that do the same
// work: each in a fresh process of its own, against one simulated tenant in
// another process, over TLS, HTTP/2 and gzip.
//
// A machine that does other things at the same time makes absolute figures
// worthless. So every round runs each way once, in turn, and only ratios within
// a round are compared; the median of the rounds is what is told. Processor time
// is that of the process, user and system, by getrusage; memory is its resident
// set at its peak, by VmHWM of /proc. Linux only.
package benchmark

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

// The sources of security states.
const (
	Preview  = "machinesecuritystates"
	Machines = "machines"
)

// A Way reads a whole fleet and counts it. It returns how many machines there
// are, so that a way which leaves some out is found out.
type Way struct {
	Name string
	Read func(ctx context.Context, far Far, source string) (machines int, err error)
}

// Task is what one fresh process does.
type Task struct {
	Way    string
	Source string
	Far    Far
	// Times is how often it does so. Zero means once.
	Times int
	// Profile is a file for a profile of the processor's time. Empty means none.
	Profile string
}

// Cost is what a task cost its process.
type Cost struct {
	Machines  int
	Processor time.Duration
	Wall      time.Duration
	// PeakBytes is the largest resident set after each time.
	PeakBytes []int64
	Error     string
}

// Peak is the largest resident set of all.
func (c Cost) Peak() int64 {
	if len(c.PeakBytes) == 0 {
		return 0
	}
	return c.PeakBytes[len(c.PeakBytes)-1]
}

// do does the task in this process.
func (t Task) do(ctx context.Context, ways []Way) (c Cost, err error) {
	if t.Profile != "" {
		f, err := os.Create(t.Profile)
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return c, err
		}
		defer pprof.StopCPUProfile()
	}
	for _, way := range ways {
		if way.Name != t.Way {
			continue
		}
		processor, wall := processorTime(), time.Now()
		for range max(1, t.Times) {
			if c.Machines, err = way.Read(ctx, t.Far, t.Source); err != nil {
				return c, err
			}
			c.PeakBytes = append(c.PeakBytes, PeakResident("self"))
		}
		c.Processor, c.Wall = processorTime()-processor, time.Since(wall)
		return c, nil
	}
	return c, fmt.Errorf("there is no way %q", t.Way)
}
