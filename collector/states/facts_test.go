package states

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

const day = 24 * time.Hour

// readMachines sets the source to /api/machines.
func readMachines(o *Options) { o.Source = SourceMachines }

// refreshed returns the exposition after one refresh from the machines.
func refreshed(t *testing.T, c Client, change ...func(*Options)) string {
	t.Helper()
	w := collectortest.NewWorld()
	s := newStates(w, c, append([]func(*Options){readMachines}, change...)...)
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.Lint(t)
	return w.Exposed(t)
}

// values compares series, which are named without the tenant label. An empty value
// means that the series is absent.
func values(t *testing.T, exposed string, want map[string]string) {
	t.Helper()
	exposed = strings.NewReplacer(`,tenant="contoso"`, "", `tenant="contoso",`, "", `{tenant="contoso"}`, "").Replace(exposed)
	for series, value := range want {
		if got := collectortest.Value(exposed, series); got != value {
			t.Errorf("%s is %q, want %q", series, got, value)
		}
	}
}

// fleetOfFacts returns a fleet with every kind of device group, tag, version and time.
func fleetOfFacts(now time.Time) *fakeStates {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	row := func(n int, group, agent string, seen time.Duration, tags ...string) client.Machine {
		return machine(n, func(m *client.Machine) {
			m.DeviceGroup, m.AgentVersion, m.LastSeen = []byte(group), []byte(agent), ago(seen)
			m.Tags = collectortest.TextList(tags...)
		})
	}
	with := func(m client.Machine, change func(*client.Machine)) client.Machine { change(&m); return m }
	status := func(s string) func(*client.Machine) {
		return func(m *client.Machine) { m.OnboardingStatus = []byte(s) }
	}
	antivirusRow := func(n int, mode, engine, platform string, signatures, quick, full time.Duration) client.AntivirusHealth {
		return antivirus(n, func(a *client.AntivirusHealth) {
			a.Mode, a.EngineVersion, a.PlatformVersion = []byte(mode), []byte(engine), []byte(platform)
			a.SignaturesPublishedAt = ago(signatures)
			a.QuickScan = client.Scan{Result: []byte("Completed"), At: ago(quick)}
			a.FullScan = client.Scan{Result: []byte("Completed"), At: ago(full)}
		})
	}
	return &fakeStates{
		MachineRows: collectortest.RowsOf(nil,
			row(1, "Servers", "10.1", time.Hour, "VIP", "Site-01"),
			row(2, "Servers", "10.1", 2*day, "vip", "VIP", "viP"), // One tag in three cases.
			with(row(3, "Branch offices", "10.2", 10*day, "Kiosk"), func(m *client.Machine) { m.HealthStatus = []byte("Inactive") }),
			with(row(4, "UnassignedGroup", "", 20*day), func(m *client.Machine) { m.HealthStatus = []byte("Inactive") }),
			row(5, "", "10.2", 60*day),
			with(row(6, "Servers", "10.2", 0), func(m *client.Machine) { m.LastSeen = time.Time{} }),
			with(row(7, "Merged group", "9", time.Hour, "VIP"), func(m *client.Machine) { m.Merged, m.MergedInto = true, id(1) }),
			with(row(8, "Unmanaged", "9", time.Hour, "VIP"), status("canBeOnboarded")),
			with(row(9, "Unmanaged", "9", time.Hour), func(m *client.Machine) {
				m.OnboardingStatus, m.OSPlatform, m.OSProcessor = []byte("Unsupported"), []byte("Printer"), nil
			}),
			with(row(10, "Servers", "10.1", time.Hour), status("")),
			with(row(11, "Unmanaged", "9", time.Hour), status("Quarantined")),
			with(row(12, "Merged group", "9", time.Hour), func(m *client.Machine) { m.Merged = true; m.OnboardingStatus = []byte("CanBeOnboarded") }),
			row(1, "Elsewhere", "11", 90*day, "Kiosk"), // Duplicate of the first machine.
		),
		AntivirusRows: collectortest.RowsOf(nil,
			antivirusRow(1, "0", "1.1.25020.1007", "4.18.25010.11", 12*time.Hour, 12*time.Hour, 5*day),
			antivirusRow(2, "1", "1.1.25020.1007", "4.18.25010.11", 2*day, 2*day, 31*day),
			antivirusRow(3, "2", "1.1.24080.9", "", 20*day, 8*day, 8*day),
			antivirusRow(5, "4", "1.1.25020.1007", "4.18.24090.11", 40*day, 40*day, 40*day),
			antivirusRow(6, "5", "1.1.25020.1007", "4.18.24090.11", 5*day, 0, 0),
			antivirusRow(8, "2", "9", "9", 0, 0, 0), // Not onboarded.
			antivirusRow(10, "3", "1.1.25020.1007", "4.18.24090.11", 0, 0, 0),
		),
	}
}

