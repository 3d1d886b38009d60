package benchmark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// The ways.
var (
	// Nowhere reads the answers and throws them away: what TLS, HTTP/2 and gzip
	// cost anyone.
	Nowhere = Way{"to nowhere", readToNowhere}
	// Plain is the program that one writes first.
	Plain = Way{"encoding/json, GaugeVec", readPlain}
	// Exporter is this exporter's own client and collector, up to the families
	// that a scrape gets.
	Exporter = Way{"mde_exporter", readExporter}
)

// readToNowhere takes the number of machines from the number of rows, which is
// larger: rows repeat.
func readToNowhere(ctx context.Context, far Far, source string) (int, error) {
	if source == Preview {
		return far.Machines, discardLinked(ctx, far.Client(ctx, GraphScope), far.StatesURL())
	}
	c := far.Client(ctx, APIScope)
	if err := discardNumbered(ctx, c, far, "deviceavinfo"); err != nil {
		return 0, err
	}
	return far.Machines, discardNumbered(ctx, c, far, "machines")
}

func discardLinked(ctx context.Context, c *http.Client, address string) error {
	for address != "" {
		response, err := get(ctx, c, address)
		if err != nil {
			return err
		}
		body := bufio.NewReader(response.Body)
		head, err := body.Peek(1 << 10)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if address, err = linkIn(head); err != nil {
			return err
		}
		if _, err := body.WriteTo(io.Discard); err != nil {
			return err
		}
		_ = response.Body.Close()
	}
	return nil
}

// discardNumbered knows a last page by its size: a full one has more bytes than
// it has rows times a hundred.
func discardNumbered(ctx context.Context, c *http.Client, far Far, name string) error {
	first := int64(0)
	for skip := 0; ; skip += fullPage {
		response, err := get(ctx, c, far.listURL(name, skip))
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, response.Body)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if skip == 0 {
			first = n
		}
		if n < first*9/10 {
			return nil
		}
	}
}

// readPlain unmarshals each page into structs, remembers the ids in a map and
// counts into a GaugeVec.
func readPlain(ctx context.Context, far Far, source string) (int, error) {
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "machines", Help: "Machines."}, []string{"os_build", "architecture"})
	attention := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "machines_attention", Help: "Machines."}, []string{"os_build", "architecture", "property"})
	var machines int
	var err error
	if source == Preview {
		machines, err = plainStates(ctx, far, gauges, attention)
	} else {
		machines, err = plainMachines(ctx, far, gauges, attention)
	}
	if err != nil {
		return machines, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(gauges, attention)
	_, err = registry.Gather()
	return machines, err
}

func plainStates(ctx context.Context, far Far, gauges, attention *prometheus.GaugeVec) (int, error) {
	c := far.Client(ctx, GraphScope)
	seen := make(map[string]bool)
	for address := far.StatesURL(); address != ""; {
		var page struct {
			NextLink string `json:"@odata.nextLink"`
			Value    []struct {
				ID                         string   `json:"id"`
				Build                      int      `json:"build"`
				Revision                   int      `json:"revision"`
				Architecture               string   `json:"architecture"`
				PropertiesRequireAttention []string `json:"propertiesRequireAttention"`
			} `json:"value"`
		}
		if err := getJSON(ctx, c, address, &page); err != nil {
			return 0, err
		}
		for _, s := range page.Value {
			if seen[s.ID] {
				continue
			}
			seen[s.ID] = true
			build := strconv.Itoa(s.Build)
			gauges.WithLabelValues(build, s.Architecture).Inc()
			for _, property := range s.PropertiesRequireAttention {
				attention.WithLabelValues(build, s.Architecture, property).Inc()
			}
		}
		address = page.NextLink
	}
	return len(seen), nil
}

