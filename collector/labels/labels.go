// Package labels makes bounded label values of what an API sends.
package labels

import (
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mde-exporter/mde_exporter/collector"
)

// The values that stand for what has no name of its own.
const (
	Other   = "other"   // Values beyond the limit.
	Unknown = "unknown" // A missing or empty value.
)

// NoDeviceGroup is the device group of machines that are in none.
const NoDeviceGroup = "none"

// MaxDeviceGroups is how many device groups have a label value of their own.
const MaxDeviceGroups = 200

// DeviceGroup prepares rbacGroupName for a Table in which NoDeviceGroup stands for an
// empty value.
func DeviceGroup(raw []byte) []byte {
	if string(raw) == "UnassignedGroup" {
		return nil
	}
	return raw
}

// MaxBytes is the length to which a label value is cut.
const MaxBytes = 128

// Table gives each distinct value of one label a small number, and every
// value beyond the limit the number of other. It lives for one refresh; the
// names in use are the seed of the next table, so that they keep their place
// when an API sends more names than there are places.
type Table struct {
	limit   int
	Missing int
	Names   []string
	Numbers map[string]int // Of the names, and OtherNumber for each secret that came as one.
	recent  [64]struct {   // Names that were looked up, each in a place by its bytes.
		name   string
		number int
	}
	Full    bool // There is no place for a new value, whatever the limit.
	Dropped *Dropped
	// Documented values are recognized in any case. They must be among the seed.
	Documented []string
}

// OtherNumber is the number of the value other in every Table.
const OtherNumber = 0

// NewTable makes a table in which the missing name stands for an empty
// value. The missing name and other take no place from the limit.
func NewTable(limit int, missing string, seed []string, dropped *Dropped) *Table {
	t := &Table{limit: limit + 1, Numbers: make(map[string]int), Dropped: dropped}
	t.place(Other)
	if missing != Other {
		t.Missing = t.place(missing)
		t.limit++
	}
	for _, name := range seed {
		if _, ok := t.Numbers[name]; !ok && len(t.Names) < t.limit {
			t.place(name)
		}
	}
	return t
}

// Number returns the number of a value as an API sent it. It does not allocate for
// a value that has a place.
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

// newNumber finds or makes the place of a value that is not spelled as any in the
// table.
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
	return t.place(name)
}

func (t *Table) place(name string) int {
	id := len(t.Names)
	t.Names = append(t.Names, name)
	t.Numbers[name] = id
	return id
}

// Clean makes a label value of what an API sent: valid UTF-8 without
// control and format characters, cut to MaxBytes between two characters.
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

// isPlain reports whether there are only printable ASCII characters.
func isPlain(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// maxDropped bounds the memory of Dropped; the counter stops there.
const maxDropped = 1 << 14

// Dropped counts the distinct values of a label that found no place, for
// as long as the collector lives. It remembers hashes, not values.
type Dropped struct {
	seed  maphash.Seed
	seen  map[uint64]struct{}
	count func(n int)
	// isSecret reports whether a value must not be shown and so gets no place.
	isSecret func(name string) bool
}

// NewDropped counts what is dropped of a label of the tenant.
func NewDropped(label string, metrics *collector.TenantMetrics, isSecret func(name string) bool) *Dropped {
	return &Dropped{
		seed:     maphash.MakeSeed(),
		seen:     make(map[uint64]struct{}),
		count:    func(n int) { metrics.ValueDropped(label, n) },
		isSecret: isSecret,
	}
}

// Drop counts a value that has no place.
func (d *Dropped) Drop(name string) {
	hash := maphash.String(d.seed, name)
	if _, ok := d.seen[hash]; ok || len(d.seen) >= maxDropped {
		return
	}
	d.seen[hash] = struct{}{}
	d.count(1)
}

// Announce makes the series of the label before anything is dropped.
func (d *Dropped) Announce() { d.count(0) }
