// Package domains is the collector of watched domains, watched_domains, and the reader
// of watch-list files.
package domains

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// Client is the part of *client.Client that a Collector uses.
type Client interface {
	DomainMachines(ctx context.Context, domain string) iter.Seq2[*client.Machine, error]
	DomainStatistics(ctx context.Context, domain string) (client.DomainStatistics, error)
	Quota(api client.API) client.QuotaUse
	ContainsSecret(name string) bool
}

// Collector counts the machines that contacted each watched domain. It looks up
// the domains continuously, spread over the interval, and publishes each result
// immediately. It needs a Refresher with a Continuous schedule: one refresh is one
// round and lasts the interval at most.
type Collector struct {
	config  Config
	env     collector.Env
	client  Client
	fleet   *attention.Index
	files   *Lists // Nil without Env.Process.
	logger  *slog.Logger
	memory  collector.Memory
	changed chan struct{} // Signals a change of the domains.
	results chan domainOutcome

	// Only used by the refreshing goroutine.
	inFlight            int  // Lookups in progress.
	retrying            int  // Of these, lookups of domains that failed the last time.
	consecutiveFailures int  // Tenant-wide failures since the last success.
	roundEnded          bool // At least one round has ended.
	responded           bool // At least one lookup got a response.
	abortedRounds       int  // Rounds aborted since the last response.
	// lastHadResult says that the domain looked up last had succeeded before.
	lastHadResult bool

	// storeMu is held while the domains or a result are changed and stored, so that the
	// store receives changes in order. It is locked before mu.
	storeMu sync.Mutex

	mu        sync.Mutex
	lists     []*watchList // In the order of Config.InForce.
	schedule  *domainSchedule
	sorted    []*watchedDomain     // By name.
	bundles   []*collector.Block   // Of domainsInBundle domains each, nil to be rebuilt.
	publisher *collector.Publisher // Nil before Start.
	joined    *attention.State     // The fleet of the last join.
	round     domainRound
	unqueried int               // Domains without a completed lookup.
	filled    bool              // Every domain was read once. Later additions have an added time.
	notes     map[string]string // By subject.

	statisticsMu      sync.Mutex
	statisticsRefused time.Time // When the role was last found missing.

	labelsMu sync.Mutex
	risk     *labels.Table
	groups   *labels.Dropped
}

// watchedDomain is a domain on a list.
type watchedDomain struct {
	name     string
	on       *placement // Nil if it is no longer on any list.
	place    int        // Index in Collector.sorted.
	*lookups            // Points to untouched before the first change.
}

// lookups is the state of a domain's lookups.
type lookups struct {
	result  *domainResult // Nil before the first response.
	blocks  []*collector.Block
	added   time.Time // When it was added to lists that had been read; otherwise zero.
	queried bool      // A lookup has completed or failed.
	began   time.Time // Start of the lookup in progress, zero without one.
	failed  error     // Error of the last attempt of the lookup in progress, or nil.
	err     error     // Error of the last lookup, or nil.
	age     queuePlace[*watchedDomain]

	// Used by the schedule.
	visited  time.Time // Start of the last lookup; zero means never.
	retry    time.Time // Time of the next attempt after a failure.
	failures int
	turn     queuePlace[*watchedDomain] // Place in one of the queues, in none during a lookup.
	round    int                        // Number of the round of its last completed lookup.
}

// untouched is shared by all domains without state, to save memory before the first
// results of a long list. It is never written to.
var untouched = &lookups{}

// touch gives the domain lookups that can be written to.
func (d *watchedDomain) touch() {
	if d.lookups == untouched {
		d.lookups = &lookups{}
	}
}

// domainOutcome is the outcome of a lookup. It has both a result and an error if only
// the statistics failed.
type domainOutcome struct {
	domain *watchedDomain
	retry  bool // The previous lookup failed.
	result *domainResult
	err    error
}

