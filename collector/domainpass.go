package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// Refresh makes one pass: it returns when every domain of the list was asked
// and has answered, or when the interval is over. A domain that still hangs then
// is waited for by the next pass, and so is one that was asked ahead of it. Where
// everything fails, the pass ends early.
func (w *WatchedDomains) Refresh(ctx context.Context) (Outcome, error) {
	end := time.NewTimer(w.options.Interval)
	defer end.Stop()
	w.beginPass()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		if w.passIsOver() {
			return w.endPass()
		}
		var due <-chan time.Time
		if wait, ok := w.askNext(ctx); ok {
			next.Reset(wait)
			due = next.C
		}
		select {
		case <-due:
		case <-w.changed:
			w.warnOfInterval()
		case outcome := <-w.results:
			if err := w.take(ctx, outcome); err != nil {
				w.drain(ctx)
				return Outcome{}, err
			}
		case <-end.C:
			return w.endPass()
		case <-ctx.Done():
			w.drain(ctx)
			return Outcome{}, ctx.Err()
		}
	}
}

func (w *WatchedDomains) beginPass() {
	w.mu.Lock()
	w.pass++
	w.left = len(w.domains)
	w.mu.Unlock()
	w.warnOfInterval()
}

// passIsOver reports whether every domain has finished. An empty list is a pass
// of its own only once; after that a pass waits for a list.
func (w *WatchedDomains) passIsOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left == 0 && (len(w.domains) > 0 || !w.passed)
}

// endPass tells how the pass went. A domain that failed before and was not tried
// again since still counts as failed.
func (w *WatchedDomains) endPass() (Outcome, error) {
	w.passed = true
	w.mu.Lock()
	failed, all := w.failed, len(w.domains)
	if len(failed) == 0 {
		w.success = time.Now()
		w.publish()
	}
	w.mu.Unlock()
	if len(failed) == 0 {
		w.saveList()
		return Outcome{}, nil
	}
	return Outcome{Partial: true}, fmt.Errorf("%d of %d domains, the first of them %s: %w", len(failed), all, failed[0].name, failed[0].err)
}

// askNext asks every domain that is due and returns how long it is until the
// next one is, false where that hangs on something else.
func (w *WatchedDomains) askNext(ctx context.Context) (time.Duration, bool) {
	for {
		if w.underway >= maxUnderway || w.underway > 0 && w.isProbing() {
			return 0, false
		}
		now := time.Now()
		quota := w.options.Client.Quota(client.DomainMachines)
		w.mu.Lock()
		v, at := w.schedule.next(now, quota)
		if v == nil {
			w.mu.Unlock()
			return 0, false
		}
		if at.After(now) {
			w.mu.Unlock()
			return at.Sub(now), true
		}
		w.schedule.start(v, now)
		w.mu.Unlock()
		retryUntil := now.Add(min(domainRetries, w.options.Interval))
		if w.isProbing() {
			retryUntil = now
		}
		w.underway++
		go func() {
			result, err := w.ask(client.WithRetryDeadline(ctx, retryUntil), v.name)
			w.results <- domainOutcome{v, result, err}
		}()
	}
}

// isProbing tells that the last pass was given up: one domain at a time is asked
// until one answers.
func (w *WatchedDomains) isProbing() bool { return w.inARow >= maxInARow }

// ask makes the calls for one domain.
func (w *WatchedDomains) ask(ctx context.Context, domain string) (*domainResult, error) {
	r, err := countDomain(w.options.Client.DomainMachines(ctx, domain), w.riskName, w.options.MachineInfoLimit)
	if err != nil {
		return nil, fmt.Errorf("list machines of %s: %w", domain, err)
	}
	r.At = time.Now()
	if r.Statistics, err = w.statistics(ctx, domain); err != nil {
		return r, fmt.Errorf("read statistics of %s: %w", domain, err)
	}
	return r, nil
}

