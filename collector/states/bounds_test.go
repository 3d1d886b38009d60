package states

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// endless yields rows until the consumer stops. It fails the test if the consumer reads
// more than the maximum.
func endless[T any](t *testing.T, most int, row func(n int) T) func(func(*T, error) bool) {
	return func(yield func(*T, error) bool) {
		for n := range most {
			r := row(n)
			if !yield(&r, nil) {
				return
			}
		}
		t.Errorf("still reading after %d rows", most)
	}
}

func TestRefreshFailsWithMoreThanMaxMachines(t *testing.T) {
	const most = 1000
	withoutID := func(m *client.Machine) { m.ID = client.MachineID{} }
	others := func(m *client.Machine) { m.OnboardingStatus = []byte("CanBeOnboarded") }
	for name, tc := range map[string]struct {
		source string
		api    client.API
		fill   func(t *testing.T, f *fakeStates)
	}{
		"preview": {SourcePreview, client.MachineSecurityStates, func(t *testing.T, f *fakeStates) {
			f.StateRows = endless(t, 200_000, func(n int) client.SecurityState { return state(n, "19045", "Amd64", "A") })
		}},
		"preview, one machine more": {SourcePreview, client.MachineSecurityStates, func(_ *testing.T, f *fakeStates) {
			rows := make([]client.SecurityState, most+1)
			for n := range rows {
				rows[n] = state(n, "19045", "Amd64")
			}
			f.StateRows = collectortest.RowsOf(nil, rows...)
		}},
		"preview without ids": {SourcePreview, client.MachineSecurityStates, func(t *testing.T, f *fakeStates) {
			f.StateRows = endless(t, most+2, func(int) client.SecurityState { return client.SecurityState{Build: []byte("19045")} })
		}},
		"machines": {SourceMachines, client.Machines, func(t *testing.T, f *fakeStates) {
			f.MachineRows = endless(t, most+2, func(n int) client.Machine { return machine(n, nil) })
		}},
		"machines without ids": {SourceMachines, client.Machines, func(t *testing.T, f *fakeStates) {
			f.MachineRows = endless(t, most+2, func(n int) client.Machine { return machine(n, withoutID) })
		}},
		"machines that are not onboarded": {SourceMachines, client.Machines, func(t *testing.T, f *fakeStates) {
			f.MachineRows = endless(t, most+2, func(n int) client.Machine { return machine(n, others) })
		}},
		"antivirus rows": {SourceMachines, client.DeviceAVInfo, func(t *testing.T, f *fakeStates) {
			f.AntivirusRows = endless(t, most+2, func(n int) client.AntivirusHealth { return antivirus(n, nil) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := collectortest.NewWorld(), machineFleet()
				f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
				s := newStates(w, f, func(o *Options) { o.Source, o.MaxMachines = tc.source, most })
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				before := w.Exposed(t)
				tc.fill(t, f)
				err := w.Refresh(t.Context(), s)
				if client.ReasonOf(err) != client.ReasonDecode || !strings.Contains(fmt.Sprint(err), string(tc.api)+": more than 1000 distinct machines: raise security_states.max_machines") {
					t.Errorf("error %v", err)
				}
				if after := w.Exposed(t); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		})
	}
}

func TestDuplicateRowsDoNotCountTowardsMaxMachines(t *testing.T) {
	const most = 1000
	f := &fakeStates{
		StateRows: func(yield func(*client.SecurityState, error) bool) {
			for n := range 300 * most {
				row := state(n%most, "19045", "Amd64", "A")
				if !yield(&row, nil) {
					return
				}
			}
		},
		MachineRows: func(yield func(*client.Machine, error) bool) {
			for n := range 3 * most {
				row := machine(n%most, nil)
				if !yield(&row, nil) {
					return
				}
			}
		},
		AntivirusRows: collectortest.RowsOf(nil, antivirus(1, nil), antivirus(2, nil)),
	}
	for _, source := range []string{SourcePreview, SourceMachines} {
		w := collectortest.NewWorld()
		s := newStates(w, f, func(o *Options) { o.Source, o.MaxMachines = source, most })
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := collectortest.Value(w.Exposed(t), `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`); got != "1000" {
			t.Errorf("%s: %s machines", source, got)
		}
	}
}

func TestFirstOfDuplicateRowsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := collectortest.NewWorld(), machineFleet()
		off := func(a *client.AntivirusHealth) { a.Mode = []byte("2") }
		f.AntivirusRows = collectortest.RowsOf(nil, antivirus(1, off), antivirus(2, off))
		f.MachineRows = collectortest.RowsOf(nil,
			machine(1, func(m *client.Machine) { m.OnboardingStatus = []byte("CanBeOnboarded") }), machine(1, nil),
			machine(2, nil), machine(2, func(m *client.Machine) { m.OnboardingStatus = []byte("CanBeOnboarded") }),
			machine(3, func(m *client.Machine) { m.Merged = true }), machine(3, nil))
		s := newStates(w, f, func(o *Options) { o.Source = SourceMachines })
		outcome, err := s.Refresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Publisher(s).Publish(*outcome.Snapshot)
		if got := w.Exposed(t); collectortest.Value(got, `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`) != "1" {
			t.Errorf("want one machine:\n%s", got)
		}
		if machines := s.fleet.Current().Machines; machines.Len() != 1 || slices.Max(machines.Count([]client.MachineID{id(2)})) != 1 {
			t.Errorf("%d machines in the index, want only the second", machines.Len())
		}
	})
}

