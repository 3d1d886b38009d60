package domains

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// watchList is a list of the configuration, as it is watched.
type watchList struct {
	ListConfig
	index  int      // In the order of Config.InForce.
	files  *List    // As they were last taken; nil before.
	listed []string // The domains on it, sorted. Not to be changed.

	// Of the domains whose interval it decides: those that are on no list of a
	// shorter one.
	turns     turns
	confirmed timeQueue[*watchedDomain] // By the age of their values; without invalid ones.
	unread    int                       // Those that were never read.
	expiry    time.Duration             // The max_age of their values.
	warned    int                       // How many they were when their interval was last warned of.

	info *collector.Block // Which domains are on the list. Nil where it is to be made anew.
}

func (l *watchList) interval() time.Duration { return time.Duration(l.RefreshInterval) }

// maxAge is the age at which values of the list are withdrawn whose domains are asked
// once in a cycle.
func (l *watchList) maxAge(cycle time.Duration) time.Duration {
	return cmp.Or(time.Duration(l.MaxAge), 3*cycle)
}

// oldest is how old the values of those domains are at worst. It is the zero time before
// each of them was read once, and where no domain counts.
func (l *watchList) oldest() (at time.Time) {
	if d, ok := l.confirmed.first(); ok && l.unread == 0 {
		at, _ = d.readAt()
	}
	return at
}

// infoBlock builds what is exposed of each domain on the list.
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

// placement is on which lists a domain is.
type placement struct {
	list  *watchList // The one that decides: it has the shortest interval.
	names string     // Of all of them, such as "c2, default".
}

// length is how many domains the lists have together, those on several more than once.
func length(lists []*watchList) (n int) {
	for _, l := range lists {
		n += len(l.listed)
	}
	return n
}

// placements yields the domains of all lists in the order of their names.
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
