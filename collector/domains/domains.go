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
	lists   *Lists // Nil where there are no files.
	logger  *slog.Logger
	memory  collector.Memory
	changed chan struct{} // The list is another.
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
	warnedSize  int // The length of the list when its interval was last warned of.

	// storing is held while the list or a result is changed and stored, so that
	// the store follows in the same order. It is locked before mu.
	storing sync.Mutex

	mu        sync.Mutex
	schedule  *domainSchedule
	domains   map[string]*watchedDomain
	sorted    []*watchedDomain     // By name.
	bundles   []*collector.Block   // Of domainsInBundle each, nil where they are to be made anew.
	publisher *collector.Publisher // Nil before Start.
	list      *List                // Of the files, as it was last taken; nil without Lists.
	joined    *attention.State     // With which all domains were joined last.
	round     domainRound
	unasked   int                       // Domains that neither answered nor failed so far.
	unread    int                       // Domains without a time in confirmed that should have one.
	confirmed timeQueue[*watchedDomain] // By the age of their values; without invalid ones.
	expiry    time.Duration             // The max_age of all blocks, but for those of the newest answers.
	filled    bool                      // Every domain was read once: what comes later counts from its addition.
	notes     map[string]string         // By subject.

	statisticsMu      sync.Mutex
	statisticsRefused time.Time // When the role was found missing.

	labelsMu sync.Mutex
	risk     *labels.Table
	groups   *labels.Dropped
}

// watchedDomain is a domain on the list and its last answer.
type watchedDomain struct {
	name   string
	place  int           // In the sorted list.
	result *domainResult // Nil until there is an answer.
	blocks []*collector.Block
	added  time.Time // When it joined a list that had been read; zero for others.
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
		config:   c,
		env:      e,
		client:   asked,
		fleet:    attention.Of(e.Shared),
		logger:   e.Log(),
		memory:   e.Memory(),
		changed:  make(chan struct{}, 1),
		results:  make(chan domainOutcome, maxUnderway),
		schedule: &domainSchedule{interval: c.Interval(), pacer: client.NewPacer(asked.Quota, apis...)},
		domains:  make(map[string]*watchedDomain),
		notes:    make(map[string]string),
		groups:   labels.NewDropped("device_group", e.Metrics, asked.HoldsSecret),
		risk:     labels.NewTable(maxRiskScores+len(client.RiskScores), "None", client.RiskScores, labels.NewDropped("risk_score", e.Metrics, asked.HoldsSecret)),
	}
	if e.Process == nil {
		w.setList(c.Domains)
		return w
	}
	w.lists = collector.Share(e.Process, func() (*Lists, func()) {
		lists := &Lists{Logger: e.Logger}
		return lists, func() { lists.Read(context.Background()) }
	})
	w.lists.use(c.Files)
	return w
}