func TestMachineGauges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tags := func(o *Options) { o.Tags = []string{"VIP", "Kiosk", "Tier 0"} }
		collectortest.Golden(t, "facts.prom", refreshed(t, fleetOfFacts(time.Now()), tags))
	})
}

func TestRecordsWithoutSecurityStateAreCountedByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values(t, refreshed(t, fleetOfFacts(time.Now())), map[string]string{
			`mde_machine_records{disposition="counted"}`:                                          "7",
			`mde_machine_records{disposition="merged"}`:                                           "2",
			`mde_machine_records{disposition="not_onboarded"}`:                                    "3",
			`mde_machines{architecture="Amd64",os_build="19045"}`:                                 "7",
			`mde_machines_onboarding{onboarding_status="Onboarded",os_platform="Windows10"}`:      "6",
			`mde_machines_onboarding{onboarding_status="CanBeOnboarded",os_platform="Windows10"}`: "1",
			`mde_machines_onboarding{onboarding_status="Unsupported",os_platform="Windows10"}`:    "0",
			`mde_machines_onboarding{onboarding_status="Unsupported",os_platform="Printer"}`:      "1",
			`mde_machines_onboarding{onboarding_status="Onboarded",os_platform="Printer"}`:        "0",
			`mde_machines_onboarding{onboarding_status="unknown",os_platform="Windows10"}`:        "1",
			`mde_machines_onboarding{onboarding_status="unknown",os_platform="Printer"}`:          "",
			`mde_machines_onboarding{onboarding_status="Quarantined",os_platform="Windows10"}`:    "1",
			`mde_machines_onboarding{onboarding_status="Quarantined",os_platform="Printer"}`:      "",
			`mde_active_machines{architecture="Amd64",os_build="19045"}`:                          "5",
			`mde_machines_requiring_attention{architecture="Amd64",os_build="19045"}`:             "2",
			`mde_active_machines_requiring_attention{architecture="Amd64",os_build="19045"}`:      "0",
		})
	})
}

func TestEmptyTenantExposesZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStates{MachineRows: collectortest.RowsOf[client.Machine](nil), AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil)}
		got := refreshed(t, f, func(o *Options) { o.Tags = []string{"VIP"} })
		for series := range strings.Lines(got) {
			if !strings.HasPrefix(series, "#") && !strings.HasSuffix(series, " 0\n") && !strings.HasPrefix(series, "mde_security_states_source_info") {
				t.Errorf("series of an empty tenant is not 0: %s", series)
			}
		}
		values(t, got, map[string]string{
			`mde_machine_records{disposition="counted"}`:       "0",
			`mde_machine_records{disposition="merged"}`:        "0",
			`mde_machine_records{disposition="not_onboarded"}`: "0",
			`mde_machines_antivirus_mode{mode="unknown"}`:      "0",
			`mde_tag_machines{tag="VIP"}`:                      "0",
			`mde_tag_machines_requiring_attention{tag="VIP"}`:  "0",
			`mde_machines_seen_within{window="90d"}`:           "0",
		})
		for _, metric := range []string{"mde_device_group_machines", "mde_machines_component_version", "mde_machines_onboarding", "mde_tag_machines_attention"} {
			if strings.Contains(got, metric+"{") {
				t.Errorf("%s is exposed", metric)
			}
		}
	})
}

func TestWindowsContaining(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		at   time.Time
		want uint8
	}{
		"now":                                {now, 5},
		"exactly a day ago":                  {now.Add(-day), 5},
		"a nanosecond more than a day ago":   {now.Add(-day - 1), 4},
		"exactly 90 days ago":                {now.Add(-90 * day), 1},
		"a nanosecond more than 90 days ago": {now.Add(-90*day - 1), 0},
		"never":                              {time.Time{}, 0},
		"in the year 2":                      {time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		"a clock ahead":                      {now.Add(10 * time.Minute), 5},
		"a day ahead":                        {now.Add(day), 5},
		"more than a day ahead":              {now.Add(day + 1), 0},
		"in the year 9999":                   {time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), 0},
		"in another zone, two hours before":  {now.Add(-2 * time.Hour).In(time.FixedZone("", -12*3600)), 5},
	} {
		if got := seenWindows.containing(tc.at, now); got != tc.want {
			t.Errorf("%s: %d windows, want %d", name, got, tc.want)
		}
	}
}

func TestTimesAreComparedWithTheStartOfTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStates{}
		seen := time.Now().Add(-day + time.Minute)
		rows := collectortest.RowsOf(nil, machine(1, func(m *client.Machine) { m.LastSeen = seen }))
		antivirusRows := collectortest.RowsOf(nil, antivirus(1, func(a *client.AntivirusHealth) { a.SignaturesUpdatedAt = seen }))
		f.AntivirusRows = func(yield func(*client.AntivirusHealth, error) bool) {
			time.Sleep(10 * time.Minute)
			antivirusRows(yield)
		}
		f.MachineRows = func(yield func(*client.Machine, error) bool) { time.Sleep(10 * time.Minute); rows(yield) }
		refused := refusedPreview(404)
		f.StateRows = func(yield func(*client.SecurityState, error) bool) { time.Sleep(10 * time.Minute); refused(yield) }
		values(t, refreshed(t, f, func(o *Options) { o.Source = SourceAuto }), map[string]string{
			`mde_machines_seen_within{window="1d"}`:                 "1",
			`mde_machines_antivirus_signatures_within{window="1d"}`: "1",
		})
	})
}

func TestUnusualMachines(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	cut := long[:labels.MaxBytes]
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }
	const onboarded = `,"onboardingStatus":"Onboarded","healthStatus":"Active","osPlatform":"Windows10"}`
	const (
		none, of, tag = `mde_device_group_machines{device_group="none"}`, `mde_device_group_machines{device_group="A"}`, `mde_tag_machines{tag="VIP"}`
		sensor        = `mde_machines_component_version{component="sensor",version="unknown"}`
		seen          = `mde_machines_seen_within{window="90d"}`
	)
	for name, tc := range map[string]struct {
		rows []string
		want map[string]string
	}{
		"all null": {[]string{`{"id":"1","rbacGroupName":null,"machineTags":null,"agentVersion":null,"lastSeen":null,"osPlatform":null,"onboardingStatus":null}`}, map[string]string{
			none: "1", tag: "0", sensor: "1", seen: "0", `mde_machine_records{disposition="counted"}`: "1",
			`mde_machines_onboarding{onboarding_status="unknown",os_platform="unknown"}`: "1", `mde_machines_os_platform{os_platform="unknown"}`: "1",
		}},
		"nothing at all": {[]string{`{}`, `{}`}, map[string]string{none: "2", sensor: "2", seen: "0", `mde_machine_records{disposition="counted"}`: "2"}},
		"wrong types": {[]string{`{"id":"1","rbacGroupName":{"name":"A"},"machineTags":"VIP","agentVersion":[1],"lastSeen":true` + onboarded,
			`{"id":"2","rbacGroupName":["A"],"machineTags":{"0":"VIP"},"agentVersion":{},"lastSeen":17` + onboarded,
			`{"id":"3","rbacGroupName":true,"machineTags":[["VIP"],{"VIP":"VIP"},null,true],"agentVersion":false,"lastSeen":"soon"` + onboarded}, map[string]string{none: "3", tag: "0", sensor: "3", seen: "0"}},
		"numbers": {[]string{`{"id":1,"rbacGroupName":7,"machineTags":[7],"agentVersion":10.10` + onboarded}, map[string]string{
			`mde_device_group_machines{device_group="7"}`: "1", `mde_tag_machines{tag="7"}`: "1",
			`mde_machines_component_version{component="sensor",version="10.10"}`: "1",
		}},
		"machines without a group": {[]string{`{"id":"1","rbacGroupName":""` + onboarded, `{"id":"2","rbacGroupName":"UnassignedGroup"` + onboarded,
			`{"id":"3","rbacGroupName":" \u0000"` + onboarded, `{"id":"4","rbacGroupName":"none"` + onboarded, `{"id":"5","rbacGroupName":"A"` + onboarded}, map[string]string{none: "4", of: "1", `mde_device_group_machines_requiring_attention{device_group="A"}`: "0"}},
		"names of 100 kB": {[]string{`{"id":"1","rbacGroupName":"` + long + `","machineTags":["` + long + `","VIP"],"agentVersion":"` + long + `","osPlatform":"` + long + `","onboardingStatus":"` + long + `"}`,
			`{"id":"2","rbacGroupName":"` + long + `","machineTags":["VIP` + long + `"],"agentVersion":"` + long + `"` + onboarded}, map[string]string{
			`mde_device_group_machines{device_group="` + cut + `"}`: "1", tag: "0",
			`mde_machines_component_version{component="sensor",version="` + cut + `"}`:           "1",
			`mde_machines_onboarding{onboarding_status="` + cut + `",os_platform="` + cut + `"}`: "1",
		}},
		"names with unprintable characters": {[]string{`{"id":"1","rbacGroupName":"A\u202e\n","machineTags":[" VIP "],"agentVersion":"1\u00001"` + onboarded,
			`{"id":"2","rbacGroupName":"` + "\xff" + `","machineTags":["VIP","\u0000"]` + onboarded}, map[string]string{
			of: "1", `mde_device_group_machines{device_group="` + "\ufffd" + `"}`: "1", tag: "2",
			`mde_machines_component_version{component="sensor",version="11"}`: "1",
		}},
		"groups that differ in case": {[]string{`{"id":"1","rbacGroupName":"A"` + onboarded, `{"id":"2","rbacGroupName":"a"` + onboarded}, map[string]string{of: "1", `mde_device_group_machines{device_group="a"}`: "1"}},
		"repeated tags in any case": {[]string{`{"id":"1","machineTags":["VIP","vip","Vip","VIP"]` + onboarded, `{"id":"2","machineTags":["vIP"]` + onboarded,
			`{"id":"1","machineTags":["VIP"]` + onboarded, `{"id":"3","machineTags":["VIP2","V","VI P"]` + onboarded}, map[string]string{tag: "2", `mde_tag_machines{tag="vip"}`: ""}},
		"times": {[]string{`{"id":"1","lastSeen":"` + ago(-time.Hour) + `"` + onboarded, `{"id":"2","lastSeen":"9999-12-31T23:59:59Z"` + onboarded,
			`{"id":"3","lastSeen":"0001-01-01T00:00:00Z"` + onboarded, `{"id":"4","lastSeen":"` + strings.TrimSuffix(ago(10*day), "Z") + `"` + onboarded,
			`{"id":"5","lastSeen":"` + ago(91*day) + `"` + onboarded}, map[string]string{
			`mde_machines_seen_within{window="1d"}`: "1", `mde_machines_seen_within{window="7d"}`: "1", `mde_machines_seen_within{window="14d"}`: "2",
			`mde_machines_seen_within{window="30d"}`: "2", seen: "2",
		}},
		"statuses in any case": {[]string{`{"id":"1","onboardingStatus":"ONBOARDED","osPlatform":"A"}`, `{"id":"2","onboardingStatus":"onboarded","osPlatform":"A"}`,
			`{"id":"3","onboardingStatus":" insufficientinfo","osPlatform":"A"}`, `{"id":"4","onboardingStatus":"odd","osPlatform":"A"}`, `{"id":"5","onboardingStatus":"Odd","osPlatform":"A"}`}, map[string]string{
			`mde_machines_onboarding{onboarding_status="Onboarded",os_platform="A"}`: "2", `mde_machines_onboarding{onboarding_status="ONBOARDED",os_platform="A"}`: "",
			`mde_machines_onboarding{onboarding_status="InsufficientInfo",os_platform="A"}`: "1", `mde_machines_onboarding{onboarding_status="odd",os_platform="A"}`: "1",
			`mde_machines_onboarding{onboarding_status="Odd",os_platform="A"}`: "1", `mde_machine_records{disposition="not_onboarded"}`: "3",
		}},
		"health, risk and exposure in any case": {[]string{`{"id":"1","healthStatus":"inactive","riskScore":"high","exposureLevel":"MEDIUM"}`,
			`{"id":"2","healthStatus":"nosensordataimpairedcommunication","riskScore":"odd","exposureLevel":"odd"}`}, map[string]string{
			`mde_machines_health{health_status="Inactive"}`: "1", `mde_machines_health{health_status="inactive"}`: "",
			`mde_machines_health{health_status="NoSensorDataImpairedCommunication"}`: "1",
			`mde_machines_risk{risk_score="High"}`:                                   "1", `mde_machines_risk{risk_score="odd"}`: "1",
			`mde_machines_exposure{exposure_level="Medium"}`: "1", `mde_machines_exposure{exposure_level="odd"}`: "1",
			`mde_active_machines{architecture="unknown",os_build="unknown"}`:                                         "1",
			`mde_machines_attention{architecture="unknown",os_build="unknown",property="EdrInactive"}`:               "1",
			`mde_machines_attention{architecture="unknown",os_build="unknown",property="EdrNoSensorData"}`:           "1",
			`mde_machines_attention{architecture="unknown",os_build="unknown",property="EdrImpairedCommunications"}`: "1",
		}},
		"the first row of a machine decides": {[]string{`{"id":"AB","mergedIntoMachineId":"CD"` + onboarded, `{"id":"ab"` + onboarded,
			`{"id":"2","onboardingStatus":"CanBeOnboarded"}`, `{"id":"2"` + onboarded, `{"id":"3"` + onboarded, `{"id":"3","mergedIntoMachineId":"1"` + onboarded,
			`{"mergedIntoMachineId":"1"` + onboarded, `{"mergedIntoMachineId":"1","onboardingStatus":"CanBeOnboarded"}`, `{"onboardingStatus":"CanBeOnboarded"}`}, map[string]string{
			`mde_machine_records{disposition="counted"}`: "1", `mde_machine_records{disposition="merged"}`: "3", `mde_machine_records{disposition="not_onboarded"}`: "2",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			apis := healthyAPIs()
			apis["machines"] = jsonResponse(200, `{"value":[`+strings.Join(tc.rows, ",")+`]}`)
			values(t, refreshed(t, newClient(t, apis), func(o *Options) { o.Tags = []string{"VIP", "7"} }), tc.want)
		})
	}
}

