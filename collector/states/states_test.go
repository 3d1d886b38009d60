package states

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// previewFleet returns a small fleet with duplicate rows, missing and unusual values.
func previewFleet() []client.SecurityState {
	withoutID := client.SecurityState{Build: []byte("19045"), Architecture: []byte("Amd64"), Properties: collectortest.TextList("AntivirusNotReporting")}
	return []client.SecurityState{
		state(1, "19045", "Amd64", "AntivirusNotReporting", "EdrImpairedCommunications"),
		state(2, "19045", "Amd64", "AntivirusNotReporting", "AntivirusNotReporting"),
		state(3, "19045", "Amd64"),
		state(1, "22631", "Arm64", "EdrImpairedCommunications"), // Duplicate of the first machine.
		state(4, "14393", "X86"),
		state(5, "", ""),
		state(6, "", "Amd64", "Weird\nName\x00"),
		withoutID, withoutID, // Machines without an id are counted separately.
	}
}

func TestSecurityStatesCountEachMachineOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		s := newStates(w, &fakeStates{StateRows: collectortest.RowsOf(nil, previewFleet()...)})
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "preview.prom", w.Exposed(t))
		w.Lint(t)
	})
}

func TestRevisionLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := previewFleet()
		for i := range fleet {
			fleet[i].Revision = fmt.Append(nil, 1000+i%2)
		}
		w := collectortest.NewWorld()
		s := newStates(w, &fakeStates{StateRows: collectortest.RowsOf(nil, fleet...)}, func(o *Options) { o.RevisionLabel = true })
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "preview_revision.prom", w.Exposed(t))
	})
}

func machine(n int, change func(*client.Machine)) client.Machine {
	m := client.Machine{
		ID: id(n), RawID: fmt.Appendf(nil, "%x", id(n)), OSPlatform: []byte("Windows10"), OSBuild: []byte("19045"), OSProcessor: []byte("x64"),
		HealthStatus: []byte("Active"), OnboardingStatus: []byte("Onboarded"), RiskScore: []byte("None"), ExposureLevel: []byte("Low"),
	}
	if change != nil {
		change(&m)
	}
	return m
}

func antivirus(n int, change func(*client.AntivirusHealth)) client.AntivirusHealth {
	row := client.AntivirusHealth{
		MachineID: id(n), OSKind: []byte("windows"), OSVersion: []byte("10.0.19045.4046"), Mode: []byte("0"),
		SignatureUpToDate: []byte("True"), EngineUpToDate: []byte("True"), PlatformUpToDate: []byte("True"), DataRefreshedAt: time.Now().Add(-time.Hour),
	}
	if change != nil {
		change(&row)
	}
	return row
}

func machineFleet() *fakeStates {
	set := func(field func(*client.Machine) *[]byte, value string) func(*client.Machine) {
		return func(m *client.Machine) { *field(m) = []byte(value) }
	}
	health := func(m *client.Machine) *[]byte { return &m.HealthStatus }
	return &fakeStates{
		StateRows: collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 404)),
		MachineRows: collectortest.RowsOf(nil,
			machine(1, nil),
			machine(2, set(health, "Inactive")),
			machine(3, set(health, "NoSensorDataImpairedCommunication")),
			machine(1, set(health, "Inactive")), // Duplicate of the first machine.
			machine(4, func(m *client.Machine) { m.Merged = true }),
			machine(5, set(func(m *client.Machine) *[]byte { return &m.OnboardingStatus }, "CanBeOnboarded")),
			machine(6, func(m *client.Machine) {
				m.OSPlatform, m.OSBuild, m.OSProcessor = []byte("Linux"), nil, []byte("arm64")
				m.RiskScore, m.ExposureLevel, m.HealthStatus = nil, nil, nil
			}),
			machine(7, set(func(m *client.Machine) *[]byte { return &m.RiskScore }, "High")),
			machine(8, set(func(m *client.Machine) *[]byte { return &m.RiskScore }, "Catastrophic")),
		),
		AntivirusRows: collectortest.RowsOf(nil,
			antivirus(1, nil),
			antivirus(2, func(a *client.AntivirusHealth) { a.Mode = []byte("2") }),
			antivirus(7, func(a *client.AntivirusHealth) { a.SignatureUpToDate = []byte("False") }),
			antivirus(7, func(a *client.AntivirusHealth) { a.DataRefreshedAt = time.Now().Add(-2 * time.Hour) }), // Older, ignored.
			antivirus(99, func(a *client.AntivirusHealth) { a.Mode = []byte("2") }),                              // Matches no machine.
		),
	}
}

func TestMachinesSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := collectortest.NewWorld()
		s := newStates(w, machineFleet(), func(o *Options) { o.Source = SourceMachines; o.RevisionLabel = true })
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "machines.prom", w.Exposed(t))
		w.Lint(t)
	})
}

func TestNewestAntivirusRowCounts(t *testing.T) {
	set := func(mode, signature string, age time.Duration) func(*client.AntivirusHealth) {
		return func(a *client.AntivirusHealth) {
			a.Mode, a.SignatureUpToDate, a.DataRefreshedAt = []byte(mode), []byte(signature), time.Now().Add(-age)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		rows := []client.AntivirusHealth{
			antivirus(1, set("2", "True", time.Hour)),
			antivirus(1, set("0", "False", time.Hour)),
			antivirus(1, set("0", "True", time.Hour)),
			antivirus(1, func(a *client.AntivirusHealth) {
				a.PlatformUpToDate, a.DataRefreshedAt = []byte("False"), time.Now().Add(-2*time.Hour)
			}),
		}
		for range rows {
			rows = append(rows[1:], rows[0])
			w := collectortest.NewWorld()
			f := &fakeStates{MachineRows: collectortest.RowsOf(nil, machine(1, nil)), AntivirusRows: collectortest.RowsOf(nil, rows...)}
			if err := w.Refresh(t.Context(), newStates(w, f, func(o *Options) { o.Source = SourceMachines })); err != nil {
				t.Fatal(err)
			}
			got := w.Exposed(t)
			for property, want := range map[string]string{"AntivirusOff": "1", "AntivirusDefinitionsOutOfDate": "1", "AntivirusPlatformOutOfDate": ""} {
				if n := collectortest.Value(got, `mde_machines_attention{architecture="Amd64",os_build="19045",property="`+property+`",tenant="contoso"}`); n != want {
					t.Errorf("%s is %q, want %q", property, n, want)
				}
			}
		}
	})
}

func TestFleetIsCountedWithoutAntivirusRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{403, 404, 410} {
			w := collectortest.NewWorld()
			f := machineFleet()
			// Rows before a refusal are discarded.
			f.AntivirusRows = collectortest.RowsOf(apiError(client.DeviceAVInfo, status), antivirus(1, func(a *client.AntivirusHealth) { a.Mode = []byte("2") }))
			s := newStates(w, f, func(o *Options) { o.Source = SourceMachines })
			for range 2 {
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			got := w.Exposed(t)
			if collectortest.Value(got, `mde_security_states_incomplete{part="antivirus",tenant="contoso"}`) != "1" ||
				collectortest.Value(got, `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`) != "5" ||
				collectortest.Value(got, `mde_machines_attention{architecture="Amd64",os_build="19045",property="EdrInactive",tenant="contoso"}`) != "1" ||
				strings.Contains(got, "AntivirusOff") {
				t.Errorf("with a %d:\n%s", status, got)
			}
			if n := strings.Count(w.Log.String(), "Antivirus states unavailable"); n != 1 {
				t.Errorf("status %d logged %d times, want once", status, n)
			}
			if notes := s.Page().Notes; len(notes) != 1 || !strings.Contains(notes[0], "Machine.Read.All") {
				t.Errorf("notes %q", notes)
			}
			f.AntivirusRows = machineFleet().AntivirusRows
			if err := w.Refresh(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if got := w.Exposed(t); !strings.Contains(got, "AntivirusOff") || len(s.Page().Notes) != 0 {
				t.Errorf("after the role was granted:\n%s\nnotes %q", got, s.Page().Notes)
			}
		}
	})
}

