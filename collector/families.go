package collector

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
)

// Family describes a gauge or counter of an Exposition. Its labels do not include the
// label tenant, which every series has.
type Family struct {
	kind       dto.MetricType
	name, help string
	labels     []string
	order      []int // Indexes into labels, sorted by label name; -1 is the label tenant.
}

// NewFamily returns the Family of a gauge.
func NewFamily(name, help string, labels ...string) *Family {
	return newFamilyOf(dto.MetricType_GAUGE, name, help, labels)
}

func newCounter(name, help string, labels ...string) *Family {
	return newFamilyOf(dto.MetricType_COUNTER, name, help, labels)
}

func newFamilyOf(kind dto.MetricType, name, help string, labels []string) *Family {
	f := &Family{kind: kind, name: name, help: help, labels: labels}
	labelName := func(i int) string {
		if i < 0 {
			return "tenant"
		}
		return labels[i]
	}
	for i := -1; i < len(labels); i++ {
		f.order = append(f.order, i)
	}
	slices.SortFunc(f.order, func(a, b int) int { return strings.Compare(labelName(a), labelName(b)) })
	return f
}

// Block is a part of a snapshot: series that expire together, or a bundle of other blocks.
// It is immutable once it is published.
type Block struct {
	Expires time.Time // The series are exposed until then; the zero time means always.
	series  []series
	bundle  []*Block // Each expires at its own time.
}

// Bundle returns a Block that contains other blocks.
func Bundle(blocks []*Block) *Block { return &Block{bundle: blocks} }

// series are the metrics of one family in a Block.
type series struct {
	family  *Family
	metrics []*dto.Metric
}

// BlockBuilder builds one Block. It validates label values, because they come from outside.
// Build returns the errors.
type BlockBuilder struct {
	tenant string
	block  Block
	pairs  map[[2]string]*dto.LabelPair
	gauges map[float64]*dto.Gauge
	seed   maphash.Seed
	seen   map[uint64]struct{} // Hashes of names and label values.
	errs   []error
}

// NewBlock returns the builder of a Block that expires at a time of the wall clock.
func NewBlock(tenant string, expires time.Time) *BlockBuilder {
	return &BlockBuilder{
		tenant: tenant,
		block:  Block{Expires: Wall(expires)},
		pairs:  make(map[[2]string]*dto.LabelPair),
		gauges: make(map[float64]*dto.Gauge),
		seed:   maphash.MakeSeed(),
		seen:   make(map[uint64]struct{}),
	}
}

// Label is the name and the value of a label that series of several blocks share.
type Label dto.LabelPair

// NewLabel returns a Label.
func NewLabel(name, value string) *Label { return &Label{Name: &name, Value: &value} }

// Add appends a series. The values are in the order of the family's labels. All series of
// a family must be added consecutively, in the order in which a scrape returns them.
func (b *BlockBuilder) Add(f *Family, value float64, values ...string) {
	if len(values) != len(f.labels) {
		b.errs = append(b.errs, fmt.Errorf("%s: %d label values for %d labels", f.name, len(values), len(f.labels)))
		return
	}
	labels := make([]*dto.LabelPair, len(f.order))
	for i, at := range f.order {
		name, text := "tenant", b.tenant
		if at >= 0 {
			name, text = f.labels[at], values[at]
		}
		if !utf8.ValidString(text) {
			b.errs = append(b.errs, fmt.Errorf("%s: label %s: %q is not valid UTF-8", f.name, name, text))
			return
		}
		labels[i] = b.pair(name, text)
	}
	if b.isDuplicate(f, values) {
		b.errs = append(b.errs, fmt.Errorf("%s: label values %q occur twice", f.name, values))
		return
	}
	if n := len(b.block.series); n == 0 || b.block.series[n-1].family != f {
		b.block.series = append(b.block.series, series{family: f})
	}
	last := &b.block.series[len(b.block.series)-1]
	m := &dto.Metric{Label: labels}
	if f.kind == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = b.gauge(value)
	}
	last.metrics = append(last.metrics, m)
}

// AddEach appends a series of a gauge for each value of the family's first label. These
// values must be in ascending order. The other labels have the same values in all series.
// It is much cheaper than calls of Add, and blocks with the same Labels share them.
func (b *BlockBuilder) AddEach(f *Family, value float64, first []*Label, values ...string) {
	last := ""
	for _, l := range first {
		if !utf8.ValidString(*l.Value) || *l.Value <= last {
			b.errs = append(b.errs, fmt.Errorf("%s: label value %q is not valid UTF-8 or not in ascending order", f.name, *l.Value))
			return
		}
		last = *l.Value
	}
	if len(first) == 0 {
		return
	}
	failed := len(b.errs)
	b.Add(f, value, append([]string{*first[0].Value}, values...)...)
	if len(b.errs) > failed {
		return
	}
	s := &b.block.series[len(b.block.series)-1]
	model, at := s.metrics[len(s.metrics)-1], slices.Index(f.order, 0)
	others, n := first[1:], len(model.Label)
	metrics := make([]dto.Metric, len(others))
	labels := slices.Repeat(model.Label, len(others))
	s.metrics = slices.Grow(s.metrics, len(others))
	for i, l := range others {
		m := &metrics[i]
		m.Gauge, m.Label = model.Gauge, labels[i*n:(i+1)*n:(i+1)*n]
		m.Label[at] = (*dto.LabelPair)(l)
		s.metrics = append(s.metrics, m)
	}
}

// pair returns one LabelPair for all series with the same name and value.
func (b *BlockBuilder) pair(name, value string) *dto.LabelPair {
	key := [2]string{name, value}
	p, ok := b.pairs[key]
	if !ok {
		p = &dto.LabelPair{Name: &name, Value: &value}
		b.pairs[key] = p
	}
	return p
}

// gauge returns one Gauge for all series with the same value. Most values of a fleet are
// 0.
func (b *BlockBuilder) gauge(value float64) *dto.Gauge {
	g, ok := b.gauges[value]
	if !ok {
		g = &dto.Gauge{Value: &value}
		b.gauges[value] = g
	}
	return g
}

// isDuplicate reports whether the block already has the series, and records it.
func (b *BlockBuilder) isDuplicate(f *Family, values []string) bool {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_, _ = h.WriteString(f.name)
	for _, value := range values {
		_ = h.WriteByte(0xff) // Occurs in no valid UTF-8.
		_, _ = h.WriteString(value)
	}
	sum := h.Sum64()
	_, twice := b.seen[sum]
	b.seen[sum] = struct{}{}
	return twice
}

// Build returns the block, without references to the builder's working memory.
func (b *BlockBuilder) Build() (*Block, error) {
	if err := errors.Join(b.errs...); err != nil {
		return nil, fmt.Errorf("expose: %w", err)
	}
	return &Block{Expires: b.block.Expires, series: b.block.series}, nil
}

// BoolValue returns 1 for true and 0 for false.
func BoolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