func TestUnusualAntivirusHealth(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	cut := long[:labels.MaxBytes]
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }
	at := func(d time.Duration) string { return `,"dataRefreshTimestamp":"` + ago(d) + `"` }
	machineIDs := func(row string) string { return `{"machineId":"` + strings.Repeat("0", 39) + `1"` + row + `}` }
	const engine, platform = `mde_machines_component_version{component="antivirus_engine",version=`, `mde_machines_component_version{component="antivirus_platform",version=`
	mode := func(name string) string { return `mde_machines_antivirus_mode{mode="` + name + `"}` }
	signatures := func(window string) string { return `mde_machines_antivirus_signatures_within{window="` + window + `"}` }
	scanned := func(scan, window string) string {
		return `mde_machines_antivirus_scanned_within{scan="` + scan + `",window="` + window + `"}`
	}
	for name, tc := range map[string]struct {
		rows []string // Rows of the first of three machines. Every rotation is tested.
		want map[string]string
	}{
		"no row": {nil, map[string]string{mode("unknown"): "3", mode("active"): "0", engine + `"unknown"}`: "3", signatures("30d"): "0"}},
		"all null": {[]string{`,"avMode":null,"avEngineVersion":null,"avPlatformVersion":null,"avSignaturePublishTime":null,"avSignatureUpdateTime":null,"quickScanTime":null,"quickScanResult":null`},
			map[string]string{mode("unknown"): "3", mode("other"): "0", engine + `"unknown"}`: "3", engine + `"other"}`: "", signatures("30d"): "0", scanned("quick", "30d"): "0"}},
		"wrong types": {[]string{`,"avMode":{},"avEngineVersion":[],"avPlatformVersion":{},"avSignaturePublishTime":false,"avSignatureUpdateTime":12,"quickScanTime":[],"quickScanResult":"Completed"`},
			map[string]string{mode("unknown"): "3", engine + `"unknown"}`: "3", signatures("30d"): "0", scanned("quick", "30d"): "0"}},
		"numbers":     {[]string{`,"avMode":4,"avEngineVersion":1.10`}, map[string]string{mode("edr_block"): "1", mode("unknown"): "2", engine + `"1.10"}`: "1"}},
		"a new mode":  {[]string{`,"avMode":"9"`}, map[string]string{mode("other"): "1", mode("unknown"): "2"}},
		"a long mode": {[]string{`,"avMode":"` + long + `"`}, map[string]string{mode("other"): "1", mode("unknown"): "2"}},
		"versions of 100 kB": {[]string{`,"avEngineVersion":"` + long + `","avPlatformVersion":"\u0000` + long + `"`},
			map[string]string{engine + `"` + cut + `"}`: "1", platform + `"` + cut + `"}`: "1", engine + `"unknown"}`: "2"}},
		"published, though updated later": {[]string{`,"avSignaturePublishTime":"` + ago(5*day) + `","avSignatureUpdateTime":"` + ago(time.Hour) + `"`},
			map[string]string{signatures("3d"): "0", signatures("7d"): "1"}},
		"updated, publication time missing": {[]string{`,"avSignaturePublishTime":null,"avSignatureUpdateTime":"` + ago(2*day) + `"`},
			map[string]string{signatures("1d"): "0", signatures("3d"): "1"}},
		"times in the future": {[]string{`,"avSignaturePublishTime":"` + ago(-time.Hour) + `","quickScanTime":"2999-01-01T00:00:00Z","quickScanResult":"Completed"`},
			map[string]string{signatures("1d"): "1", scanned("quick", "30d"): "0"}},
		"completed and other scans": {[]string{`,"quickScanTime":"` + ago(2*day) + `","quickScanResult":"completed","fullScanTime":"` + ago(time.Hour) + `","fullScanResult":"Canceled"`},
			map[string]string{scanned("quick", "1d"): "0", scanned("quick", "7d"): "1", scanned("quick", "30d"): "1", scanned("full", "30d"): "0"}},
		"a scan without a result": {[]string{`,"quickScanTime":"` + ago(day) + `","quickScanResult":"-","fullScanTime":"` + ago(time.Hour) + `","fullScanResult":""`},
			map[string]string{scanned("quick", "30d"): "0", scanned("full", "30d"): "0"}},
		"newest of several rows": {[]string{
			at(3*time.Hour) + `,"avMode":"2","avEngineVersion":"old","avSignaturePublishTime":"` + ago(time.Hour) + `","quickScanTime":"` + ago(time.Hour) + `","quickScanResult":"Completed"`,
			at(2*time.Hour) + `,"avMode":"1","avEngineVersion":"new","avSignaturePublishTime":"` + ago(20*day) + `"`,
			`,"avMode":"4","avEngineVersion":"without a time"`,
		}, map[string]string{
			mode("passive"): "1", mode("disabled"): "0", mode("unknown"): "2", engine + `"new"}`: "1", engine + `"old"}`: "", engine + `"unknown"}`: "2",
			signatures("14d"): "0", signatures("30d"): "1", scanned("quick", "30d"): "0",
		}},
		"worst of equally new rows": {[]string{
			at(time.Hour) + `,"avMode":"0","avEngineVersion":"1.2","avPlatformVersion":"4.1","avSignaturePublishTime":"` + ago(time.Hour) + `"`,
			at(time.Hour) + `,"avMode":"2","avEngineVersion":"1.1","avPlatformVersion":"4.2","avSignaturePublishTime":"` + ago(10*day) + `"`,
			at(time.Hour) + `,"avMode":"1","avEngineVersion":"1.3","avPlatformVersion":"4.3","avSignaturePublishTime":"` + ago(2*day) + `"`,
		}, map[string]string{
			mode("disabled"): "1", mode("active"): "0", mode("passive"): "0", engine + `"1.1"}`: "1", engine + `"1.2"}`: "", platform + `"4.1"}`: "1",
			signatures("7d"): "0", signatures("14d"): "1",
		}},
		"the same row twice": {[]string{at(time.Hour) + `,"avMode":"0","avEngineVersion":"1.2"`, at(time.Hour) + `,"avMode":"0","avEngineVersion":"1.2"`},
			map[string]string{mode("active"): "1", mode("unknown"): "2", engine + `"1.2"}`: "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range max(1, len(tc.rows)) {
				var rows []string
				for _, row := range tc.rows {
					rows = append(rows, machineIDs(row))
				}
				apis := healthyAPIs()
				apis["deviceavinfo"] = jsonResponse(200, `{"value":[`+strings.Join(rows, ",")+`]}`)
				values(t, refreshed(t, newClient(t, apis)), tc.want)
				if len(tc.rows) > 0 {
					tc.rows = append(tc.rows[1:], tc.rows[0])
				}
			}
		})
	}
}

func TestGaugesThatASourceLacksAreAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tags := func(o *Options) { o.Tags = []string{"VIP"} }
		metrics := func(exposed string) map[string]bool {
			names := map[string]bool{}
			for line := range strings.Lines(exposed) {
				if name, _, _ := strings.Cut(line, "{"); !strings.HasPrefix(name, "#") {
					names[name] = true
				}
			}
			return names
		}
		whole := metrics(refreshed(t, fleetOfFacts(time.Now()), tags))
		antivirusGauges := []string{"mde_machines_antivirus_mode", "mde_machines_antivirus_signatures_within", "mde_machines_antivirus_scanned_within"}
		for _, name := range antivirusGauges {
			if !whole[name] {
				t.Errorf("%s is absent", name)
			}
		}

		f := fleetOfFacts(time.Now())
		f.AntivirusRows = collectortest.RowsOf(apiError(client.DeviceAVInfo, 403), antivirus(1, nil))
		refused := refreshed(t, f, tags)
		for name := range whole {
			if there := metrics(refused)[name]; there != !strings.HasPrefix(name, "mde_machines_antivirus") {
				t.Errorf("without the antivirus role, %s exposed: %v", name, there)
			}
		}
		values(t, refused, map[string]string{
			`mde_machines_component_version{component="sensor",version="10.1"}`: "3", `mde_machines_component_version{component="antivirus_engine",version="unknown"}`: "",
		})

		f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
		preview := refreshed(t, f, tags, func(o *Options) { o.Source = SourcePreview })
		for name := range metrics(preview) {
			switch name {
			case "mde_machines", "mde_machines_attention", "mde_machines_requiring_attention", "mde_security_states_incomplete", "mde_security_states_source_info":
			default:
				t.Errorf("unexpected %s from the preview", name)
			}
		}
	})
}

func TestDeviceGroupsCanBeDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := refreshed(t, fleetOfFacts(time.Now()), func(o *Options) { o.DeviceGroups = false }); strings.Contains(got, "device_group") || strings.Contains(got, "mde_tag") {
			t.Errorf("exposed:\n%s", got)
		}
	})
}

func TestMostFrequentVersionsAreExposed(t *testing.T) {
	const versions = 4000
	w := collectortest.NewWorld()
	total := 0
	f := &fakeStates{AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil), MachineRows: func(yield func(*client.Machine, error) bool) {
		for v := range versions { // The most frequent versions come last.
			for range 1 + max(0, v-versions+60) {
				total++
				row := machine(total, func(m *client.Machine) { m.AgentVersion = []byte(strconv.Itoa(v)) })
				if v == 0 {
					row.AgentVersion = nil
				}
				if !yield(&row, nil) {
					return
				}
			}
		}
	}}
	s := newStates(w, f, readMachines)
	for range 2 {
		total = 0
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		got := w.Exposed(t)
		const sensor = `mde_machines_component_version{component="sensor",version=`
		if n := strings.Count(got, `component="sensor"`); n != maxComponents+2 {
			t.Errorf("%d versions of the sensor, want %d, other and unknown", n, maxComponents)
		}
		other := 0
		for v := 1; v < versions-maxComponents; v++ {
			other += 1 + max(0, v-versions+60)
		}
		values(t, got, map[string]string{
			sensor + `"3999"}`: "60", sensor + `"3950"}`: "11", sensor + `"3949"}`: "", sensor + `"3948"}`: "", sensor + `"unknown"}`: "1", sensor + `"other"}`: strconv.Itoa(other),
			`mde_machines_component_version{component="antivirus_engine",version="unknown"}`: strconv.Itoa(total),
		})
		if dropped := collectortest.Value(collectortest.Text(t, w.Registry), `mde_label_values_dropped_total{label="version",tenant="contoso"}`); dropped != strconv.Itoa(versions-1-maxComponents) {
			t.Errorf("%s versions dropped", dropped)
		}
	}
}