func TestFailedRefreshKeepsTheValues(t *testing.T) {
	for name, fail := range map[string]func(f *fakeStates){
		"preview fails after some machines": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf(apiError(client.MachineSecurityStates, 502), previewFleet()[:2]...)
		},
		"preview refused after some machines": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf(apiError(client.MachineSecurityStates, 403), previewFleet()[:2]...)
		},
		"preview times out": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](&client.Error{API: client.MachineSecurityStates, Reason: client.ReasonTimeout})
		},
		"preview throttled": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](&client.Error{API: client.MachineSecurityStates, Status: 429, Reason: client.ReasonThrottled})
		},
		"sign-in host unreachable": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](&client.Error{API: client.Token, Reason: client.ReasonNetwork})
		},
		"preview gone, machines fail": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 410))
			f.MachineRows = collectortest.RowsOf(apiError(client.Machines, 500), machine(1, nil))
		},
		"preview gone, antivirus rows fail": func(f *fakeStates) {
			f.StateRows = collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 410))
			f.AntivirusRows = collectortest.RowsOf(apiError(client.DeviceAVInfo, 500), antivirus(1, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				f := machineFleet()
				f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
				s := newStates(w, f)
				if err := w.Refresh(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				before := w.Exposed(t)
				fail(f)
				if err := w.Refresh(t.Context(), s); err == nil {
					t.Fatal("no error")
				}
				if after := w.Exposed(t); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		})
	}
}

func TestAutoFallsBackImmediatelyWithoutPreviewValues(t *testing.T) {
	for name, refusal := range map[string]error{
		"404": apiError(client.MachineSecurityStates, 404),
		"410": apiError(client.MachineSecurityStates, 410),
		"400": apiError(client.MachineSecurityStates, 400),
		"401": apiError(client.MachineSecurityStates, 401),
		"403": apiError(client.MachineSecurityStates, 403),
		"no Graph token for the app": &client.Error{
			API: client.Token, Status: 400, Reason: client.ReasonAuth, Code: "invalid_resource"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				f := machineFleet()
				f.StateRows = collectortest.RowsOf[client.SecurityState](refusal)
				s := newStates(w, f)
				for range 3 {
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					time.Sleep(15 * time.Minute)
				}
				requested := func() int {
					n := 0
					for _, api := range f.Calls {
						if api == client.MachineSecurityStates {
							n++
						}
					}
					return n
				}
				if requested() != 1 {
					t.Errorf("the preview requested %d times in three refreshes", requested())
				}
				if n := strings.Count(w.Log.String(), "Graph preview unavailable, falling back"); n != 1 {
					t.Errorf("fallback logged %d times", n)
				}
				if got := w.Exposed(t); collectortest.Value(got, `mde_security_states_source_info{source="machines",tenant="contoso"}`) != "1" {
					t.Errorf("exposed:\n%s", got)
				}
				s.Reloaded()
				refresh := func(want int, when string) {
					t.Helper()
					if err := w.Refresh(t.Context(), s); err != nil {
						t.Fatal(err)
					}
					if requested() != want {
						t.Errorf("%s the preview was requested %d times in total, want %d", when, requested(), want)
					}
				}
				refresh(2, "after a reload")
				refresh(2, "right after that")
				time.Sleep(24 * time.Hour)
				f.StateRows = collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 503))
				refresh(3, "a day later, during a temporary failure,")
				time.Sleep(24 * time.Hour)
				f.StateRows = collectortest.RowsOf(nil, previewFleet()...)
				refresh(4, "another day later")
				refresh(5, "once it is available again")
				if got := w.Exposed(t); collectortest.Value(got, `mde_security_states_source_info{source="machinesecuritystates",tenant="contoso"}`) != "1" ||
					strings.Contains(got, `source="machines"`) || strings.Contains(got, "mde_machines_health") {
					t.Errorf("exposed:\n%s", got)
				}
			})
		})
	}
}

func TestRefusalOfBothSourcesReportsBothErrors(t *testing.T) {
	w := collectortest.NewWorld()
	f := &fakeStates{
		StateRows:     collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 403)),
		MachineRows:   collectortest.RowsOf[client.Machine](apiError(client.Machines, 403)),
		AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil),
	}
	err := w.Refresh(t.Context(), newStates(w, f))
	if client.ReasonOf(err) != client.ReasonForbidden || !strings.Contains(fmt.Sprint(err), "machinesecuritystates: HTTP 403") || !strings.Contains(fmt.Sprint(err), "machines: HTTP 403") {
		t.Errorf("error %v", err)
	}
}

