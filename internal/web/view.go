package web

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

const (
	// wholeTenants is how many tenants the front page shows whole. More of
	// them become a table of one row each, tenantsOnPage rows a page.
	wholeTenants  = 4
	tenantsOnPage = 25
	// rowsBelowTenant is how many rows of a table the front page shows of a tenant,
	// rowsOnPage how many a tenant's own page shows at a time.
	rowsBelowTenant = 15
	rowsOnPage      = 200
	// causesShown bounds the causes and the rows across tenants that are listed,
	// namesShown the tenants named with each.
	causesShown = 20
	namesShown  = 200
	// searchLength bounds the text that is searched for: a domain name is no longer.
	searchLength = 253
)

// view is what page.html draws.
type view struct {
	Status
	Taken  time.Time
	Totals totals
	// Rows are the tenants of a table, Whole those that are shown in full.
	Rows, Whole []tenantBlock
	// Columns are what the table of tenants can be sorted by.
	Columns []column
	// Causes are why collectors fail, Limits what their notes say; equal ones are one.
	Causes, Limits causes
	// Marked are the marked rows across tenants, Found the rows that were searched for.
	Marked, Found []*tableAcross
	// Alone is true where the page is one tenant's own.
	Alone bool
	// Tenant, Search and Sort are what the request asks for.
	Tenant, Search, Sort string
	// Matching is how many tenants, or rows of the tenant's tables, are found.
	Matching int
	pages
	// Measured are the titles of the collectors' measures.
	Measured []string
}

// pages are the pages of a table. Previous and Following are 0 where there is none.
type pages struct{ Page, Pages, Previous, Following int }

// column is a column of the table of tenants that it can be sorted by.
type column struct {
	Title, Key string
	// Number columns are aligned to the right.
	Number bool
	before func(a, b *tenantBlock) int
}

// Link returns the address of this page with one parameter of its query changed.
// Another order or search begins at the first page.
func (v view) Link(key string, value any) string {
	query := url.Values{"tenant": {v.Tenant}, "q": {v.Search}, "sort": {v.Sort}}
	query.Set(key, fmt.Sprint(value))
	for key := range query {
		if query.Get(key) == "" {
			query.Del(key)
		}
	}
	return "?" + query.Encode()
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
	// Oldest is when the oldest values were read, zero where some were never.
	Oldest time.Time
}

// MarkedRows is how many rows of the tenant's tables are marked.
func (t *tenantBlock) MarkedRows() (n int) {
	for _, table := range t.Tables {
		n += table.MarkedRows
	}
	return n
}

// measure returns the value of a column, nil where no enabled collector has it.
func (t *tenantBlock) measure(title string) *collector.Measure {
	for _, c := range t.Collectors {
		for i, m := range c.Page.Measures {
			if c.Enabled && m.Title == title {
				return &c.Page.Measures[i]
			}
		}
	}
	return nil
}

// Measures are the values of the columns in the order of the view's.
func (v view) Measures(t tenantBlock) (values []*collector.Measure) {
	for _, title := range v.Measured {
		values = append(values, t.measure(title))
	}
	return values
}

// tableBlock is a table of a tenant: Shown are the rows of it that the page shows,
// Common the errors that several of these have in common.
type tableBlock struct {
	tableTotals
	Shown  []shownRow
	Common []commonError
	// Links sort the rows by a column; Orders say by which they are sorted.
	Links, Orders [3]string
}

// shownRow is a row whose error is its own, or one of the table's common errors by
// its number, which is 0 where there is none.
type shownRow struct {
	collector.Row
	Common int
}

// commonError is an error of several rows, without their names.
type commonError struct {
	Number, Rows int
	Text         string
}

// show makes these rows the ones that are shown.
func (t *tableBlock) show(rows []collector.Row) {
	text := func(r collector.Row) string {
		if r.Name == "" {
			return r.Error
		}
		return strings.ReplaceAll(r.Error, r.Name, "…")
	}
	occurrences, numbers := make(map[string]int), make(map[string]int)
	for _, r := range rows {
		occurrences[text(r)]++
	}
	for _, r := range rows {
		shown, key := shownRow{Row: r}, text(r)
		if n := occurrences[key]; n > 1 && key != "" {
			if numbers[key] == 0 {
				numbers[key] = len(numbers) + 1
				t.Common = append(t.Common, commonError{numbers[key], n, key})
			}
			shown.Common, shown.Error = numbers[key], ""
		}
		t.Shown = append(t.Shown, shown)
	}
}

