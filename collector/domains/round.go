package domains

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// domainRound is the state of a refresh of the lists.
type domainRound struct {
	number int
	left   int // Domains without a completed lookup in it.
	ended  int // Completed lookups.
	// filling says that some domains had no completed lookup when it began.
	filling bool
}

// Refresh runs one round. The round ends when every domain was looked up, when the last
// domain was looked up for the first time, or after the shortest interval. It succeeds
// if no due lookup failed or hangs. A lookup that began shortly before the end counts
// for the next round. An interval in which no lookup was possible does not count as a
// round. If every lookup fails, the round is aborted.
func (w *Collector) Refresh(ctx context.Context) (collector.Outcome, error) {
	end := time.NewTimer(w.beginRound())
	defer end.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		if w.roundIsOver() {
			return w.endRound()
		}
		var due <-chan time.Time
		if pause, ok := w.startLookups(ctx); ok {
			next.Reset(pause)
			due = next.C
		}
		select {
		case <-due:
		case <-w.changed:
			w.warnOfIntervals()
		case outcome := <-w.results:
			if err := w.handle(ctx, outcome); err != nil {
				w.drain(ctx)
				return w.abortRound(err)
			}
		case <-end.C:
			if !w.roundIsInconclusive() {
				return w.endRound()
			}
			end.Reset(w.beginRound())
		case <-ctx.Done():
			w.drain(ctx)
			return collector.Outcome{}, ctx.Err()
		}
	}
}

// beginRound returns the maximum duration of the round: the shortest interval of the
// collector and of the lists with domains.
func (w *Collector) beginRound() time.Duration {
	w.mu.Lock()
	length := w.config.Interval()
	for _, l := range w.lists {
		if l.turns.domains > 0 {
			length = min(length, l.interval())
		}
	}
	w.round = domainRound{number: w.round.number + 1, left: len(w.sorted), filling: w.unqueried > 0}
	if w.updateExpiry() {
		w.publish()
	}
	w.mu.Unlock()
	w.warnOfIntervals()
	return length
}

// roundIsOver reports whether the round ends before its interval. Without domains only
// the first round ends early.
func (w *Collector) roundIsOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.sorted) == 0:
		return !w.roundEnded
	case w.round.filling && w.unqueried == 0:
		return true
	default:
		return w.round.left == 0
	}
}

// roundIsInconclusive reports whether the interval neither succeeded nor failed: no
// domain failed or hangs, but no lookup completed, or a quota spent before or elsewhere
// leaves domains without a response for too long.
func (w *Collector) roundIsInconclusive() bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sorted) == 0 || len(w.unconfirmed(now)) > 0 {
		return false
	}
	return w.round.ended == 0 || w.unread() == 0 && w.isOverdue(now)
}

// isOverdue reports whether a domain has been without a response for too long.
func (w *Collector) isOverdue(now time.Time) bool {
	cycles := w.schedule.cycles(w.schedule.pacer.Pace())
	for i, l := range w.lists {
		if d, ok := l.confirmed.first(); ok {
			if at, _ := d.readAt(); now.Sub(at) > max(l.expiry, 2*cycles[i]) {
				return true
			}
		}
	}
	return false
}

// abortRound ends a round in which every lookup failed. Err is the last error. The
// outcome is pending, so that Refresher.Once continues with the list, unless an
// operator must act, no token is available, or too many consecutive rounds were
// aborted.
func (w *Collector) abortRound(err error) (collector.Outcome, error) {
	w.abortedRounds++
	limit := maxAbortedRoundsUnanswered
	if w.responded {
		limit = maxAbortedRounds
	}
	e, ok := errors.AsType[*client.Error](err)
	lasts := ok && (e.API == client.Token || e.Reason == client.ReasonAuth || e.Reason == client.ReasonForbidden)

	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	pending := w.unqueried > 0 && !lasts && w.abortedRounds < limit
	unconfirmed := w.unconfirmed(now)
	// The error that aborted the round comes first and determines the reason.
	i := slices.IndexFunc(unconfirmed, func(d *watchedDomain) bool { return d.err == err }) //nolint:errorlint // Compares identity.
	if i < 0 {
		return collector.Outcome{Pending: pending}, fmt.Errorf("round aborted: %w", err)
	}
	last := unconfirmed[i]
	unconfirmed = slices.Insert(slices.Delete(unconfirmed, i, i+1), 0, last)
	return collector.Outcome{Pending: pending}, fmt.Errorf("round aborted: %w", w.roundError(unconfirmed, now))
}

