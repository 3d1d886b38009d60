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

// compare runs each reader once per round, every second round in reverse order, and writes
// the median costs. If o.profile is not empty, it writes a profile of each reader's last
// round.
//
// The ratio to discard is the median of the rounds' ratios, with the middle half of them,
// because the speed of the machine may change between rounds. The order alternates because
// a reader costs less after one that needed more memory: its pages are still mapped by the
// hypervisor.
func compare(ctx context.Context, f *simulatedTenant, source string, compared []way, o options, out io.Writer) error {
	costs := make([][]cost, len(compared))
	turns := make([]int, len(compared))
	for n := range turns {
		turns[n] = n
	}
	for round := range o.rounds {
		for _, n := range turns {
			way := compared[n]
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
			costs[n] = append(costs[n], c)
		}
		slices.Reverse(turns)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %d machines, %d rounds\tprocessor time\tof %s\tmiddle half\tpeak MiB\twall\n", source, f.Machines, o.rounds, discard.name)
	for n, way := range compared {
		var processor, wall []time.Duration
		var ratios, peaks []float64
		for round, c := range costs[n] {
			processor, wall = append(processor, c.Processor), append(wall, c.Wall)
			ratios = append(ratios, float64(c.Processor)/float64(costs[0][round].Processor))
			peaks = append(peaks, mib(c.PeakBytes[0]))
		}
		fmt.Fprintf(table, "%s\t%v\t%.2f\t%.2f to %.2f\t%.0f\t%v\n", way.name, median(processor).Round(time.Millisecond),
			median(ratios), quantile(ratios, 1, 4), quantile(ratios, 3, 4), median(peaks), median(wall).Round(time.Millisecond))
	}
	return table.Flush()
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func median[T cmp.Ordered](values []T) T { return quantile(values, 1, 2) }

// quantile sorts the values and returns the one after the given part of them.
func quantile[T cmp.Ordered](values []T, numerator, denominator int) T {
	slices.Sort(values)
	return values[len(values)*numerator/denominator]
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
