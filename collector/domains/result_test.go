package domains

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestAnAnswerWithMillionsOfMachinesIsCountedUpToABound(t *testing.T) {
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
	d := newDomains(w, newFarEnd().client(t, nil, w.Tenant), nil)
	r, err := countDomain(endless, d.riskName, nil, 500)
	if err != nil {
		t.Fatal(err)
	}
	if r.Machines < 2*client.DomainMachinesLimit || r.Machines > 10*client.DomainMachinesLimit || !r.Truncated {
		t.Errorf("%d machines, truncated %v: want a lower bound above the API's maximum", r.Machines, r.Truncated)
	}
	if rows > 10*client.DomainMachinesLimit || len(r.IDs) > 10*client.DomainMachinesLimit*20 || len(r.Named) != 500 || most > 100<<20 {
		t.Errorf("%d rows were read, %d bytes of ids and %d names are kept, the heap had %d bytes", rows, len(r.IDs), len(r.Named), most)
	}
}

func TestAMergedRowCountsAsTheMachineItWasMergedInto(t *testing.T) {
	const merged = `,"mergedIntoMachineId":"%s"`
	spelled := func(n int) string { m := id(n); return fmt.Sprintf("%x", m[:]) }
	into := func(n int) string { return fmt.Sprintf(merged, strings.ToUpper(spelled(n))) }
	for _, test := range []struct {
		name      string
		rows      []string
		machines  int
		attention string // Of AntivirusOff, which machine 1 has.
		risk      string // The scores that are not 0.
		named     string
	}{
		{"beside the machine's own row", []string{row(1, `,"riskScore":"High"`), row(8, `,"riskScore":"Low"`+into(1))}, 1, "1", "High=1", spelled(1) + " host-1.contoso.example"},
		{"before the machine's own row", []string{row(8, `,"riskScore":"Low"`+into(1)), row(1, `,"riskScore":"High"`)}, 1, "1", "High=1", spelled(1) + " host-1.contoso.example"},
		{"without the machine's own row", []string{row(8, `,"riskScore":"Low"`+into(1))}, 1, "1", "Low=1", strings.ToUpper(spelled(1)) + " host-8.contoso.example"},
		{"twice without the machine's own row", []string{row(8, into(1)), row(9, into(1))}, 1, "1", "None=1", strings.ToUpper(spelled(1)) + " host-8.contoso.example"},
		{"merged into one that was merged itself", []string{row(8, into(9)), row(9, into(1))}, 1, "1", "None=1", strings.ToUpper(spelled(1)) + " host-8.contoso.example"},
		{"merged in a circle", []string{row(8, into(9)), row(9, into(8))}, 2, "0", "None=2", ""},
		{"merged into itself", []string{row(1, into(1))}, 1, "1", "None=1", spelled(1) + " host-1.contoso.example"},
		{"merged into nothing", []string{row(1, `,"mergedIntoMachineId":""`), row(2, `,"mergedIntoMachineId":null`)}, 2, "1", "None=2", ""},
		{"without an id of its own", []string{`{"mergedIntoMachineId":"` + spelled(1) + `"}`, row(1, "")}, 1, "1", "None=1", spelled(1) + " host-1.contoso.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := collectortest.NewWorld()
				states := statesOf(w, &fakeStates{StateRows: collectortest.RowsOf(nil, state(1, "AntivirusOff"))})
				far := newFarEnd()
				far.answer = answers(map[string]string{"evil.example": page(test.rows...)})
				d := newDomains(w, far.client(t, emptyLedger{}, w.Tenant), []string{"evil.example"}, func(o *Options) {
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
					t.Errorf("%s of them require attention, want %s", n, test.attention)
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

func TestTheNewestMachinesAreNamedInWhateverOrderTheyCome(t *testing.T) {
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
