package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// list is a list of which the page shows only the first elements.
type list[T any] []T

// First returns at most n elements. Rest returns the number of the others.
func (l list[T]) First(n int) list[T] { return l[:min(n, len(l))] }
func (l list[T]) Rest(n int) int      { return max(0, len(l)-n) }

// cause is a failure or a limit with everything it affects.
type cause struct {
	collector.Failure
	// Since is when the first affected collector began to fail. Zero means
	// unknown.
	Since time.Time
	// Tenants and Collectors are the affected ones.
	Tenants, Collectors list[string]
}

// addCause adds a tenant's collector to the cause of its failure.
func addCause(causes *list[*cause], tenant, name string, failure collector.Failure, since time.Time) {
	i := slices.IndexFunc(*causes, func(c *cause) bool { return c.Failure == failure })
	if i < 0 {
		i = len(*causes)
		*causes = append(*causes, &cause{Failure: failure, Since: since})
	}
	c := (*causes)[i]
	if !since.IsZero() && since.Before(c.Since) {
		c.Since = since
	}
	if !slices.Contains(c.Tenants, tenant) {
		c.Tenants = append(c.Tenants, tenant)
	}
	if !slices.Contains(c.Collectors, name) {
		c.Collectors = append(c.Collectors, name)
	}
}

// sortCauses sorts by the number of affected tenants, largest first.
func sortCauses(causes list[*cause]) {
	slices.SortStableFunc(causes, func(a, b *cause) int {
		return cmp.Or(cmp.Compare(len(b.Tenants), len(a.Tenants)), strings.Compare(a.Cause, b.Cause))
	})
}

// runbookLink returns the URL of the alert's runbook.
func runbookLink(alert string) string {
	return "https://github.com/mde-exporter/mde_exporter/blob/main/docs/runbooks.md#" + strings.ToLower(alert)
}

// mergedTable is a table of one collector with the selected rows of all tenants.
type mergedTable struct {
	collector.Table
	MergedRows list[*mergedRow]
}

// mergedRow combines the rows of one name in the tables of several tenants.
type mergedRow struct {
	Name    string
	Number  float64
	Known   int // Number of tenants with a known value.
	AtLeast bool
	Tenants list[string]
}

// mergeRows returns the rows of all tenants that wanted selects, merged by name
// and sorted by sum, largest first. It omits tables without such a row.
func mergeRows(tenants []*tenantBlock, wanted func(collector.Row) bool) (tables []*mergedTable) {
	type key struct{ collector, row string }
	byCollector, byRow := make(map[string]*mergedTable), make(map[key]*mergedRow)
	for _, t := range tenants {
		for _, c := range t.Collectors {
			for _, r := range c.Page.Table.Rows {
				if !wanted(r) {
					continue
				}
				table, rows := byCollector[c.Name], byRow[key{c.Name, r.Name}]
				if table == nil {
					table = &mergedTable{Table: c.Page.Table}
					byCollector[c.Name], tables = table, append(tables, table)
				}
				if rows == nil {
					rows = &mergedRow{Name: r.Name}
					byRow[key{c.Name, r.Name}], table.MergedRows = rows, append(table.MergedRows, rows)
				}
				rows.Tenants = append(rows.Tenants, t.Name)
				rows.AtLeast = rows.AtLeast || r.AtLeast
				if r.Known {
					rows.Number += r.Number
					rows.Known++
				}
			}
		}
	}
	for _, t := range tables {
		slices.SortFunc(t.MergedRows, func(a, b *mergedRow) int {
			return cmp.Or(cmp.Compare(b.Number, a.Number), strings.Compare(a.Name, b.Name))
		})
	}
	return tables
}
