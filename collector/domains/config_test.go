package domains

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/collector"
)

// section returns a section of the configuration.
func section(change func(*Config)) *Config {
	var c Config
	c.Defaults()
	change(&c)
	return &c
}

// keysOf returns the keys of the mistakes in a section.
func keysOf(c *Config) string {
	var keys []string
	for _, m := range c.Validate(collector.Validation{Dir: "/etc/mde"}) {
		keys = append(keys, m.Key)
	}
	return strings.Join(keys, " ")
}

func TestMistakesInTheConfiguration(t *testing.T) {
	lists := func(lists ...ListConfig) func(*Config) {
		return func(c *Config) { c.Lists = lists }
	}
	limit := func(n int) func(*Config) { return func(c *Config) { c.MachineInfoLimit = n } }
	aged := func(name string, interval, maxAge time.Duration) ListConfig {
		l := listOf(name, interval)
		l.MaxAge = model.Duration(maxAge)
		return l
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"the defaults":                          {func(*Config) {}, ""},
		"no machine may be named":               {limit(0), ""},
		"fewer than no machine":                 {limit(-1), "machine_info_limit"},
		"as many machines as the API returns":   {limit(500), ""},
		"more machines than the API returns":    {limit(501), "machine_info_limit"},
		"a domain that is an address":           {func(c *Config) { c.Domains = []string{"a.example", "192.0.2.1"} }, "domains[1]"},
		"a domain of a list that is an address": {lists(listOf("c2", 0), listOf("own", 0, "192.0.2.1")), "lists[1].domains[0]"},
		"a pattern that matches nothing":        {func(c *Config) { c.Files = []string{"a.txt", "[.txt"} }, "files[1]"},
		"a pattern of a list":                   {lists(ListConfig{Name: "c2", Files: []string{"[.txt"}}), "lists[0].files[0]"},
		"a list without a name":                 {lists(listOf("", 0)), "lists[0].name"},
		"the name of the first list":            {lists(listOf("c2", 0), listOf(DefaultList, 0)), "lists[1].name"},
		"two lists of a name":                   {lists(listOf("c2", 0), listOf("own", 0), listOf("c2", 0)), "lists[2].name"},
		"a name of 128 bytes":                   {lists(listOf(strings.Repeat("x", 128), 0)), ""},
		"a name of 129 bytes":                   {lists(listOf(strings.Repeat("x", 129), 0)), "lists[0].name"},
		"a name with a line break":              {lists(listOf("c\n2", 0)), "lists[0].name"},
		"a name that is not UTF-8":              {lists(listOf("c\xff2", 0)), "lists[0].name"},
		"max_age as long as the interval":       {lists(aged("c2", time.Hour, time.Hour)), ""},
		"max_age shorter than the interval":     {lists(aged("c2", time.Hour, time.Hour-1)), "lists[0].max_age"},
		"max_age of the second list":            {lists(listOf("c2", 0), aged("own", 0, time.Minute)), "lists[1].max_age"},
	} {
		if got := keysOf(section(tc.change)); got != tc.want {
			t.Errorf("%s: mistakes in %q, want %q", name, got, tc.want)
		}
	}
}

func TestTenantAddsToGlobalLists(t *testing.T) {
	const quarter = model.Duration(15 * time.Minute)
	global := section(func(c *Config) {
		equal, short := listOf("c2", 15*time.Minute, "b.example"), listOf("short", 15*time.Minute)
		equal.MaxAge, short.MaxAge = quarter, quarter-1
		c.Domains, c.Lists = []string{"d.example"}, []ListConfig{equal, short}
	})
	tenant, validated := *global, *global
	if got := keysOf(&validated); got != "lists[1].max_age" {
		t.Fatalf("mistakes in %q", got)
	}
	tenant.Inherit(&validated)
	tenant.Domains = []string{"d.example", "a.example"}
	tenant.Lists = []ListConfig{listOf("own", 0), listOf("c2", 0, "a.example")}
	if got := keysOf(&tenant); got != "" {
		t.Errorf("mistakes in %q: they are those of the global lists", got)
	}
	c2 := listOf("c2", 15*time.Minute, "a.example", "b.example")
	c2.MaxAge = quarter
	want := []ListConfig{c2, listOf("short", 15*time.Minute), listOf(DefaultList, time.Hour, "a.example", "d.example"), listOf("own", time.Hour)}
	if diff := cmp.Diff(want, tenant.InForce()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// The interval of a list is the tenant's where the list has none, its max_age the list's.
	global.Lists = []ListConfig{{Name: "c2", MaxAge: model.Duration(time.Hour)}}
	tenant, validated = *global, *global
	_ = keysOf(&validated)
	tenant.Inherit(&validated)
	tenant.RefreshInterval = model.Duration(2 * time.Hour)
	if got := keysOf(&tenant); got != "lists" {
		t.Errorf("mistakes in %q", got)
	}
}

func TestSectionListIsWatchedIfUsedOrAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"nothing is configured": {func(*Config) {}, []string{DefaultList}},
		"domains":               {func(c *Config) { c.Domains, c.Lists = []string{"a.example"}, []ListConfig{listOf("c2", 0)} }, []string{DefaultList, "c2"}},
		"files":                 {func(c *Config) { c.Files, c.Lists = []string{"a.txt"}, []ListConfig{listOf("c2", 0)} }, []string{DefaultList, "c2"}},
		"other lists":           {func(c *Config) { c.Lists = []ListConfig{listOf("c2", 0)} }, []string{"c2"}},
	} {
		c := section(tc.change)
		if got := keysOf(c); got != "" {
			t.Errorf("%s: mistakes in %q", name, got)
		}
		var got []string
		for _, l := range c.InForce() {
			got = append(got, l.Name)
		}
		if !slices.Equal(got, tc.want) || len(tc.want) == 1 && tc.want[0] == DefaultList && c.Lists != nil {
			t.Errorf("%s: lists %q, want %q, and the section has %#v", name, got, tc.want, c.Lists)
		}
	}
}

func TestFilesAreCheckedOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a.example\n192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := section(func(c *Config) {
		c.Files, c.Lists = []string{"a.txt", "missing.txt"}, []ListConfig{{Name: "c2", Files: []string{"a.txt"}}}
	})
	var got []string
	for _, m := range c.Validate(collector.Validation{Dir: dir, Read: map[string]bool{}}) {
		got = append(got, strings.ReplaceAll(m.String(), dir+"/", ""))
	}
	if len(got) != 2 || !strings.HasPrefix(got[0], "a.txt:2: ") || !strings.HasPrefix(got[1], "files[1]: missing.txt: ") {
		t.Errorf("mistakes %q", got)
	}
}
