package collector

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

// DomainsClient is what WatchedDomains asks of a tenant's client;
// *client.Client implements it.
type DomainsClient interface {
	DomainMachines(ctx context.Context, domain string) iter.Seq2[*client.Machine, error]
	DomainStatistics(ctx context.Context, domain string) (client.DomainStatistics, error)
	Quota(api client.API) client.QuotaUse
}

// WatchedDomainsOptions configure a WatchedDomains.
type WatchedDomainsOptions struct {
	// Tenant, Client, Interval, Logger and Metrics are required.
	Tenant string
	Client DomainsClient
	// Domains is the list to begin with; see SetDomains.
	Domains []string
	// Statistics also asks each domain's prevalence, one more call each, of
	// another API with a quota of its own.
	Statistics bool
	// MachineInfoLimit is how many machines of a domain are named. Zero names none.
	MachineInfoLimit int
	// Interval is the time in which each domain is asked once, if the quota allows.
	Interval time.Duration
	// MaxAge is the age at which a domain's values are withdrawn. Zero means
	// three times the interval that the quota allows.
	MaxAge time.Duration
	// Fleet joins the machines with their properties. Nil means no join.
	Fleet   *Fleet
	Logger  *slog.Logger
	Metrics *TenantMetrics
	// Store keeps the results across restarts. Nil means none does.
	Store Store
}

// WatchedDomains counts the machines that communicated with each domain of a
// list. It asks one domain after the other without end, spread over the
// interval, and publishes each result as it comes. Run it by a Refresher that is
// Continuous: one refresh is one pass over the list, or an interval's worth of it.
type WatchedDomains struct {
	options WatchedDomainsOptions
	logger  *slog.Logger
	memory  memory
	changed chan struct{} // The list is another.
	results chan domainOutcome

	// Of the goroutine that refreshes.
	underway   int  // Domains that are asked at this moment.
	inARow     int  // Failures of the tenant as a whole since the last success.
	passed     bool // A pass has ended.
	warnedSize int  // The length of the list when its interval was last warned of.

	mu        sync.Mutex
	schedule  *domainSchedule
	domains   map[string]*watchedDomain
	sorted    []*watchedDomain // By name.
	publisher *Publisher       // Nil before Start.
	pass      int
	left      int               // Domains of the pass that have not finished.
	failed    []failedDomain    // Domains whose last lookup failed.
	notes     map[string]string // By subject.
	success   time.Time         // Of the last pass without a failure.

	statisticsMu      sync.Mutex
	statisticsRefused time.Time // When the role was found missing.

	riskMu sync.Mutex
	risk   *labelTable
}

// watchedDomain is a domain on the list and what was last told of it.
type watchedDomain struct {
	name   string
	visits *domainVisits
	result *domainResult // Nil until something was told.
	blocks []*Block
	// mistake is why it was last asked in vain, empty where it was not.
	mistake string
}

type failedDomain struct {
	name string
	err  error
}

// domainOutcome is how asking one domain ended. A result may come with an error
// where only the statistics failed.
type domainOutcome struct {
	visits *domainVisits
	result *domainResult
	err    error
}

const (
	watchedDomainsName = "watched_domains"
	// maxUnderway is how many domains are asked at a time, so that one that hangs
	// delays no other.
	maxUnderway = 8
	// maxInARow is how many failures in a row, none of them the fault of one
	// domain, end a pass.
	maxInARow = 5
	// domainRetries bounds the retries of one call; the schedule has its own.
	domainRetries = 2 * time.Minute
)

// NewWatchedDomains returns a collector that has not asked anything yet.
func NewWatchedDomains(o WatchedDomainsOptions) *WatchedDomains {
	logger := o.Logger.With("tenant", o.Tenant, "collector", watchedDomainsName)
	w := &WatchedDomains{
		options:  o,
		logger:   logger,
		memory:   newMemory(o.Store, logger),
		changed:  make(chan struct{}, 1),
		results:  make(chan domainOutcome, maxUnderway),
		schedule: newDomainSchedule(o.Interval, callLimits(o)),
		domains:  make(map[string]*watchedDomain),
		notes:    make(map[string]string),
		risk:     newLabelTable(maxStates+len(riskScores), "None", riskScores, newDroppedValues("risk_score", o.Metrics)),
	}
	w.setList(o.Domains)
	return w
}

