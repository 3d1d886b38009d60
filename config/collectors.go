package config

import (
	"iter"
	"maps"
	"reflect"
	"strings"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/alerts"
	"github.com/mde-exporter/mde_exporter/collector/domains"
	"github.com/mde-exporter/mde_exporter/collector/scores"
	"github.com/mde-exporter/mde_exporter/collector/states"
)

// Collectors holds the settings of every collector. It is the only list of collectors:
// a field's yaml tag is its key, the value of the collector label and the prefix of its
// keys in the storage. The order is used by --once and on pages.
type Collectors struct {
	SecurityStates states.Config  `yaml:"security_states"`
	WatchedDomains domains.Config `yaml:"watched_domains"`
	Scores         scores.Config  `yaml:"scores"`
	Alerts         alerts.Config  `yaml:"alerts"`
}

// All yields each collector's name and settings.
func (c *Collectors) All() iter.Seq2[string, collector.Config] {
	return func(yield func(string, collector.Config) bool) {
		for field, value := range reflect.ValueOf(c).Elem().Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if !yield(name, value.Addr().Interface().(collector.Config)) {
				return
			}
		}
	}
}

// watch adds the domains of flags to the watch list.
func (c *Collectors) watch(names []string) (problems Problems) {
	var watched []string
	for _, name := range names {
		domain, err := domains.Parse(name)
		if err != nil {
			problems = append(problems, Problem{Key: "--watched-domain", Message: err.Error()})
			continue
		}
		watched = append(watched, domain)
	}
	c.WatchedDomains.Add(watched)
	return problems
}

// inherit prepares a copy of the global settings for decoding a tenant's keys. Global
// are the validated global settings.
func (c *Collectors) inherit(global *Collectors) {
	validated := maps.Collect(global.All())
	for name, section := range c.All() {
		section.Inherit(validated[name])
	}
}
