package domains

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestCountOfDomainMachinesIsBounded(t *testing.T) {
	var most uint64
	rows := 0
	endless := func(yield func(*client.Machine, error) bool) {
		for n := 1; n <= 4_000_000; n++ {
			rows = n
			m := client.Machine{ID: id(n), RawID: fmt.Appendf(nil, "%040x", n), RiskScore: []byte("Low")}
			if n%100_000 == 0 {
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
			if !yield(&m, nil) {
				return
			}
		}
	}
	w := collectortest.NewWorld()
	d := newDomains(w, newFakeAPI().client(t, nil, w.Tenant), nil)
	r, err := countDomain(endless, d.riskName, nil, 500)
	if err != nil {
		t.Fatal(err)
	}
	if r.Machines < 2*client.DomainMachinesLimit || r.Machines > 10*client.DomainMachinesLimit || !r.Truncated {
		t.Errorf("%d machines, truncated %v: want a lower bound above the API's maximum", r.Machines, r.Truncated)
	}
	if rows > 10*client.DomainMachinesLimit || len(r.IDs) > 10*client.DomainMachinesLimit*20 || len(r.Named) != 500 || most > 100<<20 {
		t.Errorf("%d rows read, %d bytes of ids and %d names kept, heap of %d bytes", rows, len(r.IDs), len(r.Named), most)
	}
}

func TestMergedRowCountsAsTheMachineItWasMergedInto(t *testing.T) {
	const merged = `,"mergedIntoMachineId":"%s"`
	hexID := func(n int) string { m := id(n); return fmt.Sprintf("%x", m[:]) }
	into := func(n int) string { return fmt.Sprintf(merged, strings.ToUpper(hexID(n))) }
	for _, test := range []struct {
		name      string
		rows      []string
		machines  int
		attention string // Machines with AntivirusOff: machine 1 has it.
		risk      string // Scores other than 0.
		named     string
	}{
		{"after the machine's own row", []string{row(1, `,"riskScore":"High"`), row(8, `,"riskScore":"Low"`+into(1))}, 1, "1", "High=1", hexID(1) + " host-1.contoso.example"},
		{"before the machine's own row", []string{row(8, `,"riskScore":"Low"`+into(1)), row(1, `,"riskScore":"High"`)}, 1, "1", "High=1", hexID(1) + " host-1.contoso.example"},
		{"without the machine's own row", []string{row(8, `,"riskScore":"Low"`+into(1))}, 1, "1", "Low=1", strings.ToUpper(hexID(1)) + " host-8.contoso.example"},
		{"twice without the machine's own row", []string{row(8, into(1)), row(9, into(1))}, 1, "1", "None=1", strings.ToUpper(hexID(1)) + " host-8.contoso.example"},
		{"merged into a merged machine", []string{row(8, into(9)), row(9, into(1))}, 1, "1", "None=1", strings.ToUpper(hexID(1)) + " host-8.contoso.example"},
		{"merge cycle", []string{row(8, into(9)), row(9, into(8))}, 2, "0", "None=2", ""},
		{"merged into itself", []string{row(1, into(1))}, 1, "1", "None=1", hexID(1) + " host-1.contoso.example"},
		{"merged into nothing", []string{row(1, `,"mergedIntoMachineId":""`), row(2, `,"mergedIntoMachineId":null`)}, 2, "1", "None=2", ""},
		{"without an id", []string{`{"mergedIntoMachineId":"` + hexID(1) + `"}`, row(1, "")}, 1, "1", "None=1", hexID(1) + " host-1.contoso.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))})
				api := newFakeAPI()
				api.respond = responses(map[string]string{"evil.example": page(test.rows...)})
				d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) {
					o.Attention, o.MachineInfoLimit = attention.Of(w.Shared), 1
				})
				refreshOnce(t, w, states)
				start(t, w, d, time.Hour)
				time.Sleep(time.Second)
				synctest.Wait()
				got := w.Exposed(t)
				if n := collectortest.Value(got, `mde_watched_domain_machines{domain="evil.example",tenant="contoso"}`); n != fmt.Sprint(test.machines) {
					t.Errorf("%s machines, want %d", n, test.machines)
				}
				if n := collectortest.Value(got, `mde_watched_domain_machines_attention{domain="evil.example",property="AntivirusOff",tenant="contoso"}`); n != test.attention {
					t.Errorf("%s machines require attention, want %s", n, test.attention)
				}
				var risks []string
				for _, score := range client.RiskScores {
					if n := collectortest.Value(got, `mde_watched_domain_machines_risk{domain="evil.example",risk_score="`+score+`",tenant="contoso"}`); n != "0" {
						risks = append(risks, score+"="+n)
					}
				}
				if strings.Join(risks, " ") != test.risk {
					t.Errorf("risk %q, want %s", risks, test.risk)
				}
				id, name, _ := strings.Cut(test.named, " ")
				if test.named != "" && collectortest.Value(got, `mde_watched_domain_machine_info{computer_dns_name="`+name+`",domain="evil.example",machine_id="`+id+`",tenant="contoso"}`) != "1" {
					t.Errorf("want %s:\n%s", test.named, got)
				}
			})
		})
	}
}

