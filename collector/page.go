package collector

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/mde-exporter/mde_exporter/client"
)

// Page is the collector's own part of the status page. Status contains the rest.
type Page struct {
	// Notes are sentences about limitations and how to fix them.
	Notes []string
	// Source is where the values come from, if there is more than one source.
	Source string
	// Summary is one line about the current values, such as "4,213 machines, 97 require
	// attention". It may be empty.
	Summary string
	// MaxAge is the age past which all values are withdrawn. Zero means none.
	MaxAge time.Duration
	// Measures are values by which tenants are compared. A collector always returns the
	// same ones in the same order.
	Measures []Measure
	Progress Progress
	Table    Table
}

// Failure explains a failure to people.
type Failure struct {
	// Cause is what happened. Failures of one cause have the same text.
	Cause string
	// Remedy is what to do about it, empty if unknown.
	Remedy string
	// Runbook is the alert that names the section of docs/runbooks.md.
	Runbook string
}

// explain returns the Failure of a refresh error of a tenant.
func explain(err error, tenant string) Failure {
	f := Failure{Runbook: "MDERefreshFailing"}
	f.Cause, f.Remedy = client.Explain(err, tenant)
	switch client.ReasonOf(err) {
	case client.ReasonAuth:
		f.Runbook = "MDESignInRefused"
	case client.ReasonForbidden:
		f.Runbook = "MDERefreshRefused"
	case client.ReasonThrottled:
		f.Runbook = "MDEThrottled"
	}
	return f
}

// Measure is a value that has a column in a table of tenants.
type Measure struct {
	Title string
	// Text is the current value, empty if unknown.
	Text string
	// Number is the value by which tenants are sorted, the largest first.
	Number float64
}

// Progress is how many of the items that are read one by one were tried so far.
type Progress struct {
	Done, Total int
	What        string // Such as "watched domains looked up".
}

// Table lists what a collector watches. The zero Table is none.
type Table struct {
	// Title and Items name the rows, such as "Watched domains" and "domains".
	Title, Items string
	// Marked describes a marked row, such as "contacted". Pages show how many of the known
	// rows are marked.
	Marked string
	// Runbook is the alert that names the section of docs/runbooks.md about marked rows.
	// Empty means none.
	Runbook string
	// AtLeast describes a row whose number is a lower bound, such as "by 500 machines or
	// more".
	AtLeast string
	// Columns are the headings of the names, the numbers and the times.
	Columns [3]string
	Rows    []Row
}

// Row is a row of a Table.
type Row struct {
	Name string
	// Group is what the row belongs to, such as the names of watch lists. It may be
	// empty.
	Group string
	// Known reports whether Number was read and has not expired. Otherwise Number is zero.
	Number float64
	Known  bool
	// AtLeast means that Number is a lower bound. Hint is the reason.
	AtLeast bool
	// Marked rows are highlighted.
	Marked bool
	// Instead is shown instead of a Number that is not Known. Empty means "unknown". Hint
	// explains it.
	Instead, Hint string
	// At is when the number was last read. Zero means never.
	At time.Time
	// Error is the error of the last attempt, empty if it succeeded.
	Error string
}

// Number formats a number for pages: with commas between thousands, rounded to two
// decimals.
func Number[N int | float64](n N) string {
	digits := strconv.FormatFloat(math.Round(100*float64(n))/100, 'f', -1, 64)
	whole, _, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Count formats a number with its noun in the singular or plural: "1 domain", "4,321 domains".
func Count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Number(n) + " " + noun
}

// Withdrawn returns the Summary for values that are older than maxAge.
func Withdrawn(maxAge time.Duration) string {
	return fmt.Sprintf("values withdrawn: older than max_age %s", model.Duration(maxAge))
}