// statistics asks a domain's statistics, unless they are not wanted or the role
// was found missing within the last interval.
func (w *WatchedDomains) statistics(ctx context.Context, domain string) (*domainStatistics, error) {
	if !w.options.Statistics {
		return nil, nil
	}
	w.statisticsMu.Lock()
	refused := w.statisticsRefused
	w.statisticsMu.Unlock()
	if !refused.IsZero() && time.Since(refused) < w.options.Interval {
		return nil, nil
	}
	s, err := w.options.Client.DomainStatistics(ctx, domain)
	if e, ok := errors.AsType[*client.Error](err); ok && e.API == client.DomainStats && e.Reason == client.ReasonForbidden {
		w.noteStatistics(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.noteStatistics(nil)
	return &domainStatistics{At: time.Now(), Prevalence: s.Prevalence, LastSeen: s.LastSeen}, nil
}

// noteStatistics tells the page, and once the log, whether the role for
// statistics is missing.
func (w *WatchedDomains) noteStatistics(err error) {
	w.statisticsMu.Lock()
	defer w.statisticsMu.Unlock()
	switch {
	case err != nil:
		if w.statisticsRefused.IsZero() {
			w.logger.Warn("Statistics of domains are missing: the app lacks the role URL.Read.All", "err", err)
		}
		w.statisticsRefused = time.Now()
		w.note("statistics", "Statistics of domains are missing: the app lacks the role URL.Read.All. "+err.Error())
	case !w.statisticsRefused.IsZero():
		w.logger.Info("Statistics of domains can be read again")
		w.statisticsRefused = time.Time{}
		w.note("statistics", "")
	}
}

// note sets what the page says about a subject; nothing removes it.
func (w *WatchedDomains) note(subject, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text == "" {
		delete(w.notes, subject)
		return
	}
	w.notes[subject] = text
}

// riskName spells a risk score as a label value.
func (w *WatchedDomains) riskName(raw []byte) string {
	w.riskMu.Lock()
	defer w.riskMu.Unlock()
	return w.risk.names[w.risk.id(raw)]
}

// take publishes what was told of a domain, plans its next turn and returns an
// error where the pass is to be given up.
func (w *WatchedDomains) take(ctx context.Context, o domainOutcome) error {
	w.underway--
	if o.err != nil && ctx.Err() != nil {
		return nil //nolint:nilerr // A look-up that was cut off says nothing of its domain.
	}
	if stored := w.settle(&o); stored != nil {
		w.memory.save(domainKey(o.visits.name), stored)
	}
	reason := client.ReasonOf(o.err)
	switch {
	case o.err == nil || o.result != nil || !isTenantWide(reason):
		w.inARow = 0
	case reason == client.ReasonAuth:
		w.inARow = maxInARow
	default:
		w.inARow++
	}
	if w.isProbing() {
		return fmt.Errorf("the pass was given up: %w", o.err)
	}
	return nil
}

// settle notes how asking a domain ended and returns what is to be stored.
func (w *WatchedDomains) settle(o *domainOutcome) *domainResult {
	fleet := w.options.Fleet.current()
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.domains[o.visits.name]
	if d == nil || d.visits != o.visits {
		return nil // It left the list meanwhile.
	}
	var shown *domainResult
	if o.result != nil {
		if d.result != nil && bytes.Equal(o.result.IDs, d.result.IDs) {
			o.result.Attention = d.result.Attention // Where no fleet is known; it expires in its time.
		}
		if d.result != nil && o.result.Statistics == nil && w.options.Statistics {
			o.result.Statistics = d.result.Statistics // The last ones, until they are too old.
		}
		if err := w.show(d, o.result, fleet); err != nil {
			o.err = errors.Join(o.err, err)
		} else {
			shown = d.result
			w.publish()
		}
	}
	w.failed = slices.DeleteFunc(w.failed, func(f failedDomain) bool { return f.name == d.name })
	d.mistake = ""
	if o.err != nil {
		d.mistake = o.err.Error()
		w.schedule.failedAt(d.visits, time.Now())
		w.failed = append(w.failed, failedDomain{d.name, o.err})
	} else {
		w.schedule.answered(d.visits)
	}
	if d.visits.round != w.pass {
		d.visits.round = w.pass
		w.left--
	}
	w.publisher.Ready()
	return shown
}

// drain waits for the domains that are being asked.
func (w *WatchedDomains) drain(ctx context.Context) {
	for w.underway > 0 {
		_ = w.take(ctx, <-w.results) // The pass ends in any case.
	}
}

// isTenantWide tells a failure that says nothing about the domain that was asked.
func isTenantWide(reason client.Reason) bool {
	switch reason {
	case client.ReasonAuth, client.ReasonForbidden, client.ReasonThrottled, client.ReasonTimeout, client.ReasonNetwork, client.ReasonServer:
		return true
	default:
		return false
	}
}

// warnOfInterval tells, once for a list, that the quota cannot carry it.
func (w *WatchedDomains) warnOfInterval() {
	w.mu.Lock()
	n, cycle, pace, maxAge := len(w.domains), w.schedule.cycle(), w.schedule.pace, w.maxAge()
	w.mu.Unlock()
	interval := w.options.Interval
	if cycle <= interval {
		w.warnedSize = 0
		w.note("interval", "")
		return
	}
	if n == w.warnedSize {
		return
	}
	w.warnedSize = n
	text := fmt.Sprintf("The call quota cannot carry the watch list in its interval: %d domains, one call each %s, take %s instead of %s.",
		n, pace.Round(time.Millisecond), cycle.Round(time.Second), interval)
	if cycle >= maxAge {
		text += fmt.Sprintf(" Values are withdrawn after max_age, %s, which is before they are asked again: raise it or shorten the list.", maxAge)
	}
	w.logger.Warn(text)
	w.note("interval", text)
}
