package client

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteDiagnoses writes a table for each tenant and then a summary: each cause of failed
// checks with its remedy and its tenants. If that takes more than maxLines, it writes only
// the summary: the most frequent causes, and the tenants of the other causes in one line.
// Zero maxLines means no limit.
func WriteDiagnoses(w io.Writer, diagnoses []Diagnosis, maxLines int) error {
	var text bytes.Buffer
	for _, d := range diagnoses {
		writeTable(&text, d)
	}
	writeSummary(&text, diagnoses, math.MaxInt)
	if maxLines > 0 && bytes.Count(text.Bytes(), []byte("\n")) > maxLines {
		text.Reset()
		// Three lines for each cause, and one each for the heading, the rest and the hint.
		writeSummary(&text, diagnoses, max(1, (maxLines-3)/3))
		fmt.Fprintln(&text, "--tenant=NAME prints each check of a tenant.")
	}
	_, err := text.WriteTo(w)
	return err
}

// writeTable writes the checks of one tenant and an empty line.
func writeTable(w *bytes.Buffer, d Diagnosis) {
	// Each tenant's table has its own column widths.
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "Tenant %s\n  CHECK\tRESULT\tFOUND\n", d.Tenant)
	for _, check := range d.Checks {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", check.Name, check.Result, check.Found)
		if check.Remedy != "" {
			fmt.Fprintf(table, "  \t\t→ %s\n", check.Remedy)
		}
	}
	if d.Complete() {
		fmt.Fprintln(table, "Everything that is needed works.")
	} else {
		fmt.Fprintln(table, "Something that is needed is missing: fix what the lines with MISSING say.")
	}
	fmt.Fprintln(table)
	_ = table.Flush() // Writing to a buffer does not fail.
}

// writeSummary writes the causes, the most frequent ones first. Causes beyond most are
// combined in one line.
func writeSummary(w io.Writer, diagnoses []Diagnosis, most int) {
	causes, broken := causesOf(diagnoses)
	if broken == 0 {
		fmt.Fprintf(w, "Summary: %s, all without a problem\n", plural(len(diagnoses), "tenant"))
		return
	}
	fmt.Fprintf(w, "Summary: %d of %s with a problem\n", broken, plural(len(diagnoses), "tenant"))
	most = min(most, len(causes))
	for _, c := range causes[:most] {
		fmt.Fprintf(w, "%s: %s\n", strings.Join(c.checks, ", "), c.found)
		if c.remedy != "" {
			fmt.Fprintf(w, "  → %s\n", c.remedy)
		}
		fmt.Fprintf(w, "  %s: %s\n", plural(len(c.tenants), "tenant"), strings.Join(c.tenants, ", "))
	}
	var rest []string
	for _, c := range causes[most:] {
		rest = append(rest, c.tenants...)
	}
	if len(rest) > 0 {
		slices.Sort(rest)
		rest = slices.Compact(rest)
		fmt.Fprintf(w, "%s of %s: %s\n", plural(len(causes)-most, "more cause"), plural(len(rest), "tenant"), strings.Join(rest, ", "))
	}
}

// plural returns "1 tenant" or "2 tenants".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// cause is a group of missing checks with equal normalized texts.
type cause struct {
	found, remedy   string // As written if all checks have the same texts, else normalized.
	key             [2]string
	checks, tenants []string
}

// causesOf groups the missing checks of all tenants by their normalized texts, the most
// frequent cause first. It also returns the number of tenants with a missing check.
func causesOf(diagnoses []Diagnosis) (causes []*cause, broken int) {
	for _, d := range diagnoses {
		if d.Complete() {
			continue
		}
		broken++
		for _, check := range d.causes() {
			key := [2]string{normalize(check.Found, d.Tenant), normalize(check.Remedy, d.Tenant)}
			i := slices.IndexFunc(causes, func(c *cause) bool { return c.key == key })
			if i < 0 {
				i = len(causes)
				causes = append(causes, &cause{found: check.Found, remedy: check.Remedy, key: key})
			}
			c := causes[i]
			if c.found != check.Found || c.remedy != check.Remedy {
				c.found, c.remedy = key[0], key[1]
			}
			if !slices.Contains(c.checks, check.Name) {
				c.checks = append(c.checks, check.Name)
			}
			if !slices.Contains(c.tenants, d.Tenant) {
				c.tenants = append(c.tenants, d.Tenant)
			}
		}
	}
	slices.SortStableFunc(causes, func(a, b *cause) int { return cmp.Compare(len(b.tenants), len(a.tenants)) })
	return causes, broken
}

// causes returns the missing checks, except those not tried: their cause is the missing
// token.
func (d Diagnosis) causes() []Check {
	return slices.DeleteFunc(slices.Clone(d.Checks), func(c Check) bool { return c.Result != Missing || c.Found == notTried })
}
