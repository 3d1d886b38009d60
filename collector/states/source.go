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

// Values of Config.Source.
const (
	// SourceAuto reads the preview, and the machines if the preview is unavailable.
	SourceAuto = "auto"
	// SourcePreview reads Microsoft Graph's preview of machine security states.
	SourcePreview = "machinesecuritystates"
	// SourceMachines reads /api/machines and /api/deviceavinfo.
	SourceMachines = "machines"
)

// keptRefusals is the number of consecutive refused refreshes during which the preview's
// values are kept. The next refusal changes the source.
const keptRefusals = 3

// sourceChoice is the stored state of SourceAuto. The zero value means that the next
// refresh requests the preview.
type sourceChoice struct {
	// Refusals counts consecutive refused refreshes during which the preview's values
	// are kept.
	Refusals int `json:"refusals,omitempty"`
	// Left is when the preview was last requested without success, wall clock time. It
	// is zero while the preview is the source.
	Left time.Time `json:"left,omitzero"`
}

func (s *Collector) sourceKey() string { return s.env.Name + "_source" }

// loadSource restores the choice of the last run. An invalid one is ignored, which
// costs one request of the preview.
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

// countAuto counts from the preview, and from the machines if the preview is
// unavailable. If the preview's values are exposed, the source changes only after
// keptRefusals refused refreshes. The preview is requested again within
// client.PreviewRecheck. A change is stored only after the machines were read, so that
// an app without access to either gets both errors each time.
func (s *Collector) countAuto(ctx context.Context) (*fleetCount, error) {
	now := collector.Wall(time.Now())
	left := !s.source.Left.IsZero()
	if again := s.recheck.Swap(false); left && !again && !s.recheckDue(now) {
		return s.countTwiceIfEmpty(ctx, s.countMachines)
	}
	previewCtx := ctx
	if left {
		previewCtx = client.WithRetryDeadline(ctx, now) // No retries: the machines are available meanwhile.
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
	case !refused, s.showsPreview() && !refusal.fromService:
		s.setSource(sourceChoice{}) // The refusals are not consecutive.
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

// recheckDue reports whether a recheck at the next refresh would exceed
// client.PreviewRecheck.
func (s *Collector) recheckDue(now time.Time) bool {
	next := now.Add(s.config.Interval() + s.config.Interval()/4) // Includes jitter and duration.
	return !next.Before(s.source.Left.Add(client.PreviewRecheck))
}

// showsPreview reports whether the preview's values are exposed. A temporary refusal
// must not replace them.
func (s *Collector) showsPreview() bool {
	return s.last != nil && s.last.Source == SourcePreview && collector.IsFresh(s.last.At, s.config.Age())
}

// logFallback logs the fallback to the machines: as a warning only if the preview was
// the source before, since most tenants have no preview.
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

// refusedError means that the preview is missing or refused, and that no machine was
// read before the error.
type refusedError struct {
	error
	fromService bool // Sent by the service itself, not by a gateway.
}

func (e refusedError) Unwrap() error { return e.error }

// isRefusal reports whether the error means that a source is unavailable. Temporary
// failures do not, nor does a credential that is invalid for every API.
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

// isServiceError reports whether the error was sent by the service itself, as JSON in
// its format. A gateway's error page says nothing about the service.
func isServiceError(e *client.Error) bool {
	if e.API != client.Token && e.Status == http.StatusNotFound {
		return e.NotFound()
	}
	return e.Code != ""
}
