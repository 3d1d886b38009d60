package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// task is the work of one measured process.
type task struct {
	Way, Source string
	// Tenant has the key of earlier builds, which -beside runs.
	Tenant *simulatedTenant `json:"Far"`
	// Times is the number of reads. Zero means once.
	Times int
	// Profile is the file for a CPU profile. Empty means none.
	Profile string

	program string // The executable; empty means this one.
}

// cost is the cost of a task.
type cost struct {
	Machines        int
	Processor, Wall time.Duration
	// PeakBytes is the peak resident set after each read.
	PeakBytes []int64
}

// taskVariable is set in processes that run a task.
const taskVariable = "MDE_BENCHMARK_TASK"

// doTask runs the task and exits if this process was started by task.run.
func doTask() {
	if os.Getenv(taskVariable) == "" {
		return
	}
	var t task
	err := json.NewDecoder(os.Stdin).Decode(&t)
	if err == nil {
		var c cost
		if c, err = t.do(context.Background()); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(c)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (t task) do(ctx context.Context) (c cost, err error) {
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
	i := slices.IndexFunc(ways, func(w way) bool { return w.name == t.Way })
	processor, wall := processorTime(), time.Now()
	read, err := ways[i].prepare(t.Tenant, t.Source)
	if err != nil {
		return c, err
	}
	for range max(1, t.Times) {
		if c.Machines, err = read(ctx); err != nil {
			return c, err
		}
		c.PeakBytes = append(c.PeakBytes, resident("self", peak))
	}
	c.Processor, c.Wall = processorTime()-processor, time.Since(wall)
	return c, nil
}

// run runs the task in a fresh process.
func (t task) run(ctx context.Context) (c cost, err error) {
	text, err := json.Marshal(t)
	if err != nil {
		return c, err
	}
	program, err := os.Executable()
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, cmp.Or(t.program, program)) //nolint:gosec // This program.
	cmd.Env = append(os.Environ(), taskVariable+"=1")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return c, fmt.Errorf("%s: %w: %s", t.Way, err, exit.Stderr)
	}
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(out, &c)
}

// compare runs each reader once per round, alternately, and writes the lowest costs,
// relative to that of discard. If o.profile is not empty, it writes a profile of each
// reader's last round.
func compare(ctx context.Context, f *simulatedTenant, source string, compared []way, o options, out io.Writer) error {
	costs := make(map[string][]cost)
	for round := range o.rounds {
		for n, way := range compared {
			t := task{Way: way.name, Source: source, Tenant: f, program: way.program}
			if way.program != "" {
				t.Way = exporter.name
			}
			if o.profile != "" && round == o.rounds-1 {
				t.Profile = fmt.Sprintf("%s-%s-%d.pprof", o.profile, source, n)
			}
			c, err := t.run(ctx)
			if err != nil {
				return err
			}
			if c.Machines != f.Machines {
				return fmt.Errorf("%s counted %d machines of %d", way.name, c.Machines, f.Machines)
			}
			costs[way.name] = append(costs[way.name], c)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %d machines, %d rounds\tprocessor time\tof %s\tpeak MiB\twall\n", source, f.Machines, o.rounds, discard.name)
	unit := least(costs[discard.name]).Processor
	for _, way := range compared {
		c := least(costs[way.name])
		fmt.Fprintf(table, "%s\t%v\t%.2f\t%.0f\t%v\n", way.name, c.Processor.Round(time.Millisecond), float64(c.Processor)/float64(unit), mib(c.PeakBytes[0]), c.Wall.Round(time.Millisecond))
	}
	return table.Flush()
}

// least returns the minimum of each cost: that of the round with the least load on the
// machine.
func least(costs []cost) cost {
	c := costs[0]
	for _, other := range costs[1:] {
		c.Processor, c.Wall = min(c.Processor, other.Processor), min(c.Wall, other.Wall)
		c.PeakBytes[0] = min(c.PeakBytes[0], other.PeakBytes[0])
	}
	return c
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime returns the CPU time of this process, user and system.
func processorTime() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// Fields of /proc/*/status: the peak and the current resident set.
const (
	peak = "VmHWM:"
	now  = "VmRSS:"
)

// resident returns a resident set of a process in bytes, 0 if the process has ended.
// The process is a PID or "self".
func resident(process, field string) int64 {
	status, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field)
	text, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kilobytes, _ := strconv.ParseInt(text, 10, 64)
	return kilobytes << 10
}