func TestNewestMachinesAreIndependentOfOrder(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	machines := []namedMachine{{ID: "d", LastSeen: at(1)}, {ID: "b", LastSeen: at(2)}, {ID: "c", LastSeen: at(2)}, {ID: "a"}, {ID: "b", LastSeen: at(2)}}
	for range 10 {
		var ids []string
		for _, m := range newestMachines(slices.Clone(machines), 3) {
			ids = append(ids, m.ID)
		}
		if got := strings.Join(ids, " "); got != "b c d" {
			t.Errorf("named %s, want b c d", got)
		}
		machines = append(machines[1:], machines[0])
	}
}

// Values expire after maxAge. The join expires fleetAge after its fleet, and with the
// values at the latest.
func TestBlocksExpireSeparately(t *testing.T) {
	const maxAge, fleetAge = time.Hour, 30 * time.Minute
	for name, tc := range map[string]struct {
		fleet, statistics, invalid time.Duration // Age relative to the machines.
		withdrawn                  map[string]time.Duration
	}{
		"older fleet": {-10 * time.Minute, 0, 0, map[string]time.Duration{
			"mde_watched_domain_machines": maxAge, "mde_watched_domain_machines_attention": 20 * time.Minute, "mde_watched_domain_prevalence": maxAge,
		}},
		"newer fleet": {40 * time.Minute, 0, 0, map[string]time.Duration{
			"mde_watched_domain_machines": maxAge, "mde_watched_domain_machines_attention": maxAge,
		}},
		"older statistics": {0, -20 * time.Minute, 0, map[string]time.Duration{
			"mde_watched_domain_machines": maxAge, "mde_watched_domain_machines_attention": fleetAge, "mde_watched_domain_prevalence": 40 * time.Minute,
		}},
		"invalid name": {0, 0, 10 * time.Minute, map[string]time.Duration{
			"mde_watched_domain_machines": maxAge, "mde_watched_domain_machines_truncated": maxAge, "mde_watched_domain_invalid": 70 * time.Minute,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := time.Now()
				r := &domainResult{
					At: at, Machines: 2, Truncated: true,
					Attention:  &domainAttention{At: at.Add(tc.fleet), Properties: []string{"AntivirusOff"}, Machines: []int{1}},
					Statistics: &domainStatistics{At: at.Add(tc.statistics), Prevalence: 3},
				}
				if tc.invalid > 0 {
					r.Invalid = at.Add(tc.invalid)
				}
				w := collectortest.NewWorld()
				w.Exposition.Publisher("contoso", "watched_domains").Publish(collector.Snapshot{Blocks: must(r.blocks("contoso", "evil.example", maxAge, fleetAge))})
				for minutes := range 120 {
					got := w.Exposed(t)
					for family, withdrawn := range tc.withdrawn {
						if shown := strings.Contains(got, family+"{"); shown != (time.Since(at) < withdrawn) {
							t.Errorf("after %d minutes %s exposed: %v", minutes, family, shown)
						}
					}
					if !strings.Contains(got, "mde_watched_domain_last_success_timestamp_seconds{") {
						t.Errorf("time of the last success missing after %d minutes", minutes)
					}
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

func TestNewResultIsCompletedFromTheLastOne(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	joined, statistics := &domainAttention{At: at}, &domainStatistics{At: at}
	last := &domainResult{At: at, Machines: 1, IDs: []byte("a machine of 20 byte"), Attention: joined, Statistics: statistics}
	later := at.Add(time.Hour)
	for name, tc := range map[string]struct {
		next       domainResult
		last       *domainResult
		statistics bool
		want       domainResult
	}{
		"the first": {domainResult{At: later}, nil, true, domainResult{At: later}},
		"the same machines": {domainResult{At: later, Machines: 1, IDs: last.IDs}, last, true,
			domainResult{At: later, Machines: 1, IDs: last.IDs, Attention: joined, Statistics: statistics}},
		"other machines": {domainResult{At: later, Machines: 1, IDs: []byte("another of 20 bytes!")}, last, true,
			domainResult{At: later, Machines: 1, IDs: []byte("another of 20 bytes!"), Statistics: statistics}},
		"statistics disabled": {domainResult{At: later, Machines: 1, IDs: last.IDs}, last, false,
			domainResult{At: later, Machines: 1, IDs: last.IDs, Attention: joined}},
		"an invalid name": {domainResult{Invalid: later}, last, true,
			domainResult{At: at, Invalid: later, Machines: 1, IDs: last.IDs, Attention: joined, Statistics: statistics}},
	} {
		t.Run(name, func(t *testing.T) {
			w := Collector{config: Config{Statistics: tc.statistics}}
			if diff := cmp.Diff(&tc.want, w.withLast(&tc.next, tc.last)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The join with another fleet must not be used.
func TestJoinIsKeptForTheSameFleet(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	joined := &domainAttention{At: at}
	for name, tc := range map[string]struct {
		machines int
		fleet    attention.State
		want     *domainAttention
	}{
		"same fleet without its machines": {1, attention.State{At: at}, joined},
		"newer fleet":                     {1, attention.State{At: at.Add(time.Minute)}, nil},
		"no fleet":                        {1, attention.State{}, nil},
		"domain without machines":         {0, attention.State{At: at}, nil},
	} {
		r := domainResult{Machines: tc.machines, Attention: joined}
		if got := r.join(&tc.fleet); got != tc.want {
			t.Errorf("%s: join %v, want %v", name, got, tc.want)
		}
	}
}

func TestMachinesSeenAtTheSameTimeAreSortedByID(t *testing.T) {
	var machines []namedMachine
	for i := range 100 {
		machines = append(machines, namedMachine{ID: fmt.Sprintf("%02d", i), LastSeen: time.Date(2026, 1, 1+i%2, 0, 0, 0, 0, time.UTC)})
	}
	for i, m := range newestMachines(machines, 50) {
		if want := fmt.Sprintf("%02d", 2*i+1); m.ID != want {
			t.Errorf("machine %d is %s, want %s", i, m.ID, want)
		}
	}
}

func TestUncontactedDomainHasNoContactTime(t *testing.T) {
	w := collectortest.NewWorld()
	refreshOnce(t, w, newDomains(w, &quickDomains{}, []string{"a.example"}, func(o *Options) { o.Statistics = true }))
	if got := w.Exposed(t); collectortest.Value(got, `mde_watched_domain_prevalence{domain="a.example",tenant="contoso"}`) != "0" || strings.Contains(got, "mde_watched_domain_last_seen") {
		t.Errorf("exposed:\n%s", got)
	}
}