// endRound returns the outcome of the round.
func (w *Collector) endRound() (collector.Outcome, error) {
	w.roundEnded = true
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.sorted, func(d *watchedDomain) bool { _, counts := d.readAt(); return counts }) {
		w.publish() // Without domains the values are as old as the last round.
	}
	pending := w.unqueried > 0
	if unconfirmed := w.unconfirmed(now); len(unconfirmed) > 0 {
		return collector.Outcome{Pending: pending, Partial: true}, w.roundError(unconfirmed, now)
	}
	return collector.Outcome{Pending: pending}, nil
}

// unconfirmed returns the domains whose last lookup failed or hangs. A lookup that
// waits for quota does not hang.
func (w *Collector) unconfirmed(now time.Time) []*watchedDomain {
	waits := !w.client.Quota(client.DomainMachines).HasRoom()
	var domains []*watchedDomain
	for _, d := range w.sorted {
		if d.err != nil || !waits && !d.began.IsZero() && now.Sub(d.began) >= d.on.list.hangTimeout() {
			domains = append(domains, d)
		}
	}
	return domains
}

// roundError returns an error with the number of domains that failed or hang and the
// names of the first.
func (w *Collector) roundError(domains []*watchedDomain, now time.Time) error {
	hanging := 0
	var first error
	var more []string
	for i, d := range domains {
		err := d.err
		if err == nil {
			hanging++
			err = d.hangs(now)
		}
		switch {
		case i == 0:
			first = err
		case i < maxNamed:
			more = append(more, fmt.Sprintf("; %s: %s", d.name, err))
		}
	}
	if n := len(domains) - maxNamed; n > 0 {
		more = append(more, fmt.Sprintf("; and %d more", n))
	}
	return fmt.Errorf("could not read %d of %d domains, the first of them %s: %w%s (%d failed, %d hang)",
		len(domains), len(w.sorted), domains[0].name, first, strings.Join(more, ""), len(domains)-hanging, hanging)
}

// hangs returns an error with the duration of the lookup in progress and the error of
// its last attempt, if any.
func (d *watchedDomain) hangs(now time.Time) error {
	message := fmt.Sprintf("no response for %s", now.Sub(d.began).Round(time.Second))
	if d.failed != nil {
		return fmt.Errorf("%s: %w", message, d.failed)
	}
	return &client.Error{API: client.DomainMachines, Reason: client.ReasonTimeout, Message: message}
}

// startLookups starts the lookups that are due and returns the time until the next one.
// It returns false if that depends on another event.
func (w *Collector) startLookups(ctx context.Context) (time.Duration, bool) {
	for {
		if w.inFlight >= maxInFlight || w.inFlight > 0 && w.isProbing() {
			return 0, false
		}
		now := time.Now()
		w.mu.Lock()
		w.schedule.pacer.Read()
		wanted := wantedDomains{fresh: true, failed: w.retrying < maxRetrying}
		if w.isProbing() && !w.lastHadResult {
			wanted = wantedDomains{}
		}
		d, at := w.schedule.next(now, w.inFlight, wanted)
		if d == nil && w.isProbing() {
			d, at = w.schedule.next(now, w.inFlight, wantedDomains{fresh: true, failed: true})
		}
		if d == nil {
			w.mu.Unlock()
			return 0, false
		}
		if at.After(now) {
			w.mu.Unlock()
			return at.Sub(now), true
		}
		d.touch()
		w.schedule.start(d, now)
		d.began, d.failed = now, nil
		w.lastHadResult = d.result != nil && d.failures == 0
		last, interval := d.result, d.on.list.interval()
		w.mu.Unlock()
		retryUntil := now.Add(min(client.MaxLookupRetries, interval))
		if w.isProbing() {
			retryUntil = now
		}
		w.inFlight++
		o := domainOutcome{domain: d, retry: d.failures > 0}
		if o.retry {
			w.retrying++
		}
		attempted := client.WithAttemptErrors(ctx, func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			d.failed = err
		})
		go func() {
			o.result, o.err = w.lookUp(client.WithRetryDeadline(attempted, retryUntil), d.name, last)
			w.results <- o
		}()
	}
}

