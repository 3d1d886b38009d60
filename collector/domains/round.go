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

// domainRound is one refresh of the lists.
type domainRound struct {
	number int
	left   int // Domains that have not finished in it.
	ended  int // Lookups that ended in it.
	// filling says that it began with domains that had neither answered nor failed.
	filling bool
}

// Refresh makes one round: it returns when every domain has finished, when the last
// domain was asked for the first time, or when the shortest interval is over. It
// succeeds when every domain that was due in it has answered. A lookup
// that began just before its end belongs to the next round, and an interval in
// which no domain could be asked to none. Where everything fails, the round ends
// early.
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
		if pause, ok := w.askNext(ctx); ok {
			next.Reset(pause)
			due = next.C
		}
		select {
		case <-due:
		case <-w.changed:
			w.warnOfIntervals()
		case outcome := <-w.results:
			if err := w.take(ctx, outcome); err != nil {
				w.drain(ctx)
				return w.giveUp(err)
			}
		case <-end.C:
			if !w.roundIsVoid() {
				return w.endRound()
			}
			end.Reset(w.beginRound())
		case <-ctx.Done():
			w.drain(ctx)
			return collector.Outcome{}, ctx.Err()
		}
	}
}

// beginRound returns how long the round may last: the shortest interval of the
// collector and of the lists that have domains.
func (w *Collector) beginRound() time.Duration {
	w.mu.Lock()
	length := w.config.Interval()
	for _, l := range w.lists {
		if l.turns.domains > 0 {
			length = min(length, l.interval())
		}
	}
	w.round = domainRound{number: w.round.number + 1, left: len(w.sorted), filling: w.unasked > 0}
	if w.expireAnew() {
		w.publish()
	}
	w.mu.Unlock()
	w.warnOfIntervals()
	return length
}

// roundIsOver reports whether the round ends before its interval. An empty list
// is a round of its own only once; after that a round waits for a list.
func (w *Collector) roundIsOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.sorted) == 0:
		return !w.ended
	case w.round.filling && w.unasked == 0:
		return true
	default:
		return w.round.left == 0
	}
}

// roundIsVoid reports whether an interval passed of which nothing can be said: no
// domain failed or hangs, but none was asked either, or the quota, spent before
// or elsewhere, leaves domains without an answer for longer than they may be.
func (w *Collector) roundIsVoid() bool {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sorted) == 0 || len(w.unconfirmed(now)) > 0 {
		return false
	}
	return w.round.ended == 0 || w.unread() == 0 && w.isOverdue(now)
}

// isOverdue reports whether a domain has no answer for longer than it may be.
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

// giveUp ends a round in which everything failed, the last domain with this error.
// The outcome is pending, so that Refresher.Once asks the rest of the list too,
// unless a person must act, nothing gets a token, or too many rounds in a row were
// given up.
func (w *Collector) giveUp(err error) (collector.Outcome, error) {
	w.givenUp++
	limit := maxGivenUpUnanswered
	if w.answered {
		limit = maxGivenUp
	}
	e, ok := errors.AsType[*client.Error](err)
	lasts := ok && (e.API == client.Token || e.Reason == client.ReasonAuth || e.Reason == client.ReasonForbidden)

	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	pending := w.unasked > 0 && !lasts && w.givenUp < limit
	unconfirmed := w.unconfirmed(now)
	// The error that ended the round is named first and gives the reason.
	i := slices.IndexFunc(unconfirmed, func(d *watchedDomain) bool { return d.err == err }) //nolint:errorlint // The very same error.
	if i < 0 {
		return collector.Outcome{Pending: pending}, fmt.Errorf("the round was given up: %w", err)
	}
	last := unconfirmed[i]
	unconfirmed = slices.Insert(slices.Delete(unconfirmed, i, i+1), 0, last)
	return collector.Outcome{Pending: pending}, fmt.Errorf("the round was given up: %w", w.roundError(unconfirmed, now))
}

