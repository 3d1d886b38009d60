package simulation_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// allStates reads all pages of the preview.
func (f *servedTenant) allStates(t *testing.T) (all []map[string]any, pages int) {
	t.Helper()
	token := f.token(t, graphScope)
	link := f.GraphURL + statesPath
	for link != "" {
		a := f.get(t, link, token)
		all = append(all, rows(t, a)...)
		link = linkOf(a)
		pages++
	}
	return all, pages
}

// allPages reads a Defender API page by page until a page is short.
func (f *servedTenant) allPages(t *testing.T, path string, top int) (all []map[string]any) {
	t.Helper()
	token := f.token(t, apiScope)
	for skip := 0; ; skip += top {
		page := rows(t, f.get(t, fmt.Sprintf("%s%s?$top=%d&$skip=%d", f.APIURL, path, top, skip), token))
		all = append(all, page...)
		if len(page) < top {
			return all
		}
	}
}

func ids(all []map[string]any, key string) map[string]int {
	count := map[string]int{}
	for _, row := range all {
		count[row[key].(string)]++
	}
	return count
}

func textOr(v any, fallback string) string {
	if v == nil {
		return fallback
	}
	return fmt.Sprint(v)
}

// tallyStates counts the machines and properties in rows of the preview.
func tallyStates(all []map[string]any) (machines map[simulation.Group]int, properties map[string]int) {
	machines, properties = map[simulation.Group]int{}, map[string]int{}
	seen := map[string]bool{}
	for _, row := range all {
		if seen[row["id"].(string)] {
			continue
		}
		seen[row["id"].(string)] = true
		machines[simulation.Group{Build: textOr(row["build"], "unknown"), Architecture: textOr(row["architecture"], "unknown")}]++
		for _, p := range row["propertiesRequireAttention"].([]any) {
			properties[p.(string)]++
		}
	}
	return machines, properties
}

// deriveStates counts the machines and properties that follow from rows of
// /api/machines and /api/deviceavinfo. It is a second implementation of the
// mapping.
func deriveStates(t *testing.T, f *servedTenant, all, antivirus []map[string]any) (machines map[simulation.Group]int, properties map[string]int) {
	t.Helper()
	newest := map[string]map[string]any{}
	for _, row := range antivirus {
		id := row["machineId"].(string)
		if old, ok := newest[id]; !ok || row["dataRefreshTimestamp"].(string) > old["dataRefreshTimestamp"].(string) {
			newest[id] = row
		}
	}
	weekAgo := f.Now().At().Add(-7 * 24 * 3600e9).UTC().Format("2006-01-02T15:04:05.0000000Z")
	machines, properties = map[simulation.Group]int{}, map[string]int{}
	seen := map[string]bool{}
	for _, row := range all {
		id := row["id"].(string)
		if seen[id] || row["mergedIntoMachineId"] != nil || !strings.EqualFold(row["onboardingStatus"].(string), "onboarded") {
			continue
		}
		seen[id] = true
		architecture := map[string]string{"x64": "Amd64", "arm64": "Arm64", "x86": "X86"}[textOr(row["osProcessor"], "")]
		if architecture == "" {
			architecture = map[string]string{"64-bit": "Amd64", "32-bit": "X86", "": "unknown"}[textOr(row["osArchitecture"], "")]
		}
		machines[simulation.Group{Build: textOr(row["osBuild"], "unknown"), Architecture: architecture}]++

		health := row["healthStatus"].(string)
		count := func(name string, yes bool) {
			if yes {
				properties[name]++
			}
		}
		count("EdrImpairedCommunications", health == "ImpairedCommunication" || health == "NoSensorDataImpairedCommunication")
		count("EdrNoSensorData", health == "NoSensorData" || health == "NoSensorDataImpairedCommunication")
		count("EdrInactive", health == "Inactive")
		av, ok := newest[id]
		if !ok {
			continue
		}
		signature, engine, platform, mode := av["avIsSignatureUpToDate"], av["avIsEngineUpToDate"], av["avIsPlatformUpToDate"], av["avMode"]
		unknown := signature == "Unknown" && engine == "Unknown" && platform == "Unknown"
		count("AntivirusNotReporting", av["osKind"] == "windows" && (unknown || av["dataRefreshTimestamp"].(string) < weekAgo))
		count("AntivirusOff", mode == "2")
		passive := mode == "1" || mode == "5"
		count("AntivirusDefinitionsOutOfDate", signature == "False" && !passive)
		count("AntivirusEngineOutOfDate", engine == "False" && !passive)
		count("AntivirusPlatformOutOfDate", platform == "False" && !passive)
	}
	return machines, properties
}

