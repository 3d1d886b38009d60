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

// WriteDiagnoses writes a table for each tenant and then a summary: each cause of
// missing things with its remedy and the tenants that have it. If that takes more than
// maxLines, it writes the summary alone, with the most frequent causes one by one and
// the tenants of the others in one line. Zero maxLines means no limit.
func WriteDiagnoses(w io.Writer, diagnoses []Diagnosis, maxLines int) error {
	var text bytes.Buffer
	for _, d := range diagnoses {
		writeTable(&text, d)
	}
	writeSummary(&text, diagnoses, math.MaxInt)
	if maxLines > 0 && bytes.Count(text.Bytes(), []byte("\n")) > maxLines {
		text.Reset()
		// Three lines a cause, and one each before and after them and for the rest.
		writeSummary(&text, diagnoses, max(1, (maxLines-3)/3))
		fmt.Fprintln(&text, "--tenant=NAME prints each check of a tenant.")
	}
	_, err := text.WriteTo(w)
	return err
}

// writeTable writes the checks of one tenant and an empty line.
func writeTable(w *bytes.Buffer, d Diagnosis) {
	// The columns are as wide as the tenant's own lines need.
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
	_ = table.Flush() // To a buffer, which takes everything.
}

// writeSummary writes the causes, the most frequent ones first, at most so many of
// them one by one.
func writeSummary(w io.Writer, diagnoses []Diagnosis, most int) {
	causes, broken := causesOf(diagnoses)
	if broken == 0 {
		fmt.Fprintf(w, "Summary: %s, all without a problem\n", counted(len(diagnoses), "tenant"))
		return
	}
	fmt.Fprintf(w, "Summary: %d of %s with a problem\n", broken, counted(len(diagnoses), "tenant"))
	most = min(most, len(causes))
	for _, c := range causes[:most] {
		fmt.Fprintf(w, "%s: %s\n", strings.Join(c.checks, ", "), c.found)
		if c.remedy != "" {
			fmt.Fprintf(w, "  → %s\n", c.remedy)
		}
		fmt.Fprintf(w, "  %s: %s\n", counted(len(c.tenants), "tenant"), strings.Join(c.tenants, ", "))
	}
	var rest []string
	for _, c := range causes[most:] {
		rest = append(rest, c.tenants...)
	}
	if len(rest) > 0 {
		slices.Sort(rest)
		rest = slices.Compact(rest)
		fmt.Fprintf(w, "%s of %s: %s\n", counted(len(causes)-most, "more cause"), counted(len(rest), "tenant"), strings.Join(rest, ", "))
	}
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// cause is why something is missing.
type cause struct {
	found, remedy   string // The whole texts, if all checks have the same ones.
	alike           [2]string
	checks, tenants []string
}

// causesOf groups the missing checks of all tenants by what their findings and
// remedies have in common, the most frequent cause first, and counts the tenants that
// have any.
func causesOf(diagnoses []Diagnosis) (causes []*cause, broken int) {
	for _, d := range diagnoses {
		if d.Complete() {
			continue
		}
		broken++
		for _, check := range d.causes() {
			key := [2]string{alike(check.Found, d.Tenant), alike(check.Remedy, d.Tenant)}
			i := slices.IndexFunc(causes, func(c *cause) bool { return c.alike == key })
			if i < 0 {
				i = len(causes)
				causes = append(causes, &cause{found: check.Found, remedy: check.Remedy, alike: key})
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

// causes returns what is missing, without what was not tried: that follows from
// another cause, a missing token.
func (d Diagnosis) causes() []Check {
	return slices.DeleteFunc(slices.Clone(d.Checks), func(c Check) bool { return c.Result != Missing || c.Found == notTried })
}