func TestDuplicateRowsAreDroppedDuringTheCount(t *testing.T) {
	const most = 1000
	s := newStates(collectortest.NewWorld(), &fakeStates{}, func(o *Options) { o.MaxMachines = most })
	c, rows := s.newCount(SourcePreview, false), 0
	for n := range 400_000 {
		build := "first"
		if n >= most {
			build = "later"
		}
		row := state(n%most, build, "Amd64", "A")
		if err := c.addSecurityState(&row); err != nil {
			t.Fatalf("full after %d rows of %d machines: %v", n, most, err)
		}
		rows = max(rows, c.rows.Len())
	}
	if limit := most + 1<<16; rows > limit {
		t.Errorf("%d rows in memory, want at most %d", rows, limit)
	}
	if err := c.finishSecurityStates(); err != nil {
		t.Fatal(err)
	}
	got := c.result().Gauges[machinesGauge]
	if len(got) != 1 || got[0].Values[0] != "first" || got[0].Counts[0] != most {
		t.Errorf("%v, want %d machines, each by its first row", got, most)
	}
}

// hashedID returns an id that looks like the API's: a hash.
func hashedID(n uint64) (id client.MachineID) {
	r := rand.New(rand.NewPCG(n, 7))
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// randomFleet yields machines with a random set of properties each, random builds,
// architectures and revisions, and long strings.
func randomFleet(machines int) func(func(*client.SecurityState, error) bool) {
	return func(yield func(*client.SecurityState, error) bool) {
		random := rand.New(rand.NewPCG(1, 2))
		long := strings.Repeat("y", 200)
		for n := range machines {
			s := client.SecurityState{
				ID: hashedID(uint64(n)), Build: fmt.Appendf(nil, "build %d %s", random.IntN(3000), long),
				Architecture: fmt.Appendf(nil, "architecture %d %s", random.IntN(70), long), Revision: fmt.Append(nil, random.IntN(3000)),
			}
			var properties []string
			for p := range 120 {
				if random.IntN(3) == 0 || n < 1000 && p < maxProperties {
					properties = append(properties, fmt.Sprintf("property %d %s", p, long))
				}
			}
			s.Properties = collectortest.TextList(properties...)
			if !yield(&s, nil) {
				return
			}
		}
	}
}

func TestFleetMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a large fleet")
	}
	const machines, limit = 5_000, 60 << 20
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	w, before := collectortest.NewWorld(), used()
	s := newStates(w, &fakeStates{StateRows: randomFleet(machines)}, func(o *Options) { o.RevisionLabel = true })
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	// The exposed result is kept in memory until the next refresh is published.
	outcome, err := s.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	families, err := w.Exposition.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(used() - before); n > limit {
		t.Errorf("two refreshes of %d machines use %d MiB, want at most %d", machines, n>>20, limit>>20)
	}
	series, sum := 0, 0.
	for _, f := range families {
		series += len(f.Metric)
		for _, m := range f.Metric {
			if f.GetName() == "mde_machines" {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	if most := maxAttention + 2*maxGroups + 100; series > most || sum != machines {
		t.Errorf("%d series of %v machines, want at most %d of %d", series, sum, most, machines)
	}
	runtime.KeepAlive(outcome)
	runtime.KeepAlive(s)
}

func TestAllPropertiesOfAllBuildsFitTheLimits(t *testing.T) {
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{StateRows: func(yield func(*client.SecurityState, error) bool) {
		properties := make([]string, maxProperties)
		for p := range properties {
			properties[p] = fmt.Sprintf("property %d", p)
		}
		for n := range maxBuilds {
			row := state(n+1, fmt.Sprint("build ", n), "Amd64", properties...)
			if !yield(&row, nil) {
				return
			}
		}
	}})
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := w.Exposed(t); strings.Contains(got, `"other"`) || strings.Count(got, "mde_machines_attention{") != maxBuilds*maxProperties {
		t.Errorf("%d series, want %d", strings.Count(got, "mde_machines_attention{"), maxBuilds*maxProperties)
	}
}

func TestUnusualMachineIDs(t *testing.T) {
	zeros := strings.Repeat("0", 40)
	for name, tc := range map[string]struct {
		ids  []string // As JSON.
		want string
	}{
		"forty zeros are a valid id":                    {[]string{`"` + zeros + `"`, `"` + zeros + `"`, `"` + zeros + `"`}, "1"},
		"a number is its decimal text":                  {[]string{`17`, `17`, `"17"`, `18`}, "2"},
		"ids are case-insensitive":                      {[]string{`"Ab"`, `"aB"`, `"` + strings.Repeat("aB", 20) + `"`, `"` + strings.Repeat("Ab", 20) + `"`}, "2"},
		"machines without an id are counted separately": {[]string{`null`, `""`, `null`}, "3"},
	} {
		for _, source := range []string{SourcePreview, SourceMachines} {
			t.Run(name+", "+source, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, apis := collectortest.NewWorld(), healthyAPIs()
					var states, machines []string
					for _, id := range tc.ids {
						states = append(states, `{"id":`+id+`,"build":19045,"architecture":"Amd64","propertiesRequireAttention":["A"]}`)
						machines = append(machines, `{"id":`+id+`,"osBuild":19045,"osProcessor":"x64","healthStatus":"Inactive","onboardingStatus":"Onboarded"}`)
					}
					apis["machinesecuritystates"] = jsonResponse(200, `{"value":[`+strings.Join(states, ",")+`]}`)
					apis["machines"] = jsonResponse(200, `{"value":[`+strings.Join(machines, ",")+`]}`)
					s := newStates(w, newClient(t, apis), func(o *Options) { o.Source = source })
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					got := w.Exposed(t)
					for _, metric := range []string{"mde_machines", "mde_machines_requiring_attention"} {
						if n := collectortest.Value(got, metric+`{architecture="Amd64",os_build="19045",tenant="contoso"}`); n != tc.want {
							t.Errorf("%s is %s, want %s", metric, n, tc.want)
						}
					}
				})
			})
		}
	}
}

