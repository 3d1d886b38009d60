package domains

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// Stored are the list under the collector's name, each domain's result under a separate
// key, and the last join of all domains with a fleet.
func (w *Collector) joinKey() string { return w.env.Name + "_attention" }

func (w *Collector) domainKey(name string) string { return w.env.Name + "/" + name }

// storedList is the stored state of the list.
type storedList struct {
	// Filled says that every domain has been read once.
	Filled bool `json:"filled"`
	// Added is when domains were added to the list that have not been read since.
	Added map[string]time.Time `json:"added,omitempty"`
}

// storedJoin is the last join of all domains with a fleet. It may be newer than the
// join in a domain's result, which is as old as its lookup.
type storedJoin struct {
	At         time.Time        `json:"at"` // Time of the fleet.
	Properties []string         `json:"properties"`
	Machines   map[string][]int `json:"machines"` // By domain, one for each property.
}

// attention returns the stored join of a domain if it is newer than the domain's own,
// else own.
func (j *storedJoin) attention(domain string, own *domainAttention) *domainAttention {
	machines := j.Machines[domain]
	if len(machines) != len(j.Properties) || own != nil && !j.At.After(own.At) {
		return own
	}
	return &domainAttention{At: j.At, Properties: j.Properties, Machines: machines}
}

// Start publishes the stored results, joined with the fleet. It deletes the results of
// domains that are no longer on a list.
func (w *Collector) Start(_ context.Context, p *collector.Publisher) time.Time {
	w.labelsMu.Lock()
	w.risk.Dropped.Announce()
	if w.config.DeviceGroups {
		w.groups.Announce()
	}
	w.labelsMu.Unlock()

	w.applyLists()
	w.storeMu.Lock()
	w.restoreAll()
	w.mu.Lock()
	w.publisher = p
	w.updateExpiry()
	w.publish()
	if len(w.sorted) == 0 || slices.ContainsFunc(w.sorted, func(d *watchedDomain) bool { return !d.visited.IsZero() }) {
		p.Ready()
	}
	newest := w.newest()
	w.mu.Unlock()
	w.saveList()
	w.storeMu.Unlock()
	w.rejoin()
	return newest
}

func (w *Collector) restoreAll() {
	var list storedList
	w.memory.Load(w.env.Name, &list)
	var join storedJoin
	w.memory.Load(w.joinKey(), &join)
	w.mu.Lock()
	w.joined = w.fleet.Current()
	w.mu.Unlock()
	prefix := w.domainKey("")
	for _, key := range w.memory.Keys(prefix) {
		w.restore(strings.TrimPrefix(key, prefix), &join)
	}
	w.mu.Lock()
	if list.Filled {
		w.restoreAdditions(list.Added)
	}
	w.filled = w.unread() == 0
	w.mu.Unlock()
}

// restore loads the stored result of a domain, and deletes it if the domain is on no
// list. Of an expired result only the time is used: the domain is scheduled as if it
// was never looked up.
func (w *Collector) restore(name string, join *storedJoin) {
	w.mu.Lock()
	d := w.find(name)
	w.mu.Unlock()
	if d == nil {
		w.memory.Remove(w.domainKey(name))
		return
	}
	var r domainResult
	if d.result != nil || !w.memory.Load(w.domainKey(name), &r) {
		return
	}
	r.Attention = join.attention(name, r.Attention)
	if !w.config.DeviceGroups {
		r.Groups = nil
	}
	err := r.check()
	w.mu.Lock()
	defer w.mu.Unlock()
	var blocks []*collector.Block
	if err == nil {
		r.Attention = r.join(w.joined)
		blocks, err = w.blocks(d, &r, w.joined)
	}
	if err != nil {
		w.logger.Warn("Ignoring stored result", "domain", name, "err", err)
		return
	}
	w.count(d, -1)
	d.touch()
	defer w.count(d, 1)
	w.setBlocks(d, &r, blocks)
	if last := r.respondedAt(); collector.IsFresh(last, d.on.list.expiry) && !w.env.Once {
		d.queried = true
		w.schedule.restore(d, time.Now().Add(-time.Since(last)))
	}
}

// find returns the domain of a name, nil if it is on no list.
func (w *Collector) find(name string) *watchedDomain {
	i, ok := slices.BinarySearchFunc(w.sorted, name, func(d *watchedDomain, name string) int { return strings.Compare(d.name, name) })
	if !ok {
		return nil
	}
	return w.sorted[i]
}

// restoreAdditions sets the time of addition of domains without a result: the stored
// time, or now if they were added while the program did not run.
func (w *Collector) restoreAdditions(added map[string]time.Time) {
	now := collector.Wall(time.Now())
	for _, d := range w.sorted {
		if at, counts := d.readAt(); !counts || !at.IsZero() {
			continue
		}
		w.count(d, -1)
		d.touch()
		d.added = now
		if at := added[d.name]; collector.CheckTime(at) == nil {
			d.added = at
		}
		w.count(d, 1)
	}
}

// newest returns the time of the newest result.
func (w *Collector) newest() time.Time {
	var last time.Time
	for _, d := range w.sorted {
		if d.result != nil {
			last = later(last, d.result.respondedAt())
		}
	}
	return last
}

// saveList stores the state of the list. storeMu is locked.
func (w *Collector) saveList() {
	w.mu.Lock()
	list := storedList{Filled: w.filled, Added: make(map[string]time.Time)}
	for _, d := range w.sorted {
		if d.result == nil && !d.added.IsZero() {
			list.Added[d.name] = d.added
		}
	}
	started := w.publisher != nil
	w.mu.Unlock()
	if started { // Before Start the stored state is not loaded yet.
		w.memory.Save(w.env.Name, list)
	}
}
