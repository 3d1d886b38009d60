package states

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestDefaultsAreValid(t *testing.T) {
	var c Config
	c.Defaults()
	if mistakes := c.Validate(collector.Validation{}); len(mistakes) > 0 {
		t.Errorf("mistakes %v", mistakes)
	}
	if !c.Enabled || c.Interval() != 15*time.Minute || c.Age() != 45*time.Minute || c.Source != SourceAuto {
		t.Errorf("defaults %+v", c)
	}
}

func TestLimitsOfTheConfiguration(t *testing.T) {
	tags := func(n int) (tags []string) {
		for i := range n {
			tags = append(tags, fmt.Sprint("tag ", i))
		}
		return tags
	}
	for _, tc := range []struct {
		machines, tags int
		mistake        string
	}{
		{0, 0, "max_machines"}, {1, 0, ""}, {100_000_000, 0, ""}, {100_000_001, 0, "max_machines"}, {1, 200, ""}, {1, 201, "tags"},
	} {
		var c Config
		c.Defaults()
		c.MaxMachines, c.Tags = tc.machines, tags(tc.tags)
		var keys []string
		for _, m := range c.Validate(collector.Validation{}) {
			keys = append(keys, m.Key)
		}
		if got := strings.Join(keys, " "); got != tc.mistake {
			t.Errorf("%d machines and %d tags: mistakes in %q, want %q", tc.machines, tc.tags, got, tc.mistake)
		}
	}
}

func TestMachinesWithAndWithoutIDsShareTheLimit(t *testing.T) {
	const most, withoutID = 1000, 600
	// Rows with ids come again and again, so that only their machines count.
	number := func(n, machines int) int {
		if n < withoutID {
			return 0
		}
		return 1 + n%machines
	}
	for _, tc := range []struct {
		source         string
		machines, rows int
		succeeds       bool
	}{
		{SourcePreview, most - withoutID, 100_000, true},
		{SourcePreview, most - withoutID + 1, 100_000, false},
		{SourcePreview, most - withoutID + 1, 2000, false}, // So few that they are not counted before the end.
		{SourceMachines, most - withoutID, 2000, true},
		{SourceMachines, most - withoutID + 1, 2000, false},
	} {
		t.Run(fmt.Sprintf("%d machines in %d rows, %s", withoutID+tc.machines, tc.rows, tc.source), func(t *testing.T) {
			read := 0
			f := &fakeStates{
				AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil),
				StateRows: func(yield func(*client.SecurityState, error) bool) {
					for n := range tc.rows {
						row := state(number(n, tc.machines), "19045", "Amd64")
						if n < withoutID {
							row.ID = client.MachineID{}
						}
						if read = n; !yield(&row, nil) {
							return
						}
					}
				},
				MachineRows: func(yield func(*client.Machine, error) bool) {
					for n := range tc.rows {
						row := machine(number(n, tc.machines), nil)
						if n < withoutID {
							row.ID = client.MachineID{}
						}
						if read = n; !yield(&row, nil) {
							return
						}
					}
				},
			}
			w := collectortest.NewWorld()
			err := w.Refresh(t.Context(), newStates(w, f, func(o *Options) { o.Source, o.MaxMachines = tc.source, most }))
			if all := read == tc.rows-1; (err == nil) != tc.succeeds || all != (tc.succeeds || tc.source == SourcePreview && tc.rows == 2000) {
				t.Errorf("error %v after %d rows", err, read)
			}
		})
	}
}

func TestFleetWithoutMachineIDsIsNotEmpty(t *testing.T) {
	w := collectortest.NewWorld()
	f := &fakeStates{StateRows: collectortest.RowsOf(nil, previewFleet()...)}
	s := newStates(w, f, func(o *Options) { o.Source = SourcePreview })
	for range 2 {
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		f.StateRows = collectortest.RowsOf(nil, client.SecurityState{Build: []byte("19045")}, state(1, "19045", "Amd64"))
	}
	if strings.Contains(w.Log.String(), "empty") || len(f.Calls) != 2 {
		t.Errorf("%d reads, log:\n%s", len(f.Calls), w.Log)
	}
}

// groupsOf returns machines of different groups, of which the n-th has properties.
func groupsOf(groups, n, properties int) (rows []client.SecurityState) {
	for i := range groups {
		row := state(i+1, fmt.Sprintf("%03d %s", i%900, strings.Repeat("x", 200)), fmt.Sprint("architecture ", i/900))
		if i == n {
			var names []string
			for p := range properties {
				names = append(names, fmt.Sprint("property ", p))
			}
			row.Properties = collectortest.TextList(names...)
		}
		rows = append(rows, row)
	}
	return rows
}

