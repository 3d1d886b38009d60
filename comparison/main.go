// Command comparison measures what people would use instead of this exporter, on
// the same data: prometheus-community/json_exporter as far as it goes, and the
// plain program that one writes first. It is a module of its own, so that the
// exporter does not depend on what it is compared with. From this directory:
//
//	go run .                                # one page of machines, all of them
//	go test -run Schedule -v -long .        # the watch list, by two token buckets
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/mde-exporter/mde_exporter/internal/benchmark"
)

var ways = []benchmark.Way{benchmark.Nowhere, benchmark.Exporter, benchmark.Plain, jsonExporter}

func main() {
	benchmark.Main(ways)
	machines := flag.Int("machines", 9000, "machines of the tenant; json_exporter reads one page, which has at most 10,000")
	rounds := flag.Int("rounds", 5, "rounds of which the median is told")
	flag.Parse()
	if err := compare(context.Background(), os.Stdout, *machines, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// compare lets the far end send each row once: json_exporter cannot leave out a
// row that comes again, and answers a scrape with an error instead.
func compare(ctx context.Context, out io.Writer, machines, rounds int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far, err := benchmark.Listen(ctx, benchmark.FarOptions{Machines: machines, InOrder: true})
	if err != nil {
		return err
	}
	return benchmark.Comparison{Ways: ways, Source: benchmark.Preview, Rounds: rounds, Base: benchmark.Exporter.Name}.Run(ctx, far, out)
}
