package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
)

func TestAddEachMatchesAdd(t *testing.T) {
	family := NewFamily("mde_watched_domain_info", "Help.", "domain", "list")
	text := func(b *BlockBuilder) string {
		block, err := b.Build()
		if err != nil {
			return err.Error()
		}
		e := &Exposition{}
		e.Publisher("contoso", "watched_domains").Publish(Snapshot{Blocks: []*Block{block}})
		families, _ := e.Gather()
		var text strings.Builder
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatal(err)
			}
		}
		return text.String()
	}
	together := func(names ...string) string {
		b := NewBlock("contoso", time.Time{})
		var labels []*Label
		for _, name := range names {
			labels = append(labels, NewLabel("domain", name))
		}
		b.AddEach(family, 1, labels, "c2")
		return text(b)
	}
	for _, names := range [][]string{nil, {"a.example"}, {"a.example", "b.example", "c.example"}} {
		b := NewBlock("contoso", time.Time{})
		for _, name := range names {
			b.Add(family, 1, name, "c2")
		}
		if diff := cmp.Diff(text(b), together(names...)); diff != "" {
			t.Errorf("%q (-one by one +together):\n%s", names, diff)
		}
	}
	for _, names := range [][]string{{"a.example", "a.example"}, {"b.example", "a.example"}, {"a.example", "b\xff"}, {"\xff"}} {
		if got := together(names...); !strings.Contains(got, "not in ascending order") {
			t.Errorf("%q: %s", names, got)
		}
	}
	b := NewBlock("contoso\xff", time.Time{})
	b.AddEach(family, 1, []*Label{NewLabel("domain", "a.example")}, "c2")
	if got := text(b); !strings.Contains(got, "not valid UTF-8") {
		t.Errorf("a tenant that is no label value: %s", got)
	}
}
