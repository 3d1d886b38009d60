// Command run measures the exporter. docs/performance.md says what the figures
// mean; from the repository's root:
//
//	go run ./internal/benchmark/run            # everything, some minutes
//	go run ./internal/benchmark/run refresh    # one part
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/benchmark"
)

var ways = []benchmark.Way{benchmark.Nowhere, benchmark.Exporter, benchmark.Plain}

// options are the flags.
type options struct {
	machines, rounds, refreshes int
	sources                     []string
	profile                     string
}

// parts are what can be measured, in this order.
var parts = []struct {
	name, about string
	measure     func(context.Context, options, io.Writer) error
}{
	{"refresh", "processor time and memory of a refresh, beside reading the answers to nowhere and a plain program", refresh},
	{"pace", "wall time of a refresh where the far end needs 200 ms a page", pace},
	{"steady", "memory over many refreshes", steady},
	{"start", "size of the program, its first scrape, and its memory when idle with a small fleet", start},
	{"once", "memory of the whole program over one refresh, with the real quota", once},
}

func main() {
	benchmark.Main(ways)
	o := options{}
	flag.IntVar(&o.machines, "machines", 1_000_000, "machines of the tenant")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of which the median is told")
	flag.IntVar(&o.refreshes, "refreshes", 50, "refreshes of the part steady")
	flag.StringVar(&o.profile, "profile", "", "write profiles of the part refresh to files whose names begin so")
	source := flag.String("source", "", "machinesecuritystates or machines; empty means both")
	flag.Usage = usage
	flag.Parse()
	o.sources = []string{benchmark.Preview, benchmark.Machines}
	if *source != "" {
		o.sources = []string{*source}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, o, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "usage: run [flags] [part ...]")
	for _, p := range parts {
		fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", p.name, p.about)
	}
	flag.PrintDefaults()
}

// measure measures the named parts, or all where none is named.
func measure(ctx context.Context, o options, names []string) error {
	for _, p := range parts {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		fmt.Printf("%s: %s\n", p.name, p.about)
		if err := p.measure(ctx, o, os.Stdout); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Println()
	}
	return nil
}

// withFar serves a tenant and reads it once, so that its pages are made before
// anything is measured.
func withFar(ctx context.Context, o options, delay time.Duration, source string, f func(context.Context, benchmark.Far) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far, err := benchmark.Listen(ctx, benchmark.FarOptions{Machines: o.machines, Delay: delay, InOrder: delay > 0})
	if err != nil {
		return err
	}
	if _, err := benchmark.Run(ctx, benchmark.Task{Way: benchmark.Nowhere.Name, Source: source, Far: far}); err != nil {
		return err
	}
	return f(ctx, far)
}

func refresh(ctx context.Context, o options, out io.Writer) error {
	for _, source := range o.sources {
		err := withFar(ctx, o, 0, source, func(ctx context.Context, far benchmark.Far) error {
			return benchmark.Comparison{Ways: ways, Source: source, Rounds: o.rounds, Base: benchmark.Nowhere.Name, Profile: o.profile}.Run(ctx, far, out)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const serverTime = 200 * time.Millisecond

func pace(ctx context.Context, o options, out io.Writer) error {
	return withFar(ctx, o, serverTime, benchmark.Preview, func(ctx context.Context, far benchmark.Far) error {
		var walls []time.Duration
		for range o.rounds {
			cost, err := benchmark.Run(ctx, benchmark.Task{Way: benchmark.Exporter.Name, Source: benchmark.Preview, Far: far})
			if err != nil {
				return err
			}
			walls = append(walls, cost.Wall)
		}
		slices.Sort(walls)
		wall, server := walls[len(walls)/2], time.Duration(far.Pages)*serverTime
		fmt.Fprintf(out, "%d pages: the server's own time %v, the refresh %v (%.3f of it)\n", far.Pages, server, wall.Round(time.Millisecond), float64(wall)/float64(server))
		return nil
	})
}

func steady(ctx context.Context, o options, out io.Writer) error {
	return withFar(ctx, o, 0, benchmark.Preview, func(ctx context.Context, far benchmark.Far) error {
		cost, err := benchmark.Run(ctx, benchmark.Task{Way: benchmark.Exporter.Name, Source: benchmark.Preview, Far: far, Times: o.refreshes})
		if err != nil {
			return err
		}
		for i, peak := range cost.PeakBytes {
			if n := i + 1; n == 1 || n == o.refreshes || n%10 == 0 {
				fmt.Fprintf(out, "after refresh %d: peak %.0f MiB\n", n, benchmark.MiB(peak))
			}
		}
		return nil
	})
}

// smallFleet is the one of the part start.
const smallFleet = 1000

func start(ctx context.Context, o options, out io.Writer) error {
	o.machines = smallFleet
	return withProgram(ctx, o, benchmark.Machines, func(ctx context.Context, p *benchmark.Program, configuration string) error {
		fmt.Fprintf(out, "the stripped program: %.2f MB, %d modules\n", float64(p.Bytes)/1e6, p.Modules)
		var first []time.Duration
		var idle []int64
		for range o.rounds {
			s, err := p.Serve(ctx, configuration, 2*time.Second)
			if err != nil {
				return err
			}
			first, idle = append(first, s.FirstScrape), append(idle, s.Idle)
		}
		slices.Sort(first)
		slices.Sort(idle)
		fmt.Fprintf(out, "from exec to the first scrape: %v (the slowest %v)\n", first[len(first)/2].Round(time.Millisecond), first[len(first)-1].Round(time.Millisecond))
		fmt.Fprintf(out, "resident with %d machines: %.1f MiB (at most %.1f)\n", o.machines, benchmark.MiB(idle[len(idle)/2]), benchmark.MiB(idle[len(idle)-1]))
		return nil
	})
}

func once(ctx context.Context, o options, out io.Writer) error {
	for _, source := range o.sources {
		err := withProgram(ctx, o, source, func(ctx context.Context, p *benchmark.Program, configuration string) error {
			peak, err := p.Once(ctx, configuration)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s, %d machines: peak %.0f MiB\n", source, o.machines, benchmark.MiB(peak))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withProgram builds the program and configures it for a far end.
func withProgram(ctx context.Context, o options, source string, f func(context.Context, *benchmark.Program, string) error) error {
	directory, err := os.MkdirTemp("", "mde_benchmark")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	program, err := benchmark.Build(ctx, directory)
	if err != nil {
		return err
	}
	return withFar(ctx, o, 0, source, func(ctx context.Context, far benchmark.Far) error {
		configuration, err := far.Configure(directory, source)
		if err != nil {
			return err
		}
		return f(ctx, program, configuration)
	})
}
