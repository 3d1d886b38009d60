package domains

import (
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/alerts"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/scores"
	"github.com/mde-exporter/mde_exporter/collector/states"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// TestDocumentedMetricsAreExposed compares the tables of docs/metrics.md with the
// metrics of a tenant that has all of them.
func TestDocumentedMetricsAreExposed(t *testing.T) {
	documented := documentedMetrics(t)
	for name := range documented {
		if strings.HasPrefix(name, "mde_exporter_") {
			delete(documented, name) // From the process, not from the collectors.
		}
	}
	delete(documented, "mde_watched_domains_list_last_read_successful") // From the files: tested in internal/exporter.
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		fleet := statesOf(w, documentedFleet(), func(o *statesOptions) { o.Source, o.Tags = states.SourceMachines, []string{"VIP"} })
		api := newFakeAPI()
		responses := responses(map[string]string{"evil.example": page(row(2, ""))})
		api.respond = func(domain, what string) (int, string) {
			if domain == "bad.example" {
				return 400, `{"error":{"code":"InvalidDomainName"}}`
			}
			return responses(domain, what)
		}
		d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"bad.example", "evil.example"}, func(o *Options) {
			o.Attention, o.Statistics, o.MachineInfoLimit, o.DeviceGroups = attention.Of(w.Shared), true, 1, true
		})
		w.Tenant.SetClient(fixedState{})
		for _, c := range []collector.Collector{fleet, d} {
			if err := w.Refresher(c, time.Hour).Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Refresher(statesOf(w, &fakeStates{AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](apiError(client.DeviceAVInfo, 500))}, func(o *statesOptions) {
			o.Source = states.SourceMachines
		}), time.Hour).Once(t.Context()); err == nil {
			t.Fatal("no failure")
		}
		for name, section := range map[string]collector.Config{"scores": &scores.Config{}, "alerts": &alerts.Config{}} {
			section.Defaults()
			section.Validate(collector.Validation{})
			env := w.Env(name)
			env.Client = collectortest.Client(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"score":1,"value":[{"score":1,"alertCreationTime":"2026-01-01T00:00:00Z"}]}`))
			})
			outcome, err := section.New(env).Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.Exposition.Publisher("contoso", name).Publish(*outcome.Snapshot)
		}
		exposed := make(map[string]map[string]bool)
		for _, f := range must(collector.Combine(w.Registry, w.Exposition).Gather()) {
			exposed[f.GetName()] = make(map[string]bool)
			for _, m := range f.Metric {
				for _, l := range m.Label {
					exposed[f.GetName()][l.GetName()] = true
				}
			}
			if !exposed[f.GetName()]["tenant"] {
				t.Errorf("%s has no tenant", f.GetName())
			}
			delete(exposed[f.GetName()], "tenant")
		}
		for _, name := range slices.Sorted(maps.Keys(exposed)) {
			if want := slices.Sorted(maps.Keys(exposed[name])); !slices.Equal(documented[name], want) {
				t.Errorf("%s is documented with the labels %v and exposed with %v", name, documented[name], want)
			}
			delete(documented, name)
		}
		for name := range documented {
			t.Errorf("%s is documented and not exposed", name)
		}
	})
}

// documentedFleet returns machines for every gauge of the fleet.
func documentedFleet() *fakeStates {
	return &fakeStates{
		MachineRows: collectortest.RowsOf(nil, client.Machine{
			ID: id(2), OnboardingStatus: []byte("Onboarded"), OSPlatform: []byte("Windows11"), HealthStatus: []byte("Inactive"),
		}),
		AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil),
	}
}

// documentedMetrics returns the sorted labels of each metric in the tables.
func documentedMetrics(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`([a-z_]+)`")
	metrics := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`mde_") {
			continue
		}
		name := code.FindStringSubmatch(cells[1])[1]
		labels := []string{}
		for _, match := range code.FindAllStringSubmatch(cells[2], -1) {
			labels = append(labels, match[1])
		}
		slices.Sort(labels)
		if _, twice := metrics[name]; twice {
			t.Errorf("%s is documented twice", name)
		}
		metrics[name] = labels
	}
	return metrics
}

// fixedState is a constant ClientState.
type fixedState struct{}

func (fixedState) Quota(client.API) client.QuotaUse {
	return client.QuotaUse{MinuteCalls: 2, HourCalls: 30, Limits: client.Limits{CallsPerMinute: 100, CallsPerHour: 1500}, Known: true}
}

func (fixedState) CredentialExpiry() (time.Time, bool) { return time.Unix(1_900_000_000, 0), true }