func TestBothSourcesShowTheSameFleet(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500, Seed: 7}, simulation.ListenOptions{})
	f.Outage(simulation.AntivirusNotReporting, 19045, 0.3)
	f.Outage(simulation.EdrNoSensorData, 22631, 0.1)

	preview, pages := f.allStates(t)
	if pages != 2 {
		t.Errorf("%d pages of 1,000 rows for 1,500 machines, want 2", pages)
	}
	all := f.allPages(t, "/api/machines", 1000)
	antivirus := f.allPages(t, "/api/deviceavinfo", 1000)
	want := f.Now().Tally()

	machines, properties := tallyStates(preview)
	if diff := cmp.Diff(want.Machines, machines); diff != "" {
		t.Errorf("the preview's machines: %s", diff)
	}
	if diff := cmp.Diff(want.PropertyTotals, properties); diff != "" {
		t.Errorf("the preview's properties: %s", diff)
	}
	machines, properties = deriveStates(t, f, all, antivirus)
	if diff := cmp.Diff(want.Machines, machines); diff != "" {
		t.Errorf("the derived machines: %s", diff)
	}
	if diff := cmp.Diff(want.PropertyTotals, properties); diff != "" {
		t.Errorf("the derived properties: %s", diff)
	}
	if want.Total != 1500 || len(want.Machines) < 15 || len(want.PropertyTotals) != 8 {
		t.Errorf("a fleet without variety: %d machines, %v, %v", want.Total, want.Machines, want.PropertyTotals)
	}
}

func TestRowsRepeatAndNoneIsOmitted(t *testing.T) {
	for _, machines := range []int{1, 999, 1000, 1001, 1995} {
		t.Run(fmt.Sprint(machines), func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: machines, OtherRecords: -1}, simulation.ListenOptions{})
			var all, preview []string
			for skip := 0; skip == len(all); skip += 700 {
				all = append(all, idsOf(t, f.api(t, fmt.Sprintf("/api/machines?$top=700&$skip=%d", skip)))...)
			}
			if n := countDistinct(all); n != machines {
				t.Errorf("%d distinct machines of %d in %d rows", n, machines, len(all))
			}
			if machines > 1000 && len(all) == machines {
				t.Error("no row repeats")
			}
			token := f.token(t, graphScope)
			for link := f.GraphURL + statesPath; link != ""; {
				a := f.get(t, link, token)
				preview = append(preview, idsOf(t, a)...)
				link = linkOf(a)
			}
			if n := countDistinct(preview); n != machines {
				t.Errorf("%d distinct machines of %d in %d rows of the preview", n, machines, len(preview))
			}
		})
	}
}

func TestOrderDiffersFromCallToCall(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 500}, simulation.ListenOptions{})
	first := rows(t, f.api(t, "/api/machines?$top=1000"))
	for range 3 {
		again := rows(t, f.api(t, "/api/machines?$top=1000"))
		if len(again) != len(first) || !maps.Equal(ids(first, "id"), ids(again, "id")) {
			t.Fatal("the rows differ")
		}
		if again[0]["id"] != first[0]["id"] {
			return
		}
	}
	t.Error("the order was the same four times")
}

func TestSteadyOrderSendsEachRowOnce(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500, InOrder: true}, simulation.ListenOptions{})
	preview, pages := f.allStates(t)
	if len(preview) != 1500 || pages != 2 {
		t.Errorf("%d rows in %d pages", len(preview), pages)
	}
}

func TestMachinesHaveServiceFormat(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500}, simulation.ListenOptions{})
	a := f.api(t, "/api/machines?$top=10000")
	all := rows(t, a)
	for _, key := range []string{"@odata.nextLink", "@odata.count"} {
		if strings.Contains(string(a.body), key) {
			t.Errorf("an %s with $top", key)
		}
	}
	if size := len(a.body) / len(all); size < 1400 || size > 1600 {
		t.Errorf("%d bytes a row", size)
	}
	kinds := map[string]bool{}
	for _, row := range all {
		for _, key := range []string{"rbacGroupId", "osVersion", "osBuild", "riskScore", "osProcessor", "mergedIntoMachineId"} {
			kinds[fmt.Sprintf("%s %T", key, row[key])] = true
		}
		kinds["onboardingStatus "+row["onboardingStatus"].(string)] = true
		for _, key := range []string{"firstSeen", "lastSeen"} {
			if strings.HasPrefix(row[key].(string), "0001-") {
				kinds[key+" 0001"] = true
			}
		}
	}
	for _, kind := range []string{
		"rbacGroupId float64", "rbacGroupId string", "osVersion <nil>", "osVersion string", "osVersion float64",
		"osBuild <nil>", "riskScore <nil>", "osProcessor <nil>", "mergedIntoMachineId string",
		"firstSeen 0001", "lastSeen 0001",
		"onboardingStatus Onboarded", "onboardingStatus onboarded", "onboardingStatus CanBeOnboarded",
		"onboardingStatus Unsupported", "onboardingStatus InsufficientInfo",
	} {
		if !kinds[kind] {
			t.Errorf("no row with %s", kind)
		}
	}
}

