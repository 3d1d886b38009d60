package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/states"
)

// A way is a program to compare. prepare returns a func that reads and counts a whole
// fleet. The count detects a way that omits machines.
type way struct {
	name    string
	prepare func(f *simulatedTenant, source string) (reader, error)
	// program is the executable of another build that runs the exporter's way. Empty
	// means this one.
	program string
}

type reader func(context.Context) (machines int, err error)

var (
	// discard decompresses the responses and discards them, with one connection,
	// decompressor and buffer: the lower bound of the cost.
	discard = way{name: "read and discard", prepare: discardReader}
	// plain is a straightforward program.
	plain = way{name: "encoding/json, GaugeVec", prepare: plainReader}
	// exporter is this exporter's client and collector, including the metric families.
	exporter = way{name: "mde_exporter", prepare: exporterReader}
)

// besideName is the name of the exporter of another build.
const besideName = "mde_exporter beside"

// tags are the tags that the exporter counts.
var tags = []string{"Site-01", "Site-02", "Site-03", "Laptop", "Pilot ring", "VIP", "Kiosk", "Tier 0", "Site-04", "Desktop"}

func discardReader(f *simulatedTenant, source string) (reader, error) {
	transport := f.transport()
	var decompressed gzip.Reader
	compressed, buffer := bufio.NewReaderSize(nil, 32<<10), make([]byte, 32<<10)
	return func(ctx context.Context) (int, error) {
		for _, list := range lists[source] {
			c := f.client(ctx, transport, list)
			for _, address := range f.Pages[list] {
				response, err := get(ctx, c, address, "gzip")
				if err != nil {
					return 0, err
				}
				compressed.Reset(response.Body)
				if err := decompressed.Reset(compressed); err != nil {
					return 0, err
				}
				for err == nil {
					_, err = decompressed.Read(buffer)
				}
				if !errors.Is(err, io.EOF) {
					return 0, err
				}
				_ = response.Body.Close()
			}
		}
		return f.Machines, nil
	}, nil
}

// The rows that the plain program reads.
type (
	plainState struct {
		ID                         string   `json:"id"`
		Build                      int      `json:"build"`
		Revision                   int      `json:"revision"`
		Architecture               string   `json:"architecture"`
		PropertiesRequireAttention []string `json:"propertiesRequireAttention"`
	}
	plainAntivirus struct {
		MachineID         string `json:"machineId"`
		Mode              string `json:"avMode"`
		SignatureUpToDate string `json:"avIsSignatureUpToDate"`
	}
	plainMachine struct {
		ID               string  `json:"id"`
		MergedInto       *string `json:"mergedIntoMachineId"`
		OSBuild          *int    `json:"osBuild"`
		OSProcessor      string  `json:"osProcessor"`
		OSPlatform       string  `json:"osPlatform"`
		HealthStatus     string  `json:"healthStatus"`
		OnboardingStatus string  `json:"onboardingStatus"`
		RiskScore        string  `json:"riskScore"`
	}
	plainPage[Row any] struct {
		Value []Row `json:"value"`
	}
)

// plainReader unmarshals each page into structs, collects the ids in a map and counts
// with a GaugeVec.
func plainReader(f *simulatedTenant, source string) (reader, error) {
	return func(ctx context.Context) (int, error) {
		gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "machines", Help: "Machines."}, []string{"os_build", "architecture"})
		attention := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "machines_attention", Help: "Machines."}, []string{"os_build", "architecture", "property"})
		count := plainMachines
		if source == preview {
			count = plainStates
		}
		machines, err := count(ctx, f, gauges, attention)
		if err != nil {
			return 0, err
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(gauges, attention)
		_, err = registry.Gather()
		return machines, err
	}, nil
}

