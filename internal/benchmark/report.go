package benchmark

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Comparison runs several ways beside each other.
type Comparison struct {
	Ways   []Way
	Source string
	Rounds int
	// Base is the way whose cost is 1.
	Base string
	// Profile is the name of a file, before its ending, for a profile of each
	// way's last round. Empty means none.
	Profile string
}

// Run runs the rounds and writes, for every way, the medians.
func (c Comparison) Run(ctx context.Context, far Far, out io.Writer) error {
	costs := make(map[string][]Cost)
	for round := range c.Rounds {
		for n, way := range c.Ways {
			task := Task{Way: way.Name, Source: c.Source, Far: far}
			if c.Profile != "" && round == c.Rounds-1 {
				task.Profile = fmt.Sprintf("%s-%s-%d.pprof", c.Profile, c.Source, n)
			}
			cost, err := Run(ctx, task)
			if err != nil {
				return err
			}
			if cost.Machines != far.Machines {
				return fmt.Errorf("%s counted %d machines of %d", way.Name, cost.Machines, far.Machines)
			}
			costs[way.Name] = append(costs[way.Name], cost)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %d machines, %d rounds\tprocessor time\tof %s\tpeak MiB\twall\n", c.Source, far.Machines, c.Rounds, c.Base)
	for _, way := range c.Ways {
		var ratios []float64
		for round, cost := range costs[way.Name] {
			ratios = append(ratios, float64(cost.Processor)/float64(costs[c.Base][round].Processor))
		}
		fmt.Fprintf(table, "%s\t%v\t%.2f\t%.0f\t%v\n", way.Name,
			median(each(costs[way.Name], func(c Cost) time.Duration { return c.Processor })).Round(time.Millisecond),
			median(ratios),
			MiB(median(each(costs[way.Name], Cost.Peak))),
			median(each(costs[way.Name], func(c Cost) time.Duration { return c.Wall })).Round(time.Millisecond))
	}
	return table.Flush()
}

// MiB is a number of bytes in mebibytes.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func each[T any](costs []Cost, f func(Cost) T) []T {
	values := make([]T, 0, len(costs))
	for _, c := range costs {
		values = append(values, f(c))
	}
	return values
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