func TestMachinesWithoutTopNeverEnd(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 10, PageSize: 100}, simulation.ListenOptions{})
	token := f.token(t, apiScope)
	link := f.APIURL + "/api/machines"
	for range 5 {
		a := f.get(t, link, token)
		rows(t, a)
		next, _ := a.object(t)["@odata.nextLink"].(string)
		if next == "" || next == link {
			t.Fatalf("nextLink %q", next)
		}
		link = next
	}
}

func TestNextLinksReachAllRows(t *testing.T) {
	for _, path := range []string{"/api/machines", "/api/deviceavinfo"} {
		t.Run(path, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 1500, NextLinks: true, NextLinkLast: true}, simulation.ListenOptions{})
			want := idsOf(t, f.api(t, path+"?$top=10000"))
			token := f.token(t, apiScope)
			var all []string
			for link := f.APIURL + path + "?$top=1000"; link != ""; {
				a := f.get(t, link, token)
				all = append(all, idsOf(t, a)...)
				link = linkOf(a)
				if link != "" && !strings.HasSuffix(string(a.body), `"}`) {
					t.Error("the link is not after the rows")
				}
			}
			if len(want) < 1400 || len(all) != len(want) {
				t.Errorf("%d rows by links, %d by one page", len(all), len(want))
			}
		})
	}
}

func TestAntivirusHealthHasServiceFormat(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500}, simulation.ListenOptions{})
	if n := len(rows(t, f.api(t, "/api/deviceavinfo"))); n != 20 {
		t.Errorf("%d rows without $top", n)
	}
	all := rows(t, f.api(t, "/api/deviceavinfo?$top=10000"))
	count := ids(all, "machineId")
	twice := 0
	for _, n := range count {
		if n > 1 {
			twice++
		}
	}
	if twice < 15 || len(count) > 1490 {
		t.Errorf("%d machines with rows, %d with several", len(count), twice)
	}
	for _, key := range []string{"avMode", "avIsSignatureUpToDate", "avIsEngineUpToDate", "avIsPlatformUpToDate", "osVersion", "rbacGroupId"} {
		if _, ok := all[0][key].(string); !ok {
			t.Errorf("%s is %T, not a string", key, all[0][key])
		}
	}
	machines := ids(rows(t, f.api(t, "/api/machines?$top=10000")), "id")
	for id := range count {
		if machines[id] == 0 {
			t.Fatalf("antivirus row of the unknown machine %s", id)
		}
	}
}

func TestInvalidPagingIsRejected(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	for _, query := range []string{"$top=10001", "$top=0", "$top=-1", "$top=many", "$skip=-1", "$skip=9223372036854775807", "$select=id"} {
		t.Run(query, func(t *testing.T) {
			a := f.api(t, "/api/machines?"+query)
			if a.status != http.StatusBadRequest || errorCode(t, a) != "ODataError" {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestPreviewPagesHaveDocumentedFormat(t *testing.T) {
	for name, last := range map[string]bool{"link before the rows": false, "link after the rows": true} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, simulation.Options{Machines: 25, PageSize: 10, NextLinkLast: last}, simulation.ListenOptions{})
			a := f.states(t)
			v := a.object(t)
			if v["@odata.count"] != 25.0 || !strings.HasSuffix(v["@odata.context"].(string), "$metadata#MachineSecurityStates") {
				t.Errorf("%v %v", v["@odata.count"], v["@odata.context"])
			}
			link := v["@odata.nextLink"].(string)
			if !strings.HasPrefix(link, f.GraphURL+statesPath+"?$skiptoken=") {
				t.Errorf("nextLink %s", link)
			}
			text := string(a.body)
			if after := strings.Index(text, "nextLink") > strings.Index(text, `"value"`); after != last {
				t.Errorf("link after the rows: %t", after)
			}
			if n := len(rows(t, a)); n != 10 {
				t.Errorf("%d rows", n)
			}
		})
	}
}

func TestPreviewRejectsForeignContinuationTokens(t *testing.T) {
	f := serve(t, simulation.Options{}, simulation.ListenOptions{})
	for _, token := range []string{"x", "zz", "6162", "312d2d35", "39392d30", "312d39323233333732303336383534373735383037"} {
		if a := f.get(t, f.GraphURL+statesPath+"?$skiptoken="+token, f.token(t, graphScope)); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", token, a.status, a.body)
		}
	}
}

