// Package labels turns values from an API into a bounded set of label values.
package labels

import (
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Label values with a special meaning.
const (
	Other   = "other"   // Values past the limit.
	Unknown = "unknown" // A missing or empty value.
)

// NoDeviceGroup is the device group of machines without one.
const NoDeviceGroup = "none"

// MaxDeviceGroups is the limit of device groups.
const MaxDeviceGroups = 200

// DeviceGroup converts rbacGroupName for a Table: it returns an empty value for
// machines without a group.
func DeviceGroup(raw []byte) []byte {
	if string(raw) == "UnassignedGroup" {
		return nil
	}
	return raw
}

// MaxBytes is the maximum length of a label value.
const MaxBytes = 128

// Table maps each distinct value of a label to a small number, and every value past the
// limit to OtherNumber. It is used for one refresh. The names in use are the seed of
// the next table, so that they keep their places if the API sends more names than the
// limit.
type Table struct {
	limit   int
	Missing int
	Names   []string
	Numbers map[string]int // Numbers by name; OtherNumber for secrets.
	recent  [64]struct {   // Cache of looked-up names by a hash.
		name   string
		number int
	}
	Full    bool // No new values are accepted, even below the limit.
	Dropped *Dropped
	// Documented values are compared case-insensitively. They must be in the seed.
	Documented []string
}

// OtherNumber is the number of the value other in every Table.
const OtherNumber = 0

// NewTable returns a table with the names in seed, up to the limit. Missing is the name
// of an empty value. Missing and other do not count towards the limit.
func NewTable(limit int, missing string, seed []string, dropped *Dropped) *Table {
	t := &Table{limit: limit + 1, Numbers: make(map[string]int), Dropped: dropped}
	t.add(Other)
	if missing != Other {
		t.Missing = t.add(missing)
		t.limit++
	}
	for _, name := range seed {
		if _, ok := t.Numbers[name]; !ok && len(t.Names) < t.limit {
			t.add(name)
		}
	}
	return t
}

// Number returns the number of a value from an API. It does not allocate for values
// that are in the table.
func (t *Table) Number(raw []byte) int {
	if len(raw) == 0 {
		return t.Missing
	}
	recent := &t.recent[(len(raw)+int(raw[0])+5*int(raw[len(raw)/2])+3*int(raw[len(raw)-1]))%len(t.recent)]
	if string(raw) == recent.name {
		return recent.number
	}
	id, ok := t.Numbers[string(raw)]
	if !ok {
		return t.newNumber(raw)
	}
	recent.name, recent.number = t.Names[id], id
	return id
}

// newNumber returns the number of a value that is not in the table unchanged. It adds
// the value if there is room.
func (t *Table) newNumber(raw []byte) int {
	name := Clean(raw)
	if name == "" {
		return t.Missing
	}
	if id, ok := t.Numbers[name]; ok {
		return id
	}
	for _, value := range t.Documented {
		if strings.EqualFold(value, name) {
			return t.Numbers[value]
		}
	}
	if t.Full || len(t.Numbers) >= t.limit {
		t.Dropped.Drop(name)
		return OtherNumber
	}
	if t.Dropped.isSecret(name) {
		t.Numbers[name] = OtherNumber
		t.Dropped.Drop(name)
		return OtherNumber
	}
	return t.add(name)
}

func (t *Table) add(name string) int {
	id := len(t.Names)
	t.Names = append(t.Names, name)
	t.Numbers[name] = id
	return id
}

// Clean turns a value from an API into a label value: valid UTF-8 without control and
// format characters, surrounding spaces removed, truncated to MaxBytes at a character
// boundary.
func Clean(raw []byte) string {
	if start := raw[:min(len(raw), MaxBytes)]; isPlain(start) {
		return strings.TrimSpace(string(start))
	}
	raw = raw[:min(len(raw), 8*MaxBytes)]
	var b strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRune(raw)
		raw = raw[size:]
		if !unicode.IsGraphic(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > MaxBytes {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// isPlain reports whether all characters are printable ASCII.
func isPlain(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// maxDropped limits the memory of Dropped. The counter stops there.
const maxDropped = 1 << 14

// Dropped counts the distinct values of a label that exceed the limit during the life
// of a collector. It keeps hashes, not values.
type Dropped struct {
	seed  maphash.Seed
	seen  map[uint64]struct{}
	count func(n int)
	// isSecret reports whether a value must not be exposed.
	isSecret func(name string) bool
}

// NewDropped returns a counter of the dropped values of a label of the tenant.
func NewDropped(label string, metrics *collector.TenantMetrics, isSecret func(name string) bool) *Dropped {
	return &Dropped{
		seed:     maphash.MakeSeed(),
		seen:     make(map[uint64]struct{}),
		count:    func(n int) { metrics.ValueDropped(label, n) },
		isSecret: isSecret,
	}
}

// Drop counts a dropped value.
func (d *Dropped) Drop(name string) {
	hash := maphash.String(d.seed, name)
	if _, ok := d.seen[hash]; ok || len(d.seen) >= maxDropped {
		return
	}
	d.seen[hash] = struct{}{}
	d.count(1)
}

// Announce creates the counter's series at 0.
func (d *Dropped) Announce() { d.count(0) }
