package states

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// maxTagSpellings is how many tags of machines a tagSet remembers.
const maxTagSpellings = 1 << 12

// tagSet finds the configured tags among those of a machine.
type tagSet struct {
	tags    []string
	numbers map[string]int // By the spelling of a machine's tag; -1 where it is none of them.
	last    []int
}

func newTagSet(tags []string) *tagSet { return &tagSet{tags: tags, numbers: make(map[string]int)} }

// of returns the numbers of the configured tags that a machine carries, each once,
// until the next call.
func (t *tagSet) of(m *client.Machine) []int {
	t.last = t.last[:0]
	for _, raw := range m.Tags {
		if n := t.number(raw); n >= 0 && !slices.Contains(t.last, n) {
			t.last = append(t.last, n)
		}
	}
	return t.last
}

func (t *tagSet) number(raw []byte) int {
	if n, ok := t.numbers[string(raw)]; ok {
		return n
	}
	spelled := string(bytes.TrimSpace(raw))
	n := slices.IndexFunc(t.tags, func(tag string) bool { return strings.EqualFold(tag, spelled) })
	if len(t.numbers) < maxTagSpellings && len(raw) <= labels.MaxBytes {
		t.numbers[string(raw)] = n
	}
	return n
}
