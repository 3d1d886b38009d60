package collector_test

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// The collector that CONTRIBUTING.md walks through.

// Config is the section of the collector.
type Config struct {
	collector.Schedule `yaml:",inline"`
	// Platform counts only the machines of one platform. Empty counts all.
	Platform string `yaml:"platform"`
}

func (c *Config) Defaults() {
	*c = Config{Schedule: collector.Schedule{RefreshInterval: model.Duration(time.Hour)}}
}

func (c *Config) Validate(collector.Validation) (mistakes []collector.Mistake) {
	if len(c.Platform) > 64 {
		mistakes = append(mistakes, collector.Mistake{Key: "platform", Message: "longer than 64 bytes"})
	}
	c.DefaultMaxAge()
	return mistakes
}

func (c *Config) Needs() []client.Need { return []client.Need{{client.Machines}} }

var recordsFamily = collector.NewFamily("mde_records", "Records of machines.")

// result is what one refresh reads. It is stored as JSON.
type result struct{ Records int }

func (c *Config) New(e collector.Env) collector.Collector {
	return &collector.Periodic[result]{
		Env: e, MaxAge: time.Duration(c.MaxAge),
		Read: func(ctx context.Context) (r result, err error) {
			for m, err := range e.Client.Machines(ctx) {
				if err != nil {
					return result{}, fmt.Errorf("read machines: %w", err)
				}
				if c.Platform == "" || string(m.OSPlatform) == c.Platform {
					r.Records++
				}
			}
			return r, nil
		},
		Show: func(b *collector.BlockBuilder, r result) { b.Add(recordsFamily, float64(r.Records)) },
		Describe: func(r result) collector.Page {
			return collector.Page{Summary: collector.Number(r.Records) + " records"}
		},
	}
}
