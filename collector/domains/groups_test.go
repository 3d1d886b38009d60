package domains

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// groupsOf returns the exposed numbers of machines of a domain by device group.
func groupsOf(exposed, domain string) map[string]string {
	groups := make(map[string]string)
	for line := range strings.Lines(exposed) {
		rest, ok := strings.CutPrefix(line, `mde_watched_domain_device_group_machines{device_group="`)
		if group, rest, found := strings.Cut(rest, `",domain="`+domain+`"`); ok && found {
			_, value, _ := strings.Cut(strings.TrimSpace(rest), " ")
			groups[group] = value
		}
	}
	return groups
}

func TestMachinesAreCountedByDeviceGroup(t *testing.T) {
	group := func(n int, name string) string { return row(n, fmt.Sprintf(`,"rbacGroupName":%q`, name)) }
	var many []string
	for n := range 300 {
		many = append(many, group(n, fmt.Sprintf("Group %03d", n)))
	}
	hexID := fmt.Sprintf("%x", id(1))
	pages := map[string]string{
		"evil.example": page(group(1, "Tier 0"), group(2, "Tier 0"), group(3, "UnassignedGroup"), group(4, ""),
			row(5, `,"rbacGroupName":null`), row(6, ""), row(7, `,"rbacGroupName":"Sales \u007f\u202eand more"`), `{"rbacGroupName":"Tier 0"}`),
		"merged.example": page(row(8, `,"rbacGroupName":"Old","mergedIntoMachineId":"`+hexID+`"`), group(1, "New")),
		"many.example":   page(many...),
	}
	synctest.Test(t, func(t *testing.T) {
		store := &collector.MemoryStore{}
		api := newFakeAPI()
		api.respond = responses(pages)
		begin := func(on bool) (*collectortest.World, func()) {
			w := collectortest.NewWorld()
			d := newDomains(w, api.client(t, emptyLedger{}, w.Tenant), []string{"evil.example", "many.example", "merged.example", "quiet.example"}, func(o *Options) {
				o.DeviceGroups, o.Store = on, store
			})
			_, stop := start(t, w, d, time.Hour)
			time.Sleep(time.Minute)
			synctest.Wait()
			return w, stop
		}
		w, stop := begin(false)
		if got := w.Exposed(t); strings.Contains(got, "device_group") {
			t.Errorf("without device_groups:\n%s", got)
		}
		stop()
		time.Sleep(time.Hour)
		for _, when := range []string{"looked up", "restored"} {
			w, stop = begin(true)
			got := w.Exposed(t)
			if g := fmt.Sprint(groupsOf(got, "evil.example")); g != "map[Sales and more:1 Tier 0:3 none:4]" {
				t.Errorf("%s: groups %s", when, g)
			}
			if g := fmt.Sprint(groupsOf(got, "merged.example")); g != "map[New:1]" {
				t.Errorf("%s: groups of a merged record %s", when, g)
			}
			if g := groupsOf(got, "many.example"); len(g) != 201 || g["other"] != "100" || g["Group 007"] != "1" {
				t.Errorf("%s: %d groups, other %s", when, len(g), g["other"])
			}
			if g := groupsOf(got, "quiet.example"); len(g) != 0 {
				t.Errorf("%s: groups of a domain without machines %v", when, g)
			}
			w.Lint(t)
			if when == "looked up" && collectortest.Value(w.Scraped(t), `mde_label_values_dropped_total{label="device_group",tenant="contoso"}`) != "100" {
				t.Error("groups past the limit are not counted as dropped")
			}
			stop()
		}
		// A group that is exposed keeps its place, even if new groups come before it.
		api.mu.Lock()
		many = append([]string{group(900, "First")}, many...)
		pages["many.example"] = page(many...)
		api.mu.Unlock()
		time.Sleep(time.Hour)
		w, stop = begin(true)
		if g := groupsOf(w.Exposed(t), "many.example"); g["other"] != "101" || g["First"] != "" || g["Group 199"] != "1" {
			t.Errorf("groups in use lost their place: other %s, First %s, Group 199 %s", g["other"], g["First"], g["Group 199"])
		}
		stop()
		if w, stop = begin(false); strings.Contains(w.Exposed(t), "device_group_machines") {
			t.Error("restored groups are exposed without device_groups")
		}
		stop()
	})
}