// callLimits are those of the API that allows less.
func callLimits(o WatchedDomainsOptions) client.Limits {
	limits := o.Client.Quota(client.DomainMachines).Limits
	if o.Statistics {
		statistics := o.Client.Quota(client.DomainStats).Limits
		limits.CallsPerMinute = min(limits.CallsPerMinute, statistics.CallsPerMinute)
		limits.CallsPerHour = min(limits.CallsPerHour, statistics.CallsPerHour)
	}
	return limits
}

// Name is "watched_domains".
func (w *WatchedDomains) Name() string { return watchedDomainsName }

// Notes tell of a missing role and of a list that the quota cannot carry.
func (w *WatchedDomains) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	notes := make([]string, 0, len(w.notes))
	for _, subject := range slices.Sorted(maps.Keys(w.notes)) {
		notes = append(notes, w.notes[subject])
	}
	return notes
}

// DomainStatus is how one domain stands, for a page.
type DomainStatus struct {
	Domain string
	// Machines and Truncated are of LastSuccess, which is zero where nothing is known.
	Machines    int
	Truncated   bool
	LastSuccess time.Time
	// Failures are those in a row since then, and Error is the last one's, empty
	// where there was none.
	Failures int
	Error    string
}

// Domains returns the list in the order of the names. It never waits for an API.
func (w *WatchedDomains) Domains() []DomainStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]DomainStatus, len(w.sorted))
	for i, d := range w.sorted {
		list[i] = DomainStatus{Domain: d.name, Failures: d.visits.failures, Error: d.mistake}
		if d.result != nil {
			list[i].Machines, list[i].Truncated, list[i].LastSuccess = d.result.Machines, d.result.Truncated, d.result.At
		}
	}
	return list
}

// SetDomains replaces the list. A domain that stays keeps its values and its
// turn, a new one is asked before all others, and the series of one that left
// are gone at once.
func (w *WatchedDomains) SetDomains(domains []string) {
	removed := w.setList(domains)
	for _, name := range removed {
		w.memory.remove(domainKey(name))
	}
	w.saveList()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *WatchedDomains) setList(domains []string) (removed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	listed := make(map[string]bool, len(domains))
	for _, name := range domains {
		listed[name] = true
		if w.domains[name] == nil {
			w.domains[name] = &watchedDomain{name: name, visits: w.schedule.add(name, time.Time{})}
			w.left++
		}
	}
	for name, d := range w.domains {
		if listed[name] {
			continue
		}
		removed = append(removed, name)
		w.schedule.remove(name)
		delete(w.domains, name)
		w.failed = slices.DeleteFunc(w.failed, func(f failedDomain) bool { return f.name == name })
		if d.visits.round != w.pass {
			w.left--
		}
	}
	w.sorted = slices.SortedFunc(maps.Values(w.domains), func(a, b *watchedDomain) int { return strings.Compare(a.name, b.name) })
	if w.publisher != nil {
		w.publish()
	}
	return removed
}

// watchList is stored beside the results, so that those of domains that left
// while the program did not run are found and deleted.
type watchList struct {
	Domains []string  `json:"domains"`
	Success time.Time `json:"success,omitzero"`
}

func domainKey(name string) string { return watchedDomainsName + "/" + name }

// storedJoin is the last join of all domains with a fleet. A domain's own result
// holds the join of the time it was asked, which may have been before.
type storedJoin struct {
	Expires    time.Time        `json:"expires"`
	Properties []string         `json:"properties"`
	Machines   map[string][]int `json:"machines"` // By domain, of each property.
}

const joinKey = watchedDomainsName + "_attention"

// attention is the join of one domain where it is newer than the domain's own.
func (j *storedJoin) attention(domain string, own *domainAttention) *domainAttention {
	machines := j.Machines[domain]
	if len(machines) != len(j.Properties) || own != nil && !j.Expires.After(own.Expires) {
		return own
	}
	return &domainAttention{Expires: j.Expires, Properties: j.Properties, Machines: machines}
}

// Start publishes the stored results, joined with the fleet.
func (w *WatchedDomains) Start(_ context.Context, p *Publisher) time.Time {
	w.riskMu.Lock()
	w.risk.dropped.count(0)
	w.riskMu.Unlock()

	var list watchList
	w.memory.load(watchedDomainsName, &list)
	var join storedJoin
	w.memory.load(joinKey, &join)
	for _, name := range list.Domains {
		w.restore(name, &join)
	}
	w.mu.Lock()
	w.publisher = p
	w.success = list.Success
	w.publish()
	if len(w.domains) == 0 || slices.ContainsFunc(w.sorted, func(d *watchedDomain) bool { return !d.visits.asked.IsZero() }) {
		p.Ready()
	}
	w.mu.Unlock()
	w.saveList()
	w.rejoin()
	return w.progressed()
}

