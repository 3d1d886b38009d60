package states

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
)

// Where security states may come from.
const (
	// SourceAuto is the preview and, where it is unavailable, the machines.
	SourceAuto = "auto"
	// SourcePreview is Microsoft Graph's preview of machine security states.
	SourcePreview = "machinesecuritystates"
	// SourceMachines is /api/machines with /api/deviceavinfo.
	SourceMachines = "machines"
)

// keptRefusals is how many refused refreshes in a row keep the preview's values
// before the source changes.
const keptRefusals = 3

// sourceChoice is what SourceAuto knows of the preview, as it is stored. The zero
// value asks it.
type sourceChoice struct {
	// Refusals are the refused refreshes in a row while the preview's values stay.
	Refusals int `json:"refusals,omitempty"`
	// Left is when the preview was last asked in vain, by the wall clock; the zero
	// time while it is the source.
	Left time.Time `json:"left,omitzero"`
}

func (s *Collector) sourceKey() string { return s.env.Name + "_source" }

// loadSource restores the choice of the last run. One that makes no sense is
// ignored: the preview is then asked, which costs a call.
func (s *Collector) loadSource() {
	var stored sourceChoice
	if s.config.Source != SourceAuto || !s.memory.Load(s.sourceKey(), &stored) {
		return
	}
	if !stored.Left.IsZero() && collector.CheckTime(stored.Left) != nil || stored.Refusals < 0 {
		s.logger.Warn("Ignoring stored source of security states", "refusals", stored.Refusals, "left", stored.Left)
		return
	}
	s.source = stored
}

// setSource changes the choice and stores it.
func (s *Collector) setSource(c sourceChoice) {
	if s.source != c {
		s.source = c
		s.memory.Save(s.sourceKey(), c)
	}
}

// countAuto counts from the preview or, where that is unavailable, from the
// machines. A preview whose values are shown is left after keptRefusals refused
// refreshes, and asked again within client.PreviewRecheck. A change of the source is
// remembered once the machines have answered, so that an app that may read
// neither gets both reasons each time.
func (s *Collector) countAuto(ctx context.Context) (*fleetCount, error) {
	now := collector.Wall(time.Now())
	left := !s.source.Left.IsZero()
	if again := s.again.Swap(false); left && !again && !s.mustAskAgain(now) {
		return s.countTwiceIfEmpty(ctx, s.countMachines)
	}
	previewCtx := ctx
	if left {
		previewCtx = client.WithRetryDeadline(ctx, now) // One attempt: the machines answer meanwhile.
	}
	c, previewErr := s.countTwiceIfEmpty(previewCtx, s.countPreview)
	if previewErr == nil {
		if left {
			s.logger.Info("Graph preview available again, reading security states from it")
		}
		s.setSource(sourceChoice{})
		return c, nil
	}
	refusal, refused := errors.AsType[refusedError](previewErr)
	switch {
	case ctx.Err() != nil:
		return nil, previewErr
	case left:
	case !refused, s.showsPreview() && !refusal.own:
		s.setSource(sourceChoice{}) // Not refused in a row.
		return nil, previewErr
	case s.showsPreview() && s.source.Refusals < keptRefusals:
		s.setSource(sourceChoice{Refusals: s.source.Refusals + 1})
		return nil, fmt.Errorf("%w (refused refresh %d of %d before the fallback to /api/machines)", previewErr, s.source.Refusals, keptRefusals)
	}
	c, err := s.countTwiceIfEmpty(ctx, s.countMachines)
	if err != nil {
		return nil, fmt.Errorf("%w (before that, the Graph preview: %s)", err, previewErr.Error())
	}
	if !left {
		s.logFallback(previewErr)
	}
	s.setSource(sourceChoice{Left: now})
	return c, nil
}

// mustAskAgain reports whether the next refresh would ask a left preview too late.
func (s *Collector) mustAskAgain(now time.Time) bool {
	next := now.Add(s.config.Interval() + s.config.Interval()/4) // With its jitter and duration.
	return !next.Before(s.source.Left.Add(client.PreviewRecheck))
}

// showsPreview reports whether values of the preview are exposed, which a refusal
// in passing must not replace.
func (s *Collector) showsPreview() bool {
	return s.last != nil && s.last.Source == SourcePreview && collector.IsFresh(s.last.At, s.config.Age())
}

// logFallback logs the change to the machines. Most tenants have no preview:
// only where it was the source before should somebody look.
func (s *Collector) logFallback(previewErr error) {
	level := slog.LevelInfo
	if s.last != nil && s.last.Source == SourcePreview {
		level = slog.LevelWarn
	}
	status := 0
	if e, ok := errors.AsType[*client.Error](previewErr); ok {
		status = e.Status
	}
	s.logger.Log(context.Background(), level, "Graph preview unavailable, falling back to /api/machines", "status", status, "err", previewErr)
}

// refusedError says that the preview is gone or refused, and that not one machine
// was read before.
type refusedError struct {
	error
	own bool // The service itself says so.
}

func (e refusedError) Unwrap() error { return e.error }

// isRefusal reports whether a source is unavailable, not failing in passing, and
// not refused because of a credential that no API accepts.
func isRefusal(e *client.Error) bool {
	if e.API == client.Token {
		return e.Reason == client.ReasonAuth && e.Status != 0 && e.Code != "invalid_client"
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}

// isOwnError reports whether the service itself answered, by a JSON error of its
// form. The page of a gateway says nothing about the service.
func isOwnError(e *client.Error) bool {
	if e.API != client.Token && e.Status == http.StatusNotFound {
		return e.NotFound()
	}
	return e.Code != ""
}
