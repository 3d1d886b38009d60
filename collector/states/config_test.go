package states

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func TestTagsAreValidatedAndDeduplicated(t *testing.T) {
	for name, tc := range map[string]struct {
		tags, want []string
		mistakes   string
	}{
		"none":                           {nil, nil, ""},
		"an empty list":                  {[]string{}, nil, ""},
		"several":                        {[]string{"VIP", "Tier 0"}, []string{"VIP", "Tier 0"}, ""},
		"different case":                 {[]string{"VIP", "Kiosk", "vip"}, []string{"VIP", "Kiosk"}, ""},
		"surrounding spaces":             {[]string{" VIP ", "VIP"}, []string{"VIP"}, ""},
		"an empty tag":                   {[]string{"VIP", " "}, nil, "tags[1]: is empty"},
		"a long tag":                     {[]string{strings.Repeat("x", 129)}, nil, "tags[0]: is not a valid label value: longer than 128 bytes or with an unprintable character"},
		"a tag with a line break":        {[]string{"VI\nP"}, nil, "tags[0]: is not a valid label value: longer than 128 bytes or with an unprintable character"},
		"too many":                       {slices.Repeat([]string{"VIP"}, maxTags+1), nil, "tags: 201 tags exceed the limit of 200"},
		"reserved words of other labels": {[]string{"other", "unknown", "none"}, []string{"other", "unknown", "none"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var c Config
			c.Defaults()
			given := slices.Clone(tc.tags)
			c.Tags = tc.tags
			var mistakes []string
			for _, m := range c.Validate(collector.Validation{}) {
				mistakes = append(mistakes, fmt.Sprintf("%s: %s", m.Key, m.Message))
			}
			if got := strings.Join(mistakes, "\n"); got != tc.mistakes {
				t.Errorf("mistakes %q, want %q", got, tc.mistakes)
			}
			if tc.mistakes == "" && (!slices.Equal(c.Tags, tc.want) || (c.Tags == nil) != (tc.want == nil)) {
				t.Errorf("tags %q, want %q", c.Tags, tc.want)
			}
			if !slices.Equal(tc.tags, given) {
				t.Errorf("Validate changed the shared slice to %q", tc.tags)
			}
		})
	}
}

func TestTagsNamedLikeReservedValuesAreCounted(t *testing.T) {
	f := machineFleet()
	f.MachineRows = func(yield func(*client.Machine, error) bool) {
		row := machine(1, func(m *client.Machine) { m.Tags = collectortest.TextList("Other", "unknown") })
		yield(&row, nil)
	}
	values(t, refreshed(t, f, func(o *Options) { o.Tags = []string{"other", "unknown", "none"} }), map[string]string{
		`mde_tag_machines{tag="other"}`: "1", `mde_tag_machines{tag="unknown"}`: "1", `mde_tag_machines{tag="none"}`: "0",
	})
}
