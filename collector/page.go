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

// Page is how a collector stands, for people. It holds what only the collector
// knows: Status has the rest.
type Page struct {
	// Notes say, in sentences, what is limited and how to fix it.
	Notes []string
	// Source is where the values come from, where there is a choice.
	Source string
	// Summary is one line about the values in force, such as "4,213 machines, 97
	// require attention". It may be empty.
	Summary string
	// MaxAge is the age past which all values are withdrawn. Zero means none.
	MaxAge time.Duration
	// Measures are single values by which tenants are compared, always the same ones
	// of a collector in the same order.
	Measures []Measure
	Progress Progress
	Table    Table
}

// Failure explains a failure to people.
type Failure struct {
	// Cause is what happened: failures of one cause have the same text.
	Cause string
	// Remedy is what to do about it, empty where that is not known.
	Remedy string
	// Runbook is the alert whose section of docs/runbooks.md is about it.
	Runbook string
}

// explain explains why a tenant's refresh failed.
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
	// Text is the value in force, empty where it is not known.
	Text string
	// Number orders the tenants, the largest first.
	Number float64
}

// Progress is how much of what is read one by one was tried so far.
type Progress struct {
	Done, Total int
	What        string // Such as "watched domains looked up".
}

// Table lists what a collector watches. The zero Table is none.
type Table struct {
	// Title and Items are what the rows are, such as "Watched domains" and "domains".
	Title, Items string
	// Marked says what a marked row is, such as "contacted". Pages count these
	// among the rows that are known.
	Marked string
	// Runbook is the alert whose section of docs/runbooks.md is about marked rows.
	// Empty means none.
	Runbook string
	// AtLeast says what a row is whose number is a lower bound, such as "by 500
	// machines or more".
	AtLeast string
	// Columns are the headings: of the names, of the numbers and of the times.
	Columns [3]string
	Rows    []Row
}

// Row is a row of a Table.
type Row struct {
	Name string
	// Group is what the row belongs to, such as the names of watch lists. It may be
	// empty.
	Group string
	// Number is zero unless it is Known: read, and young enough to be exposed.
	Number float64
	Known  bool
	// AtLeast says that Number is a lower bound, for the reason Hint.
	AtLeast bool
	// Marked rows stand out.
	Marked bool
	// Instead stands for a number that is not known, Hint explains it. Empty means
	// "unknown".
	Instead, Hint string
	// At is when the number was last read. Zero means never.
	At time.Time
	// Error is why the last attempt failed, empty where it did not.
	Error string
}

// Number writes a number as pages show it: with commas between thousands, rounded to
// two decimals.
func Number[N int | float64](n N) string {
	digits := strconv.FormatFloat(math.Round(100*float64(n))/100, 'f', -1, 64)
	whole, _, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Withdrawn is the Summary of values that are too old.
func Withdrawn(maxAge time.Duration) string {
	return fmt.Sprintf("values withdrawn: older than max_age %s", model.Duration(maxAge))
}
