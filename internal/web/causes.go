package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// list is shown in part on the page, which counts the rest.
type list[T any] []T

// First returns at most n of the list, Beyond the number of the others.
func (l list[T]) First(n int) list[T] { return l[:min(n, len(l))] }
func (l list[T]) Beyond(n int) int    { return max(0, len(l)-n) }

// cause is what several collectors have in common: why they fail, or what limits them.
type cause struct {
	collector.Failure
	// Since is when the first of them began to fail, zero where that is not known.
	Since time.Time
	// Tenants and Collectors are whom it affects.
	Tenants, Collectors list[string]
}

// addCause counts a collector of a tenant that is affected.
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

// sortCauses puts what affects the most tenants first.
func sortCauses(causes list[*cause]) {
	slices.SortStableFunc(causes, func(a, b *cause) int {
		return cmp.Or(cmp.Compare(len(b.Tenants), len(a.Tenants)), strings.Compare(a.Cause, b.Cause))
	})
}

// runbookLink returns the address of an alert's section.
func runbookLink(alert string) string {
	return "https://github.com/mde-exporter/mde_exporter/blob/main/docs/runbooks.md#" + strings.ToLower(alert)
}

// tableAcross is one table across tenants: the rows of it that are wanted.
type tableAcross struct {
	collector.Table
	Across list[*rowsOfTenants]
}

// rowsOfTenants are the rows of one name in the tables of several tenants.
type rowsOfTenants struct {
	Name    string
	Number  float64
	Known   int // Of the tenants.
	AtLeast bool
	Tenants list[string]
}

// rowsAcross returns the rows of all tenants that are wanted, those of one name
// together, the largest sums first. Tables without such a row are left out.
func rowsAcross(tenants []*tenantBlock, wanted func(collector.Row) bool) (tables []*tableAcross) {
	type key struct{ collector, row string }
	byCollector, byRow := make(map[string]*tableAcross), make(map[key]*rowsOfTenants)
	for _, t := range tenants {
		for _, c := range t.Collectors {
			for _, r := range c.Page.Table.Rows {
				if !wanted(r) {
					continue
				}
				table, rows := byCollector[c.Name], byRow[key{c.Name, r.Name}]
				if table == nil {
					table = &tableAcross{Table: c.Page.Table}
					byCollector[c.Name], tables = table, append(tables, table)
				}
				if rows == nil {
					rows = &rowsOfTenants{Name: r.Name}
					byRow[key{c.Name, r.Name}], table.Across = rows, append(table.Across, rows)
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
		slices.SortFunc(t.Across, func(a, b *rowsOfTenants) int {
			return cmp.Or(cmp.Compare(b.Number, a.Number), strings.Compare(a.Name, b.Name))
		})
	}
	return tables
}