func TestEmptyFleetIsReadTwice(t *testing.T) {
	const fleet = `mde_machines{architecture="Amd64",os_build="19045",tenant="contoso"}`
	for name, tc := range map[string]struct {
		responses []func(func(*client.Machine, error) bool) // After a first complete fleet.
		calls     int
		want      string
		fails     bool
	}{
		"temporary empty page":       {[]func(func(*client.Machine, error) bool){collectortest.RowsOf[client.Machine](nil), collectortest.RowsOf(nil, machine(1, nil))}, 2, "1", false},
		"permanent empty page":       {[]func(func(*client.Machine, error) bool){collectortest.RowsOf[client.Machine](nil), collectortest.RowsOf[client.Machine](nil)}, 2, "", false},
		"temporary 404":              {[]func(func(*client.Machine, error) bool){collectortest.RowsOf[client.Machine](apiError(client.Machines, 404)), collectortest.RowsOf(nil, machine(1, nil))}, 2, "1", false},
		"permanent 404":              {[]func(func(*client.Machine, error) bool){collectortest.RowsOf[client.Machine](apiError(client.Machines, 404)), collectortest.RowsOf[client.Machine](apiError(client.Machines, 404))}, 2, "", false},
		"empty page, then a failure": {[]func(func(*client.Machine, error) bool){collectortest.RowsOf[client.Machine](nil), collectortest.RowsOf[client.Machine](apiError(client.Machines, 500))}, 2, "2", true},
		"404 after some machines":    {[]func(func(*client.Machine, error) bool){collectortest.RowsOf(apiError(client.Machines, 404), machine(1, nil))}, 1, "2", true},
		"smaller fleet":              {[]func(func(*client.Machine, error) bool){collectortest.RowsOf(nil, machine(1, nil))}, 1, "1", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld()
			f := &fakeStates{AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil), MachineRows: collectortest.RowsOf(nil, machine(1, nil), machine(2, nil))}
			s := newStates(w, f, func(o *Options) { o.Source = SourceMachines })
			if err := w.Refresh(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			calls := 0
			f.MachineRows = func(yield func(*client.Machine, error) bool) {
				response := tc.responses[calls]
				calls++
				response(yield)
			}
			if err := w.Refresh(t.Context(), s); (err != nil) != tc.fails {
				t.Errorf("error %v", err)
			}
			if got := collectortest.Value(w.Exposed(t), fleet); got != tc.want || calls != tc.calls {
				t.Errorf("%q machines after %d calls, want %q after %d", got, calls, tc.want, tc.calls)
			}
		})
	}
}

func TestLabelValuesAreBoundedAndAllMachinesCounted(t *testing.T) {
	const machines = 6_000
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{StateRows: func(yield func(*client.SecurityState, error) bool) {
		for i := range machines {
			row := state(i+1, fmt.Sprint("build ", i%3000), fmt.Sprint("architecture ", i%70), fmt.Sprint("property ", i), "\xff\x00", strings.Repeat("x", 1<<12)+fmt.Sprint(i))
			if !yield(&row, nil) {
				return
			}
		}
	}})
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	families, err := collector.Combine(w.Registry, w.Exposition).Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums, values, series := map[string]float64{}, map[string]map[string]bool{}, 0
	for _, f := range families {
		series += len(f.Metric)
		for _, m := range f.Metric {
			sums[f.GetName()] += m.GetGauge().GetValue()
			for _, l := range m.Label {
				if len(l.GetValue()) > labels.MaxBytes {
					t.Fatalf("a label value of %d bytes", len(l.GetValue()))
				}
				if values[l.GetName()] == nil {
					values[l.GetName()] = map[string]bool{}
				}
				values[l.GetName()][l.GetValue()] = true
			}
		}
	}
	if sums["mde_machines"] != machines || sums["mde_machines_requiring_attention"] != machines {
		t.Errorf("%v machines and %v requiring attention, want %d", sums["mde_machines"], sums["mde_machines_requiring_attention"], machines)
	}
	for label, limit := range map[string]int{"os_build": maxBuilds + 1, "architecture": maxArchitectures + 1, "property": maxProperties + 1} {
		if n := len(values[label]); n != limit {
			t.Errorf("%d values of %s, want %d", n, label, limit)
		}
	}
	if series > 250_000 {
		t.Errorf("%d series", series)
	}
	if n := s.fleet.Current().Machines.Len(); n != machines {
		t.Errorf("%d machines in the index", n)
	}
	got := collectortest.Text(t, w.Registry)
	for label, want := range map[string]string{"os_build": "2000", "architecture": "20", "property": "5902"} {
		if v := collectortest.Value(got, `mde_label_values_dropped_total{label="`+label+`",tenant="contoso"}`); v != want {
			t.Errorf("%s values of %s dropped, want %s", v, label, want)
		}
	}
}

func TestStoredStatesAreServedUntilTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		keep := func(o *Options) { o.Store = store }
		w := collectortest.NewWorld()
		f := machineFleet()
		if err := w.Refresh(t.Context(), newStates(w, f, keep)); err != nil {
			t.Fatal(err)
		}
		before, at := w.Exposed(t), time.Now()
		time.Sleep(30 * time.Minute)

		w = collectortest.NewWorld() // The restart.
		s := newStates(w, &fakeStates{
			StateRows:     collectortest.RowsOf[client.SecurityState](apiError(client.MachineSecurityStates, 500)),
			MachineRows:   collectortest.RowsOf[client.Machine](apiError(client.Machines, 500)),
			AntivirusRows: collectortest.RowsOf[client.AntivirusHealth](nil),
		}, keep)
		if got := s.Start(t.Context(), w.Publisher(s)); !got.Equal(at) {
			t.Errorf("age of the values %s, want %s", got, at)
		}
		if after := w.Exposed(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if err := w.Refresh(t.Context(), s); err == nil || strings.Contains(err.Error(), "preview") {
			t.Errorf("error %v, want the preview not requested", err)
		}
		time.Sleep(15 * time.Minute)
		if got := w.Exposed(t); strings.Contains(got, "mde_machines{") || !strings.Contains(got, "mde_security_states_source_info") {
			t.Errorf("45 minutes after the refresh:\n%s", got)
		}
	})
}

func TestStatesStoredByOlderVersionsAreServed(t *testing.T) {
	const stored = `{"at":"AT","source":"machines","revision_label":true,"properties":["AntivirusOff","EdrInactive"],
		"groups":[{"build":"19045","architecture":"Amd64","revision":"4046","machines":3,"requiring":1,"attention":[0,1]},
			{"build":"unknown","architecture":"Arm64","revision":"unknown","machines":1,"requiring":1,"attention":[1,1]}],
		"health":{"Active":3,"Inactive":1,"Unknown":0},"risk":{"High":1,"None":3},"exposure":{"Low":4},"platforms":{"Linux":1,"Windows10":3}}`
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{}, func(o *Options) {
		o.RevisionLabel = true
		o.Store = &collector.MemoryStore{Values: map[string]string{"security_states": strings.Replace(stored, "AT", time.Now().Format(time.RFC3339), 1)}}
	})
	s.Start(t.Context(), w.Publisher(s))
	got := w.Exposed(t)
	for series, want := range map[string]string{
		`mde_machines{architecture="Amd64",os_build="19045",os_revision="4046",tenant="contoso"}`:                                       "3",
		`mde_machines_requiring_attention{architecture="Arm64",os_build="unknown",os_revision="unknown",tenant="contoso"}`:              "1",
		`mde_machines_attention{architecture="Amd64",os_build="19045",os_revision="4046",property="AntivirusOff",tenant="contoso"}`:     "0",
		`mde_machines_attention{architecture="Arm64",os_build="unknown",os_revision="unknown",property="EdrInactive",tenant="contoso"}`: "1",
		`mde_machines_health{health_status="Unknown",tenant="contoso"}`:                                                                 "0",
		`mde_machines_risk{risk_score="High",tenant="contoso"}`:                                                                         "1",
		`mde_machines_exposure{exposure_level="Low",tenant="contoso"}`:                                                                  "4",
		`mde_machines_os_platform{os_platform="Windows10",tenant="contoso"}`:                                                            "3",
		`mde_security_states_source_info{source="machines",tenant="contoso"}`:                                                           "1",
	} {
		if n := collectortest.Value(got, series); n != want {
			t.Errorf("%s is %q, want %s", series, n, want)
		}
	}
}