// isProbing reports whether the last round was aborted. Until a lookup succeeds there
// is one lookup at a time, alternately of a domain that had succeeded before.
func (w *Collector) isProbing() bool { return w.consecutiveFailures >= maxConsecutiveFailures }

// lookUp makes the calls for one domain. A response that the name is invalid is a
// result.
func (w *Collector) lookUp(ctx context.Context, domain string, last *domainResult) (*domainResult, error) {
	r, err := countDomain(w.client.DomainMachines(ctx, domain), w.riskName, w.groupName(last), w.config.MachineInfoLimit)
	if isInvalidName(err) {
		return &domainResult{Invalid: collector.Wall(time.Now())}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list machines of %s: %w", domain, err)
	}
	r.Named = withoutSecrets(r.Named, w.client.ContainsSecret)
	r.At = collector.Wall(time.Now())
	if r.Statistics, err = w.statistics(ctx, domain); err != nil {
		return r, fmt.Errorf("read statistics of %s: %w", domain, err)
	}
	return r, nil
}

func isInvalidName(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.API == client.DomainMachines && e.Status == http.StatusBadRequest && e.Code == "InvalidDomainName"
}

// statistics requests a domain's statistics, unless they are disabled or the role was
// found missing within the last interval.
func (w *Collector) statistics(ctx context.Context, domain string) (*domainStatistics, error) {
	if !w.config.Statistics {
		return nil, nil
	}
	w.statisticsMu.Lock()
	refused := w.statisticsRefused
	w.statisticsMu.Unlock()
	if !refused.IsZero() && time.Since(refused) < w.config.Interval() {
		return nil, nil
	}
	s, err := w.client.DomainStatistics(ctx, domain)
	if e, ok := errors.AsType[*client.Error](err); ok && e.API == client.DomainStats && e.Reason == client.ReasonForbidden {
		w.reportStatistics(err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.reportStatistics(nil)
	return &domainStatistics{At: collector.Wall(time.Now()), Prevalence: s.Prevalence, LastSeen: s.LastSeen}, nil
}

// reportStatistics updates the page's note about the missing role and logs when the
// statistics become unavailable or available.
func (w *Collector) reportStatistics(err error) {
	w.statisticsMu.Lock()
	defer w.statisticsMu.Unlock()
	switch {
	case err != nil:
		if w.statisticsRefused.IsZero() {
			w.logger.Warn("Domain statistics unavailable, grant the app the role", "role", client.DomainStats.Role(), "err", err)
		}
		w.statisticsRefused = time.Now()
		w.setNote("statistics", "Domain statistics are unavailable: grant the app the role "+client.DomainStats.Role()+". "+err.Error())
	case !w.statisticsRefused.IsZero():
		w.logger.Info("Domain statistics available again")
		w.statisticsRefused = time.Time{}
		w.setNote("statistics", "")
	}
}

// riskName returns a risk score as a label value.
func (w *Collector) riskName(raw []byte) string {
	w.labelsMu.Lock()
	defer w.labelsMu.Unlock()
	return w.risk.Names[w.risk.Number(raw)]
}

// groupName returns a func that returns a device group as a label value, nil if groups
// are disabled. Groups of the last result keep their places within the limit.
func (w *Collector) groupName(last *domainResult) func(raw []byte) string {
	if !w.config.DeviceGroups {
		return nil
	}
	var inUse []string
	if last != nil {
		inUse = slices.Sorted(maps.Keys(last.Groups))
	}
	groups := labels.NewTable(labels.MaxDeviceGroups, labels.NoDeviceGroup, inUse, w.groups)
	return func(raw []byte) string {
		w.labelsMu.Lock()
		defer w.labelsMu.Unlock()
		return groups.Names[groups.Number(labels.DeviceGroup(raw))]
	}
}

// handle publishes the outcome of a lookup and schedules the next one. It returns an
// error if the round must be aborted.
func (w *Collector) handle(ctx context.Context, o domainOutcome) error {
	w.inFlight--
	if o.retry {
		w.retrying--
	}
	if o.err != nil && ctx.Err() != nil {
		return nil //nolint:nilerr // A canceled lookup is not a failure of its domain.
	}
	w.publishAndStore(&o)
	reason := client.ReasonOf(o.err)
	switch {
	case o.err == nil || o.result != nil || !isTenantWide(reason):
		w.consecutiveFailures = 0
		w.responded, w.abortedRounds = true, 0
	case reason == client.ReasonAuth:
		w.consecutiveFailures = maxConsecutiveFailures
	default:
		w.consecutiveFailures++
	}
	if w.isProbing() {
		return o.err
	}
	return nil
}

// publishAndStore publishes and stores the outcome of a lookup.
func (w *Collector) publishAndStore(o *domainOutcome) {
	w.storeMu.Lock()
	defer w.storeMu.Unlock()
	stored, filled := w.apply(o)
	if stored != nil {
		w.memory.Save(w.domainKey(o.domain.name), stored)
	}
	if filled {
		w.saveList()
	}
}

// apply publishes the outcome of a lookup. It returns the result to store, or nil, and
// whether every domain has now been read for the first time.
func (w *Collector) apply(o *domainOutcome) (stored *domainResult, filled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := o.domain
	if d.on == nil {
		return nil, false // Removed from the lists meanwhile.
	}
	w.count(d, -1)
	if o.result != nil {
		if err := w.setResult(d, w.withLast(o.result, d.result), w.fleet.Current()); err != nil {
			o.err = errors.Join(o.err, err)
		} else {
			stored = d.result
		}
	}
	d.began, d.failed, d.err, d.queried = time.Time{}, nil, o.err, true
	if o.err != nil {
		w.schedule.failedAt(d, time.Now())
	} else {
		w.schedule.succeeded(d)
	}
	d.round = w.round.number
	w.count(d, 1)
	w.round.ended++
	if filled = !w.filled && w.unread() == 0; filled {
		w.filled = true
	}
	if stored != nil {
		w.publish()
	}
	w.publisher.Ready()
	return stored, filled
}

// withLast completes a new result with values of the last one.
func (w *Collector) withLast(r, last *domainResult) *domainResult {
	switch {
	case last == nil:
		return r
	case r.At.IsZero():
		kept := *last
		kept.Invalid = r.Invalid
		return &kept
	}
	if bytes.Equal(r.IDs, last.IDs) {
		r.Attention = last.Attention // Used if the fleet is unavailable. It keeps its expiry.
	}
	if r.Statistics == nil && w.config.Statistics {
		r.Statistics = last.Statistics // Until they expire.
	}
	return r
}

// drain waits for the lookups in progress.
func (w *Collector) drain(ctx context.Context) {
	for w.inFlight > 0 {
		_ = w.handle(ctx, <-w.results) // The round ends in any case.
	}
}

// isTenantWide reports whether a failure is not specific to the domain.
func isTenantWide(reason client.Reason) bool {
	return reason.Temporary() || reason == client.ReasonAuth || reason == client.ReasonForbidden
}

// warnOfIntervals warns about each list whose interval exceeds the quota, once for each
// length of the list.
func (w *Collector) warnOfIntervals() {
	w.mu.Lock()
	defer w.mu.Unlock()
	cycles := w.schedule.cycles(w.schedule.pacer.Pace())
	for i, l := range w.lists {
		n, cycle, subject := l.turns.domains, cycles[i], "interval of "+l.Name
		if cycle.Round(time.Second) <= l.interval() || n == 0 {
			l.warned = 0
			delete(w.notes, subject)
			continue
		}
		if n == l.warned {
			continue
		}
		l.warned = n
		text := fmt.Sprintf("The call quota is too small for the interval of watch list %s: %s domains at one call per %s take %s instead of %s.",
			l.Name, collector.Number(n), (cycle / time.Duration(n)).Round(time.Millisecond), cycle.Round(time.Second), l.interval())
		if cycle >= l.expiry {
			text += fmt.Sprintf(" Values are withdrawn after max_age, %s, before the next lookup: raise max_age or shorten the list.", l.expiry)
		}
		w.logger.Warn("Call quota too small for the interval of the watch list",
			"list", l.Name, "domains", n, "interval", l.interval(), "lookups_take", cycle.Round(time.Second), "max_age", l.expiry)
		w.notes[subject] = text
	}
}

// hangTimeout returns the time without a response after which a lookup hangs.
func (l *watchList) hangTimeout() time.Duration {
	return min(client.MaxHang, max(client.MinHang, l.interval()/2))
}