func TestPreviewChainShowsOneMoment(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 30, PageSize: 10}, simulation.ListenOptions{})
	token := f.token(t, graphScope)
	a := f.get(t, f.GraphURL+statesPath, token)
	all := rows(t, a)
	f.SetMachines(5)
	f.Change(func(m *simulation.Machine) { m.Build = 1 })
	for link := linkOf(a); link != ""; link = linkOf(a) {
		a = f.get(t, link, token)
		all = append(all, rows(t, a)...)
	}
	if len(all) != 30 {
		t.Errorf("%d rows in the chain from before the change, want 30", len(all))
	}
	for _, row := range all {
		if row["build"] == 1.0 {
			t.Fatal("the chain shows a later change")
		}
	}
	if again, _ := f.allStates(t); len(again) != 5 || again[0]["build"] != 1.0 {
		t.Errorf("the next chain: %v", again)
	}
}

func TestPreviewCanBeUnavailable(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 410} {
		f := serve(t, simulation.Options{PreviewStatus: status}, simulation.ListenOptions{})
		if a := f.states(t); a.status != status {
			t.Errorf("status %d, want %d", a.status, status)
		}
		f.SetPreview(0)
		if a := f.states(t); a.status != http.StatusOK {
			t.Errorf("status %d once it is available again", a.status)
		}
	}
}

func TestEditsShowInBothSources(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 900}, simulation.ListenOptions{})
	f.Patch(19045, 9999, 0.5)
	f.Change(func(m *simulation.Machine) {
		if m.Index == 3 {
			m.Heal()
			m.Name, m.Platform, m.Architecture = "odd\"\x01\xff", "Toaster", "Riscv"
			m.Require("FirewallOff")
		}
	})
	tally := f.Now().Tally()
	if tally.Platform["Toaster"] != 1 || tally.PropertyTotals["FirewallOff"] != 1 {
		t.Errorf("%v %v", tally.Platform, tally.PropertyTotals)
	}
	patched, unpatched := 0, 0
	preview, _ := f.allStates(t)
	for _, row := range preview {
		switch {
		case row["build"] == 19045.0 && row["revision"] == 9999.0:
			patched++
		case row["build"] == 19045.0:
			unpatched++
		}
	}
	if patched < 100 || unpatched < 100 {
		t.Errorf("%d patched, %d not", patched, unpatched)
	}
	if !strings.Contains(string(f.api(t, "/api/machines?$top=10000").body), `"computerDnsName":"odd\"\u0001`+"\xff"+`"`) {
		t.Error("the name was not sent unchanged")
	}
	f.Restore()
	if f.Now().Tally().Platform["Toaster"] != 0 {
		t.Error("Restore did not undo the change")
	}
}

func TestEveryPropertyCanBeRequired(t *testing.T) {
	for _, name := range []string{
		simulation.EdrImpairedCommunications, simulation.EdrNoSensorData, simulation.EdrInactive,
		simulation.AntivirusNotReporting, simulation.AntivirusOff, simulation.AntivirusDefinitionsOutdated,
		simulation.AntivirusEngineOutdated, simulation.AntivirusPlatformOutdated,
	} {
		tenant := simulation.New(simulation.Options{Machines: 400})
		tenant.Outage(name, 19045, 1)
		for m := range tenant.Now().Machines() {
			if m.Build == 19045 && !strings.Contains(fmt.Sprint(m.Properties()), name) {
				t.Errorf("%s does not apply to %+v", name, m)
			}
		}
		tenant.Change((*simulation.Machine).Heal)
		if n := tenant.Now().Tally().TotalNeedsAttention; n != 0 {
			t.Errorf("%d machines require attention after Heal", n)
		}
	}
}

func TestCachedPagesEqualUncachedPages(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 1500, CachePages: true}, simulation.ListenOptions{})
	plain := serve(t, simulation.Options{Machines: 1500}, simulation.ListenOptions{})
	want, _ := plain.allStates(t)
	for range 2 {
		all, _ := f.allStates(t)
		if diff := cmp.Diff(want, all); diff != "" {
			t.Fatal(diff)
		}
	}
	f.SetMachines(7)
	if all, _ := f.allStates(t); len(all) != 7 {
		t.Errorf("%d rows after an edit", len(all))
	}
	if all := f.allPages(t, "/api/machines", 1000); len(ids(all, "id")) != 7+75 {
		t.Errorf("%d records after an edit", len(all))
	}
}