func TestRestartWithOtherLabelsRefreshesImmediately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		w := collectortest.NewWorld()
		if err := w.Refresh(t.Context(), newStates(w, machineFleet(), func(o *Options) { o.Store = store })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)

		w = collectortest.NewWorld() // The restart.
		s := newStates(w, machineFleet(), func(o *Options) { o.Store, o.RevisionLabel = store, true })
		collectortest.RunFor(t, collector.NewRefresher(collector.RefresherOptions{
			Env:       collector.Env{Tenant: "contoso", Name: collectortest.NameOf(s), Store: store, Logger: w.Logger},
			Schedule:  collector.Schedule{RefreshInterval: model.Duration(15 * time.Minute)},
			Collector: s, Resume: true, Exposition: w.Exposition,
		}), time.Second)
		if got := w.Exposed(t); !strings.Contains(got, "os_revision") {
			t.Errorf("a second after the restart:\n%s", got)
		}
	})
}

func TestInvalidStoredStatesAreIgnored(t *testing.T) {
	at := time.Now().Format(time.RFC3339)
	for name, tc := range map[string]struct {
		text, logged string
	}{
		"no object":                  {`[]`, "cannot read it"},
		"no time":                    {`{}`, "no time"},
		"too few counts":             {`{"at":"` + at + `","properties":["a","b"],"groups":[{"build":"1","machines":1,"attention":[1]}]}`, "wrong number"},
		"a negative count":           {`{"at":"` + at + `","properties":["a"],"groups":[{"build":"1","machines":1,"attention":[-1]}]}`, "wrong number"},
		"a long label":               {`{"at":"` + at + `","groups":[{"build":"` + strings.Repeat("1", 129) + `","machines":1}]}`, "too long"},
		"too many groups":            {`{"at":"` + at + `","groups":[{"build":"1"}` + strings.Repeat(`,{"build":"1"}`, maxGroups) + `]}`, "too many groups"},
		"too many platforms":         {`{"at":"` + at + `","platforms":{"0":1` + manyKeys(maxPlatforms+2) + `}}`, "too many groups"},
		"a series twice":             {`{"at":"` + at + `","groups":[{"build":"1"},{"build":"1"}]}`, "occur twice"},
		"a time in the future":       {`{"at":"2999-01-01T00:00:00Z","groups":[{"build":"1","machines":1}]}`, "is in the future"},
		"another set of labels":      {`{"at":"` + at + `","revision_label":true,"groups":[{"build":"1","machines":1}]}`, ""},
		"too few counts of a gauge":  {`{"at":"` + at + `","properties":["a","b"],"gauges":{"mde_machines_attention":[{"values":["1",""],"counts":[1]}]}}`, "wrong number"},
		"too many values of a gauge": {`{"at":"` + at + `","gauges":{"mde_machines":[{"values":["1","",""],"counts":[1]}]}}`, "wrong number"},
		"an expired result":          {`{"at":"2020-01-01T00:00:00Z","groups":[{"build":"1","machines":1}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := collectortest.NewWorld()
			s := newStates(w, &fakeStates{}, func(o *Options) {
				o.Store = &collector.MemoryStore{Values: map[string]string{"security_states": tc.text}}
			})
			s.Start(t.Context(), w.Publisher(s))
			if got := w.Exposed(t); got != "" {
				t.Errorf("exposed:\n%s", got)
			}
			if !strings.Contains(w.Log.String(), tc.logged) {
				t.Errorf("log %q without %q", w.Log.String(), tc.logged)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"key %d":1`, i)
	}
	return b.String()
}

func TestFailingStoreDoesNotFailTheRefresh(t *testing.T) {
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{StateRows: collectortest.RowsOf(nil, previewFleet()...)}, func(o *Options) {
		o.Store = failingStore{}
	})
	s.Start(t.Context(), w.Publisher(s))
	if err := w.Refresh(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.Exposed(t), "mde_machines{") || !strings.Contains(w.Log.String(), "disk full") {
		t.Errorf("exposed:\n%s\nlog:\n%s", w.Exposed(t), w.Log)
	}
}