func TestEquallyFrequentVersionsAreSelectedDeterministically(t *testing.T) {
	versions := func() string {
		f := &fakeStates{AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil), MachineRows: func(yield func(*client.Machine, error) bool) {
			for _, v := range rand.Perm(2 * maxComponents) {
				row := machine(v+1, func(m *client.Machine) { m.AgentVersion = []byte(strconv.Itoa(v)) })
				if !yield(&row, nil) {
					return
				}
			}
		}}
		return refreshed(t, f)
	}
	if a, b := versions(), versions(); a != b {
		t.Errorf("first:\n%s\nsecond:\n%s", a, b)
	}
}

func TestMachineGaugesAreBounded(t *testing.T) {
	const machines = 30_000
	w := collectortest.NewWorld()
	f := &fakeStates{AntivirusRows: func(yield func(*client.AntivirusHealth, error) bool) {
		for n := range machines {
			version := strconv.AppendInt(nil, int64(n+10), 10)
			row := antivirus(n+1, func(a *client.AntivirusHealth) {
				a.Mode, a.EngineVersion, a.PlatformVersion = version, version, version
			})
			if !yield(&row, nil) {
				return
			}
		}
	}, MachineRows: func(yield func(*client.Machine, error) bool) {
		for n := range machines {
			name := strconv.AppendInt(nil, int64(n), 10)
			row := machine(n+1, func(m *client.Machine) {
				m.AgentVersion, m.DeviceGroup, m.OSPlatform, m.OSBuild, m.OSProcessor, m.Tags = name, name, name, name, name, collectortest.TextList(string(name), "vip")
				m.HealthStatus = []byte("Inactive")
				if n%3 == 0 {
					m.OnboardingStatus = name
				}
			})
			if !yield(&row, nil) {
				return
			}
		}
	}}
	s := newStates(w, f, readMachines, func(o *Options) { o.Tags = []string{"VIP"} })
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	families, err := w.Exposition.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums, distinct := map[string]float64{}, map[string]map[string]bool{}
	for _, family := range families {
		for _, m := range family.Metric {
			sums[family.GetName()] += m.GetGauge().GetValue()
			for _, l := range m.Label {
				key := family.GetName() + " " + l.GetName()
				if distinct[key] == nil {
					distinct[key] = map[string]bool{}
				}
				distinct[key][l.GetValue()] = true
			}
		}
	}
	const counted = machines / 3 * 2
	for name, want := range map[string]float64{
		"mde_machines": counted, "mde_active_machines": 0, "mde_machine_records": machines, "mde_machines_onboarding": machines, "mde_device_group_machines": counted,
		"mde_device_group_machines_requiring_attention": counted, "mde_device_group_machines_attention": counted, "mde_tag_machines": counted, "mde_tag_machines_attention": counted,
		"mde_machines_component_version": 3 * counted, "mde_machines_antivirus_mode": counted,
	} {
		if sums[name] != want {
			t.Errorf("sum of %s is %v, want %v", name, sums[name], want)
		}
	}
	for label, most := range map[string]int{
		"mde_device_group_machines device_group": 201, "mde_machines_onboarding onboarding_status": 21, "mde_machines_onboarding os_platform": 101,
		"mde_machines_component_version component": 3, "mde_machines_component_version version": 3*maxComponents + 1, "mde_machines_antivirus_mode mode": 7,
	} {
		if n := len(distinct[label]); n > most || n == 0 {
			t.Errorf("%d values of %s, want at most %d", n, label, most)
		}
	}
	got := collectortest.Text(t, w.Registry)
	for _, label := range []string{"device_group", "onboarding_status", "os_platform", "version"} {
		if v := collectortest.Value(got, `mde_label_values_dropped_total{label="`+label+`",tenant="contoso"}`); v == "" || v == "0" {
			t.Errorf("%q values of %s dropped", v, label)
		}
	}
	for _, label := range []string{"tag", "window", "mode", "component", "disposition"} {
		if strings.Contains(got, `label="`+label+`"`) {
			t.Errorf("dropped values of %s are counted, but its values do not come from the API", label)
		}
	}
}

