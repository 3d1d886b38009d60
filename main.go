// Command mde_exporter exports metrics of Microsoft Defender for Endpoint tenants to
// Prometheus.
package main

import (
	"context"
	_ "embed" // VERSION
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/exporter"
	"github.com/mde-exporter/mde_exporter/internal/readfile"
	"github.com/mde-exporter/mde_exporter/internal/storage"
	"github.com/mde-exporter/mde_exporter/internal/web"
)

// released is the version if the linker sets none.
//
//go:embed VERSION
var released string

func main() {
	if version.Version == "" {
		version.Version = strings.TrimSpace(released)
	}
	// Only net/http's transport uses the default logger. It would print up to 4 kB of
	// unsolicited data from a server, which may include a token.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	f, err := parseFlags(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		os.Exit(exitCode(err, os.Stderr))
	}
	run := func(signals <-chan os.Signal, stderr io.Writer) int {
		return supervise(signals, func(stop context.Context) int {
			return exitCode(f.run(stop, os.Stdout, stderr), stderr)
		}, f.cutShort(), stderr)
	}
	if f.service {
		os.Exit(exitCode(runService(run), os.Stderr))
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	os.Exit(run(signals, os.Stderr))
}

// stopTimeout is how long the program may take to stop after a signal.
const stopTimeout = 5 * time.Second

// supervise runs the program until it ends and returns its exit code. The first signal
// asks the program to stop. After stopTimeout or a second signal, supervise returns the
// code cutShort without waiting, so that a hanging file system cannot keep the process
// running.
func supervise(signals <-chan os.Signal, program func(stop context.Context) int, cutShort int, stderr io.Writer) int {
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- program(stop) }()
	select {
	case code := <-ended:
		return code
	case <-signals:
		cancel()
	}
	select {
	case code := <-ended:
		return code
	case <-time.After(stopTimeout):
		fmt.Fprintf(stderr, "mde_exporter: did not stop within %s, exiting anyway\n", stopTimeout)
	case <-signals:
		fmt.Fprintln(stderr, "mde_exporter: received a second signal, exiting immediately")
	}
	return cutShort
}

// cutShort returns the exit code of a program that was stopped before it ended: 0 for a
// server, 1 for a single task.
func (f *flags) cutShort() int {
	if f.configCheck || f.once || f.diagnose {
		return 1
	}
	return 0
}

// exitCode prints the error and returns 1, or returns 0 if the error is nil.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		fmt.Fprintln(stderr, problems) // Each line names its file, flag or variable.
	} else {
		fmt.Fprintln(stderr, "mde_exporter:", err)
	}
	return 1
}

