package web

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

// cause is what several collectors have in common: why they fail, or what limits them.
type cause struct {
	collector.Failure
	// Since is when the first of them began to fail, zero where that is not known.
	Since time.Time
	// Tenants and Collectors are whom it affects.
	Tenants, Collectors []string
}

// Named are the tenants that the page names, Unnamed the number of the others.
func (c *cause) Named() []string { return c.Tenants[:min(namesShown, len(c.Tenants))] }
func (c *cause) Unnamed() int    { return len(c.Tenants) - len(c.Named()) }

// causes are distinct, at any length.
type causes []*cause

// Shown are those that the page lists, More the number of the others.
func (c causes) Shown() causes { return c[:min(causesShown, len(c))] }
func (c causes) More() int     { return len(c) - len(c.Shown()) }

// add counts a collector of a tenant, which are added in order.
func (c causes) add(tenant string, failing *Collector) causes {
	failure := failing.Failure
	if failure.Cause == "" {
		failure.Cause = failing.Error
	}
	i := slices.IndexFunc(c, func(c *cause) bool { return c.Failure == failure })
	if i < 0 {
		i = len(c)
		c = append(c, &cause{Failure: failure, Since: failing.FailingSince})
	}
	this := c[i]
	if !failing.FailingSince.IsZero() && failing.FailingSince.Before(this.Since) {
		this.Since = failing.FailingSince
	}
	if n := len(this.Tenants); n == 0 || this.Tenants[n-1] != tenant {
		this.Tenants = append(this.Tenants, tenant)
	}
	if !slices.Contains(this.Collectors, failing.Name) {
		this.Collectors = append(this.Collectors, failing.Name)
	}
	return c
}

// sort puts what affects the most tenants first.
func (c causes) sort() {
	slices.SortStableFunc(c, func(a, b *cause) int {
		return cmp.Or(cmp.Compare(len(b.Tenants), len(a.Tenants)), strings.Compare(a.Cause, b.Cause))
	})
}

// runbookLink returns the address of an alert's section.
func runbookLink(alert string) string {
	return "https://github.com/mde-exporter/mde_exporter/blob/main/docs/runbooks.md#" + strings.ToLower(alert)
}

// rowsOfTenants are the rows of one name in the tables of several tenants.
type rowsOfTenants struct {
	Name    string
	Number  float64
	Known   int // Of the tenants.
	AtLeast bool
	Tenants []string
}

// Named are the tenants that the page names, Unnamed the number of the others.
func (r *rowsOfTenants) Named() []string { return r.Tenants[:min(namesShown, len(r.Tenants))] }
func (r *rowsOfTenants) Unnamed() int    { return len(r.Tenants) - len(r.Named()) }

// tableAcross is one table across tenants: the rows of it that are wanted.
type tableAcross struct {
	collector.Table
	Across []*rowsOfTenants
	found  map[string]*rowsOfTenants
}

// Shown are the rows that the page lists, More the number of the others.
func (t *tableAcross) Shown() []*rowsOfTenants { return t.Across[:min(causesShown, len(t.Across))] }
func (t *tableAcross) More() int               { return len(t.Across) - len(t.Shown()) }

// rowsAcross returns the rows of all tenants that are wanted, those of one name
// together, the largest sums first. Tables without such a row are left out.
func rowsAcross(tenants []tenantBlock, wanted func(collector.Row) bool) (tables []*tableAcross) {
	byCollector := make(map[string]*tableAcross)
	for _, t := range tenants {
		for _, table := range t.Tables {
			for _, r := range table.Rows {
				if !wanted(r) {
					continue
				}
				across := byCollector[table.collector]
				if across == nil {
					across = &tableAcross{Table: table.Table, found: make(map[string]*rowsOfTenants)}
					byCollector[table.collector] = across
					tables = append(tables, across)
				}
				across.add(t.Name, r)
			}
		}
	}
	for _, t := range tables {
		slices.SortFunc(t.Across, func(a, b *rowsOfTenants) int {
			return cmp.Or(cmp.Compare(b.Number, a.Number), strings.Compare(a.Name, b.Name))
		})
		for _, r := range t.Shown() {
			slices.Sort(r.Tenants)
		}
	}
	return tables
}

// add counts the row of a tenant.
func (t *tableAcross) add(tenant string, r collector.Row) {
	rows := t.found[r.Name]
	if rows == nil {
		rows = &rowsOfTenants{Name: r.Name}
		t.found[r.Name] = rows
		t.Across = append(t.Across, rows)
	}
	rows.Tenants = append(rows.Tenants, tenant)
	rows.AtLeast = rows.AtLeast || r.AtLeast
	if r.Known {
		rows.Number += r.Number
		rows.Known++
	}
}
