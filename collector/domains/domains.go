// Package domains is the collector of watched domains and the reader of their files:
// watched_domains.
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

// Client is what a Collector asks of a tenant's client;
// *client.Client implements it.
type Client interface {
	DomainMachines(ctx context.Context, domain string) iter.Seq2[*client.Machine, error]
	DomainStatistics(ctx context.Context, domain string) (client.DomainStatistics, error)
	Quota(api client.API) client.QuotaUse
	HoldsSecret(name string) bool
}

// Collector counts the machines that communicated with each domain of a
// list. It asks one domain after the other without end, spread over the
// interval, and publishes each result as it comes. Run it by a Refresher that is
// Continuous: one refresh is one round of at most the interval.
type Collector struct {
	config  Config
	env     collector.Env
	client  Client
	fleet   *attention.Index
	files   *Lists // Nil where there are none.
	logger  *slog.Logger
	memory  collector.Memory
	changed chan struct{} // The domains are others.
	results chan domainOutcome

	// Of the goroutine that refreshes.
	underway int  // Domains that are asked at this moment.
	retrying int  // Of these, domains that failed the last time.
	inARow   int  // Failures of the tenant as a whole since the last success.
	ended    bool // A round has ended.
	answered bool // A lookup was answered.
	givenUp  int  // Rounds given up since the last answer.
	// provenAsked says that the last domain asked had answered the time before.
	provenAsked bool

	// storing is held while the domains or a result are changed and stored, so that
	// the store follows in the same order. It is locked before mu.
	storing sync.Mutex

	mu        sync.Mutex
	lists     []*watchList // As in Config.InForce.
	schedule  *domainSchedule
	sorted    []*watchedDomain     // By name.
	bundles   []*collector.Block   // Of domainsInBundle each, nil where they are to be made anew.
	publisher *collector.Publisher // Nil before Start.
	joined    *attention.State     // With which all domains were joined last.
	round     domainRound
	unasked   int               // Domains that neither answered nor failed so far.
	filled    bool              // Every domain was read once: what comes later counts from its addition.
	notes     map[string]string // By subject.

	statisticsMu      sync.Mutex
	statisticsRefused time.Time // When the role was found missing.

	labelsMu sync.Mutex
	risk     *labels.Table
	groups   *labels.Dropped
}

// watchedDomain is a domain on a list.
type watchedDomain struct {
	name     string
	on       *placement // Nil once it has left all lists.
	place    int        // In the sorted list.
	*lookups            // untouched until something is known of it.
}

// lookups are what is known of a domain.
type lookups struct {
	result *domainResult // Nil until there is an answer.
	blocks []*collector.Block
	added  time.Time // When it joined lists that had been read; zero for others.
	asked  bool      // It has answered or failed.
	began  time.Time // When the lookup under way began, zero while there is none.
	failed error     // Why the last attempt of the lookup under way failed, nil where none did.
	err    error     // Why the last lookup failed, nil where it did not.
	age    queuePlace[*watchedDomain]

	// Of the schedule.
	visited  time.Time // When it was asked last; zero means never.
	retry    time.Time // When to try it again, where it failed.
	failures int
	turn     queuePlace[*watchedDomain] // In one of the queues, or in none while it is asked.
	round    int                        // The last in which it finished.
}

// untouched are the lookups of all domains of which nothing is known, so that a long
// list costs little before the first answers. It is never written to.
var untouched = &lookups{}

// touch makes the domain's lookups its own.
func (d *watchedDomain) touch() {
	if d.lookups == untouched {
		d.lookups = &lookups{}
	}
}

// domainOutcome is how asking one domain ended. A result may come with an error
// where only the statistics failed.
type domainOutcome struct {
	domain *watchedDomain
	retry  bool // The domain had failed before.
	result *domainResult
	err    error
}

const (
	// maxUnderway is how many domains are asked at a time, so that one that hangs
	// delays no other; of these, maxRetrying may be domains that failed before.
	maxUnderway = 8
	maxRetrying = 4
	// maxInARow is how many failures in a row, none of them the fault of one
	// domain, end a round.
	maxInARow = 5
	// maxGivenUp is how many rounds in a row may be given up before a single
	// refresh of the whole list ends: pauses between them add up to half an hour.
	// maxGivenUpUnanswered is the same where nothing was answered so far.
	maxGivenUp           = 8
	maxGivenUpUnanswered = 4
	// maxRiskScores bounds the scores beyond the documented ones.
	maxRiskScores = 20
	// listCheckInterval lies between two looks at the watch-list files.
	listCheckInterval = 5 * time.Second
)