// run runs the program. It returns nil when the task of the flags is done or the
// context ends. Errors are for the operator.
func (f *flags) run(stop context.Context, stdout, stderr io.Writer) error {
	var progress *progressLine
	if f.once {
		if progress = newProgressLine(stderr); progress != nil {
			stderr = progress
		}
	}
	f.log.Writer = stderr
	logger := promslog.New(&f.log)

	if f.configCheck {
		return f.check(stdout)
	}
	sources := &tenantSources{flags: f}
	if f.demo {
		closeDemo, err := sources.startDemo()
		if err != nil {
			return err
		}
		defer closeDemo()
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		versioncollector.NewCollector("mde_exporter"),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/allocs:bytes$`)})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	o := exporter.Options{
		Load:      sources.load,
		Source:    sources.name(),
		Registry:  registry,
		UserAgent: "mde_exporter/" + version.Version,
		Logger:    logger,
	}
	if f.storagePath != "" {
		var err error
		if o.Storage, err = storage.Open(f.storagePath, logger); err != nil {
			logger.Error("Opening --storage.path failed, values are not kept across restarts", "err", err)
		}
		o.StorageSuccess = o.Storage.Success // Also if storage is nil.
	}
	running := exporter.New(o)
	defer running.Close()
	if f.diagnose {
		return f.printDiagnosis(stop, running, stdout)
	}
	if f.once {
		return printOnce(stop, running, stdout, progress)
	}
	switch err := checkWebConfig(stop, *f.web.WebConfigFile); {
	case stop.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("--web.config.file: %w", err)
	}
	logger.Info("Starting mde_exporter", "version", version.Info(), "build_context", version.BuildContext())
	if err := running.Reload(); err != nil {
		return err
	}
	sources.keepDemoLocal()
	return serve(stop, f, running, registry, logger)
}

// checkWebConfig validates the file and the files that it names. It fails after
// readfile.Timeout or when ctx ends.
func checkWebConfig(ctx context.Context, file string) error {
	checked := make(chan error, 1)
	go func() { checked <- toolkit.Validate(file) }()
	select {
	case err := <-checked:
		return err
	case <-time.After(readfile.Timeout):
		return fmt.Errorf("not read within %s: check that it and the files it names are regular files", readfile.Timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// diagnosisLines is the maximum length of a diagnosis. With the error that exitCode
// prints, it fits 60 lines.
const diagnosisLines = 59

// printDiagnosis prints what works and what to fix.
func (f *flags) printDiagnosis(ctx context.Context, running *exporter.Exporter, stdout io.Writer) error {
	diagnoses, err := running.Diagnose(ctx)
	if err != nil {
		return err
	}
	maxLines := diagnosisLines
	if len(f.tenants) > 0 {
		maxLines = 0
	}
	if err := client.WriteDiagnoses(stdout, diagnoses, maxLines); err != nil {
		return fmt.Errorf("print the diagnosis: %w", err)
	}
	if slices.ContainsFunc(diagnoses, func(d client.Diagnosis) bool { return !d.Complete() }) {
		return errors.New("--diagnose found problems")
	}
	return nil
}

// printOnce refreshes everything once and prints the metrics, even if some
// collectors failed.
func printOnce(ctx context.Context, running *exporter.Exporter, stdout io.Writer, progress *progressLine) error {
	refreshing, refreshed := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { progress.follow(refreshing, running) })
	failed := running.Once(ctx)
	refreshed()
	following.Wait()
	families, err := exposed(running).Gather()
	encoder := expfmt.NewEncoder(stdout, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return errors.Join(failed, fmt.Errorf("print the exposition: %w", err))
		}
	}
	return errors.Join(failed, err)
}

// exposed returns a gatherer without the counter go_memstats_alloc_bytes_total.
// OpenMetrics names its family go_memstats_alloc_bytes, which is also a gauge, and
// strict parsers reject duplicate families. The same counter is exposed as
// go_gc_heap_allocs_bytes_total.
func exposed(running *exporter.Exporter) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := running.Gatherer().Gather()
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
			return f.GetName() == "go_memstats_alloc_bytes_total"
		}), err
	})
}

// serve serves HTTP until the context ends, then shuts down gracefully.
func serve(stop context.Context, f *flags, running *exporter.Exporter, registry *prometheus.Registry, logger *slog.Logger) error {
	o := web.Options{
		Gatherer:       exposed(running),
		TenantGatherer: running.TenantGatherer,
		Registry:       registry,
		TelemetryPath:  f.telemetryPath,
		Ready:          running.Ready,
		Status:         running.Status,
		Config:         running.Config,
		Pprof:          f.pprof,
		Dashboards:     dashboards.Files,
		Alerts:         alerts.Files,
		Logger:         logger,
	}
	reloader := exporter.NewReloader(func() error {
		err := running.Reload()
		if err != nil {
			logger.Error("Reloading configuration failed", "err", err)
		}
		return err
	})
	if f.lifecycle {
		o.Reload = reloader.Reload
	}
	server, err := web.NewServer(o)
	if err != nil {
		return err
	}

	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go reloader.Run(stop)
	if interval := time.Duration(f.autoReload); interval > 0 && f.configFile != "" {
		go reloader.Watch(stop, interval, running.Changed)
	}
	served := make(chan error, 1)
	go func() { served <- toolkit.ListenAndServe(server, f.web, logger) }()
	for {
		select {
		case err := <-served:
			if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "listen" {
				return fmt.Errorf("--web.listen-address: %w", err)
			}
			return fmt.Errorf("serve HTTP: %w", err)
		case <-hangup:
			reloader.Request()
		case <-stop.Done():
			logger.Info("Received signal, stopping")
			ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
				logger.Warn("Closing connections with requests in progress", "err", err)
			}
			return nil
		}
	}
}

// check validates the configuration and the files it names, and prints the result.
func (f *flags) check(stdout io.Writer) error {
	if f.configFile == "" {
		return errors.New("--config.check: --config.file is missing")
	}
	warnings, err := config.Check(f.configFile, f.overrides)
	for _, warning := range warnings {
		fmt.Fprintln(stdout, "warning:", warning)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, f.configFile, "is valid")
	return nil
}