// notesNow report mistakes in the files, a missing role, a list that the quota
// cannot carry, and invalid domains. The lock is held.
func (w *Collector) notesNow() []string {
	var notes []string
	switch {
	case w.list == nil || len(w.list.Mistakes) == 0:
	case w.list.Old:
		notes = append(notes, "The last good watch list stays in force: "+w.list.Summary())
	default:
		notes = append(notes, "Only the lines of the watch list that are right are in force: "+w.list.Summary())
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
	maxAge := w.maxAge()
	page := collector.Page{
		Notes: w.notesNow(), Table: domainTable,
		Progress: collector.Progress{Done: len(w.domains) - w.unasked, Total: len(w.domains), What: "watched domains asked"},
	}
	page.Table.Rows = make([]collector.Row, len(w.sorted))
	known, contacted, invalid := 0, 0, 0
	for i, d := range w.sorted {
		r := d.row(now, maxAge)
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
	if known == 0 {
		page.MaxAge = maxAge // One old domain does not withdraw the others.
	}
	page.Summary = domainsSummary(len(w.sorted), known, contacted, invalid)
	return page
}

// row is how the domain stands.
func (d *watchedDomain) row(now time.Time, maxAge time.Duration) collector.Row {
	r := collector.Row{Name: d.name}
	if d.err != nil {
		r.Error = d.err.Error()
	}
	if d.result != nil {
		r.At = d.result.At
		r.Known = !r.At.IsZero() && now.Sub(r.At) < maxAge
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

// Reloaded takes the list that the reload has read.
func (w *Collector) Reloaded() { w.takeList() }

// takeList watches the list of the files as it was last read, if there are files.
func (w *Collector) takeList() {
	if w.lists == nil {
		return
	}
	w.storing.Lock()
	defer w.storing.Unlock()
	list := w.lists.List(w.config.Files)
	w.mu.Lock()
	last := w.list
	w.list = list
	same := last != nil && slices.Equal(list.Domains, last.Domains)
	if same && list != last && w.publisher != nil {
		w.publish() // The mistakes are others.
	}
	w.mu.Unlock()
	if !same {
		w.replaceList(w.config.WithList(list))
	}
}

// SetDomains replaces the list. A domain that stays keeps its values and its
// turn, a new one is asked before all others, and the series of one that left
// are gone at once.
func (w *Collector) SetDomains(domains []string) {
	w.storing.Lock()
	defer w.storing.Unlock()
	w.replaceList(domains)
}

func (w *Collector) replaceList(domains []string) {
	removed := w.setList(domains)
	for _, name := range removed {
		w.memory.Remove(w.domainKey(name))
	}
	w.saveList()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *Collector) setList(domains []string) (removed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var added time.Time
	if w.filled {
		added = collector.Wall(time.Now())
	}
	listed := slices.Compact(slices.Sorted(slices.Values(domains)))
	if len(w.domains) == 0 {
		w.domains = make(map[string]*watchedDomain, len(listed))
	}
	for _, name := range domains {
		if w.domains[name] == nil {
			d := &watchedDomain{name: name, added: added}
			w.domains[name] = d
			w.schedule.add(d)
			w.count(d, 1)
		}
	}
	if len(w.domains) > len(listed) {
		for name, d := range w.domains {
			if _, ok := slices.BinarySearch(listed, name); !ok {
				removed = append(removed, name)
				w.count(d, -1)
				w.schedule.remove(d)
				delete(w.domains, name)
			}
		}
	}
	w.sorted = make([]*watchedDomain, len(listed))
	for i, name := range listed {
		d := w.domains[name]
		d.place = i
		w.sorted[i] = d
	}
	w.bundles = make([]*collector.Block, (len(w.sorted)+domainsInBundle-1)/domainsInBundle)
	if w.publisher != nil {
		w.expireAnew()
		w.publish()
	}
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
		w.unread += n
	case n > 0:
		w.confirmed.put(&d.age, d, at)
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

// oldest is how old the list's values are at worst: the zero time before every
// domain was read once, now for a list without domains that count.
func (w *Collector) oldest() time.Time {
	if w.unread > 0 {
		return time.Time{}
	}
	d, ok := w.confirmed.first()
	if !ok {
		return time.Now()
	}
	at, _ := d.readAt()
	return at
}

// maxAge is the age at which values are withdrawn. The lock is held.
func (w *Collector) maxAge() time.Duration {
	if w.config.Age() > 0 {
		return w.config.Age()
	}
	return 3 * w.schedule.cycle()
}

// Follow joins the domains anew whenever the fleet changes, and takes the list anew
// when a file changes.
func (w *Collector) Follow(ctx context.Context) {
	if len(w.config.Files) > 0 && w.lists != nil {
		var polling sync.WaitGroup
		defer polling.Wait()
		polling.Go(func() { w.pollList(ctx) })
	}
	w.fleet.Follow(ctx, w.rejoin)
}

// pollList looks at the files until the context ends.
func (w *Collector) pollList(ctx context.Context) {
	ticker := time.NewTicker(listCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.lists.Poll(ctx)
			w.takeList()
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
			w.logger.Error("Domain cannot be joined with the fleet", "domain", d.name, "err", err)
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
	blocks, err := w.blocks(d.name, &joined, fleet)
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

func (w *Collector) blocks(domain string, r *domainResult, fleet *attention.State) ([]*collector.Block, error) {
	return r.blocks(w.env.Tenant, domain, w.maxAge(), fleet.MaxAge)
}

// expireAnew gives all values the time at which they are withdrawn now, if the
// length of the list or the quota has changed it, and reports whether it did.
func (w *Collector) expireAnew() bool {
	maxAge := w.maxAge()
	if maxAge == w.expiry {
		return false
	}
	w.expiry = maxAge
	fleet := w.fleet.Current()
	for _, d := range w.sorted {
		if d.result == nil {
			continue
		}
		blocks, err := w.blocks(d.name, d.result, fleet)
		if err != nil {
			w.logger.Error("Domain cannot be exposed", "domain", d.name, "err", err)
			continue
		}
		w.expose(d, d.result, blocks)
	}
	return true
}

// domainsInBundle is how many domains' blocks are copied for the result of one.
const domainsInBundle = 256

// publish exposes every domain's blocks.
func (w *Collector) publish() {
	list := collector.NewBlock(w.env.Tenant, time.Time{})
	list.Add(domainsFamily, float64(len(w.sorted)))
	list.Add(domainsIntervalFamily, w.schedule.cycle().Round(time.Millisecond).Seconds())
	if w.list != nil {
		list.Add(domainsListReadFamily, collector.BoolValue(len(w.list.Mistakes) == 0))
	}
	block, err := list.Build()
	if err != nil {
		w.logger.Error("The watch list cannot be exposed", "err", err)
		return
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
	w.publisher.Publish(collector.Snapshot{Blocks: append([]*collector.Block{block}, w.bundles...), At: w.oldest()})
}
