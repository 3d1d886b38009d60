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
	// maxFullTenants is up to how many tenants the status page shows in full.
	// More tenants become a table with one row each, tenantsPerPage rows a page.
	maxFullTenants = 4
	tenantsPerPage = 25
	// rowsOnOverview is how many rows of a tenant's table the page of all tenants
	// shows. rowsPerPage is how many rows a tenant's own page shows at a time.
	rowsOnOverview = 15
	rowsPerPage    = 200
	// maxSearchLength is the maximum length of the search text in bytes, that of
	// a domain name.
	maxSearchLength = 253
)

// view is the data of page.html.
type view struct {
	Status
	Taken  time.Time
	Totals totals
	// Rows are the tenants shown as table rows, Full those shown in full.
	Rows, Full []*tenantBlock
	// Table is true if the page has the table of tenants. Columns are its
	// columns.
	Table   bool
	Columns []column
	// Causes are the reasons of failures, Limits the notes of collectors. Both
	// are deduplicated.
	Causes, Limits list[*cause]
	// Marked are the marked rows of all tenants, Found the rows that match the
	// search.
	Marked, Found []*mergedTable
	// SingleTenant is true if the page shows only one tenant.
	SingleTenant bool
	// Tenant, Search and Sort are the request's parameters.
	Tenant, Search, Sort string
	// Matching is how many tenants, or rows of the tenant's tables, match the
	// search.
	Matching int
	pages
}

// pages is the position in a table with pages. Previous and Next are 0 if there
// is none.
type pages struct{ Page, Pages, Previous, Next int }

// column is a column of the table of tenants. Key is its ?sort= value.
type column struct {
	Title, Key string
	// Marked is true if the column counts marked rows.
	Marked bool
	before func(a, b *tenantBlock) int
}

// Link returns the URL of this page with one query parameter changed. It drops
// ?page=, so another order or search begins at the first page.
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

// totals counts all tenants, not only those on the page.
type totals struct {
	TenantsBad                        int
	Collectors, Healthy, Waiting, Bad int
	Tables                            []*tableTotals // One for each collector with a table.
}

// table returns the totals of the collector's table.
func (t *totals) table(c *Collector) *tableTotals {
	i := slices.IndexFunc(t.Tables, func(t *tableTotals) bool { return t.collector == c.Name })
	if i < 0 {
		i = len(t.Tables)
		t.Tables = append(t.Tables, &tableTotals{Table: c.Page.Table, collector: c.Name})
	}
	return t.Tables[i]
}

// tableTotals counts the rows of a table, of one tenant or of all. Known counts
// rows with a number; MarkedRows and Bounded count among these. Failed counts
// rows whose last attempt failed.
type tableTotals struct {
	collector.Table
	collector                                 string
	Count, Known, MarkedRows, Bounded, Failed int
}

// LowerTitle returns the title in lower case.
func (t *tableTotals) LowerTitle() string { return strings.ToLower(t.Title) }

// Unknown returns the number of rows without a number.
func (t *tableTotals) Unknown() int { return t.Count - t.Known }

// MarkedOfKnown returns text such as "2 of 4, 1 unknown". It is empty if no
// number is known.
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
	// Oldest is when the oldest values were read. Zero means no values. Missing
	// is true if an enabled collector has no values.
	Oldest  time.Time
	Missing bool
	// Cells are the tenant's measures by column title.
	Cells map[string]*collector.Measure
	// MarkedRows is the number of marked rows in the tenant's tables.
	MarkedRows int
}

// ByState returns the enabled collectors grouped by state, worst first.
func (t *tenantBlock) ByState() (groups [][]collectorBlock) {
	for s := stateNoValues; s > stateOff; s-- {
		if group := slices.DeleteFunc(slices.Clone(t.Collectors), func(c collectorBlock) bool { return c.State != s }); len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

type collectorBlock struct {
	Collector
	State state
	Table *tableBlock // Nil if the collector has no table.
}

// ErrorText returns the collector's error. If rows of its table show errors of
// their own, it returns only their number and the cause of the first.
func (c *collectorBlock) ErrorText() string {
	if c.Error == "" || c.Failure.Cause == "" || c.Table == nil || c.Table.Failed == 0 {
		return c.Error
	}
	return fmt.Sprintf("%s of %s %s: %s", collector.Number(c.Table.Failed), collector.Number(c.Table.Count), c.Table.Items, c.Failure.Cause)
}

// Remedy returns how to fix the failure. It is empty if ErrorText contains it.
func (c *collectorBlock) Remedy() string {
	if strings.Contains(c.ErrorText(), c.Failure.Remedy) {
		return ""
	}
	return c.Failure.Remedy
}

// tableBlock is a tenant's table on the page. Shown are the rows on this page,
// Common the errors that several of these rows share.
type tableBlock struct {
	tableTotals
	Shown  []shownRow
	Common []commonError
	// Links are the links that sort by each column. Sorted is true for the
	// current one.
	Links  [3]string
	Sorted [3]bool
}

// shownRow is a row with its own error, or with the number of a common error.
// Common is 0 if it has no common error.
type shownRow struct {
	collector.Row
	Common int
}

// commonError is an error that several rows share, with their names removed.
type commonError struct {
	Number, Rows int
	Text         string
}

// show sets the rows that the page shows and collects their common errors.
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

// staleFailure is the failure of a collector whose values expired although no
// refresh failed.
var staleFailure = collector.Failure{
	Cause:   "values older than max_age withdrawn, no refresh finished since",
	Runbook: "MDEDataStale",
}

// newView returns the view with all tenants as rows.
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

// addCollector adds a tenant's collector to the view and its totals.
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
		addCause(&v.Causes, t.Name, c.Name, staleFailure, time.Time{})
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
		v.Totals.Healthy++
	}
}

