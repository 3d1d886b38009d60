package exporter

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// stateGauges are name prefixes of the gauges that only /api/machines and
// /api/deviceavinfo provide.
var stateGauges = []string{
	"mde_machine_records", "mde_machines_onboarding", "mde_machines_seen_within", "mde_active_machines", "mde_machines_antivirus_", "mde_machines_component_version",
	"mde_device_group_machines", "mde_tag_machines",
}

var countedTags = []string{"VIP", "Site-01", "Unused"}

// expectedGauges counts the machines of a simulated tenant. It returns the
// expected value of each series.
func expectedGauges(v simulation.View) map[string]float64 {
	want := map[string]float64{}
	count := func(matches bool, name string, labels ...string) {
		series := name + "{" + strings.Join(labels, ",") + "}"
		if want[series] += 0; matches {
			want[series]++
		}
	}
	label := func(name, value string) string { return fmt.Sprintf("%s=%q", name, value) }
	const tenant = `tenant="contoso"`
	within := func(name string, age time.Duration, hasAge bool, windows []int, labels ...string) {
		for _, days := range windows {
			count(hasAge && age >= 0 && age <= time.Duration(days)*24*time.Hour, name, append(labels, label("window", fmt.Sprintf("%dd", days)))...)
		}
	}
	properties := map[string]bool{}
	for m := range v.Machines() {
		for _, property := range m.Properties() {
			properties[property] = true
		}
	}
	for m := range v.Records() {
		count(m.Merged, "mde_machine_records", label("disposition", "merged"), tenant)
		count(!m.Merged && !m.Onboarded(), "mde_machine_records", label("disposition", "not_onboarded"), tenant)
		count(m.Onboarded(), "mde_machine_records", label("disposition", "counted"), tenant)
		if m.Merged {
			continue
		}
		for _, status := range []string{"Onboarded", "CanBeOnboarded", "Unsupported", "InsufficientInfo"} {
			count(strings.EqualFold(status, m.Onboarding), "mde_machines_onboarding", label("onboarding_status", status), label("os_platform", m.Platform), tenant)
		}
		if !m.Onboarded() {
			continue
		}
		within("mde_machines_seen_within", m.LastSeen, true, []int{1, 7, 14, 30, 90}, tenant)
		build := []string{label("architecture", cmp.Or(m.Architecture, "unknown")), label("os_build", "unknown"), tenant}
		if m.Build != 0 {
			build[1] = label("os_build", fmt.Sprint(m.Build))
		}
		active, requiring := m.Health != "Inactive", len(m.Properties()) > 0
		count(active, "mde_active_machines", build...)
		count(active && requiring, "mde_active_machines_requiring_attention", build...)

		group := m.Group
		if group == "" || group == "UnassignedGroup" {
			group = "none"
		}
		grouped := func(name, group string, member bool) {
			count(member, name, group, tenant)
			count(member && requiring, name+"_requiring_attention", group, tenant)
			for property := range properties {
				labels := []string{group, label("property", property), tenant}
				if strings.HasPrefix(group, "tag") {
					labels = []string{label("property", property), group, tenant}
				}
				count(false, name+"_attention", labels...)
			}
			for _, property := range m.Properties() {
				labels := []string{group, label("property", property), tenant}
				if strings.HasPrefix(group, "tag") {
					labels = []string{label("property", property), group, tenant}
				}
				count(member, name+"_attention", labels...)
			}
		}
		grouped("mde_device_group_machines", label("device_group", group), true)
		for _, tag := range countedTags {
			grouped("mde_tag_machines", label("tag", tag), strings.Contains(strings.ToLower("|"+strings.Join(m.Tags, "|")+"|"), strings.ToLower("|"+tag+"|")))
		}

		row := !m.Antivirus.Absent && m.Health != "Inactive" && !strings.HasPrefix(m.Health, "NoSensorData")
		av := m.Antivirus
		mode := map[string]string{"0": "active", "1": "passive", "2": "disabled", "3": "other", "4": "edr_block", "5": "passive_audit"}[av.Mode]
		for _, name := range []string{"active", "passive", "disabled", "other", "edr_block", "passive_audit", "unknown"} {
			count(row && name == mode || !row && name == "unknown", "mde_machines_antivirus_mode", label("mode", name), tenant)
		}
		within("mde_machines_antivirus_signatures_within", av.SignatureAge, row, []int{1, 3, 7, 14, 30}, tenant)
		for kind, scan := range map[string]simulation.Scan{"quick": av.Quick, "full": av.Full} {
			within("mde_machines_antivirus_scanned_within", scan.Age, row && scan.Result == "Completed", []int{1, 7, 30}, label("scan", kind), tenant)
		}
		agent := cmp.Or(m.Agent, "unknown")
		if m.Agent != "" && m.Build != 0 {
			agent += fmt.Sprintf(".%d.%d", m.Build, m.Revision)
		}
		versions := map[string]string{"sensor": agent, "antivirus_engine": "unknown", "antivirus_platform": "unknown"}
		if row {
			versions["antivirus_engine"], versions["antivirus_platform"] = cmp.Or(av.EngineVersion, "unknown"), cmp.Or(av.PlatformVersion, "unknown")
		}
		for component, version := range versions {
			count(true, "mde_machines_component_version", label("component", component), tenant, label("version", version))
		}
	}
	return want
}