const (
	// maxInFlight limits concurrent lookups: more than one, so that a hanging lookup
	// does not delay the others. At most maxRetrying of them may be of domains that
	// failed before.
	maxInFlight = 8
	maxRetrying = 4
	// maxConsecutiveFailures is the number of consecutive tenant-wide failures that
	// aborts a round.
	maxConsecutiveFailures = 5
	// maxAbortedRounds is the number of consecutive aborted rounds that ends a single
	// refresh of all lists. The pauses between them add up to half an hour.
	// maxAbortedRoundsUnanswered applies before the first response.
	maxAbortedRounds           = 8
	maxAbortedRoundsUnanswered = 4
	// maxRiskScores limits the undocumented risk scores.
	maxRiskScores = 20
	// listCheckInterval is the interval of checking the watch-list files.
	listCheckInterval = 5 * time.Second
)

// New returns a collector. It makes no API call.
func New(c Config, e collector.Env, api Client) *Collector {
	apis := []client.API{client.DomainMachines}
	if c.Statistics {
		apis = append(apis, client.DomainStats)
	}
	w := &Collector{
		config:  c,
		env:     e,
		client:  api,
		fleet:   attention.Of(e.Shared),
		logger:  e.Log(),
		memory:  e.Memory(),
		changed: make(chan struct{}, 1),
		results: make(chan domainOutcome, maxInFlight),
		notes:   make(map[string]string),
		groups:  labels.NewDropped("device_group", e.Metrics, api.ContainsSecret),
		risk:    labels.NewTable(maxRiskScores+len(client.RiskScores), "None", client.RiskScores, labels.NewDropped("risk_score", e.Metrics, api.ContainsSecret)),
	}
	for i, l := range c.InForce() {
		w.lists = append(w.lists, &watchList{ListConfig: l, index: i, listed: l.Domains})
	}
	w.risk.Documented = client.RiskScores
	w.schedule = &domainSchedule{lists: w.lists, pacer: client.NewPacer(api.Quota, apis...), once: e.Once}
	if e.Process == nil {
		w.regroup()
		return w
	}
	w.files = collector.Share(e.Process, func() (*Lists, func()) {
		files := &Lists{Logger: e.Logger}
		return files, func() { files.Read(context.Background()) }
	})
	for _, l := range w.lists {
		w.files.use(l.Files)
	}
	return w
}