// New returns a collector that has not asked anything yet.
func New(c Config, e collector.Env, asked Client) *Collector {
	apis := []client.API{client.DomainMachines}
	if c.Statistics {
		apis = append(apis, client.DomainStats)
	}
	w := &Collector{
		config:  c,
		env:     e,
		client:  asked,
		fleet:   attention.Of(e.Shared),
		logger:  e.Log(),
		memory:  e.Memory(),
		changed: make(chan struct{}, 1),
		results: make(chan domainOutcome, maxUnderway),
		notes:   make(map[string]string),
		groups:  labels.NewDropped("device_group", e.Metrics, asked.HoldsSecret),
		risk:    labels.NewTable(maxRiskScores+len(client.RiskScores), "None", client.RiskScores, labels.NewDropped("risk_score", e.Metrics, asked.HoldsSecret)),
	}
	for i, l := range c.InForce() {
		w.lists = append(w.lists, &watchList{ListConfig: l, index: i, listed: l.Domains})
	}
	w.risk.Documented = client.RiskScores
	w.schedule = &domainSchedule{lists: w.lists, pacer: client.NewPacer(asked.Quota, apis...), once: e.Once}
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

// notesNow report mistakes in the files, a missing role, a list that the quota
// cannot carry, and invalid domains. The lock is held.
func (w *Collector) notesNow() []string {
	var notes []string
	for _, l := range w.lists {
		if l.files == nil || len(l.files.Mistakes) == 0 {
			continue
		}
		text := "Only the lines of the watch list that are right are in force: " + l.files.Summary()
		if l.files.Old {
			text = "The last good watch list stays in force: " + l.files.Summary()
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

// maxNamed is how many domains a message names.
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
	return fmt.Sprintf("The API calls %s of %s domain names invalid (400 InvalidDomainName): %s. Correct them or take them off the list.",
		collector.Number(n), collector.Number(len(w.sorted)), strings.Join(names, ", "))
}

// setNote sets what the page says about a subject; an empty text removes it.
func (w *Collector) setNote(subject, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text == "" {
		delete(w.notes, subject)
		return
	}
	w.notes[subject] = text
}

// Page lists the domains in the order of their names. It never waits for an API.
func (w *Collector) Page() collector.Page {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	page := collector.Page{
		Notes: w.notesNow(), Table: domainTable,
		Progress: collector.Progress{Done: len(w.sorted) - w.unasked, Total: len(w.sorted), What: "watched domains asked"},
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
	if known == 0 { // One old domain does not withdraw the others.
		for _, l := range w.lists {
			page.MaxAge = max(page.MaxAge, l.expiry)
		}
	}
	page.Summary = domainsSummary(len(w.sorted), known, contacted, invalid) + w.listsSummary()
	return page
}

// row is how the domain stands.
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
			r.Hint = "The API names 500 machines at most: this is a lower bound."
		}
	case d.invalid():
		r.Instead, r.Hint = "invalid name", "The API rejects the name as invalid."
	case !r.At.IsZero():
		r.Instead, r.Hint = "withdrawn", "The last count is older than max_age and no longer exposed."
	}
	return r
}

// domainsSummary counts as contacted or not only what is known now.
func domainsSummary(domains, known, contacted, invalid int) string {
	text := collector.Number(domains) + " domains"
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

// listsSummary names the lists, if there are several, with their domains and the
// intervals that the quota allows.
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

// Reloaded takes the lists that the reload has read.
func (w *Collector) Reloaded() { w.takeLists() }

// takeLists watches the lists with their files as these were last read. A domain that
// stays keeps its values and its turn, and the series of one that left are gone at once.
func (w *Collector) takeLists() {
	if w.files == nil {
		return
	}
	w.storing.Lock()
	defer w.storing.Unlock()
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
		w.publish() // The mistakes may be others.
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

// regroup watches the domains that are listed now and returns those that were before.
func (w *Collector) regroup() (removed []string) {
	var added time.Time
	if w.filled {
		added = collector.Wall(time.Now())
	}
	before := w.sorted
	leave := func() {
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
			leave()
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
		leave()
	}
	w.bundles = make([]*collector.Block, (len(w.sorted)+domainsInBundle-1)/domainsInBundle)
	w.expireAnew()
	w.reexpose(moved)
	return removed
}

// count adds a domain, as it stands, to the counters, or takes it out again: n is
// 1 or -1. Whoever changes what is counted takes the domain out before.
func (w *Collector) count(d *watchedDomain, n int) {
	if !d.asked {
		w.unasked += n
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
		d.age.leave()
	}
}

// readAt is the time from which a domain counts for the age of the list's
// values: of its last answer, or of its addition to a list that had been read.
// Zero means that it was never read. Invalid domains do not count.
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

// unread is how many domains were never read.
func (w *Collector) unread() (n int) {
	for _, l := range w.lists {
		n += l.unread
	}
	return n
}

// oldest is how old the list's values are at worst: the zero time before every
// domain was read once, now for a list without domains that count.
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

// Follow joins the domains anew whenever the fleet changes, and takes the lists anew
// when a file changes.
func (w *Collector) Follow(ctx context.Context) {
	if w.files != nil && slices.ContainsFunc(w.lists, func(l *watchList) bool { return len(l.Files) > 0 }) {
		var polling sync.WaitGroup
		defer polling.Wait()
		polling.Go(func() { w.pollFiles(ctx) })
	}
	w.fleet.Follow(ctx, w.rejoin)
}

// pollFiles looks at the files until the context ends.
func (w *Collector) pollFiles(ctx context.Context) {
	ticker := time.NewTicker(listCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.files.Poll(ctx)
			w.takeLists()
		case <-ctx.Done():
			return
		}
	}
}

// rejoin counts the machines that require attention anew, for every domain.
func (w *Collector) rejoin() {
	w.mu.Lock()
	fleet := w.fleet.Current()
	isJoined := fleet.Unknown || fleet == w.joined
	w.mu.Unlock()
	if isJoined {
		return // Without waiting for a storage that is slow.
	}
	w.storing.Lock()
	defer w.storing.Unlock()
	w.mu.Lock()
	fleet = w.fleet.Current() // Under the lock: no older join overwrites a newer one.
	if fleet.Unknown || fleet == w.joined {
		w.mu.Unlock()
		return
	}
	w.joined = fleet
	join := storedJoin{At: fleet.At, Machines: make(map[string][]int)}
	for _, d := range w.sorted {
		if d.result == nil || d.result.Machines == 0 {
			continue
		}
		if err := w.show(d, d.result, fleet); err != nil {
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

// show makes a result the one that is published next.
func (w *Collector) show(d *watchedDomain, r *domainResult, fleet *attention.State) error {
	joined := *r
	joined.Attention = r.join(fleet)
	blocks, err := w.blocks(d, &joined, fleet)
	if err != nil {
		return err
	}
	w.expose(d, &joined, blocks)
	return nil
}

// expose makes a result and its blocks those of the domain.
func (w *Collector) expose(d *watchedDomain, r *domainResult, blocks []*collector.Block) {
	d.result, d.blocks = r, blocks
	w.bundles[d.place/domainsInBundle] = nil
}

func (w *Collector) blocks(d *watchedDomain, r *domainResult, fleet *attention.State) ([]*collector.Block, error) {
	return r.blocks(w.env.Tenant, d.name, d.on.list.expiry, fleet.MaxAge)
}

// expireAnew gives all values the time at which they are withdrawn now, where the
// length of the lists or the quota has changed it, and reports whether it did.
func (w *Collector) expireAnew() bool {
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
	w.reexpose(slices.DeleteFunc(slices.Clone(w.sorted), func(d *watchedDomain) bool { return !changed[d.on.list] }))
	return true
}

// reexpose makes the blocks of domains anew.
func (w *Collector) reexpose(domains []*watchedDomain) {
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
		w.expose(d, d.result, blocks)
	}
}

// domainsInBundle is how many domains' blocks are copied for the result of one.
const domainsInBundle = 256

// publish exposes every domain's blocks.
func (w *Collector) publish() {
	about, err := w.listsBlock()
	if err != nil {
		w.logger.Error("Exposing watch lists failed", "err", err)
		return
	}
	blocks := []*collector.Block{about}
	for _, l := range w.lists {
		if l.info == nil {
			// What cannot be exposed was an error of the block about the lists, too.
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

// listsBlock builds what is exposed of the lists as a whole.
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
		isRight := func(l *watchList) bool { return l.files != nil && len(l.files.Mistakes) == 0 }
		b.Add(domainsListReadFamily, collector.BoolValue(!slices.ContainsFunc(w.lists, func(l *watchList) bool { return !isRight(l) })))
	}
	return b.Build()
}
