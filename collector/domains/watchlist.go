package domains

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// watchList is the state of a configured list.
type watchList struct {
	ListConfig
	index  int      // In the order of Config.InForce.
	files  *List    // As last applied; nil before.
	listed []string // The domains on it, sorted. Must not be modified.

	// For the domains whose interval the list decides: those on no list with a shorter
	// interval.
	turns     turns
	confirmed timeQueue[*watchedDomain] // By the time of their values, without invalid domains.
	unread    int                       // Domains that were never read.
	expiry    time.Duration             // The max_age of their values.
	warned    int                       // Number of domains at the last warning about the interval.

	info *collector.Block // The domains on the list. Nil to be rebuilt.
}

func (l *watchList) interval() time.Duration { return time.Duration(l.RefreshInterval) }

// maxAge returns the age at which values of the list are withdrawn. cycle is the time
// of one lookup of every domain.
func (l *watchList) maxAge(cycle time.Duration) time.Duration {
	return cmp.Or(time.Duration(l.MaxAge), 3*cycle)
}

// oldest returns the time of the oldest value. It is zero before every domain was read
// once, and if no domain counts.
func (l *watchList) oldest() (at time.Time) {
	if d, ok := l.confirmed.first(); ok && l.unread == 0 {
		at, _ = d.readAt()
	}
	return at
}

// infoBlock returns the series of the domains on the list.
func (l *watchList) infoBlock(tenant string) (*collector.Block, error) {
	var names []*collector.Label
	if l.files != nil && len(l.Domains) == 0 {
		names = l.files.labels()
	} else {
		names = domainLabels(l.listed)
	}
	b := collector.NewBlock(tenant, time.Time{})
	b.AddEach(domainListFamily, 1, names, l.Name)
	return b.Build()
}

func domainLabels(names []string) []*collector.Label {
	labels := make([]*collector.Label, len(names))
	for i, name := range names {
		labels[i] = collector.NewLabel("domain", name)
	}
	return labels
}

// placement says which lists a domain is on.
type placement struct {
	list  *watchList // The list with the shortest interval, which decides.
	names string     // Names of all lists, such as "c2, default".
}

// length returns the total length of the lists, including duplicates.
func length(lists []*watchList) (n int) {
	for _, l := range lists {
		n += len(l.listed)
	}
	return n
}

// placements yields the domains of all lists, sorted by name.
func placements(lists []*watchList) iter.Seq2[string, *placement] {
	type entry struct {
		name string
		list *watchList
	}
	return func(yield func(string, *placement) bool) {
		entries := make([]entry, 0, length(lists))
		for _, l := range lists {
			for _, name := range l.listed {
				entries = append(entries, entry{name, l})
			}
		}
		slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
		made := make(map[string]*placement)
		for len(entries) > 0 {
			first, names := entries[0], entries[0].list.Name
			for entries = entries[1:]; len(entries) > 0 && entries[0].name == first.name; entries = entries[1:] {
				names += ", " + entries[0].list.Name
			}
			on := made[names]
			if on == nil {
				on = &placement{first.list, names}
				made[names] = on
			}
			if !yield(first.name, on) {
				return
			}
		}
	}
}
