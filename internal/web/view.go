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
	// searchLength bounds the text that is searched for: a domain name is no longer.
	searchLength = 253
)

// view is what page.html draws.
type view struct {
	Status
	Taken  time.Time
	Totals totals
	// Rows are the tenants of a table, Whole those that are shown in full.
	Rows, Whole []*tenantBlock
	// Table is true where the page has the table of tenants, whose Columns these are.
	Table   bool
	Columns []column
	// Causes are why collectors fail, Limits what their notes say; equal ones are one.
	Causes, Limits list[*cause]
	// Marked are the marked rows across tenants, Found the rows that were searched for.
	Marked, Found []*tableAcross
	// Alone is true where the page is one tenant's own.
	Alone bool
	// Tenant, Search and Sort are what the request asks for.
	Tenant, Search, Sort string
	// Matching is how many tenants, or rows of the tenant's tables, are found.
	Matching int
	pages
}

// pages are the pages of a table. Previous and Following are 0 where there is none.
type pages struct{ Page, Pages, Previous, Following int }

// column is a column of the table of tenants. Key sorts by it.
type column struct {
	Title, Key string
	// Marked is true where the column counts marked rows.
	Marked bool
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
	TenantsBad                     int
	Collectors, Well, Waiting, Bad int
	Tables                         []*tableTotals // Of each collector with a table.
}

// table returns the totals of a collector's table.
func (t *totals) table(c *Collector) *tableTotals {
	i := slices.IndexFunc(t.Tables, func(t *tableTotals) bool { return t.collector == c.Name })
	if i < 0 {
		i = len(t.Tables)
		t.Tables = append(t.Tables, &tableTotals{Table: c.Page.Table, collector: c.Name})
	}
	return t.Tables[i]
}

// tableTotals count the rows of a table, or of the same table of several tenants.
// Known are the rows whose number is. MarkedRows and Bounded are among them. Failed
// are the rows whose last attempt failed.
type tableTotals struct {
	collector.Table
	collector                                 string
	Count, Known, MarkedRows, Bounded, Failed int
}

// What is the title in the middle of a sentence.
func (t *tableTotals) What() string { return strings.ToLower(t.Title) }

// Unknown is how many rows have no number.
func (t *tableTotals) Unknown() int { return t.Count - t.Known }

// MarkedOfKnown is how many rows are marked, in words, empty where none is known.
func (t *tableTotals) MarkedOfKnown() string {
	if t.Known == 0 {
		return ""
	}
	text := collector.Number(t.MarkedRows) + " of " + collector.Number(t.Known)
	if t.Unknown() > 0 {
		text += ", " + collector.Number(t.Unknown()) + " unknown"
	}
	return text
}

