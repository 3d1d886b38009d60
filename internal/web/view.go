package web

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// wholeTenants is how many tenants the front page shows whole. More of
	// them become a table of one row each.
	wholeTenants = 4
	// domainsBelowTenant is how many domains the front page shows of a tenant,
	// domainsOnPage how many a tenant's own page shows at a time.
	domainsBelowTenant = 15
	domainsOnPage      = 200
)

// view is what page.html draws.
type view struct {
	Taken   moment
	Version string
	Config  ConfigStatus
	// Loaded is when the configuration came into force.
	Loaded moment
	Totals totals
	// Rows are the tenants of a table, Whole those that are shown in full.
	Rows, Whole []tenantBlock
	// Alone tells that the page is one tenant's own.
	Alone bool
}

// totals count across all tenants, whatever part of them the page shows.
type totals struct {
	Tenants, TenantsBad       int
	Collectors, Well, Waiting int
	Bad                       int
	// Known are the domains whose number of machines is known and young enough to
	// be exposed. Contacted and Truncated are among them.
	Domains, Known, Contacted, Truncated int
}

// Unknown is how many domains were never read, are withdrawn or have no valid name.
func (t totals) Unknown() int { return t.Domains - t.Known }

type tenantBlock struct {
	Name       string
	State      state
	Collectors []collectorBlock
	// Domains are those shown, of DomainCount in all. Known of these have a current
	// number of machines, Contacted of those more than none.
	Domains     []domainBlock
	DomainCount int
	Known       int
	Contacted   int
	// Page of Pages, of a tenant's own page. Previous and Following are 0 where
	// there is none.
	Page, Pages         int
	Previous, Following int
}

// Unknown is how many domains have no current number of machines.
func (b tenantBlock) Unknown() int { return b.DomainCount - b.Known }

type collectorBlock struct {
	Collector
	State                      state
	Refreshed, Succeeded, Next moment
}

type domainBlock struct {
	Domain
	Succeeded moment
}

// moment is a time as seen from the page's own.
type moment struct{ time, now time.Time }

// Known tells whether there is such a time.
func (m moment) Known() bool { return !m.time.IsZero() }

// ISO writes the moment for a program that reads the page.
func (m moment) ISO() string { return m.time.UTC().Format(time.RFC3339) }

// UTC writes the moment so that people in several places can compare it.
func (m moment) UTC() string { return m.time.UTC().Format("2006-01-02 15:04:05 UTC") }

// Relative tells how long ago the moment was, or how far ahead it is.
func (m moment) Relative() string {
	switch d := m.now.Sub(m.time).Round(time.Second); {
	case d < 0:
		return "in " + span(-d)
	case d == 0:
		return "now"
	default:
		return span(d) + " ago"
	}
}

// overview shows all tenants, those in trouble first.
func overview(s Status, now time.Time) view {
	v := newView(s, now)
	blocks := make([]tenantBlock, 0, len(s.Tenants))
	for _, t := range s.Tenants {
		blocks = append(blocks, newTenantBlock(t, now))
	}
	trouble := func(t tenantBlock) int {
		if t.State.bad() {
			return int(-t.State)
		}
		return 0
	}
	slices.SortFunc(blocks, func(a, b tenantBlock) int {
		return cmp.Or(cmp.Compare(trouble(a), trouble(b)), strings.Compare(a.Name, b.Name))
	})
	if len(blocks) > wholeTenants {
		v.Rows = blocks
		return v
	}
	for i := range blocks {
		blocks[i].Domains = blocks[i].Domains[:min(domainsBelowTenant, blocks[i].DomainCount)]
	}
	v.Whole = blocks
	return v
}

// tenantView shows one tenant with one page of its domains. It reports whether
// there are such a tenant and such a page.
func tenantView(s Status, now time.Time, name, pageNumber string) (view, bool) {
	i := slices.IndexFunc(s.Tenants, func(t Tenant) bool { return t.Name == name })
	if i < 0 {
		return view{}, false
	}
	v := newView(s, now)
	v.Alone = true
	t := newTenantBlock(s.Tenants[i], now)
	t.Page, t.Pages = 1, max(1, (t.DomainCount+domainsOnPage-1)/domainsOnPage)
	if pageNumber != "" {
		n, err := strconv.Atoi(pageNumber)
		if err != nil || n < 1 || n > t.Pages {
			return view{}, false
		}
		t.Page = n
	}
	t.Previous = t.Page - 1
	if t.Page < t.Pages {
		t.Following = t.Page + 1
	}
	first := (t.Page - 1) * domainsOnPage
	t.Domains = t.Domains[first:min(first+domainsOnPage, t.DomainCount)]
	v.Whole = []tenantBlock{t}
	return v, true
}

func newView(s Status, now time.Time) view {
	v := view{
		Taken:   moment{now, now},
		Version: s.Version,
		Config:  s.Config,
		Loaded:  moment{s.Config.LoadedAt, now},
	}
	v.Totals.Tenants = len(s.Tenants)
	for _, t := range s.Tenants {
		if t.stateAt(now).bad() {
			v.Totals.TenantsBad++
		}
		for _, c := range t.Collectors {
			state := c.stateAt(now)
			if state == stateOff {
				continue
			}
			v.Totals.Collectors++
			switch {
			case state.bad():
				v.Totals.Bad++
			case state == stateWaiting:
				v.Totals.Waiting++
			default:
				v.Totals.Well++
			}
		}
		v.Totals.Domains += len(t.Domains)
		for _, d := range t.Domains {
			if !d.Known() {
				continue
			}
			v.Totals.Known++
			if d.Machines > 0 {
				v.Totals.Contacted++
			}
			if d.Truncated {
				v.Totals.Truncated++
			}
		}
	}
	return v
}

func newTenantBlock(t Tenant, now time.Time) tenantBlock {
	b := tenantBlock{
		Name:        t.Name,
		State:       t.stateAt(now),
		DomainCount: len(t.Domains),
	}
	for _, c := range t.Collectors {
		b.Collectors = append(b.Collectors, collectorBlock{
			Collector: c,
			State:     c.stateAt(now),
			Refreshed: moment{c.LastRefresh, now},
			Succeeded: moment{c.LastSuccess, now},
			Next:      moment{c.NextRefresh, now},
		})
	}
	for _, d := range byInterest(t.Domains) {
		b.Domains = append(b.Domains, domainBlock{d, moment{d.LastSuccess, now}})
		if d.Known() {
			b.Known++
			if d.Machines > 0 {
				b.Contacted++
			}
		}
	}
	return b
}