func BenchmarkCountSecurityStates(b *testing.B) {
	const machines = 100_000
	fleet := make([]client.SecurityState, machines)
	builds := []string{"19045", "22631", "26100", "14393", "17763"}
	properties := []string{"AntivirusNotReporting", "EdrImpairedCommunications", "AntivirusOff"}
	for i := range fleet {
		fleet[i] = state(0, builds[i%len(builds)], "Amd64", properties[:i%10/7]...)
		fleet[i].ID = hashedID(uint64(i))
	}
	dropped := newDroppedLabels(collectortest.NewWorld().Tenant, func(string) bool { return false })
	for b.Loop() {
		c := newFleetCount(SourcePreview, Config{MaxMachines: machines}, time.Now(), false, 0, nil, dropped)
		for i := range fleet {
			if err := c.addSecurityState(&fleet[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.finishSecurityStates(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*machines), "ns/machine")
}

func BenchmarkCountMachines(b *testing.B) {
	const machines = 100_000
	fleet, rows := make([]client.Machine, machines), make([]client.AntivirusHealth, machines)
	now := time.Now()
	tags := []string{"Site-01", "Site-02", "Laptop", "VIP", "vip"}
	random := rand.New(rand.NewPCG(1, 2))
	ago := func(days int) time.Time { return now.Add(-time.Duration(random.Int64N(int64(days) * int64(day)))) }
	for i := range fleet {
		fleet[i] = machine(0, func(m *client.Machine) {
			m.ID, m.OSBuild = hashedID(uint64(i)), fmt.Append(nil, 10_000+random.IntN(16)*613)
			m.DeviceGroup, m.AgentVersion = fmt.Append(nil, "Group ", random.IntN(8)), fmt.Append(nil, "10.8790.", string(m.OSBuild), ".", random.IntN(3))
			m.Tags, m.LastSeen = collectortest.TextList(tags[random.IntN(3):3]...), ago(10)
			if random.IntN(20) == 0 {
				m.HealthStatus = []byte("Inactive")
			}
		})
		rows[i] = antivirus(0, func(a *client.AntivirusHealth) {
			a.MachineID, a.Mode = fleet[i].ID, fmt.Append(nil, random.IntN(40)/38)
			a.EngineVersion, a.PlatformVersion = fmt.Append(nil, "1.1.25020.", random.IntN(4)), fmt.Append(nil, "4.18.25010.", random.IntN(4))
			a.SignaturesPublishedAt = ago(5)
			a.QuickScan, a.FullScan = client.Scan{Result: []byte("Completed"), At: ago(9)}, client.Scan{Result: []byte("Completed"), At: ago(40)}
		})
	}
	w := collectortest.NewWorld()
	s := newStates(w, &fakeStates{}, readMachines, func(o *Options) {
		o.Tags = []string{"Site-01", "Site-02", "Site-03", "Laptop", "Pilot ring", "VIP", "Kiosk", "Tier 0", "Site-04", "Desktop"}
	})
	s.began = now
	for b.Loop() {
		c := s.newCount(SourceMachines, false)
		for i := range rows {
			if err := c.addAntivirusRow(&rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		for i := range fleet {
			if err := c.addMachine(&fleet[i]); err != nil {
				b.Fatal(err)
			}
		}
		c.finishMachines()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*machines), "ns/machine")
}

func TestSummarySaysWhenTheValuesAreWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		keep := func(o *Options) { o.Store = store }
		w := collectortest.NewWorld()
		s := newStates(w, &fakeStates{StateRows: collectortest.RowsOf(nil, previewFleet()...)}, keep)
		if got := s.Page(); got.Summary != "" || got.Source != "" {
			t.Errorf("before the first refresh: %+v", got)
		}
		unknown := []collector.Measure{{Title: "Require attention"}, {Title: "Most frequent problem"}}
		if got := s.Page().Measures; !slices.Equal(got, unknown) {
			t.Errorf("before the first refresh: %+v", got)
		}
		at := time.Now()
		if err := w.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		const want = "8 machines, 5 require attention"
		if got := s.Page(); got.Summary != want || got.Source != SourcePreview || s.shown.At != at.Round(0) {
			t.Errorf("after a refresh: %+v, want %+v", got, want)
		}
		time.Sleep(44 * time.Minute)
		if got := s.Page(); got.Summary != want {
			t.Errorf("44 minutes later: %+v, want %+v", got, want)
		}
		time.Sleep(time.Minute)
		const withdrawn = "values withdrawn: older than max_age 45m"
		if got := s.Page(); got.Summary != withdrawn || !slices.Equal(got.Measures, unknown) {
			t.Errorf("at the maximum age: %+v", got)
		}
		s = newStates(collectortest.NewWorld(), &fakeStates{}, keep)
		s.Start(t.Context(), w.Publisher(s))
		if got := s.Page(); got.Summary != withdrawn || !s.shown.At.Equal(at) {
			t.Errorf("after a restart: %+v", got)
		}
	})
}

func TestSummaryIsSingularOnlyForOneMachine(t *testing.T) {
	for _, test := range []struct {
		machines, requiring int
		want                string
	}{
		{0, 0, "0 machines, 0 require attention"},
		{1, 0, "1 machine, 0 require attention"},
		{1, 1, "1 machine, 1 requires attention"},
		{12_345, 2, "12,345 machines, 2 require attention"},
	} {
		r := &statesResult{Gauges: map[string][]stateGroup{machinesGauge: {{Counts: []int{test.machines}}}, requiringGauge: {{Counts: []int{test.requiring}}}}}
		if got := r.summary(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestMeasures(t *testing.T) {
	result := func(machines, requiring int, incomplete bool, attention ...int) *statesResult {
		return &statesResult{
			Incomplete: incomplete, Properties: []string{"AntivirusOff", "FirewallOff"}[:len(attention)],
			Gauges: map[string][]stateGroup{
				machinesGauge: {{Counts: []int{machines}}}, requiringGauge: {{Counts: []int{requiring}}}, attentionGauge: {{Counts: attention}},
			},
		}
	}
	for name, test := range map[string]struct {
		result     *statesResult
		share, top string
	}{
		"nothing was read":                        {nil, "", ""},
		"some machines":                           {result(8, 5, false, 2, 4), "62.5%", "FirewallOff: 4"},
		"no machine requires attention":           {result(8, 0, false), "0.0%", "none"},
		"very few require attention":              {result(100000, 1, false, 1), "under 0.1%", "AntivirusOff: 1"},
		"thousands require attention":             {result(100000, 50000, false, 45678), "50.0%", "AntivirusOff: 45,678"},
		"no machines":                             {result(0, 0, false), "no machines", "none"},
		"a part could not be read":                {result(8, 2, true, 2), "25.0% or more", "AntivirusOff: 2"},
		"nothing found, a part could not be read": {result(8, 0, true), "0.0% or more", ""},
	} {
		got := test.result.measures()
		if got[0].Text != test.share || got[1].Text != test.top {
			t.Errorf("%s: %+v, want %q and %q", name, got, test.share, test.top)
		}
	}
}

func TestValuesAreAsOldAsTheStartOfTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := collectortest.NewWorld(), machineFleet()
		for _, source := range []string{SourcePreview, SourceMachines} {
			states, machines := collectortest.RowsOf(nil, previewFleet()...), collectortest.RowsOf(nil, machine(1, nil))
			f.StateRows = func(yield func(*client.SecurityState, error) bool) { time.Sleep(time.Minute); states(yield) }
			f.MachineRows = func(yield func(*client.Machine, error) bool) { time.Sleep(time.Minute); machines(yield) }
			s := newStates(w, f, func(o *Options) { o.Source = source })
			began := time.Now()
			outcome, err := s.Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if at := outcome.Snapshot.At; at != began.Round(0) {
				t.Errorf("%s: %s, want %s without a monotonic clock reading", source, at, began)
			}
			if expires := outcome.Snapshot.Blocks[0].Expires; expires != began.Round(0).Add(45*time.Minute) {
				t.Errorf("%s: expires at %s", source, expires)
			}
			outcome.Snapshot.Share()
			if expires := s.fleet.Current().At.Add(s.fleet.Current().MaxAge); expires != began.Round(0).Add(45*time.Minute) {
				t.Errorf("%s: the join expires at %s", source, expires)
			}
		}
	})
}
