package collector

import (
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The values that stand for what has no name of its own.
const (
	otherValue   = "other"   // Values beyond the limit.
	unknownValue = "unknown" // A missing or empty value.
)

// Distinct values of each label that a tenant may have; the rest is other.
const (
	maxProperties    = 100
	maxArchitectures = 50
	maxBuilds        = 1000
	maxRevisions     = 1000
	maxPlatforms     = 100
	maxStates        = 20 // Of health, risk and exposure, whose sets are documented.
)

// maxLabelBytes is the length to which a label value is cut.
const maxLabelBytes = 128

// labelTable gives each distinct value of one label a small number, and every
// value beyond the limit the number of other. It lives for one refresh; the
// names in use are the seed of the next table, so that they keep their place
// when an API sends more names than there are places.
type labelTable struct {
	limit   int
	missing int
	names   []string
	ids     map[string]int // Of the names, and otherID for each secret that came as one.
	last    string
	lastID  int
	full    bool // There is no place for a new value, whatever the limit.
	dropped *droppedValues
}

// otherID is the number of the value other in every labelTable.
const otherID = 0

// newLabelTable makes a table in which the missing name stands for an empty
// value. The missing name and other take no place from the limit.
func newLabelTable(limit int, missing string, seed []string, dropped *droppedValues) *labelTable {
	t := &labelTable{limit: limit + 1, ids: make(map[string]int), dropped: dropped}
	t.place(otherValue)
	if missing != otherValue {
		t.missing = t.place(missing)
		t.limit++
	}
	for _, name := range seed {
		if _, ok := t.ids[name]; !ok && len(t.names) < t.limit {
			t.place(name)
		}
	}
	return t
}

// id returns the number of a value as an API sent it. It does not allocate for
// a value that has a place.
func (t *labelTable) id(raw []byte) int {
	if len(raw) == 0 {
		return t.missing
	}
	if string(raw) == t.last {
		return t.lastID
	}
	id, ok := t.ids[string(raw)]
	if !ok {
		return t.newID(raw)
	}
	t.last, t.lastID = t.names[id], id
	return id
}

// newID finds or makes the place of a value that is not spelled as any in the
// table.
func (t *labelTable) newID(raw []byte) int {
	name := cleanLabel(raw)
	if name == "" {
		return t.missing
	}
	if id, ok := t.ids[name]; ok {
		return id
	}
	if t.full || len(t.ids) >= t.limit {
		t.dropped.drop(name)
		return otherID
	}
	if t.dropped.isSecret(name) {
		t.ids[name] = otherID
		t.dropped.drop(name)
		return otherID
	}
	return t.place(name)
}

func (t *labelTable) place(name string) int {
	id := len(t.names)
	t.names = append(t.names, name)
	t.ids[name] = id
	return id
}

// cleanLabel makes a label value of what an API sent: valid UTF-8 without
// control and format characters, cut to maxLabelBytes between two characters.
func cleanLabel(raw []byte) string {
	if start := raw[:min(len(raw), maxLabelBytes)]; isPlain(start) {
		return strings.TrimSpace(string(start))
	}
	raw = raw[:min(len(raw), 8*maxLabelBytes)]
	var b strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		raw = raw[size:]
		if !unicode.IsGraphic(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > maxLabelBytes {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// isPlain tells whether there are only printable ASCII characters.
func isPlain(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// maxDropped bounds the memory of droppedValues; the counter stops there.
const maxDropped = 1 << 14

// droppedValues counts the distinct values of a label that found no place, for
// as long as the collector lives. It remembers hashes, not values.
type droppedValues struct {
	seed  maphash.Seed
	seen  map[uint64]struct{}
	count func(n int)
	// isSecret reports whether a value must not be shown and so gets no place.
	isSecret func(name string) bool
}

func newDroppedValues(label string, metrics *TenantMetrics, isSecret func(name string) bool) *droppedValues {
	return &droppedValues{
		seed:     maphash.MakeSeed(),
		seen:     make(map[uint64]struct{}),
		count:    func(n int) { metrics.valueDropped(label, n) },
		isSecret: isSecret,
	}
}

func (d *droppedValues) drop(name string) {
	hash := maphash.String(d.seed, name)
	if _, ok := d.seen[hash]; ok || len(d.seen) >= maxDropped {
		return
	}
	d.seen[hash] = struct{}{}
	d.count(1)
}

// droppedLabels are the values without a place of each label of the states, and of
// groups.
type droppedLabels map[string]*droppedValues

func newDroppedLabels(m *TenantMetrics, isSecret func(name string) bool) droppedLabels {
	d := make(droppedLabels)
	for _, label := range []string{"property", "group"} {
		d[label] = newDroppedValues(label, m, isSecret)
	}
	for _, g := range stateGroupings(true) {
		for _, label := range g.labels {
			if d[label.name] == nil {
				d[label.name] = newDroppedValues(label.name, m, isSecret)
			}
		}
	}
	return d
}

// announce makes the series of every label before anything is dropped.
func (d droppedLabels) announce() {
	for _, values := range d {
		values.count(0)
	}
}