// endRound returns how the round went.
func (w *Collector) endRound() (collector.Outcome, error) {
	w.ended = true
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.sorted, func(d *watchedDomain) bool { _, counts := d.readAt(); return counts }) {
		w.publish() // A list without domains is as old as its last round.
	}
	pending := w.unasked > 0
	if unconfirmed := w.unconfirmed(now); len(unconfirmed) > 0 {
		return collector.Outcome{Pending: pending, Partial: true}, w.roundError(unconfirmed, now)
	}
	return collector.Outcome{Pending: pending}, nil
}

// unconfirmed returns the domains that failed and were not asked again since, and
// those that hang: a call that waits for quota does not.
func (w *Collector) unconfirmed(now time.Time) []*watchedDomain {
	waits := !w.client.Quota(client.DomainMachines).HasRoom()
	var domains []*watchedDomain
	for _, d := range w.sorted {
		if d.err != nil || !waits && !d.began.IsZero() && now.Sub(d.began) >= d.on.list.patience() {
			domains = append(domains, d)
		}
	}
	return domains
}

// roundError says how many domains failed or hang, and names the first of them.
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
	return fmt.Errorf("%d of %d domains, the first of them %s: %w%s (%d failed, %d hang)",
		len(domains), len(w.sorted), domains[0].name, first, strings.Join(more, ""), len(domains)-hanging, hanging)
}

// hangs says for how long a lookup has been under way, and why it is retried, if
// it is.
func (d *watchedDomain) hangs(now time.Time) error {
	message := fmt.Sprintf("no answer for %s", now.Sub(d.began).Round(time.Second))
	if d.failed != nil {
		return fmt.Errorf("%s: %w", message, d.failed)
	}
	return &client.Error{API: client.DomainMachines, Reason: client.ReasonTimeout, Message: message}
}

// askNext asks every domain that is due and returns how long it is until the
// next one is, false where that hangs on something else.
func (w *Collector) askNext(ctx context.Context) (time.Duration, bool) {
	for {
		if w.underway >= maxUnderway || w.underway > 0 && w.isProbing() {
			return 0, false
		}
		now := time.Now()
		w.mu.Lock()
		w.schedule.pacer.Read()
		wanted := wantedDomains{fresh: true, failed: w.retrying < maxRetrying}
		if w.isProbing() && !w.provenAsked {
			wanted = wantedDomains{}
		}
		d, at := w.schedule.next(now, w.underway, wanted)
		if d == nil && w.isProbing() {
			d, at = w.schedule.next(now, w.underway, wantedDomains{fresh: true, failed: true})
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
		w.provenAsked = d.result != nil && d.failures == 0
		last, interval := d.result, d.on.list.interval()
		w.mu.Unlock()
		retryUntil := now.Add(min(client.MaxLookupRetries, interval))
		if w.isProbing() {
			retryUntil = now
		}
		w.underway++
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
			o.result, o.err = w.ask(client.WithRetryDeadline(attempted, retryUntil), d.name, last)
			w.results <- o
		}()
	}
}

// isProbing reports that the last round was given up: one domain at a time is
// asked until one answers, every other one a domain that had answered before.
func (w *Collector) isProbing() bool { return w.inARow >= maxInARow }

