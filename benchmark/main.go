// Command benchmark measures the exporter and other programs that do the same work.
// Each runs in a fresh process, against a tenant that this process simulates, over TLS,
// HTTP/2 and gzip. docs/performance.md explains the figures. It is a separate module,
// so that the exporter does not depend on what it is compared with. Linux only. From
// the root of the repository:
//
//	go run -C benchmark .            # everything, some minutes
//	go run -C benchmark . refresh    # one part
//
// Absolute figures depend on the load of the machine. Only compare ratios within a
// round.
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
)

var ways = []way{discard, exporter, plain}

// options are the flags.
type options struct {
	machines, rounds, refreshes int
	sources                     []string
	quick                       bool
	profile                     string
	beside                      string
}

// parts are the measurements, in order.
var parts = []struct {
	name, about string
	measure     func(context.Context, options, io.Writer) error
}{
	{"refresh", "processor time and memory of a refresh, compared with reading and discarding the responses, and with a plain program", refresh},
	{"pace", "wall time of a refresh if the server needs 200 ms per page", pace},
	{"steady", "memory over many refreshes", steady},
	{"start", "size of the program, its first scrape, and its memory when idle with a small fleet", start},
	{"once", "memory of the whole program over one refresh, with the real quota", once},
}

func main() {
	doTask()
	o := options{}
	flag.IntVar(&o.machines, "machines", 1_000_000, "machines of the tenant, except for start")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, of which the median is reported")
	flag.IntVar(&o.refreshes, "refreshes", 50, "refreshes of the part steady")
	flag.BoolVar(&o.quick, "quick", false, "omit the plain program in the part refresh")
	flag.StringVar(&o.profile, "profile", "", "prefix of the files for profiles of the part refresh")
	flag.StringVar(&o.beside, "beside", "", "this program built from another commit, whose mde_exporter is measured too in the part refresh")
	source := flag.String("source", "", "machinesecuritystates or machines; empty means both")
	flag.Usage = usage
	flag.Parse()
	o.sources = []string{preview, machines}
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
	fmt.Fprintln(flag.CommandLine.Output(), "usage: benchmark [flags] [part ...]")
	for _, p := range parts {
		fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", p.name, p.about)
	}
	flag.PrintDefaults()
}

// measure runs the named parts, or all if none is named.
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

func refresh(ctx context.Context, o options, out io.Writer) error {
	compared := slices.Clone(ways)
	if o.quick {
		compared = compared[:2]
	}
	if o.beside != "" {
		compared = append(compared, way{name: besideName, program: o.beside})
	}
	for _, source := range o.sources {
		f, stop, err := serve(ctx, tenantOptions{machines: o.machines, source: source})
		if err != nil {
			return err
		}
		err = compare(ctx, f, source, compared, o, out)
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func pace(ctx context.Context, o options, out io.Writer) error {
	const delay = 200 * time.Millisecond
	f, stop, err := serve(ctx, tenantOptions{machines: o.machines, source: preview, delay: delay})
	if err != nil {
		return err
	}
	defer stop()
	var walls []time.Duration
	for range o.rounds {
		c, err := task{Way: exporter.name, Source: preview, Tenant: f}.run(ctx)
		if err != nil {
			return err
		}
		walls = append(walls, c.Wall)
	}
	wall, server := median(walls), time.Duration(len(f.Pages[preview]))*delay
	fmt.Fprintf(out, "%d pages: server %v, refresh %v (ratio %.3f)\n", len(f.Pages[preview]), server, wall.Round(time.Millisecond), float64(wall)/float64(server))
	return nil
}

func steady(ctx context.Context, o options, out io.Writer) error {
	f, stop, err := serve(ctx, tenantOptions{machines: o.machines, source: preview})
	if err != nil {
		return err
	}
	defer stop()
	c, err := task{Way: exporter.name, Source: preview, Tenant: f, Times: o.refreshes}.run(ctx)
	if err != nil {
		return err
	}
	for i, peak := range c.PeakBytes {
		if n := i + 1; n == 1 || n == o.refreshes || n%10 == 0 {
			fmt.Fprintf(out, "after refresh %d: peak %.0f MiB\n", n, mib(peak))
		}
	}
	return nil
}

func start(ctx context.Context, o options, out io.Writer) error {
	o.machines = 1000
	return withProgram(ctx, o, machines, func(ctx context.Context, p *program, configuration string) error {
		fmt.Fprintf(out, "stripped program: %.2f MB, %d modules\n", float64(p.bytes)/1e6, p.modules)
		var first []time.Duration
		var idle []int64
		for range o.rounds {
			scrape, rest, err := p.serve(ctx, configuration)
			if err != nil {
				return err
			}
			first, idle = append(first, scrape), append(idle, rest)
		}
		fmt.Fprintf(out, "from exec to the first scrape: %v (slowest %v)\n", median(first).Round(time.Millisecond), slices.Max(first).Round(time.Millisecond))
		fmt.Fprintf(out, "resident with %d machines: %.1f MiB (maximum %.1f)\n", o.machines, mib(median(idle)), mib(slices.Max(idle)))
		return nil
	})
}

func once(ctx context.Context, o options, out io.Writer) error {
	for _, source := range o.sources {
		err := withProgram(ctx, o, source, func(ctx context.Context, p *program, configuration string) error {
			most, err := p.once(ctx, configuration)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s, %d machines: peak %.0f MiB\n", source, o.machines, mib(most))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withProgram builds the program and configures it for a simulated tenant.
func withProgram(ctx context.Context, o options, source string, f func(context.Context, *program, string) error) error {
	directory, err := os.MkdirTemp("", "mde_benchmark")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(directory) }()
	p, err := build(ctx, directory)
	if err != nil {
		return err
	}
	tenant, stop, err := serve(ctx, tenantOptions{machines: o.machines, source: source})
	if err != nil {
		return err
	}
	defer stop()
	configuration, err := tenant.configure(directory, source)
	if err != nil {
		return err
	}
	return f(ctx, p, configuration)
}