// Follow joins the domains anew whenever the fleet changes.
func (w *WatchedDomains) Follow(ctx context.Context) {
	w.options.Fleet.follow(ctx, w.rejoin)
}

// restore takes the stored result of a domain, unless it is off the list. One
// whose values are too old to serve tells when they were confirmed and nothing
// more; it is asked as if it never was.
func (w *WatchedDomains) restore(name string, join *storedJoin) {
	w.mu.Lock()
	d, maxAge := w.domains[name], w.maxAge()
	w.mu.Unlock()
	if d == nil {
		w.memory.remove(domainKey(name))
		return
	}
	var r domainResult
	if d.result != nil || !w.memory.load(domainKey(name), &r) {
		return
	}
	if err := r.check(); err != nil {
		w.logger.Warn("A stored result is set aside", "domain", name, "err", err)
		return
	}
	r.Attention = join.attention(name, r.Attention)
	blocks, err := r.blocks(w.options.Tenant, name, maxAge)
	if err != nil {
		w.logger.Warn("A stored result is set aside", "domain", name, "err", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.domains[name] != d {
		return
	}
	d.result, d.blocks = &r, blocks
	if isFresh(r.At, maxAge) {
		w.schedule.remove(name)
		round := d.visits.round
		d.visits = w.schedule.add(name, time.Now().Add(-time.Since(r.At)))
		d.visits.round = round
	}
}

// maxAge is the age at which values are withdrawn. The lock is held.
func (w *WatchedDomains) maxAge() time.Duration {
	if w.options.MaxAge > 0 {
		return w.options.MaxAge
	}
	return 3 * w.schedule.cycle()
}

// MaxAge is the age at which values are withdrawn.
func (w *WatchedDomains) MaxAge() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.maxAge()
}

// progressed is when the last domain was read.
func (w *WatchedDomains) progressed() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last time.Time
	for _, d := range w.sorted {
		if d.result != nil {
			last = later(last, d.result.At)
		}
	}
	return last
}

func (w *WatchedDomains) saveList() {
	w.mu.Lock()
	list := watchList{Success: w.success}
	for _, d := range w.sorted {
		list.Domains = append(list.Domains, d.name)
	}
	started := w.publisher != nil
	w.mu.Unlock()
	if started {
		w.memory.save(watchedDomainsName, list)
	}
}

// rejoin counts the machines that require attention anew, for every domain.
func (w *WatchedDomains) rejoin() {
	fleet := w.options.Fleet.current()
	if fleet == nil {
		return
	}
	join := storedJoin{Expires: fleet.expires, Properties: fleet.properties, Machines: make(map[string][]int)}
	w.mu.Lock()
	for _, d := range w.sorted {
		if d.result == nil || d.result.Machines == 0 {
			continue
		}
		if err := w.show(d, d.result, fleet); err != nil {
			w.logger.Error("A domain could not be joined with the fleet", "domain", d.name, "err", err)
			continue
		}
		join.Machines[d.name] = d.result.Attention.Machines
	}
	w.publish()
	w.mu.Unlock()
	w.memory.save(joinKey, join)
}

// show makes a result the one that is published next.
func (w *WatchedDomains) show(d *watchedDomain, r *domainResult, fleet *attentionIndex) error {
	joined := *r
	joined.Attention = r.join(fleet)
	blocks, err := joined.blocks(w.options.Tenant, d.name, w.maxAge())
	if err != nil {
		return err
	}
	d.result, d.blocks = &joined, blocks
	return nil
}

// publish exposes every domain's blocks. It copies pointers only.
func (w *WatchedDomains) publish() {
	list := newBlock(w.options.Tenant, time.Time{})
	list.add(domainsFamily, float64(len(w.sorted)))
	list.add(domainsIntervalFamily, w.schedule.cycle().Round(time.Millisecond).Seconds())
	block, err := list.build()
	if err != nil {
		w.logger.Error("The watch list cannot be exposed", "err", err)
		return
	}
	blocks := make([]*Block, 1, 1+4*len(w.sorted))
	blocks[0] = block
	for _, d := range w.sorted {
		blocks = append(blocks, d.blocks...)
	}
	w.publisher.Publish(Snapshot{Blocks: blocks, At: w.success})
}