// ask makes the calls for one domain. An answer that the name is invalid is a
// result.
func (w *Collector) ask(ctx context.Context, domain string, last *domainResult) (*domainResult, error) {
	r, err := countDomain(w.client.DomainMachines(ctx, domain), w.riskName, w.groupName(last), w.config.MachineInfoLimit)
	if isInvalidName(err) {
		return &domainResult{Invalid: collector.Wall(time.Now())}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list machines of %s: %w", domain, err)
	}
	r.Named = withoutSecrets(r.Named, w.client.HoldsSecret)
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

// statistics asks a domain's statistics, unless they are not wanted or the role
// was found missing within the last interval.
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

// reportStatistics shows on the page, and logs once, whether the role for
// statistics is missing.
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

// riskName spells a risk score as a label value.
func (w *Collector) riskName(raw []byte) string {
	w.labelsMu.Lock()
	defer w.labelsMu.Unlock()
	return w.risk.Names[w.risk.Number(raw)]
}

// groupName spells the device groups of one domain as label values, nil where they
// are not counted. Those of the last result keep their place.
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

// take publishes the outcome of a lookup, plans the domain's next turn and
// returns an error where the round is to be given up.
func (w *Collector) take(ctx context.Context, o domainOutcome) error {
	w.underway--
	if o.retry {
		w.retrying--
	}
	if o.err != nil && ctx.Err() != nil {
		return nil //nolint:nilerr // A lookup that was cut off says nothing of its domain.
	}
	w.settle(&o)
	reason := client.ReasonOf(o.err)
	switch {
	case o.err == nil || o.result != nil || !isTenantWide(reason):
		w.inARow = 0
		w.answered, w.givenUp = true, 0
	case reason == client.ReasonAuth:
		w.inARow = maxInARow
	default:
		w.inARow++
	}
	if w.isProbing() {
		return o.err
	}
	return nil
}

// settle publishes and stores how asking a domain ended.
func (w *Collector) settle(o *domainOutcome) {
	w.storing.Lock()
	defer w.storing.Unlock()
	stored, filled := w.accept(o)
	if stored != nil {
		w.memory.Save(w.domainKey(o.domain.name), stored)
	}
	if filled {
		w.saveList()
	}
}

// accept publishes how asking a domain ended. It returns the result that is to be
// stored, nil where there is none, and whether the list is thereby read whole for
// the first time.
func (w *Collector) accept(o *domainOutcome) (stored *domainResult, filled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := o.domain
	if d.on == nil {
		return nil, false // It left the lists meanwhile.
	}
	w.count(d, -1)
	if o.result != nil {
		if err := w.show(d, w.completed(o.result, d.result), w.fleet.Current()); err != nil {
			o.err = errors.Join(o.err, err)
		} else {
			stored = d.result
		}
	}
	d.began, d.failed, d.err, d.asked = time.Time{}, nil, o.err, true
	if o.err != nil {
		w.schedule.failedAt(d, time.Now())
	} else {
		w.schedule.answered(d)
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

// completed adds to a new result what it lacks and the last one still knows.
func (w *Collector) completed(r, last *domainResult) *domainResult {
	switch {
	case last == nil:
		return r
	case r.At.IsZero():
		kept := *last
		kept.Invalid = r.Invalid
		return &kept
	}
	if bytes.Equal(r.IDs, last.IDs) {
		r.Attention = last.Attention // Where no fleet is known; it expires in its time.
	}
	if r.Statistics == nil && w.config.Statistics {
		r.Statistics = last.Statistics // Until they are too old.
	}
	return r
}

// drain waits for the domains that are being asked.
func (w *Collector) drain(ctx context.Context) {
	for w.underway > 0 {
		_ = w.take(ctx, <-w.results) // The round ends in any case.
	}
}

// isTenantWide reports a failure that says nothing about the domain that was asked.
func isTenantWide(reason client.Reason) bool {
	return reason.Passing() || reason == client.ReasonAuth || reason == client.ReasonForbidden
}

// warnOfIntervals warns of each list that the quota cannot carry in its interval, once
// for as long as it keeps its length.
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
		text := fmt.Sprintf("The call quota cannot carry the watch list %s in its interval: %s domains, one call each %s, take %s instead of %s.",
			l.Name, collector.Number(n), (cycle / time.Duration(n)).Round(time.Millisecond), cycle.Round(time.Second), l.interval())
		if cycle >= l.expiry {
			text += fmt.Sprintf(" Values are withdrawn after max_age, %s, which is before they are asked again: raise it or shorten the list.", l.expiry)
		}
		w.logger.Warn(text)
		w.notes[subject] = text
	}
}

// patience is how long a lookup may go without an answer before it hangs.
func (l *watchList) patience() time.Duration {
	return min(client.MaxHang, max(client.MinHang, l.interval()/2))
}