// largestFleets returns fleets that exceed each limit: of groups with all properties, of
// groups, and of the values of single labels.
func largestFleets() map[string]*fakeStates {
	long := strings.Repeat("x", 200)
	var machines []client.Machine
	for i := range 250 {
		machines = append(machines, machine(i+1, func(m *client.Machine) {
			if i > 0 {
				name := fmt.Appendf(nil, "%03d %s", i, long)
				m.OSPlatform, m.RiskScore, m.ExposureLevel, m.HealthStatus, m.DeviceGroup, m.AgentVersion = name, name, name, name, name, name
			} else {
				m.OSPlatform, m.RiskScore, m.ExposureLevel, m.HealthStatus, m.DeviceGroup, m.AgentVersion = nil, nil, nil, nil, nil, nil
			}
		}))
	}
	refused := refusedPreview(404)
	return map[string]*fakeStates{
		"groups with all properties": {StateRows: collectortest.RowsOf(nil, groupsOf(1300, 0, 105)...)},
		"properties of all groups":   {StateRows: collectortest.RowsOf(nil, groupsOf(1300, 1299, 105)...)},
		"groups":                     {StateRows: collectortest.RowsOf(nil, groupsOf(2100, 0, 0)...)},
		"values":                     {StateRows: refused, MachineRows: collectortest.RowsOf(nil, machines...), AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil)},
	}
}

func TestStatesAtEveryLimitAreRestored(t *testing.T) {
	for name, f := range largestFleets() {
		t.Run(name, func(t *testing.T) {
			store := &collector.MemoryStore{}
			keep := func(o *Options) { o.Store = store }
			w := collectortest.NewWorld()
			if err := w.Refresh(t.Context(), newStates(w, f, keep)); err != nil {
				t.Fatal(err)
			}
			before := seriesOf(t, w)
			if dropped := collectortest.Text(t, w.Registry); strings.Count(dropped, "mde_label_values_dropped_total{") == 0 {
				t.Errorf("no limit is exceeded:\n%s", dropped)
			}
			w = collectortest.NewWorld() // The restart.
			s := newStates(w, f, keep)
			s.Start(t.Context(), w.Publisher(s))
			if got := seriesOf(t, w); got != before || strings.Contains(w.Log.String(), "level=WARN") {
				t.Errorf("%d of %d series are restored, log:\n%s", got, before, w.Log)
			}
		})
	}
}

func seriesOf(t *testing.T, w *collectortest.World) (n int) {
	t.Helper()
	families, err := w.Exposition.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		n += len(f.Metric)
	}
	return n
}

func TestStoredStatesBeyondALimitAreIgnored(t *testing.T) {
	for name, tc := range map[string]struct {
		groups, properties int
		gauge              string
		values             []string
		logged             string
	}{
		"more groups with all properties": {1101, 101, attentionGauge, []string{"19045", "Amd64"}, "too many properties"},
		"more properties":                 {0, 102, attentionGauge, nil, "too many properties"},
		"a group without its window":      {1, 1, "mde_machines_seen_within", []string{}, "wrong number of label values"},
	} {
		t.Run(name, func(t *testing.T) {
			r := statesResult{At: time.Now(), Source: SourceMachines, Properties: slices.Repeat([]string{"A"}, tc.properties), Gauges: map[string][]stateGroup{
				tc.gauge: slices.Repeat([]stateGroup{{tc.values, make([]int, tc.properties)}}, tc.groups),
			}}
			store := &collector.MemoryStore{}
			if err := store.Save("security_states", &r); err != nil {
				t.Fatal(err)
			}
			w := collectortest.NewWorld()
			s := newStates(w, &fakeStates{}, func(o *Options) { o.Store = store })
			s.Start(t.Context(), w.Publisher(s))
			if n := seriesOf(t, w); n != 0 || !strings.Contains(w.Log.String(), tc.logged) {
				t.Errorf("%d series are exposed, log:\n%s", n, w.Log)
			}
		})
	}
}

// allVersions returns machines of which each has another version of each component, one
// more than are counted, and one without versions.
func allVersions(n int) *fakeStates {
	var machines []client.Machine
	var rows []client.AntivirusHealth
	for i := range n + 1 {
		version := fmt.Append(nil, "1.", i)
		if i == 0 {
			version = nil
		}
		machines = append(machines, machine(i+1, func(m *client.Machine) { m.AgentVersion = version }))
		rows = append(rows, antivirus(i+1, func(a *client.AntivirusHealth) { a.EngineVersion, a.PlatformVersion = version, version }))
	}
	return &fakeStates{MachineRows: collectortest.RowsOf(nil, machines...), AntivirusRows: collectortest.RowsOf(nil, rows...)}
}

func TestVersionsOfEachComponentHaveTheirOwnPlaces(t *testing.T) {
	exposed := refreshed(t, allVersions(maxVersions+1))
	if strings.Contains(exposed, `component="other"`) {
		t.Error("machines are counted under no component")
	}
	for _, component := range components {
		values(t, exposed, map[string]string{
			`mde_machines_component_version{component="` + component + `",version="unknown"}`: "1",
			`mde_machines_component_version{component="` + component + `",version="other"}`:   fmt.Sprint(maxVersions + 1 - maxComponents),
		})
	}
}

func TestVersionsUpToTheLimitAreAllExposed(t *testing.T) {
	exposed := refreshed(t, allVersions(maxComponents))
	if n := strings.Count(exposed, "mde_machines_component_version{"); n != 3*(maxComponents+1) || strings.Contains(exposed, `version="other"`) {
		t.Errorf("%d versions, want %d of each component and unknown, and no other", n, maxComponents)
	}
}

