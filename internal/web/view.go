package web

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

const (
	// wholeTenants is how many tenants the front page shows whole. More of
	// them become a table of one row each.
	wholeTenants = 4
	// rowsBelowTenant is how many rows of a table the front page shows of a tenant,
	// rowsOnPage how many a tenant's own page shows at a time.
	rowsBelowTenant = 15
	rowsOnPage      = 200
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
	Tables                    []tableTotals // Of each collector with a table.
}

// tableTotals count the rows of a table, or of the same table of several tenants.
// Known are the rows whose number is. Marked and AtLeast are among them.
type tableTotals struct {
	collector.Table
	collector                string
	Count, Known, MarkedRows int
	Bounded                  int
}

// What is the title in the middle of a sentence.
func (t tableTotals) What() string { return strings.ToLower(t.Title) }

// Heading is the title of a column of these totals.
func (t tableTotals) Heading() string {
	return strings.ToUpper(t.Items[:1]) + t.Items[1:] + " " + t.Marked
}

// Unknown is how many rows have no number.
func (t tableTotals) Unknown() int { return t.Count - t.Known }

// add counts the rows of a table.
func (t *tableTotals) add(rows []collector.Row) {
	t.Count += len(rows)
	for _, r := range rows {
		if !r.Known {
			continue
		}
		t.Known++
		if r.Marked {
			t.MarkedRows++
		}
		if r.AtLeast {
			t.Bounded++
		}
	}
}

// tablesOf returns the totals of each collector's table, across tenants.
func tablesOf(tenants ...Tenant) (tables []tableTotals) {
	for _, t := range tenants {
		for _, c := range t.Collectors {
			if c.Page.Table.Title == "" {
				continue
			}
			i := slices.IndexFunc(tables, func(t tableTotals) bool { return t.collector == c.Name })
			if i < 0 {
				i = len(tables)
				tables = append(tables, tableTotals{Table: c.Page.Table, collector: c.Name})
			}
			tables[i].add(c.Page.Table.Rows)
		}
	}
	return tables
}

type tenantBlock struct {
	Name       string
	State      state
	Collectors []collectorBlock
	Tables     []tableBlock
	// Page of Pages, of a tenant's own page. Previous and Following are 0 where
	// there is none.
	Page, Pages         int
	Previous, Following int
}

// tableBlock is a table of a tenant: Shown are the rows of it that the page shows.
type tableBlock struct {
	tableTotals
	Shown []rowBlock
}

type rowBlock struct {
	collector.Row
	Confirmed moment
}

// cut leaves those of the rows that are shown, from the first on.
func (b *tenantBlock) cut(first, most int) {
	for i := range b.Tables {
		rows := b.Tables[i].Shown
		first := min(first, len(rows))
		b.Tables[i].Shown = rows[first:min(first+most, len(rows))]
	}
}

type collectorBlock struct {
	Collector
	State                         state
	Refreshed, Succeeded, Follows moment
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
		blocks[i].cut(0, rowsBelowTenant)
	}
	v.Whole = blocks
	return v
}

// tenantView shows one tenant with one page of its tables. It reports whether
// there are such a tenant and such a page.
func tenantView(s Status, now time.Time, name, pageNumber string) (view, bool) {
	i := slices.IndexFunc(s.Tenants, func(t Tenant) bool { return t.Name == name })
	if i < 0 {
		return view{}, false
	}
	v := newView(s, now)
	v.Alone = true
	t := newTenantBlock(s.Tenants[i], now)
	t.Page, t.Pages = 1, 1
	for _, table := range t.Tables {
		t.Pages = max(t.Pages, (table.Count+rowsOnPage-1)/rowsOnPage)
	}
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
	t.cut((t.Page-1)*rowsOnPage, rowsOnPage)
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
	}
	v.Totals.Tables = tablesOf(s.Tenants...)
	return v
}

func newTenantBlock(t Tenant, now time.Time) tenantBlock {
	b := tenantBlock{Name: t.Name, State: t.stateAt(now)}
	for _, c := range t.Collectors {
		b.Collectors = append(b.Collectors, collectorBlock{
			Collector: c,
			State:     c.stateAt(now),
			Refreshed: moment{c.Finished, now},
			Succeeded: moment{c.LastSuccess, now},
			Follows:   moment{c.Next, now},
		})
	}
	for _, totals := range tablesOf(t) {
		table := tableBlock{tableTotals: totals}
		for _, r := range byInterest(totals.Rows) {
			table.Shown = append(table.Shown, rowBlock{r, moment{r.At, now}})
		}
		b.Tables = append(b.Tables, table)
	}
	return b
}
