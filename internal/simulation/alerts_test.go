package simulation_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// everyRole contains all roles; the default of Options.Roles lacks some.
var everyRole = []string{simulation.RoleMachines, simulation.RoleStatistics, simulation.RoleScores, simulation.RoleAlerts}

const unresolved = "$filter=status+ne+'Resolved'"

func TestAlertsHaveServiceFormat(t *testing.T) {
	f := serve(t, simulation.Options{Machines: 100, Alerts: 900, Roles: everyRole}, simulation.ListenOptions{})
	a := f.api(t, "/api/alerts?$top=1000")
	all := rows(t, a)
	if len(all) != 900 || len(ids(all, "id")) != 900 || linkOf(a) != "" {
		t.Fatalf("%d rows, %d ids, nextLink %q", len(all), len(ids(all, "id")), linkOf(a))
	}
	if size := len(a.body) / len(all); size < 1500 || size > 4000 {
		t.Errorf("%d bytes a row", size)
	}
	machines := ids(rows(t, f.api(t, "/api/machines?$top=1000")), "id")
	kinds := map[string]bool{}
	for _, row := range all {
		for _, key := range []string{"severity", "status", "detectionSource"} {
			kinds[row[key].(string)] = true
		}
		kinds[fmt.Sprintf("owner %T", row["assignedTo"])] = true
		kinds[fmt.Sprintf("group %T", row["rbacGroupName"])] = true
		if row["assignedTo"] == "" {
			kinds["empty owner"] = true
		}
		if created, err := time.Parse(time.RFC3339, row["alertCreationTime"].(string)); err != nil || created.After(time.Now()) {
			t.Errorf("created %v, %v", row["alertCreationTime"], err)
		}
		if machines[row["machineId"].(string)] == 0 || row["evidence"] == nil {
			t.Fatalf("%v", row)
		}
	}
	for _, kind := range []string{
		"UnSpecified", "Informational", "Low", "Medium", "High", "high", "New", "new", "InProgress", "Resolved", "resolved", "Unknown",
		"owner <nil>", "owner string", "empty owner", "group <nil>", "group string", "WindowsDefenderAv", "CustomerTI",
	} {
		if !kinds[kind] {
			t.Errorf("no alert with %s", kind)
		}
	}
	created := map[any]any{}
	for _, row := range all {
		created[row["id"]] = row["alertCreationTime"]
	}
	for _, row := range rows(t, f.api(t, "/api/alerts?$top=1000")) {
		if row["alertCreationTime"] != created[row["id"]] {
			t.Fatalf("created %v, then %v", created[row["id"]], row["alertCreationTime"])
		}
	}
}

func TestAlertsAreFiltered(t *testing.T) {
	f := serve(t, simulation.Options{Alerts: 500, Roles: everyRole}, simulation.ListenOptions{})
	want := 0
	for a := range f.Now().Alerts() {
		if !a.Resolved() {
			want++
		}
	}
	count := func(filter string) int {
		a := f.api(t, "/api/alerts?$top=1000&"+filter)
		for _, row := range rows(t, a) {
			if filter != "" && strings.EqualFold(row["status"].(string), "resolved") {
				t.Errorf("%s: %v", filter, row)
			}
		}
		return len(rows(t, a))
	}
	if n := count(unresolved); n != want || want < 200 || count("") != 500 {
		t.Errorf("%d unresolved alerts, want %d", n, want)
	}
	if n := count("$filter=" + url.QueryEscape("status ne 'Resolved' and severity eq 'High'")); n == 0 || n > want/4 {
		t.Errorf("%d high alerts of %d", n, want)
	}
	for _, filter := range []string{"status neq 'Resolved'", "status ne Resolved", "title eq 'x'", "status eq 'New' or status eq 'InProgress'"} {
		if a := f.api(t, "/api/alerts?$filter="+url.QueryEscape(filter)); a.status != http.StatusBadRequest || errorCode(t, a) != "ODataError" {
			t.Errorf("%s: %d %s", filter, a.status, a.body)
		}
	}
	old := serve(t, simulation.Options{NoAlertFilter: true, Roles: everyRole}, simulation.ListenOptions{})
	if a := old.api(t, "/api/alerts?"+unresolved); a.status != http.StatusBadRequest {
		t.Errorf("%d", a.status)
	}
	rows(t, old.api(t, "/api/alerts"))
	if a := f.api(t, "/api/machines?"+unresolved); a.status != http.StatusBadRequest {
		t.Errorf("$filter on /api/machines: status %d, want 400", a.status)
	}
}