func TestEachOnboardingStatusOfEachPlatformHasAPlace(t *testing.T) {
	statuses := slices.Concat(onboardingStatuses, []string{""})
	for i := range maxOnboarding - len(onboardingStatuses) + 1 {
		statuses = append(statuses, fmt.Sprint("status ", i))
	}
	var machines []client.Machine
	for _, status := range statuses {
		for p := range maxPlatforms + 2 {
			machines = append(machines, machine(len(machines)+1, func(m *client.Machine) {
				m.OnboardingStatus, m.OSPlatform = []byte(status), fmt.Append(nil, "platform ", p)
				if p == 0 {
					m.OSPlatform = nil
				}
			}))
		}
	}
	f := &fakeStates{MachineRows: collectortest.RowsOf(nil, machines...), AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil)}
	w := collectortest.NewWorld()
	if err := w.Refresh(t.Context(), newStates(w, f, readMachines)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.Exposed(t), "mde_machines_onboarding{"); n != len(machines) {
		t.Errorf("%d combinations, want %d", n, len(machines))
	}
}

func TestMeasuresAtTheirBounds(t *testing.T) {
	r := &statesResult{Properties: []string{"AntivirusOff", "EdrInactive", "FirewallOff"}, Gauges: map[string][]stateGroup{
		machinesGauge: {{Counts: []int{1000}}}, requiringGauge: {{Counts: []int{1}}}, attentionGauge: {{Counts: []int{0, 1, 1}}},
	}}
	if got := r.measures(); got[0].Text != "0.1%" || got[1].Text != "EdrInactive: 1" {
		t.Errorf("one of a thousand machines: %+v", got)
	}
}

func TestEmptyTenantIsReadOnce(t *testing.T) {
	f := &fakeStates{MachineRows: collectortest.RowsOf[client.Machine](nil), AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil)}
	w := collectortest.NewWorld()
	s := newStates(w, f, readMachines)
	for n := range 2 {
		if err := w.Refresh(t.Context(), s); err != nil || len(f.Calls) != 2*(n+1) {
			t.Errorf("refresh %d: error %v, calls %v", n+1, err, f.Calls)
		}
	}
}

func TestOnlyA404OfTheAntivirusHealthIsReadAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		err        error
		calls      int
		incomplete string
	}{
		"no antivirus health":    {apiError(client.DeviceAVInfo, 404), 2, "0"},
		"no role":                {apiError(client.DeviceAVInfo, 403), 1, "1"},
		"404 of another service": {apiError(client.Token, 404), 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := machineFleet()
			f.AntivirusRows = func(yield func(*client.AntivirusHealth, error) bool) {
				if len(f.Calls) == 1 {
					yield(nil, tc.err)
				}
			}
			w := collectortest.NewWorld()
			if err := w.Refresh(t.Context(), newStates(w, f, readMachines)); (err != nil) != (tc.incomplete == "") {
				t.Errorf("error %v", err)
			}
			calls := 0
			for _, api := range f.Calls {
				if api == client.DeviceAVInfo {
					calls++
				}
			}
			values(t, w.Exposed(t), map[string]string{`mde_security_states_incomplete{part="antivirus"}`: tc.incomplete})
			if warned := strings.Contains(w.Log.String(), "Antivirus states unavailable"); calls != tc.calls || warned != (tc.incomplete == "1") {
				t.Errorf("read %d times, want %d, log:\n%s", calls, tc.calls, w.Log)
			}
		})
	}
}

func TestAsManyGroupsAsFitHaveAllProperties(t *testing.T) {
	const groups, properties = maxBuilds + 99, maxProperties // And the group of other.
	rows, one := groupsOf(groups, -1, 0), groupsOf(1, 0, properties)
	one[0].ID = id(groups + 1)
	for name, fleet := range map[string][]client.SecurityState{"properties come first": slices.Concat(one, rows), "groups come first": slices.Concat(rows, one)} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld()
			if err := w.Refresh(t.Context(), newStates(w, &fakeStates{StateRows: collectortest.RowsOf(nil, fleet...)})); err != nil {
				t.Fatal(err)
			}
			// The machines, those that require attention and their properties, the source and incomplete.
			if got, want := seriesOf(t, w), groups*(2+properties)+2; got != want {
				t.Errorf("%d series, want %d", got, want)
			}
			if dropped := collectortest.Text(t, w.Registry); strings.Contains(dropped, "mde_label_values_dropped_total{") {
				t.Errorf("something has no room:\n%s", dropped)
			}
		})
	}
}

func TestOnlyLabelsWithValuesOfAnAPIAreAnnounced(t *testing.T) {
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{})
	s.Start(t.Context(), w.Publisher(s))
	got := collectortest.Text(t, w.Registry)
	for label, want := range map[string]string{"os_build": "0", "property": "0", "version": "0", "window": "", "tag": "", "mode": "", "component": ""} {
		if v := collectortest.Value(got, `mde_label_values_dropped_total{label="`+label+`",tenant="contoso"}`); v != want {
			t.Errorf("dropped values of %s: %q, want %q", label, v, want)
		}
	}
}
