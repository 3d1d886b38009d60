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

// Collectors are the settings of every collector that there is: this is the one
// list of them. A field's yaml tag is the key, the value of the collector label and
// the beginning of the keys in the storage. The order is that of --once and pages.
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

// watch adds the domains that flags name to the watch list.
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

// inherit prepares a copy of the global settings for the keys of a tenant. Global
// are the same settings, validated.
func (c *Collectors) inherit(global *Collectors) {
	validated := maps.Collect(global.All())
	for name, section := range c.All() {
		section.Inherit(validated[name])
	}
}
