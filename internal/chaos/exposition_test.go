package chaos

import (
	dto "github.com/prometheus/client_model/go"
)

// exposition contains the samples of one scrape by metric family.
type exposition map[string][]sample

type labels map[string]string

type sample struct {
	labels labels
	value  float64
}

func newExposition(families []*dto.MetricFamily) exposition {
	e := exposition{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s := sample{labels: labels{}, value: m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()}
			for _, l := range m.GetLabel() {
				s.labels[l.GetName()] = l.GetValue()
			}
			e[f.GetName()] = append(e[f.GetName()], s)
		}
	}
	return e
}

// samples returns the samples of a family with these labels, given as names and
// values.
func (e exposition) samples(family string, pairs ...string) []sample {
	var found []sample
next:
	for _, s := range e[family] {
		for i := 0; i < len(pairs); i += 2 {
			if s.labels[pairs[i]] != pairs[i+1] {
				continue next
			}
		}
		found = append(found, s)
	}
	return found
}

// value returns the value of the only such sample. It returns false if there is
// none or more than one.
func (e exposition) value(family string, pairs ...string) (float64, bool) {
	found := e.samples(family, pairs...)
	if len(found) != 1 {
		return 0, false
	}
	return found[0].value, true
}

func sum(samples []sample) float64 {
	total := 0.0
	for _, s := range samples {
		total += s.value
	}
	return total
}