func TestStoredStatesAreServedAfterTagsChange(t *testing.T) {
	store := &collector.MemoryStore{}
	tags := func(tags ...string) func(*Options) {
		return func(o *Options) { o.Store, o.Source, o.Tags = store, SourceMachines, tags }
	}
	w := collectortest.NewWorld()
	if err := w.Refresh(t.Context(), newStates(w, fleetOfFacts(time.Now()), tags("VIP", "Kiosk", "A", "B", "C", "D"))); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Options)
		want   map[string]string
	}{
		"other tags":       {tags("Kiosk", "Pilot ring"), map[string]string{`mde_tag_machines{tag="Kiosk"}`: "1", `mde_tag_machines{tag="VIP"}`: "", `mde_tag_machines{tag="Pilot ring"}`: ""}},
		"different case":   {tags("vip"), map[string]string{`mde_tag_machines{tag="VIP"}`: "", `mde_tag_machines{tag="vip"}`: "", `mde_tag_machines_attention{property="EdrInactive",tag="vip"}`: ""}},
		"no tags":          {tags(), map[string]string{`mde_tag_machines{tag="VIP"}`: ""}},
		"no device groups": {func(o *Options) { tags("VIP")(o); o.DeviceGroups = false }, map[string]string{`mde_device_group_machines{device_group="Servers"}`: "", `mde_tag_machines{tag="VIP"}`: "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld() // The restart.
			s := newStates(w, &fakeStates{}, tc.change)
			s.Start(t.Context(), w.Publisher(s))
			values(t, w.Exposed(t), tc.want)
			values(t, w.Exposed(t), map[string]string{`mde_machines{architecture="Amd64",os_build="19045"}`: "7", `mde_machine_records{disposition="merged"}`: "2"})
			if log := w.Log.String(); log != "" {
				t.Errorf("log %s", log)
			}
		})
	}
}
