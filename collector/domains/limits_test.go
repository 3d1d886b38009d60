package domains

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestStoredResultMayHaveTheMaximumOfMachines(t *testing.T) {
	const most, size = 1000, len(client.MachineID{})
	for name, tc := range map[string]struct {
		machines, ids, named int
		restored             bool
	}{
		"nothing":           {0, 0, 0, true},
		"as many":           {most, most * size, most, true},
		"more machines":     {most + 1, most * size, most, false},
		"more ids":          {most, (most + 1) * size, most, false},
		"more names":        {most, most * size, most + 1, false},
		"a part of an id":   {most, size + 1, 0, false},
		"a negative number": {-1, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := domainResult{At: time.Now(), Machines: tc.machines, IDs: make([]byte, tc.ids)}
			for i := range tc.named {
				r.Named = append(r.Named, namedMachine{ID: fmt.Sprint(i), Name: "unknown"})
			}
			store := &collector.MemoryStore{}
			if err := store.Save("watched_domains/a.example", &r); err != nil {
				t.Fatal(err)
			}
			w := collectortest.NewWorld()
			d := newDomains(w, &quickDomains{}, []string{"a.example"}, func(o *Options) { o.Store = store })
			d.Start(t.Context(), w.Publisher(d))
			got := collectortest.Value(w.Exposed(t), `mde_watched_domain_machines{domain="a.example",tenant="contoso"}`)
			if restored := got != ""; restored != tc.restored || strings.Contains(w.Log.String(), "level=WARN") == tc.restored {
				t.Errorf("%q machines are exposed, log:\n%s", got, w.Log)
			}
		})
	}
}