func TestMachineGaugesMatchSimulatedTenant(t *testing.T) {
	for name, o := range map[string]simulation.Options{
		"pages that repeat rows": {Machines: 2500},
		"pages with links":       {Machines: 2500, NextLinks: true, Seed: 7},
		"pages in order":         {Machines: 1200, InOrder: true, OtherRecords: 2000},
	} {
		t.Run(name, func(t *testing.T) {
			o.PreviewStatus = 404
			sim := newSimulatedTenant(t, o)
			sim.Change(func(m *simulation.Machine) { // Keep every age away from the bounds of a window.
				av := &m.Antivirus
				for _, age := range []*time.Duration{&m.LastSeen, &av.SignatureAge, &av.Quick.Age, &av.Full.Age} {
					if *age >= 0 {
						*age = age.Truncate(time.Hour) + 30*time.Minute
					}
				}
			})
			e := newTestExporter(t, nil, sim.section("contoso", "  watched_domains: {enabled: false}\n  security_states: {tags: ["+strings.Join(countedTags, ", ")+"]}\n"))
			e.awaitReady()
			want := expectedGauges(sim.Now())
			for series, value := range want {
				if got, there := e.value(series); !there || got != value {
					t.Errorf("%s is %v, %v, want %v", series, got, there, value)
				}
			}
			for _, series := range e.tenantSeries("contoso") {
				if _, wanted := want[series]; !wanted && isStateGauge(series) {
					t.Errorf("%s is exposed", series)
				}
			}
		})
	}
}

func isStateGauge(series string) bool {
	for _, name := range stateGauges {
		if strings.HasPrefix(series, name) {
			return true
		}
	}
	return false
}

func TestPreviewExposesNoMachineGauges(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 100})
	e := newTestExporter(t, nil, sim.section("contoso", "  watched_domains: {enabled: false}\n  security_states: {tags: [VIP]}\n"))
	e.awaitReady()
	for _, series := range e.tenantSeries("contoso") {
		if isStateGauge(series) {
			t.Errorf("%s is exposed", series)
		}
	}
}

func TestChangedTagsKeepFleetValues(t *testing.T) {
	sim := newSimulatedTenant(t, simulation.Options{Machines: 300, PreviewStatus: 404})
	section := func(settings string) string {
		return sim.section("contoso", "  watched_domains: {enabled: false}\n  security_states: {"+settings+"}\n")
	}
	e := newTestExporter(t, nil, section("tags: [VIP]"))
	e.awaitReady()
	const counted, vip, site = `mde_machine_records{disposition="counted",tenant="contoso"}`, `mde_tag_machines{tag="VIP",tenant="contoso"}`, `mde_tag_machines{tag="Site-01",tenant="contoso"}`
	before, _ := e.value(vip)
	sim.Fail(simulation.DeviceAVInfo, simulation.Fault{Delay: 2 * time.Second})
	e.reload(section("tags: [Site-01, VIP], device_groups: false"))
	if n, _ := e.value(counted); n != 300 {
		t.Errorf("%v machines after the reload", n)
	}
	if n, there := e.value(vip); !there || n != before {
		t.Errorf("%v machines carry the tag after the reload, %v before", n, before)
	}
	for _, series := range e.tenantSeries("contoso") {
		if series == site || strings.HasPrefix(series, "mde_device_group_machines") {
			t.Errorf("%s is exposed", series)
		}
	}
	eventually(t, "the new tag is counted", func() bool { n, _ := e.value(site); return n > 0 })
}