func TestRefreshFailsOnInvalidRow(t *testing.T) {
	for _, api := range []string{"machinesecuritystates", "machines", "deviceavinfo"} {
		for _, row := range []string{`null`, `[]`, `"machine"`, `7`} {
			synctest.Test(t, func(t *testing.T) {
				w, apis := collectortest.NewWorld(), healthyAPIs()
				source := SourceMachines
				if api == "machinesecuritystates" {
					source = SourcePreview
				}
				s := newStates(w, newClient(t, apis), func(o *Options) { o.Source = source })
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				before := w.Exposed(t)
				apis[api] = jsonResponse(200, `{"value":[`+row+`]}`)
				if err := w.Refresh(t.Context(), s); client.ReasonOf(err) != client.ReasonDecode || w.Exposed(t) != before {
					t.Errorf("%s, row %s: error %v and exposed:\n%s", api, row, err, w.Exposed(t))
				}
			})
		}
	}
}

func TestIndexKeepsMachinesBeyondTheLimitOfPropertySets(t *testing.T) {
	const machines = 1<<16 + 1000
	f := &fakeStates{StateRows: func(yield func(*client.SecurityState, error) bool) {
		for n := range machines { // Each machine has another set of properties.
			var properties []string
			for bit := range 17 {
				if (n+1)>>bit&1 != 0 {
					properties = append(properties, fmt.Sprint("property ", bit))
				}
			}
			row := state(n+1, "19045", "Amd64", properties...)
			if !yield(&row, nil) {
				return
			}
		}
	}}
	w := collectortest.NewWorld()
	s := newStates(w, f)
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := s.fleet.Current().Machines.Len(); n != machines {
		t.Errorf("%d machines in the index, want %d", n, machines)
	}
	if got := collectortest.Value(w.Exposed(t), `mde_machines_requiring_attention{architecture="Amd64",os_build="19045",tenant="contoso"}`); got != fmt.Sprint(machines) {
		t.Errorf("%s machines require attention, want %d", got, machines)
	}
}