func plainMachines(ctx context.Context, far Far, gauges, attention *prometheus.GaugeVec) (int, error) {
	c := far.Client(ctx, APIScope)
	outdated := make(map[string]bool)
	for skip, rows := 0, fullPage; rows == fullPage; skip += rows {
		var page struct {
			Value []struct {
				MachineID         string `json:"machineId"`
				Mode              string `json:"avMode"`
				SignatureUpToDate string `json:"avIsSignatureUpToDate"`
			} `json:"value"`
		}
		if err := getJSON(ctx, c, far.listURL("deviceavinfo", skip), &page); err != nil {
			return 0, err
		}
		for _, row := range page.Value {
			outdated[row.MachineID] = row.SignatureUpToDate == "False" && row.Mode != "1" && row.Mode != "5"
		}
		rows = len(page.Value)
	}
	seen := make(map[string]bool)
	for skip, rows := 0, fullPage; rows == fullPage; skip += rows {
		var page struct {
			Value []struct {
				ID               string  `json:"id"`
				MergedInto       *string `json:"mergedIntoMachineId"`
				OSBuild          *int    `json:"osBuild"`
				OSProcessor      string  `json:"osProcessor"`
				OSPlatform       string  `json:"osPlatform"`
				HealthStatus     string  `json:"healthStatus"`
				OnboardingStatus string  `json:"onboardingStatus"`
				RiskScore        string  `json:"riskScore"`
			} `json:"value"`
		}
		if err := getJSON(ctx, c, far.listURL("machines", skip), &page); err != nil {
			return 0, err
		}
		for _, m := range page.Value {
			if !strings.EqualFold(m.OnboardingStatus, "Onboarded") || m.MergedInto != nil || seen[m.ID] {
				continue
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
		}
		rows = len(page.Value)
	}
	return len(seen), nil
}

func getJSON(ctx context.Context, c *http.Client, address string, v any) error {
	response, err := get(ctx, c, address)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return json.NewDecoder(response.Body).Decode(v)
}

// exporters are kept between two readings of one process, as the program's are.
var exporters = make(map[string]*exporterUnderTest)

type exporterUnderTest struct {
	states     *collector.SecurityStates
	refresher  *collector.Refresher
	exposition *collector.Exposition
}

// newExporter makes the client and the collector as the program does, but for
// the quota, which is above what a fleet of a million needs in a minute.
func newExporter(far Far, source string) (*exporterUnderTest, error) {
	address, err := url.Parse(far.URL)
	if err != nil {
		return nil, err
	}
	metrics := collector.NewMetrics(prometheus.NewRegistry()).Tenant("benchmark")
	c, err := client.New(client.Options{
		LoginURL: address, GraphURL: address, APIURL: address, GraphScope: GraphScope, APIScope: APIScope,
		Credential: client.ClientSecret{TenantID: far.TenantID, ClientID: far.ClientID, Secret: far.ClientSecret},
		Transport:  far.Transport(),
		Quota:      client.Limits{CallsPerMinute: 10_000, CallsPerHour: 100_000},
		Observer:   metrics,
	})
	if err != nil {
		return nil, err
	}
	x := &exporterUnderTest{exposition: &collector.Exposition{}}
	x.states = collector.NewSecurityStates(collector.SecurityStatesOptions{
		Tenant: "benchmark", Client: c, Source: source, MaxAge: 24 * time.Hour,
		Logger: slog.New(slog.DiscardHandler), Metrics: metrics,
	})
	x.refresher = collector.NewRefresher(collector.RefresherOptions{
		Tenant: "benchmark", Collector: x.states, Interval: 15 * time.Minute,
		Exposition: x.exposition, Logger: slog.New(slog.DiscardHandler),
	})
	return x, nil
}

func readExporter(ctx context.Context, far Far, source string) (int, error) {
	x := exporters[source]
	if x == nil {
		var err error
		if x, err = newExporter(far, source); err != nil {
			return 0, err
		}
		exporters[source] = x
	}
	if err := x.refresher.Once(ctx); err != nil {
		return 0, err
	}
	families, err := x.exposition.Gather()
	if err != nil {
		return 0, err
	}
	if len(families) == 0 {
		return 0, errors.New("nothing is exposed")
	}
	return x.states.Summary().Machines, nil
}
