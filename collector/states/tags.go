package states

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mde-exporter/mde_exporter/client"
)

// tagSet finds the configured tags of a machine.
type tagSet struct {
	tags    []string
	numbers *listValues[[]int]
}

func newTagSet(tags []string) *tagSet { return &tagSet{tags: tags, numbers: newListValues[[]int]()} }

// of returns the indexes of the configured tags that a machine carries, without
// duplicates.
func (t *tagSet) of(m *client.Machine) []int { return t.numbers.of(m.Tags, t.find) }

func (t *tagSet) find(carried client.TextList) (numbers []int) {
	for raw := range carried.All() {
		carriedTag := string(bytes.TrimSpace(raw))
		n := slices.IndexFunc(t.tags, func(tag string) bool { return strings.EqualFold(tag, carriedTag) })
		if n >= 0 && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
