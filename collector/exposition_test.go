package collector

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var testFamily = NewFamily("mde_test", "A gauge of this test.", "zone")

func testBlock(t testing.TB, tenant string, expires time.Time, zones ...string) *Block {
	t.Helper()
	b := NewBlock(tenant, expires)
	for i, zone := range zones {
		b.Add(testFamily, float64(i), zone)
	}
	block, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func TestExpositionMergesTenantsInOrder(t *testing.T) {
	var e Exposition
	e.Publisher("fabrikam", "one").Publish(Snapshot{Blocks: []*Block{testBlock(t, "fabrikam", time.Time{}, "a")}})
	e.Publisher("contoso", "two").Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Time{}, "c")}})
	e.Publisher("contoso", "one").Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Time{}, "a", "b")}})
	families, _ := e.Gather()
	want := `# HELP mde_test A gauge of this test.
# TYPE mde_test gauge
mde_test{tenant="contoso",zone="a"} 0
mde_test{tenant="contoso",zone="b"} 1
mde_test{tenant="contoso",zone="c"} 0
mde_test{tenant="fabrikam",zone="a"} 0
`
	if got := text(t, families); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	e.Publisher("contoso", "one").Withdraw()
	e.Publisher("contoso", "two").Withdraw()
	families, _ = e.Gather()
	if got := text(t, families); strings.Contains(got, "contoso") || !strings.Contains(got, "fabrikam") {
		t.Errorf("after the removal:\n%s", got)
	}
}

func TestExpositionDropsExpiredValues(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var e Exposition
			start := time.Now()
			all := []*Block{
				testBlock(t, "contoso", start.Add(time.Minute), "a"),
				testBlock(t, "contoso", start.Add(2*time.Minute), "b"),
				testBlock(t, "contoso", time.Time{}, "c"),
			}
			var blocks []*Block
			for _, i := range order {
				blocks = append(blocks, all[i])
			}
			e.Publisher("contoso", "one").Publish(Snapshot{Blocks: blocks})
			count := func() int {
				families, _ := e.Gather()
				return len(families[0].Metric)
			}
			for _, step := range []struct {
				wait time.Duration
				want int
			}{{0, 3}, {59 * time.Second, 3}, {time.Second, 2}, {59 * time.Second, 2}, {time.Second, 1}, {time.Hour, 1}} {
				time.Sleep(step.wait)
				if got := count(); got != step.want {
					t.Errorf("in the order %v, %s after the start, %d series, want %d", order, time.Since(start), got, step.want)
				}
			}
		})
	}
}

func TestGatherOfUnchangedExpositionDoesNotAllocate(t *testing.T) {
	var e Exposition
	e.Publisher("contoso", "one").Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Now().Add(time.Hour), "a", "b")}})
	if allocs := testing.AllocsPerRun(100, func() { _, _ = e.Gather() }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestEveryScrapeDuringPublishesIsComplete(t *testing.T) {
	var e Exposition
	full := []*Block{testBlock(t, "contoso", time.Time{}, "a", "b"), testBlock(t, "contoso", time.Now().Add(time.Hour), "c")}
	e.Publisher("contoso", "one").Publish(Snapshot{Blocks: full})
	var publisher, scrapers sync.WaitGroup
	stop := make(chan struct{})
	publisher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				e.Publisher("contoso", "one").Publish(Snapshot{Blocks: full})
			}
		}
	})
	for range 4 {
		scrapers.Go(func() {
			for range 1000 {
				families, _ := e.Gather()
				if len(families) != 1 || len(families[0].Metric) != 3 {
					t.Error("incomplete")
					return
				}
			}
		})
	}
	scrapers.Wait()
	close(stop)
	publisher.Wait()
}

func TestBlockBuilderRejectsInvalidSeries(t *testing.T) {
	for name, tc := range map[string]struct {
		tenant string
		values [][]string
		want   string
	}{
		"a value that is not UTF-8":    {"contoso", [][]string{{"\xff"}}, "not valid UTF-8"},
		"a tenant that is not UTF-8":   {"\xff", [][]string{{"a"}}, "not valid UTF-8"},
		"a series that occurs twice":   {"contoso", [][]string{{"a"}, {"a"}}, "occur twice"},
		"a value without its label":    {"contoso", [][]string{{"a", "b"}}, "2 label values for 1 labels"},
		"a label without its value":    {"contoso", [][]string{{}}, "0 label values for 1 labels"},
		"two mistakes are both named.": {"contoso", [][]string{{"\xff"}, {}}, "0 label values"},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBlock(tc.tenant, time.Time{})
			for _, v := range tc.values {
				b.Add(testFamily, 1, v...)
			}
			if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestOnlyTenantsFiltersSeries(t *testing.T) {
	w := newTestEnv()
	w.registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "mde_of_the_process", Help: "Of no tenant."}))
	for _, tenant := range []string{"contoso", "fabrikam", "tailspin"} {
		w.exposition.Publisher(tenant, "one").Publish(Snapshot{Blocks: []*Block{testBlock(t, tenant, time.Time{}, "a")}})
	}
	all := Combine(w.registry, w.exposition)
	got := must(OnlyTenants(all, []string{"tailspin", "contoso"}).Gather())
	if len(got) != 1 || len(got[0].Metric) != 2 || strings.Contains(text(t, got), "fabrikam") {
		t.Errorf("of two tenants:\n%s", text(t, got))
	}
	if got := must(all.Gather()); len(got) < 2 || len(got[0].Metric) > 3 {
		t.Errorf("the gatherer of all was changed:\n%s", text(t, got))
	}
	if got := must(OnlyTenants(all, nil).Gather()); len(got) != 0 {
		t.Errorf("of no tenant:\n%s", text(t, got))
	}
}

func TestCombineSortsFamilies(t *testing.T) {
	registry := prometheus.NewRegistry()
	for _, name := range []string{"aaa", "zzz"} {
		registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "A gauge."}))
	}
	var e Exposition
	e.Publisher("contoso", "one").Publish(Snapshot{Blocks: []*Block{testBlock(t, "contoso", time.Time{}, "a")}})
	g := Combine(registry, &e)
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	if got := strings.Join(names, " "); got != "aaa mde_test zzz" {
		t.Errorf("families %s", got)
	}
	lint(t, g)
}