// currentNotes returns the notes of the page: mistakes in files, a missing role, lists
// that exceed the quota, and invalid domains. The lock is held.
func (w *Collector) currentNotes() []string {
	var notes []string
	for _, l := range w.lists {
		if l.files == nil || len(l.files.Mistakes) == 0 {
			continue
		}
		text := "Only the valid lines of the watch list are in force: " + l.files.Summary()
		if l.files.Old {
			text = "The last valid watch list is in force: " + l.files.Summary()
		}
		if !slices.Contains(notes, text) { // Lists may share a file.
			notes = append(notes, text)
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(w.notes)) {
		notes = append(notes, w.notes[subject])
	}
	if text := w.invalidNote(); text != "" {
		notes = append(notes, text)
	}
	return notes
}

// maxNamed limits the domains that a message names.
const maxNamed = 5

func (w *Collector) invalidNote() string {
	var names []string
	n := 0
	for _, d := range w.sorted {
		if d.invalid() {
			if n++; n <= maxNamed {
				names = append(names, d.name)
			}
		}
	}
	switch {
	case n == 0:
		return ""
	case n > len(names):
		names = append(names, collector.Number(n-len(names))+" more")
	}
	return fmt.Sprintf("The API rejects %s of %s domain names as invalid (400 InvalidDomainName): %s. Correct them or remove them from the list.",
		collector.Number(n), collector.Number(len(w.sorted)), strings.Join(names, ", "))
}

// setNote sets the page's note about a subject. An empty text removes it.
func (w *Collector) setNote(subject, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text == "" {
		delete(w.notes, subject)
		return
	}
	w.notes[subject] = text
}

// Page lists the domains by name.
func (w *Collector) Page() collector.Page {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	page := collector.Page{
		Notes: w.currentNotes(), Table: domainTable,
		Progress: collector.Progress{Done: len(w.sorted) - w.unqueried, Total: len(w.sorted), What: "watched domains looked up"},
	}
	page.Table.Rows = make([]collector.Row, len(w.sorted))
	known, contacted, invalid := 0, 0, 0
	for i, d := range w.sorted {
		r := d.row(now)
		if len(w.lists) > 1 {
			r.Group = d.on.names
		}
		switch {
		case r.Known:
			known++
			if r.Marked {
				contacted++
			}
		case d.invalid():
			invalid++
		}
		page.Table.Rows[i] = r
	}
	if known == 0 { // Values expire one by one: max_age applies to the page only if all have expired.
		for _, l := range w.lists {
			page.MaxAge = max(page.MaxAge, l.expiry)
		}
	}
	page.Summary = domainsSummary(len(w.sorted), known, contacted, invalid) + w.listsSummary()
	return page
}

// row returns the domain's row of the table.
func (d *watchedDomain) row(now time.Time) collector.Row {
	r := collector.Row{Name: d.name}
	if d.err != nil {
		r.Error = d.err.Error()
	}
	if d.result != nil {
		r.At = d.result.At
		r.Known = !r.At.IsZero() && now.Sub(r.At) < d.on.list.expiry
	}
	switch {
	case r.Known:
		r.Number, r.Marked = float64(d.result.Machines), d.result.Machines > 0
		if r.AtLeast = d.result.Truncated; r.AtLeast {
			r.Hint = "The API returns at most 500 machines: this is a lower bound."
		}
	case d.invalid():
		r.Instead, r.Hint = "invalid name", "The API rejects the name as invalid."
	case !r.At.IsZero():
		r.Instead, r.Hint = "withdrawn", "The last count is older than max_age and no longer exposed."
	}
	return r
}

// domainsSummary summarizes the domains. Only domains with a fresh value count as
// contacted or not.
func domainsSummary(domains, known, contacted, invalid int) string {
	text := collector.Count(domains, "domain")
	if known > 0 || domains == 0 {
		text += ", " + collector.Number(contacted) + " contacted"
	}
	if unknown := domains - known - invalid; unknown > 0 {
		text += ", " + collector.Number(unknown) + " unknown"
	}
	if invalid > 0 {
		text += ", " + collector.Number(invalid) + " invalid"
	}
	return text
}

// listsSummary returns the length and the interval that the quota allows of each list.
// It is empty for a single list.
func (w *Collector) listsSummary() (text string) {
	if len(w.lists) == 1 {
		return ""
	}
	cycles := w.schedule.cycles(w.schedule.pacer.Pace())
	for i, l := range w.lists {
		text += fmt.Sprintf("; %s: %s every %s", l.Name, collector.Number(len(l.listed)), model.Duration(cycles[i].Round(time.Second)))
	}
	return text
}

// Reloaded applies the lists that the reload has read.
func (w *Collector) Reloaded() { w.applyLists() }

// applyLists applies the watch-list files as last read. Domains that remain keep their
// values and their turn. The series of removed domains disappear immediately.
func (w *Collector) applyLists() {
	if w.files == nil {
		return
	}
	w.storeMu.Lock()
	defer w.storeMu.Unlock()
	read, regroup := false, false
	for _, l := range w.lists {
		files := w.files.List(l.Files)
		if l.files == files {
			continue
		}
		w.mu.Lock()
		if l.files == nil || !slices.Equal(l.files.Domains, files.Domains) {
			l.listed, l.info, regroup = l.With(files), nil, true
		}
		l.files, read = files, true
		w.mu.Unlock()
	}
	if !read {
		return
	}
	w.mu.Lock()
	var removed []string
	if regroup {
		removed = w.regroup()
	}
	if w.publisher != nil {
		w.publish() // The mistakes may have changed.
	}
	w.mu.Unlock()
	if !regroup {
		return
	}
	for _, name := range removed {
		w.memory.Remove(w.domainKey(name))
	}
	w.saveList()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// regroup updates the watched domains to those on the lists and returns the removed
// ones.
func (w *Collector) regroup() (removed []string) {
	var added time.Time
	if w.filled {
		added = collector.Wall(time.Now())
	}
	before := w.sorted
	drop := func() {
		d := before[0]
		before = before[1:]
		w.count(d, -1)
		w.schedule.remove(d)
		d.on = nil
		removed = append(removed, d.name)
	}
	w.sorted = make([]*watchedDomain, 0, length(w.lists))
	var moved []*watchedDomain
	for name, on := range placements(w.lists) {
		for len(before) > 0 && before[0].name < name {
			drop()
		}
		var d *watchedDomain
		if len(before) > 0 && before[0].name == name {
			d, before = before[0], before[1:]
			if w.count(d, -1); d.on.list != on.list {
				moved = append(moved, d)
			}
			w.schedule.move(d, on)
		} else {
			d = &watchedDomain{name: name, on: on, lookups: untouched}
			if !added.IsZero() {
				d.touch()
				d.added = added
			}
			w.schedule.add(d)
		}
		w.count(d, 1)
		d.place = len(w.sorted)
		w.sorted = append(w.sorted, d)
	}
	for len(before) > 0 {
		drop()
	}
	w.bundles = make([]*collector.Block, (len(w.sorted)+domainsInBundle-1)/domainsInBundle)
	w.updateExpiry()
	w.rebuildBlocks(moved)
	return removed
}

// count adds n, which is 1 or -1, to the counters that the state of a domain belongs
// to. Before changing a domain's state, remove it with -1; then add it again with 1.
func (w *Collector) count(d *watchedDomain, n int) {
	if !d.queried {
		w.unqueried += n
	}
	if d.round != w.round.number {
		w.round.left += n
	}
	at, counts := d.readAt()
	switch {
	case !counts:
	case at.IsZero():
		d.on.list.unread += n
	case n > 0:
		d.on.list.confirmed.put(&d.age, d, at)
	default:
		d.age.remove()
	}
}

// readAt returns the time from which the age of a domain's value counts: its last
// response, or its addition to lists that had been read. Zero means never read. Invalid
// domains do not count.
func (d *watchedDomain) readAt() (at time.Time, counts bool) {
	switch {
	case d.invalid():
		return time.Time{}, false
	case d.result != nil:
		return d.result.At, true
	default:
		return d.added, true
	}
}

func (d *watchedDomain) invalid() bool { return d.result != nil && !d.result.Invalid.IsZero() }

// unread returns the number of domains that were never read.
func (w *Collector) unread() (n int) {
	for _, l := range w.lists {
		n += l.unread
	}
	return n
}

// oldest returns the time of the oldest value: zero before every domain was read once,
// and now if no domain counts.
func (w *Collector) oldest() time.Time {
	if w.unread() > 0 {
		return time.Time{}
	}
	oldest := time.Now()
	for _, l := range w.lists {
		if at := l.oldest(); !at.IsZero() && at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// Follow joins the domains with the fleet when it changes, and applies the lists when a
// file changes.
func (w *Collector) Follow(ctx context.Context) {
	if w.files != nil && slices.ContainsFunc(w.lists, func(l *watchList) bool { return len(l.Files) > 0 }) {
		var polling sync.WaitGroup
		defer polling.Wait()
		polling.Go(func() { w.pollFiles(ctx) })
	}
	w.fleet.Follow(ctx, w.rejoin)
}

// pollFiles checks the files until the context ends.
func (w *Collector) pollFiles(ctx context.Context) {
	ticker := time.NewTicker(listCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.files.Poll(ctx)
			w.applyLists()
		case <-ctx.Done():
			return
		}
	}
}

// rejoin joins every domain with the current fleet.
func (w *Collector) rejoin() {
	w.mu.Lock()
	isJoined := w.fleet.Current() == w.joined
	w.mu.Unlock()
	if isJoined {
		return // Do not wait for slow storage.
	}
	w.storeMu.Lock()
	defer w.storeMu.Unlock()
	w.mu.Lock()
	fleet := w.fleet.Current() // Read under the lock, so that an older join cannot overwrite a newer one.
	if fleet == w.joined {
		w.mu.Unlock()
		return
	}
	w.joined = fleet
	join := storedJoin{At: fleet.At, Machines: make(map[string][]int)}
	for _, d := range w.sorted {
		if d.result == nil || d.result.Machines == 0 {
			continue
		}
		if err := w.setResult(d, d.result, fleet); err != nil {
			w.logger.Error("Joining domain with the fleet failed", "domain", d.name, "err", err)
			continue
		}
		if a := d.result.Attention; a != nil {
			join.Properties = a.Properties
			join.Machines[d.name] = a.Machines
		}
	}
	w.publish()
	w.mu.Unlock()
	w.memory.Save(w.joinKey(), join)
}

// setResult joins a result with the fleet and exposes it at the next publish.
func (w *Collector) setResult(d *watchedDomain, r *domainResult, fleet *attention.State) error {
	joined := *r
	joined.Attention = r.join(fleet)
	blocks, err := w.blocks(d, &joined, fleet)
	if err != nil {
		return err
	}
	w.setBlocks(d, &joined, blocks)
	return nil
}

// setBlocks sets the result and the blocks of a domain.
func (w *Collector) setBlocks(d *watchedDomain, r *domainResult, blocks []*collector.Block) {
	d.result, d.blocks = r, blocks
	w.bundles[d.place/domainsInBundle] = nil
}

func (w *Collector) blocks(d *watchedDomain, r *domainResult, fleet *attention.State) ([]*collector.Block, error) {
	return r.blocks(w.env.Tenant, d.name, d.on.list.expiry, fleet.MaxAge)
}

// updateExpiry updates the age at which values are withdrawn, which depends on the
// lists and the quota. It reports whether it changed.
func (w *Collector) updateExpiry() bool {
	cycles := w.schedule.cycles(w.schedule.pacer.Pace())
	changed := make(map[*watchList]bool)
	for i, l := range w.lists {
		if maxAge := l.maxAge(cycles[i]); maxAge != l.expiry {
			l.expiry, changed[l] = maxAge, true
		}
	}
	if len(changed) == 0 {
		return false
	}
	w.rebuildBlocks(slices.DeleteFunc(slices.Clone(w.sorted), func(d *watchedDomain) bool { return !changed[d.on.list] }))
	return true
}

// rebuildBlocks rebuilds the blocks of domains.
func (w *Collector) rebuildBlocks(domains []*watchedDomain) {
	fleet := w.fleet.Current()
	for _, d := range domains {
		if d.result == nil {
			continue
		}
		blocks, err := w.blocks(d, d.result, fleet)
		if err != nil {
			w.logger.Error("Exposing domain failed", "domain", d.name, "err", err)
			continue
		}
		w.setBlocks(d, d.result, blocks)
	}
}

// domainsInBundle is the number of domains whose blocks are copied when one of them
// changes.
const domainsInBundle = 256

// publish exposes the blocks of all domains. The lock is held.
func (w *Collector) publish() {
	about, err := w.listsBlock()
	if err != nil {
		w.logger.Error("Exposing watch lists failed", "err", err)
		return
	}
	blocks := []*collector.Block{about}
	for _, l := range w.lists {
		if l.info == nil {
			// A name that cannot be exposed was already an error of listsBlock.
			l.info, _ = l.infoBlock(w.env.Tenant)
		}
		blocks = append(blocks, l.info)
	}
	for i := range w.bundles {
		if w.bundles[i] == nil {
			var blocks []*collector.Block
			for _, d := range w.sorted[i*domainsInBundle : min((i+1)*domainsInBundle, len(w.sorted))] {
				blocks = append(blocks, d.blocks...)
			}
			w.bundles[i] = collector.Bundle(blocks)
		}
	}
	w.publisher.Publish(collector.Snapshot{Blocks: append(blocks, w.bundles...), At: w.oldest()})
}

// listsBlock returns the series of the lists.
func (w *Collector) listsBlock() (*collector.Block, error) {
	b := collector.NewBlock(w.env.Tenant, time.Time{})
	b.Add(domainsFamily, float64(len(w.sorted)))
	cycles := w.schedule.cycles(w.schedule.pacer.Pace())
	seconds := func(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
	b.Add(domainsIntervalFamily, seconds(cycles[len(cycles)-1]))
	for i, l := range w.lists {
		b.Add(listIntervalFamily, seconds(cycles[i]), l.Name)
	}
	for _, l := range w.lists {
		b.Add(listConfiguredIntervalFamily, l.interval().Seconds(), l.Name)
	}
	for _, l := range w.lists {
		if at := l.oldest(); !at.IsZero() {
			b.Add(listLastSuccessFamily, collector.UnixSeconds(at), l.Name)
		}
	}
	if w.files != nil {
		isValid := func(l *watchList) bool { return l.files != nil && len(l.files.Mistakes) == 0 }
		b.Add(domainsListReadFamily, collector.BoolValue(!slices.ContainsFunc(w.lists, func(l *watchList) bool { return !isValid(l) })))
	}
	return b.Build()
}
