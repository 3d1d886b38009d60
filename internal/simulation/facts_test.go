package simulation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// kindsOf returns the types of all members of the rows, and the values of the
// named ones.
func kindsOf(all []map[string]any, values ...string) map[string]bool {
	kinds := map[string]bool{}
	for _, row := range all {
		for key, v := range row {
			kinds[fmt.Sprintf("%s %T", key, v)] = true
		}
		for _, key := range values {
			kinds[fmt.Sprintf("%s=%v", key, row[key])] = true
		}
	}
	return kinds
}

func TestRowsMatchMachines(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500, InOrder: true}, simulation.ListenOptions{})
	f.Contact("evil.example", 400)
	machines := rows(t, f.api(t, "/api/machines?$top=10000"))
	antivirus := rows(t, f.api(t, "/api/deviceavinfo?$top=10000"))
	contacted := rows(t, f.api(t, "/api/domains/evil.example/machines"))
	kinds := kindsOf(append(machines, antivirus...), "rbacGroupName", "isExcluded", "isPotentialDuplication", "onboardingStatus", "quickScanResult", "avMode")
	for _, kind := range []string{
		"rbacGroupName <nil>", "rbacGroupName=UnassignedGroup", "rbacGroupName=Servers", "rbacGroupName=" + simulation.DemoGroup,
		"rbacGroupId string", "rbacGroupId float64", "machineTags <nil>", "machineTags []interface {}", "agentVersion <nil>", "agentVersion string",
		"isExcluded string", "isExcluded=true", "isExcluded=false", "isPotentialDuplication=true", "onboardingStatus=canBeOnboarded",
		"quickScanResult=Completed", "quickScanResult=Canceled", "quickScanResult=Failed", "quickScanResult=", "quickScanResult=-",
		"quickScanTime <nil>", "quickScanTime string", "fullScanTime <nil>", "fullScanTime string",
		"avSignaturePublishTime <nil>", "avSignaturePublishTime string", "avSignatureUpdateTime <nil>", "avSignatureUpdateTime string",
		"avEngineVersion <nil>", "avEngineVersion string", "avPlatformVersion <nil>", "avPlatformVersion string", "avSignatureVersion string",
		"avMode=0", "avMode=1", "avMode=2", "avMode=3", "avMode=4", "avMode=5",
	} {
		if !kinds[kind] {
			t.Errorf("no row with %s", kind)
		}
	}
	byID := map[any]map[string]any{}
	tags := map[any]int{}
	for _, row := range machines {
		byID[row["id"]] = row
		list, _ := row["machineTags"].([]any)
		for _, tag := range list {
			tags[tag]++
		}
	}
	if tags["Site-01"] < 500 || tags["VIP"] == 0 || tags["vip"] == 0 {
		t.Errorf("%v", tags)
	}
	seen := map[string]int{}
	for _, row := range machines {
		if into := row["mergedIntoMachineId"]; into != nil && (byID[into] == nil || byID[into]["mergedIntoMachineId"] != nil) {
			t.Errorf("merged into %v, which is missing or merged, too", into)
		}
		at, _ := time.Parse(time.RFC3339, row["lastSeen"].(string))
		age := f.Now().At().Sub(at)
		if active := row["healthStatus"] == "Active"; active && age > 7*24*time.Hour && at.Year() > 1 || row["healthStatus"] == "Inactive" && age < 7*24*time.Hour {
			t.Errorf("%v seen %s ago", row["healthStatus"], age)
		}
		for _, days := range []int{1, 7, 14, 30, 90} {
			if age < time.Duration(days)*24*time.Hour {
				seen[fmt.Sprint(days)]++
			}
		}
		first, _ := time.Parse(time.RFC3339, row["firstSeen"].(string))
		if first.After(at) && at.Year() > 1 {
			t.Errorf("first seen %s, last %s", first, at)
		}
	}
	if len(seen) != 5 || seen["1"] >= seen["7"] || seen["7"] >= seen["14"] || seen["14"] >= seen["30"] || seen["30"] >= seen["90"] || seen["90"] >= len(machines) {
		t.Errorf("the windows contain %v of %d", seen, len(machines))
	}
	for _, row := range append(antivirus, contacted...) {
		id := row["machineId"]
		if id == nil {
			id = row["id"]
		}
		if row["rbacGroupName"] != byID[id]["rbacGroupName"] {
			t.Errorf("group %v, of the machine %v", row["rbacGroupName"], byID[id]["rbacGroupName"])
		}
		published, _ := row["avSignaturePublishTime"].(string)
		if at, err := time.Parse(time.RFC3339, published); err == nil && row["avIsSignatureUpToDate"] == "True" && time.Since(at) > 7*24*time.Hour {
			t.Errorf("signatures of %s are up to date", published)
		}
	}
}

func TestChangesShowInRows(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 3, OtherRecords: -1, InOrder: true}, simulation.ListenOptions{})
	f.Change(func(m *simulation.Machine) {
		m.Heal()
		m.Build, m.Revision, m.Platform, m.Onboarding = 1, 2, "Windows11", "Onboarded"
		m.Group, m.Tags, m.Agent = "G\"1", []string{"a", "b\\"}, "10.1"
		m.Antivirus = simulation.Antivirus{
			Mode: "0", EngineVersion: "1.2", PlatformVersion: "3.4", SignatureAge: 48 * time.Hour, Unpublished: true,
			Quick: simulation.Scan{Result: "-", Age: -1}, Full: simulation.Scan{Result: "Completed", Age: time.Hour},
		}
	})
	if f.Now().Tally().Total != 3 {
		t.Fatal("no machines")
	}
	machine := rows(t, f.api(t, "/api/machines?$top=1"))[0]
	if machine["rbacGroupName"] != "G\"1" || fmt.Sprint(machine["machineTags"]) != `[a b\]` || machine["agentVersion"] != "10.1.1.2" {
		t.Errorf("%v", machine)
	}
	av := rows(t, f.api(t, "/api/deviceavinfo?$top=1"))[0]
	ago := f.Now().At().Add(-48 * time.Hour).UTC().Format("2006-01-02T15")
	if av["avEngineVersion"] != "1.2" || av["avPlatformVersion"] != "3.4" || av["avSignaturePublishTime"] != nil || !strings.HasPrefix(av["avSignatureUpdateTime"].(string), ago[:10]) ||
		av["quickScanResult"] != "-" || av["quickScanTime"] != nil || av["fullScanResult"] != "Completed" || av["fullScanTime"] == nil {
		t.Errorf("%v, %s", av, ago)
	}
}

