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
	Status
	Taken  time.Time
	Totals totals
	// Rows are the tenants of a table, Whole those that are shown in full.
	Rows, Whole []tenantBlock
	// Alone tells that the page is one tenant's own.
	Alone bool
}

// totals count across all tenants, whatever part of them the page shows.
type totals struct {
	TenantsBad                int
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
	Shown []collector.Row
}

// show chooses the rows that are shown, from the first on.
func (b *tenantBlock) show(first, most int) {
	for i := range b.Tables {
		rows := byInterest(b.Tables[i].Rows)
		b.Tables[i].Shown = rows[min(first, len(rows)):min(first+most, len(rows))]
	}
}

type collectorBlock struct {
	Collector
	State state
}

// newView returns all tenants as rows.
func newView(s Status, now time.Time) view {
	v := view{Status: s, Taken: now}
	v.Totals.Tables = tablesOf(s.Tenants...)
	for _, t := range s.Tenants {
		b := tenantBlock{Name: t.Name}
		for _, c := range t.Collectors {
			state := c.stateAt(now)
			b.State = max(b.State, state)
			b.Collectors = append(b.Collectors, collectorBlock{c, state})
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
		if b.State.bad() {
			v.Totals.TenantsBad++
		}
		for _, totals := range tablesOf(t) {
			b.Tables = append(b.Tables, tableBlock{tableTotals: totals})
		}
		v.Rows = append(v.Rows, b)
	}
	return v
}

// overview shows all tenants, those in trouble first.
func (v *view) overview() {
	trouble := func(t tenantBlock) int {
		if t.State.bad() {
			return int(-t.State)
		}
		return 0
	}
	slices.SortFunc(v.Rows, func(a, b tenantBlock) int {
		return cmp.Or(cmp.Compare(trouble(a), trouble(b)), strings.Compare(a.Name, b.Name))
	})
	if len(v.Rows) > wholeTenants {
		return
	}
	v.Whole, v.Rows = v.Rows, nil
	for i := range v.Whole {
		v.Whole[i].show(0, rowsBelowTenant)
	}
}

// onlyTenant shows one tenant with one page of its tables, the first where
// pageNumber is empty. It reports whether there are such a tenant and such a page.
func (v *view) onlyTenant(name, pageNumber string) bool {
	i := slices.IndexFunc(v.Rows, func(t tenantBlock) bool { return t.Name == name })
	if i < 0 {
		return false
	}
	t := v.Rows[i]
	t.Page, t.Pages = 1, 1
	for _, table := range t.Tables {
		t.Pages = max(t.Pages, (table.Count+rowsOnPage-1)/rowsOnPage)
	}
	if pageNumber != "" {
		n, err := strconv.Atoi(pageNumber)
		if err != nil || n < 1 || n > t.Pages {
			return false
		}
		t.Page = n
	}
	t.Previous = t.Page - 1
	if t.Page < t.Pages {
		t.Following = t.Page + 1
	}
	t.show((t.Page-1)*rowsOnPage, rowsOnPage)
	v.Alone, v.Whole, v.Rows = true, []tenantBlock{t}, nil
	return true
}