func TestAlertsArePaged(t *testing.T) {
	f := serve(t, simulation.Options{Alerts: 2500, PageSize: 700, NextLinks: true, Roles: everyRole}, simulation.ListenOptions{})
	want := 0
	for a := range f.Now().Alerts() {
		if !a.Resolved() {
			want++
		}
	}
	token := f.token(t, apiScope)
	for _, first := range []string{"$top=1000&" + unresolved, unresolved} {
		var all []map[string]any
		pages := 0
		for link := f.APIURL + "/api/alerts?" + first; link != ""; pages++ {
			a := f.get(t, link, token)
			all = append(all, rows(t, a)...)
			link = linkOf(a)
		}
		if n := len(ids(all, "id")); n != want || len(all) <= want || pages < 2 {
			t.Errorf("%s: %d distinct alerts of %d in %d rows and %d pages", first, n, want, len(all), pages)
		}
	}
	all := f.allPages(t, "/api/alerts", 900)
	if n := len(ids(all, "id")); n != 2500 || len(all) == n {
		t.Errorf("%d distinct alerts of 2500 in %d rows", n, len(all))
	}
}

func TestScoresHaveServiceFormat(t *testing.T) {
	f := serve(t, simulation.Options{Roles: everyRole}, simulation.ListenOptions{})
	want := f.Now().Scores()
	exposure, secure := f.api(t, "/api/exposureScore").object(t), f.api(t, "/api/configurationScore").object(t)
	if exposure["score"] != want.Exposure || want.Exposure < 20 || want.Exposure > 40 || !strings.HasSuffix(exposure["@odata.context"].(string), "#ExposureScore/$entity") {
		t.Errorf("%v, want %v", exposure, want.Exposure)
	}
	if secure["score"] != want.DeviceSecure || want.DeviceSecure < 300 {
		t.Errorf("%v, want %v", secure, want.DeviceSecure)
	}
	all := rows(t, f.api(t, "/api/exposureScore/ByMachineGroups"))
	missing := 0
	for _, row := range all {
		if row["score"] != want.Groups[row["rbacGroupName"].(string)] {
			t.Errorf("%v, want %v", row, want.Groups)
		}
		if row["rbacGroupId"] == nil {
			missing++
		}
	}
	if len(all) != len(want.Groups) || len(all) < 5 || missing != 1 {
		t.Errorf("%d groups, %d without an id", len(all), missing)
	}
	for _, row := range rows(t, f.api(t, "/api/machines?$top=1000")) {
		if name, _ := row["rbacGroupName"].(string); name != "" && want.Groups[name] == 0 {
			t.Errorf("no score of the group %q", name)
		}
	}
}

func TestScoresAndAlertsRequireRoles(t *testing.T) {
	for path, role := range map[string]string{
		"/api/exposureScore": simulation.RoleScores, "/api/exposureScore/ByMachineGroups": simulation.RoleScores,
		"/api/configurationScore": simulation.RoleScores, "/api/alerts": simulation.RoleAlerts,
	} {
		f := serve(t, simulation.Options{Roles: []string{role}}, simulation.ListenOptions{})
		if a := f.api(t, path); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		f.SetRoles(simulation.RoleMachines, simulation.RoleStatistics)
		if a := f.api(t, path); a.status != http.StatusForbidden || errorCode(t, a) != "Forbidden" || !strings.Contains(string(a.body), role) {
			t.Errorf("%s without %s: %d %s", path, role, a.status, a.body)
		}
	}
}

func TestFaultsApplyToScoresAndAlerts(t *testing.T) {
	for path, api := range map[string]simulation.API{
		"/api/exposureScore": simulation.ExposureScore, "/api/exposureScore/ByMachineGroups": simulation.DeviceGroupExposureScore,
		"/api/configurationScore": simulation.DeviceSecureScore, "/api/alerts": simulation.Alerts,
	} {
		f := serve(t, simulation.Options{Roles: everyRole, Limits: map[simulation.API]simulation.Limit{api: {PerMinute: 3}}}, simulation.ListenOptions{})
		f.Fail(api, simulation.Fault{Status: 503, Times: 1}, simulation.Fault{NextLink: "https://elsewhere.example/", Times: 1})
		token := f.token(t, apiScope)
		var statuses []int
		for range 4 {
			statuses = append(statuses, f.get(t, f.APIURL+path, token).status)
		}
		if !equal(statuses, []int{503, 200, 200, 429}) {
			t.Errorf("%s: %v", path, statuses)
		}
		if n := f.Count(api); n != 4 || len(f.Misdirected()) != 0 {
			t.Errorf("%s: %d calls, misdirected %v", path, n, f.Misdirected())
		}
	}
}

func TestFutureAlertIsCreatedNow(t *testing.T) {
	later := &simulation.Story{Alert: func(a *simulation.Alert, since time.Duration) { a.Created = since + time.Hour }}
	f := serve(t, simulation.Options{Alerts: 3, Roles: everyRole, Story: later}, simulation.ListenOptions{})
	for _, row := range rows(t, f.api(t, "/api/alerts")) {
		if created, err := time.Parse(time.RFC3339, row["alertCreationTime"].(string)); err != nil || created.After(time.Now()) {
			t.Errorf("created %v, %v", row["alertCreationTime"], err)
		}
	}
}