func TestRecordsMatchAPI(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 100, OtherRecords: 40, InOrder: true}, simulation.ListenOptions{})
	all := rows(t, f.api(t, "/api/machines?$top=1000"))
	i := 0
	for m := range f.Now().Records() {
		if all[i]["id"] != m.ID() || all[i]["onboardingStatus"] != m.Onboarding || (all[i]["mergedIntoMachineId"] != nil) != m.Merged {
			t.Fatalf("record %d is %v, want %+v", i, all[i], m)
		}
		i++
	}
	if i != 140 || len(all) != i {
		t.Errorf("%d records, %d rows", i, len(all))
	}
}

// within returns the number of machines whose age is below a number of days.
func within(v simulation.View, days int, age func(*simulation.Machine) time.Duration) (n int) {
	for m := range v.Machines() {
		if a := age(m); a >= 0 && a < time.Duration(days)*24*time.Hour {
			n++
		}
	}
	return n
}

func TestDemoCountsChangeWithinAMinute(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		counts := func(v simulation.View) map[string]int {
			n := map[string]int{
				"seen within 1d":       within(v, 1, func(m *simulation.Machine) time.Duration { return m.LastSeen }),
				"signatures within 1d": within(v, 1, func(m *simulation.Machine) time.Duration { return m.Antivirus.SignatureAge }),
				"signatures within 7d": within(v, 7, func(m *simulation.Machine) time.Duration { return m.Antivirus.SignatureAge }),
				"scanned within 1d":    within(v, 1, func(m *simulation.Machine) time.Duration { return m.Antivirus.Quick.Age }),
				"exposure":             int(100 * v.Scores().Exposure), "exposure of the group": int(100 * v.Scores().Groups[simulation.DemoGroup]),
				"secure score": int(100 * v.Scores().DeviceSecure),
			}
			for m := range v.Records() {
				n["onboarding "+m.Onboarding]++
				if m.Onboarded() {
					n["engine "+m.Antivirus.EngineVersion]++
				}
			}
			for a := range v.Alerts() {
				if !a.Resolved() {
					n["unresolved"]++
				}
				if a.Severity == "High" && a.Owner == "" && !a.Resolved() {
					n["unassigned high"]++
				}
			}
			return n
		}
		begin, minute := counts(at(0)), counts(at(time.Minute))
		for name, n := range begin {
			constant := strings.HasPrefix(name, "onboarding") && name != "onboarding CanBeOnboarded" || strings.HasPrefix(name, "engine ") || name == "signatures within 7d"
			if n == minute[name] && !constant {
				t.Errorf("%s stays at %d", name, n)
			}
		}
		outage, later := counts(at(6*time.Minute)), counts(at(10*time.Minute))
		if begin["signatures within 7d"]-outage["signatures within 7d"] < 100 || later["signatures within 7d"] <= outage["signatures within 7d"] {
			t.Errorf("signatures within 7 days: %d, in the outage %d, later %d", begin["signatures within 7d"], outage["signatures within 7d"], later["signatures within 7d"])
		}
		if later["engine 1.1.25030.1"] < 2000 || later["unresolved"] < begin["unresolved"]+25 || later["unassigned high"] <= begin["unassigned high"] {
			t.Errorf("%v", later)
		}
		worst := at(20 * time.Minute)
		if n := counts(worst); n["onboarding CanBeOnboarded"] < begin["onboarding CanBeOnboarded"]+40 || n["exposure"] < begin["exposure"]+1000 {
			t.Errorf("%v", n)
		}
		if end := counts(at(29*time.Minute + 50*time.Second)); end["unresolved"] > begin["unresolved"]+1 || end["exposure"] != begin["exposure"] {
			t.Errorf("%v, want as at the start: %v", end, begin)
		}
	})
}

func TestDemoGroupGetsWorse(t *testing.T) {
	runDemo(t, func(_ *simulation.Tenant, at func(time.Duration) simulation.View) {
		type group struct{ machines, attention, recent int }
		groupsOf := func(v simulation.View) (behind, others group) {
			for m := range v.Machines() {
				g := &others
				if m.Group == simulation.DemoGroup {
					g = &behind
				}
				g.machines++
				if len(m.Properties()) > 0 {
					g.attention++
				}
				if m.LastSeen >= 0 && m.LastSeen < 24*time.Hour {
					g.recent++
				}
			}
			return behind, others
		}
		begin, _ := groupsOf(at(0))
		outage, others := groupsOf(at(5 * time.Minute))
		if begin.machines < 500 || outage.attention*100/outage.machines < 2*others.attention*100/others.machines {
			t.Errorf("%+v and %+v require attention during the outage", outage, others)
		}
		if late, _ := groupsOf(at(20 * time.Minute)); late.recent*2 > begin.recent {
			t.Errorf("%+v were seen within a day, %+v before", late, begin)
		}
	})
}