// add counts the rows of a table.
func (t *tableTotals) add(rows []collector.Row) {
	t.Count += len(rows)
	for _, r := range rows {
		if r.Error != "" {
			t.Failed++
		}
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

type tenantBlock struct {
	Name       string
	State      state
	Collectors []collectorBlock
	// Oldest is when the oldest values were read, zero where there are none. Missing
	// is true where an enabled collector has none.
	Oldest  time.Time
	Missing bool
	// Cells are the tenant's values by the titles of the columns that are not every
	// tenant's.
	Cells map[string]*collector.Measure
	// MarkedRows is how many rows of the tenant's tables are marked.
	MarkedRows int
}

// ByState are the enabled collectors, those in one state together, the worst first.
func (t *tenantBlock) ByState() (groups [][]collectorBlock) {
	for s := stateEmpty; s > stateOff; s-- {
		if group := slices.DeleteFunc(slices.Clone(t.Collectors), func(c collectorBlock) bool { return c.State != s }); len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

type collectorBlock struct {
	Collector
	State state
	Table *tableBlock // Nil where the collector has none.
}

// What is the collector's Error. Where rows of its table have errors of their own, it
// is the cause of the first, and not all of them again.
func (c *collectorBlock) What() string {
	if c.Error == "" || c.Failure.Cause == "" || c.Table == nil || c.Table.Failed == 0 {
		return c.Error
	}
	return fmt.Sprintf("%s of %s %s: %s", collector.Number(c.Table.Failed), collector.Number(c.Table.Count), c.Table.Items, c.Failure.Cause)
}

// Remedy is what to do about it, unless What says so itself.
func (c *collectorBlock) Remedy() string {
	if strings.Contains(c.What(), c.Failure.Remedy) {
		return ""
	}
	return c.Failure.Remedy
}

// tableBlock is a table of a tenant: Shown are the rows of it that the page shows,
// Common the errors that several of these have in common.
type tableBlock struct {
	tableTotals
	Shown  []shownRow
	Common []commonError
	// Links sort the rows by a column, Sorted is true for the column by which they are.
	Links  [3]string
	Sorted [3]bool
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
	text := func(r collector.Row) string { return strings.ReplaceAll(r.Error, r.Name, "…") }
	occurrences, numbers := make(map[string]int), make(map[string]int)
	for _, r := range rows {
		occurrences[text(r)]++
	}
	for _, r := range rows {
		shown, key := shownRow{Row: r}, text(r)
		if n := occurrences[key]; n > 1 && r.Error != "" {
			if numbers[key] == 0 {
				numbers[key] = len(numbers) + 1
				t.Common = append(t.Common, commonError{numbers[key], n, key})
			}
			shown.Common, shown.Error = numbers[key], ""
		}
		t.Shown = append(t.Shown, shown)
	}
}

// tooOld is why a collector has no values although no refresh has failed.
var tooOld = collector.Failure{
	Cause:   "values older than max_age withdrawn, no refresh finished since",
	Runbook: "MDEDataStale",
}

// newView returns all tenants as rows.
func newView(s Status, now time.Time) view {
	v := view{Status: s, Taken: now, Columns: []column{
		{Title: "Tenant", Key: "tenant", before: func(a, b *tenantBlock) int { return strings.Compare(a.Name, b.Name) }},
		{Title: "State", before: func(a, b *tenantBlock) int {
			return cmp.Or(cmp.Compare(max(b.State, stateWaiting), max(a.State, stateWaiting)), cmp.Compare(b.MarkedRows, a.MarkedRows))
		}},
		{Title: "Age", Key: "age", before: func(a, b *tenantBlock) int { return a.Oldest.Compare(b.Oldest) }},
	}}
	for _, t := range s.Tenants {
		b := &tenantBlock{Name: t.Name, Cells: make(map[string]*collector.Measure)}
		for _, c := range t.Collectors {
			v.addCollector(b, c)
		}
		if b.State.Bad() {
			v.Totals.TenantsBad++
		}
		v.Rows = append(v.Rows, b)
	}
	sortCauses(v.Causes)
	sortCauses(v.Limits)
	return v
}

// addCollector counts a collector of a tenant.
func (v *view) addCollector(t *tenantBlock, c Collector) {
	block := collectorBlock{Collector: c, State: c.stateAt(v.Taken)}
	measures := c.Page.Measures
	if table := c.Page.Table; table.Title != "" {
		block.Table = &tableBlock{tableTotals: tableTotals{Table: table}}
		block.Table.add(table.Rows)
		v.Totals.table(&c).add(table.Rows)
		t.MarkedRows += block.Table.MarkedRows
		if table.Marked != "" && len(table.Rows) > 0 {
			title := strings.ToUpper(table.Items[:1]) + table.Items[1:] + " " + table.Marked
			measures = append(slices.Clone(measures), collector.Measure{Title: title, Text: block.Table.MarkedOfKnown(), Number: float64(block.Table.MarkedRows)})
		}
	}
	t.Collectors = append(t.Collectors, block)
	t.State = max(t.State, block.State)
	if block.State == stateOff {
		return
	}
	for i, m := range measures {
		t.Cells[m.Title] = &measures[i]
		v.addColumn(m.Title, i >= len(c.Page.Measures))
	}
	switch {
	case c.LastSuccess.IsZero():
		t.Missing = true
	case t.Oldest.IsZero() || c.LastSuccess.Before(t.Oldest):
		t.Oldest = c.LastSuccess
	}
	switch {
	case c.Error != "":
		failure := c.Failure
		failure.Cause = cmp.Or(failure.Cause, c.Error)
		addCause(&v.Causes, t.Name, c.Name, failure, c.FailingSince)
	case block.State.Bad():
		addCause(&v.Causes, t.Name, c.Name, tooOld, time.Time{})
	}
	for _, note := range c.Page.Notes {
		addCause(&v.Limits, t.Name, c.Name, collector.Failure{Cause: note}, time.Time{})
	}
	v.Totals.Collectors++
	switch {
	case block.State.Bad():
		v.Totals.Bad++
	case block.State == stateWaiting:
		v.Totals.Waiting++
	default:
		v.Totals.Well++
	}
}

// addColumn adds the column of a measure, unless it is there.
func (v *view) addColumn(title string, marked bool) {
	if slices.ContainsFunc(v.Columns, func(c column) bool { return c.Title == title }) {
		return
	}
	number := func(t *tenantBlock) float64 {
		if m := t.Cells[title]; m != nil && m.Text != "" {
			return m.Number
		}
		return -1 // Unknown is last.
	}
	v.Columns = append(v.Columns, column{Title: title, Key: slug(title), Marked: marked, before: func(a, b *tenantBlock) int {
		return cmp.Compare(number(b), number(a))
	}})
}

// slug is a title as a word of a query.
func slug(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "-") }

// overview shows all tenants, or those whose name holds the text that is searched
// for and the rows that do. It reports whether there are such an order and page.
func (v *view) overview(pageNumber string) bool {
	i := slices.IndexFunc(v.Columns, func(c column) bool { return c.Key == v.Sort })
	if i < 0 {
		return false
	}
	slices.SortStableFunc(v.Rows, func(a, b *tenantBlock) int {
		return cmp.Or(v.Columns[i].before(a, b), strings.Compare(a.Name, b.Name))
	})
	v.Table = v.Search != "" || len(v.Rows) > wholeTenants
	if v.Search != "" {
		v.Found = rowsAcross(v.Rows, func(r collector.Row) bool { return v.holds(r.Name) })
		v.Rows = slices.DeleteFunc(v.Rows, func(t *tenantBlock) bool { return !v.holds(t.Name) })
	} else if v.Table {
		v.Marked = rowsAcross(v.Rows, func(r collector.Row) bool { return r.Known && r.Marked })
	}
	v.Matching = len(v.Rows)
	if !v.setPage(pageNumber, len(v.Rows), tenantsOnPage) {
		return false
	}
	if v.Table {
		v.Rows = ofPage(v.Rows, v.Page, tenantsOnPage)
		return true
	}
	v.Whole, v.Rows = v.Rows, nil
	for _, t := range v.Whole {
		for _, c := range t.Collectors {
			if c.Table != nil {
				c.Table.show(ofPage(byInterest(c.Table.Rows), 1, rowsBelowTenant))
			}
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
	i := slices.IndexFunc(v.Rows, func(t *tenantBlock) bool { return t.Name == v.Tenant })
	if i < 0 {
		return false
	}
	t, sorted, most := v.Rows[i], v.Sort == "", 0
	found := make(map[*tableBlock][]collector.Row)
	for _, c := range t.Collectors {
		if c.Table == nil {
			continue
		}
		rows := slices.DeleteFunc(byInterest(c.Table.Rows), func(r collector.Row) bool { return !v.holds(r.Name) })
		for column, title := range c.Table.Columns {
			c.Table.Links[column] = v.Link("sort", slug(title))
			if slug(title) != cmp.Or(v.Sort, slug(c.Table.Columns[1])) {
				continue
			}
			sorted, c.Table.Sorted[column] = true, true
			switch column {
			case 0:
				slices.SortStableFunc(rows, func(a, b collector.Row) int { return strings.Compare(a.Name, b.Name) })
			case 2:
				slices.SortStableFunc(rows, func(a, b collector.Row) int { return a.At.Compare(b.At) })
			}
		}
		found[c.Table], most = rows, max(most, len(rows))
		v.Matching += len(rows)
	}
	if !sorted || !v.setPage(pageNumber, most, rowsOnPage) {
		return false
	}
	for table, rows := range found {
		table.show(ofPage(rows, v.Page, rowsOnPage))
	}
	v.Alone, v.Whole, v.Rows = true, []*tenantBlock{t}, nil
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

// ofPage returns the rows of a page.
func ofPage[T any](rows []T, page, onPage int) []T {
	return rows[min((page-1)*onPage, len(rows)):min(page*onPage, len(rows))]
}
