package main

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/promslog"
)

// events is an eventLog that records events.
type events []string

func (e *events) add(kind string, id uint32, message string) error {
	*e = append(*e, fmt.Sprintf("%s %d %d", kind, id, len(message)))
	return nil
}

func (e *events) Info(id uint32, m string) error    { return e.add("info", id, m) }
func (e *events) Warning(id uint32, m string) error { return e.add("warning", id, m) }
func (e *events) Error(id uint32, m string) error   { return e.add("error", id, m) }

func TestEventTypeIsLogLevel(t *testing.T) {
	for _, format := range []string{"logfmt", "json"} {
		var got events
		w := eventWriter{&got}
		c := promslog.Config{Level: promslog.NewLevel(), Format: promslog.NewFormat(), Writer: w}
		if err := c.Format.Set(format); err != nil {
			t.Fatal(err)
		}
		if err := c.Level.Set("debug"); err != nil {
			t.Fatal(err)
		}
		logger := promslog.New(&c)
		logger.Debug("d", "level", "ERROR")
		logger.Info("i", "err", "level=ERROR")
		logger.Warn("w")
		logger.Error("e", slog.String("level", "INFO"))
		fmt.Fprintln(w, "mde_exporter: --config.file: no such file")
		var kinds []string
		for _, event := range got {
			var kind string
			var id, length int
			if _, err := fmt.Sscan(event, &kind, &id, &length); err != nil || id != 1 || length == 0 {
				t.Errorf("event %q, %v", event, err)
			}
			kinds = append(kinds, kind)
		}
		if diff := cmp.Diff([]string{"info", "info", "warning", "error", "error"}, kinds); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}
