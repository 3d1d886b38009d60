package exporter

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

const scoresAndAlerts = `  security_states: {enabled: false}
  watched_domains: {enabled: false}
  scores: {enabled: true}
  alerts: {enabled: true}
`

var scoreAPIs = []simulation.API{
	simulation.ExposureScore, simulation.DeviceGroupExposureScore, simulation.DeviceSecureScore, simulation.Alerts,
}

func TestScoresAndAlertsMatchSimulatedTenant(t *testing.T) {
	for name, o := range map[string]simulation.Options{
		"pages by number":               {},
		"pages with links":              {NextLinks: true},
		"a rejected filter":             {NoAlertFilter: true},
		"no alerts":                     {Alerts: -1},
		"pages without repeated alerts": {InOrder: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Machines, o.Roles = 10, []string{simulation.RoleScores, simulation.RoleAlerts}
			if o.Alerts == 0 {
				o.Alerts = 5000 // Three pages; two with unresolved alerts only.
			}
			sim := newSimulatedTenant(t, o)
			e := newTestExporter(t, nil, sim.section("contoso", scoresAndAlerts))
			e.awaitReady()
			want := map[string]float64{}
			scores := sim.Now().Scores()
			want[`mde_exposure_score{tenant="contoso"}`] = scores.Exposure
			want[`mde_device_secure_score{tenant="contoso"}`] = scores.DeviceSecure
			for group, score := range scores.Groups {
				if group == "" || group == "UnassignedGroup" {
					group = "none"
				}
				series := `mde_device_group_exposure_score{device_group="` + group + `",tenant="contoso"}`
				want[series] = max(want[series], score)
			}
			oldest := map[string]time.Duration{}
			for _, severity := range []string{"UnSpecified", "Informational", "Low", "Medium", "High"} {
				want[`mde_unresolved_alerts_unassigned{severity="`+severity+`",tenant="contoso"}`] = 0
				for _, status := range []string{"New", "InProgress"} {
					want[`mde_unresolved_alerts{severity="`+severity+`",status="`+status+`",tenant="contoso"}`] = 0
				}
			}
			documented := strings.NewReplacer("high", "High", "new", "New", "inProgress", "InProgress")
			for a := range sim.Now().Alerts() {
				if a.Resolved() {
					continue
				}
				severity := documented.Replace(a.Severity)
				want[`mde_unresolved_alerts{severity="`+severity+`",status="`+documented.Replace(a.Status)+`",tenant="contoso"}`]++
				want[`mde_unresolved_alerts_detection_source{detection_source="`+a.Source+`",tenant="contoso"}`]++
				keepOldest := func(metric string) {
					series := metric + `_oldest_timestamp_seconds{severity="` + severity + `",tenant="contoso"}`
					oldest[series] = min(oldest[series], a.Created)
				}
				keepOldest("mde_unresolved_alerts")
				if a.Owner == "" {
					want[`mde_unresolved_alerts_unassigned{severity="`+severity+`",tenant="contoso"}`]++
					keepOldest("mde_unresolved_alerts_unassigned")
				}
			}
			for series, created := range oldest {
				at := time.Now().Add(created)
				if got, _ := e.value(series); math.Abs(got-float64(at.Unix())) > 60 {
					t.Errorf("%s is %v, want %v", series, time.Unix(int64(got), 0), at)
				}
				want[series], _ = e.value(series)
			}
			for series, value := range want {
				if got, there := e.value(series); !there || got != value {
					t.Errorf("%s is %v, %v, want %v", series, got, there, value)
				}
			}
			for _, series := range e.tenantSeries("contoso") {
				if _, wanted := want[series]; !wanted && (strings.Contains(series, "score{") || strings.Contains(series, "unresolved_alerts")) {
					t.Errorf("%s is exposed", series)
				}
			}
		})
	}
}

func TestScoresAndAlertsAreOffByDefault(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	e := newTestExporter(t, nil, sim.section("contoso", quickDomains))
	e.awaitReady()
	for _, api := range scoreAPIs {
		if n := sim.Count(api); n > 0 {
			t.Errorf("%d calls of %s", n, api)
		}
	}
	for _, series := range e.tenantSeries("contoso") {
		for _, word := range []string{`collector="scores"`, `collector="alerts"`, "mde_exposure", "secure_score", "unresolved"} {
			if strings.Contains(series, word) {
				t.Errorf("%s is exposed", series)
			}
		}
	}
}

func TestDiagnoseRequiresRolesOfEnabledCollectors(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	for settings, want := range map[string]client.Result{
		"": client.Optional, "  scores: {enabled: true}\n  alerts: {enabled: true}\n": client.Missing,
	} {
		e := newTestExporter(t, nil, sim.section("contoso", settings))
		diagnoses, err := e.Diagnose(t.Context())
		if err != nil || len(diagnoses) != 1 || diagnoses[0].Complete() != (want == client.Optional) {
			t.Fatalf("with %q: error %v, diagnoses %+v", settings, err, diagnoses)
		}
		for _, api := range scoreAPIs {
			i := slices.IndexFunc(diagnoses[0].Checks, func(c client.Check) bool { return c.Name == string(api) })
			if check := diagnoses[0].Checks[i]; check.Result != want || !strings.Contains(check.Remedy, client.API(api).Role()) {
				t.Errorf("with %q: %+v, want %s", settings, check, want)
			}
		}
	}
}