type collectorBlock struct {
	Collector
	State state
}

// Remedy is what to do about the collector's Error, unless that says so itself.
func (c *collectorBlock) Remedy() string {
	if strings.Contains(c.Error, c.Failure.Remedy) {
		return ""
	}
	return c.Failure.Remedy
}

// tooOld is why a collector has no values although no refresh has failed.
var tooOld = collector.Failure{
	Cause:   "values older than max_age withdrawn, no refresh finished since",
	Runbook: "MDEDataStale",
}

// newView returns all tenants as rows.
func newView(s Status, now time.Time) view {
	v := view{Status: s, Taken: now}
	v.Totals.Tables = tablesOf(s.Tenants...)
	for _, t := range s.Tenants {
		b, oldest := tenantBlock{Name: t.Name}, false
		for _, c := range t.Collectors {
			state := c.stateAt(now)
			b.State = max(b.State, state)
			b.Collectors = append(b.Collectors, collectorBlock{c, state})
			if state == stateOff {
				continue
			}
			if !oldest && (b.Oldest.IsZero() || c.LastSuccess.Before(b.Oldest)) {
				b.Oldest = c.LastSuccess
			}
			oldest = oldest || c.LastSuccess.IsZero()
			for _, m := range c.Page.Measures {
				if !slices.Contains(v.Measured, m.Title) {
					v.Measured = append(v.Measured, m.Title)
				}
			}
			switch {
			case c.Error != "":
				v.Causes = v.Causes.add(t.Name, &c)
			case state.bad():
				v.Causes = v.Causes.add(t.Name, &Collector{Name: c.Name, Status: collector.Status{Failure: tooOld}})
			}
			for _, note := range c.Page.Notes {
				v.Limits = v.Limits.add(t.Name, &Collector{Name: c.Name, Status: collector.Status{Error: note}})
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
	v.Causes.sort()
	v.Limits.sort()
	v.setColumns()
	return v
}

// setColumns makes the columns from what the collectors describe.
func (v *view) setColumns() {
	byName := func(a, b *tenantBlock) int { return strings.Compare(a.Name, b.Name) }
	v.Columns = []column{
		{Title: "Tenant", Key: "tenant", before: byName},
		{Title: "State", before: func(a, b *tenantBlock) int {
			return cmp.Or(cmp.Compare(b.trouble(), a.trouble()), cmp.Compare(b.MarkedRows(), a.MarkedRows()))
		}},
		{Title: "Age", Key: "age", before: func(a, b *tenantBlock) int { return a.Oldest.Compare(b.Oldest) }},
	}
	for _, title := range v.Measured {
		v.Columns = append(v.Columns, column{Title: title, Key: slug(title), before: func(a, b *tenantBlock) int {
			number := func(t *tenantBlock) float64 {
				if m := t.measure(title); m != nil && m.Text != "" {
					return m.Number
				}
				return -1 // Unknown is last.
			}
			return cmp.Compare(number(b), number(a))
		}})
	}
	for i, table := range v.Totals.Tables {
		if table.Marked != "" {
			v.Columns = append(v.Columns, column{Title: table.Heading(), Key: slug(table.Heading()), Number: true, before: func(a, b *tenantBlock) int {
				return cmp.Compare(b.marked(v.Totals.Tables[i].collector), a.marked(v.Totals.Tables[i].collector))
			}})
		}
	}
}

// slug is a title as a word of a query.
func slug(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "-") }

// trouble is the state of a tenant that somebody should look at.
func (t *tenantBlock) trouble() state {
	if t.State.bad() {
		return t.State
	}
	return stateOff
}

// marked is how many rows of a collector's table are marked, less than 0 where no
// row is known.
func (t *tenantBlock) marked(collector string) int {
	for _, table := range t.Tables {
		if table.collector == collector && table.Known > 0 {
			return table.MarkedRows
		}
	}
	return -1
}

// overview shows all tenants, or those whose name holds the text that is searched
// for and the rows that do. It reports whether there are such an order and page.
func (v *view) overview(pageNumber string) bool {
	i := slices.IndexFunc(v.Columns, func(c column) bool { return c.Key == v.Sort })
	if i < 0 {
		return false
	}
	slices.SortStableFunc(v.Rows, func(a, b tenantBlock) int {
		return cmp.Or(v.Columns[i].before(&a, &b), strings.Compare(a.Name, b.Name))
	})
	if v.Search != "" {
		v.Found = rowsAcross(v.Rows, func(r collector.Row) bool { return v.holds(r.Name) })
		v.Rows = slices.DeleteFunc(v.Rows, func(t tenantBlock) bool { return !v.holds(t.Name) })
	} else if len(v.Rows) > wholeTenants {
		v.Marked = rowsAcross(v.Rows, func(r collector.Row) bool { return r.Known && r.Marked })
	}
	v.Matching = len(v.Rows)
	if v.Search != "" || len(v.Tenants) > wholeTenants {
		if !v.setPage(pageNumber, len(v.Rows), tenantsOnPage) {
			return false
		}
		v.Rows = v.Rows[(v.Page-1)*tenantsOnPage : min(v.Page*tenantsOnPage, len(v.Rows))]
		return true
	}
	v.Whole, v.Rows = v.Rows, nil
	for i := range v.Whole {
		for j := range v.Whole[i].Tables {
			table := &v.Whole[i].Tables[j]
			rows := byInterest(table.Rows)
			table.show(rows[:min(rowsBelowTenant, len(rows))])
		}
	}
	return true
}

// holds reports whether a name contains the text that is searched for, whatever
// their case.
func (v *view) holds(name string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(v.Search))
}

// onlyTenant shows one tenant with one page of its tables. It reports whether there
// are such a tenant, such an order and such a page.
func (v *view) onlyTenant(pageNumber string) bool {
	i := slices.IndexFunc(v.Rows, func(t tenantBlock) bool { return t.Name == v.Tenant })
	if i < 0 {
		return false
	}
	t, sorted, most := v.Rows[i], v.Sort == "", 0
	found := make([][]collector.Row, len(t.Tables))
	for i := range t.Tables {
		table := &t.Tables[i]
		for column, title := range table.Columns {
			table.Links[column] = v.Link("sort", slug(title))
			if slug(title) == cmp.Or(v.Sort, slug(table.Columns[1])) {
				table.Orders[column] = "other"
			}
		}
		rows := byInterest(table.Rows)
		switch v.Sort {
		case slug(table.Columns[0]):
			slices.SortStableFunc(rows, func(a, b collector.Row) int { return strings.Compare(a.Name, b.Name) })
			sorted = true
		case slug(table.Columns[1]):
			sorted = true
		case slug(table.Columns[2]):
			slices.SortStableFunc(rows, func(a, b collector.Row) int { return a.At.Compare(b.At) })
			sorted = true
		}
		rows = slices.DeleteFunc(rows, func(r collector.Row) bool { return !v.holds(r.Name) })
		found[i], most = rows, max(most, len(rows))
		v.Matching += len(rows)
	}
	if !sorted || !v.setPage(pageNumber, most, rowsOnPage) {
		return false
	}
	for i := range t.Tables {
		rows := found[i]
		t.Tables[i].show(rows[min((v.Page-1)*rowsOnPage, len(rows)):min(v.Page*rowsOnPage, len(rows))])
	}
	v.Alone, v.Whole, v.Rows = true, []tenantBlock{t}, nil
	return true
}

// setPage chooses the page of a number of rows, the first where the number is
// empty. It reports whether there is such a page.
func (v *view) setPage(number string, rows, onPage int) bool {
	v.Page, v.Pages = 1, max(1, (rows+onPage-1)/onPage)
	if number != "" {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > v.Pages {
			return false
		}
		v.Page = n
	}
	v.Previous = v.Page - 1
	if v.Page < v.Pages {
		v.Following = v.Page + 1
	}
	return true
}