// addColumn adds the column of a measure unless it exists.
func (v *view) addColumn(title string, marked bool) {
	if slices.ContainsFunc(v.Columns, func(c column) bool { return c.Title == title }) {
		return
	}
	number := func(t *tenantBlock) float64 {
		if m := t.Cells[title]; m != nil && m.Text != "" {
			return m.Number
		}
		return -1 // Sorts unknown values last.
	}
	v.Columns = append(v.Columns, column{Title: title, Key: slug(title), Marked: marked, before: func(a, b *tenantBlock) int {
		return cmp.Compare(number(b), number(a))
	}})
}

// slug returns the title as a query value.
func slug(title string) string { return strings.ReplaceAll(strings.ToLower(title), " ", "-") }

// overview selects all tenants, or those whose name contains the search text, and
// the matching rows. It returns false if there is no such sort key or page.
func (v *view) overview(pageNumber string) bool {
	i := slices.IndexFunc(v.Columns, func(c column) bool { return c.Key == v.Sort })
	if i < 0 {
		return false
	}
	slices.SortStableFunc(v.Rows, func(a, b *tenantBlock) int {
		return cmp.Or(v.Columns[i].before(a, b), strings.Compare(a.Name, b.Name))
	})
	v.Table = v.Search != "" || len(v.Rows) > maxFullTenants
	if v.Search != "" {
		v.Found = mergeRows(v.Rows, func(r collector.Row) bool { return v.matches(r.Name) })
		v.Rows = slices.DeleteFunc(v.Rows, func(t *tenantBlock) bool { return !v.matches(t.Name) })
	} else if v.Table {
		v.Marked = mergeRows(v.Rows, func(r collector.Row) bool { return r.Known && r.Marked })
	}
	v.Matching = len(v.Rows)
	if !v.setPage(pageNumber, len(v.Rows), tenantsPerPage) {
		return false
	}
	if v.Table {
		v.Rows = pageRows(v.Rows, v.Page, tenantsPerPage)
		return true
	}
	v.Full, v.Rows = v.Rows, nil
	for _, t := range v.Full {
		for _, c := range t.Collectors {
			if c.Table != nil {
				c.Table.show(pageRows(byInterest(c.Table.Rows), 1, rowsOnOverview))
			}
		}
	}
	return true
}

// matches reports whether a name contains the search text, ignoring case.
func (v *view) matches(name string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(v.Search))
}

// onlyTenant selects one tenant and one page of its tables. It returns false if
// there is no such tenant, sort key or page.
func (v *view) onlyTenant(pageNumber string) bool {
	i := slices.IndexFunc(v.Rows, func(t *tenantBlock) bool { return t.Name == v.Tenant })
	if i < 0 {
		return false
	}
	t, sorted, maxRows := v.Rows[i], v.Sort == "", 0
	found := make(map[*tableBlock][]collector.Row)
	for _, c := range t.Collectors {
		if c.Table == nil {
			continue
		}
		rows := slices.DeleteFunc(byInterest(c.Table.Rows), func(r collector.Row) bool { return !v.matches(r.Name) })
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
		found[c.Table], maxRows = rows, max(maxRows, len(rows))
		v.Matching += len(rows)
	}
	if !sorted || !v.setPage(pageNumber, maxRows, rowsPerPage) {
		return false
	}
	for table, rows := range found {
		table.show(pageRows(rows, v.Page, rowsPerPage))
	}
	v.SingleTenant, v.Full, v.Rows = true, []*tenantBlock{t}, nil
	return true
}

// setPage sets the page for a number of rows; an empty number means the first
// page. It returns false if there is no such page.
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
		v.Next = v.Page + 1
	}
	return true
}

// pageRows returns the rows of a page.
func pageRows[T any](rows []T, page, onPage int) []T {
	return rows[min((page-1)*onPage, len(rows)):min(page*onPage, len(rows))]
}