func plainStates(ctx context.Context, f *simulatedTenant, gauges, attention *prometheus.GaugeVec) (int, error) {
	seen := make(map[string]bool)
	err := plainRows(ctx, f, preview, func(s plainState) {
		if seen[s.ID] {
			return
		}
		seen[s.ID] = true
		build := strconv.Itoa(s.Build)
		gauges.WithLabelValues(build, s.Architecture).Inc()
		for _, property := range s.PropertiesRequireAttention {
			attention.WithLabelValues(build, s.Architecture, property).Inc()
		}
	})
	return len(seen), err
}

func plainMachines(ctx context.Context, f *simulatedTenant, gauges, attention *prometheus.GaugeVec) (int, error) {
	outdated, seen := make(map[string]bool), make(map[string]bool)
	err := plainRows(ctx, f, "deviceavinfo", func(row plainAntivirus) {
		outdated[row.MachineID] = row.SignatureUpToDate == "False" && row.Mode != "1" && row.Mode != "5"
	})
	if err != nil {
		return 0, err
	}
	err = plainRows(ctx, f, machines, func(m plainMachine) {
		if !strings.EqualFold(m.OnboardingStatus, "Onboarded") || m.MergedInto != nil || seen[m.ID] {
			return
		}
		seen[m.ID] = true
		build := "unknown"
		if m.OSBuild != nil {
			build = strconv.Itoa(*m.OSBuild)
		}
		gauges.WithLabelValues(build, m.OSProcessor).Inc()
		if m.HealthStatus != "Active" {
			attention.WithLabelValues(build, m.OSProcessor, m.HealthStatus).Inc()
		}
		if outdated[m.ID] {
			attention.WithLabelValues(build, m.OSProcessor, "AntivirusDefinitionsOutOfDate").Inc()
		}
	})
	return len(seen), err
}

func plainRows[Row any](ctx context.Context, f *simulatedTenant, list string, count func(Row)) error {
	c := f.client(ctx, f.transport(), list)
	for _, address := range f.Pages[list] {
		var page plainPage[Row]
		if err := getJSON(ctx, c, address, &page); err != nil {
			return err
		}
		for _, row := range page.Value {
			count(row)
		}
	}
	return nil
}

// exporterReader creates the client and the collector like the program, but with a
// quota that allows reading a fleet of a million within a minute.
func exporterReader(f *simulatedTenant, source string) (reader, error) {
	address, err := url.Parse(f.URL)
	if err != nil {
		return nil, err
	}
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("benchmark")
	c, err := client.New(client.Options{
		LoginURL: address, GraphURL: address, APIURL: address, GraphScope: graphScope, APIScope: apiScope,
		Credential: client.ClientSecret{TenantID: f.TenantID, ClientID: f.ClientID, Secret: f.ClientSecret},
		Transport:  f.transport(),
		Quota:      client.Limits{CallsPerMinute: 10_000, CallsPerHour: 100_000},
		Observer:   metrics,
	})
	if err != nil {
		return nil, err
	}
	var section states.Config
	section.Defaults()
	section.Source, section.MaxAge, section.Tags = source, model.Duration(24*time.Hour), tags
	states := section.New(collector.Env{
		Tenant: "benchmark", Name: "security_states", Client: c, Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
		Shared: &collector.Shared{},
	})
	exposition := &collector.Exposition{}
	refresher := collector.NewRefresher(collector.RefresherOptions{
		Env:       collector.Env{Tenant: "benchmark", Name: "security_states", Logger: slog.New(slog.DiscardHandler)},
		Schedule:  collector.Schedule{RefreshInterval: model.Duration(15 * time.Minute)},
		Collector: states, Exposition: exposition,
	})
	return func(ctx context.Context) (int, error) {
		if err := refresher.Once(ctx); err != nil {
			return 0, err
		}
		families, err := exposition.Gather()
		if err != nil {
			return 0, err
		}
		machines := 0
		for _, f := range families {
			if f.GetName() == "mde_machines" {
				for _, m := range f.Metric {
					machines += int(m.GetGauge().GetValue())
				}
			}
		}
		if machines == 0 {
			return 0, errors.New("nothing is exposed")
		}
		return machines, nil
	}, nil
}
