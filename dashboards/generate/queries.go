package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Tenants are compared with yesterday only if they have values of both days. So a
// new tenant does not make numbers worse, and withdrawn values do not make them
// better.
const (
	thenToo = `on (job, tenant) mde_machines{$where} offset 1d`
	nowToo  = `on (job, tenant) mde_machines{$where}`
)

// machinesLink is the link from a property to the query that lists its machines.
const machinesLink = "/d/mde-coverage?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}&var-property=${__value.raw}"

// attentive and active are the machines that require attention and all machines,
// without inactive ones if the source shows them: these require attention only
// because they are inactive.
const (
	attentive = `(mde_active_machines_requiring_attention{$where} or on (job, tenant) mde_machines_requiring_attention{$where})`
	active    = `(mde_active_machines{$where} or on (job, tenant) mde_machines{$where})`
)

// whereSelector matches a selector that begins with $where.
var whereSelector = regexp.MustCompile(`\{\$where[^}]*\}`)

// dayBefore returns series at the same time yesterday. Selectors must not have a
// brace in a label value.
func dayBefore(series string) string {
	return whereSelector.ReplaceAllString(series, "$0 offset 1d")
}

// sinceYesterday returns the change of series of the fleet, summed by labels, since
// the same time yesterday. It has no value without a day of history. A new label
// value counts as 0 yesterday.
func sinceYesterday(labels, series string) string {
	now := fmt.Sprintf(`sum by (%s) (%s and %s)`, labels, series, thenToo)
	return now + fmt.Sprintf(`
- (
  sum by (%[1]s) (%[2]s and %[3]s)
  or
  0 * %[4]s
)`, labels, dayBefore(series), nowToo, now)
}

// ageOf returns the age of a collector's values. A collector that failed and never
// succeeded has the age $never. One whose first refresh still runs has none.
func ageOf(selector string) string {
	return orNever(`time() - mde_refresh_last_success_timestamp_seconds{`+selector+`}`, selector)
}

// intervalsOf is ageOf in refresh intervals. For watched domains it also has a series
// for each list.
func intervalsOf(selector string) string {
	return orNever(`(time() - mde_refresh_last_success_timestamp_seconds{`+selector+`}) / on (job, instance, tenant, collector) (
  label_replace(mde_watched_domains_interval_seconds{$where}, "collector", "watched_domains", "", "")
  or on (job, instance, tenant, collector) mde_refresh_interval_seconds{`+selector+`}
)
or label_replace(`+listIntervals+`, "collector", "watched_domains", "", "")`, selector)
}

// listIntervals is the age of each watch list's oldest value, in intervals that the
// quota allows the list.
const listIntervals = `(time() - mde_watched_domain_list_last_success_timestamp_seconds{$where}) / on (job, instance, tenant, list) mde_watched_domain_list_interval_seconds{$where}`

func orNever(age, selector string) string {
	return age + `
or $never + (mde_refresh_success{` + selector + `} == 0) unless on (job, instance, tenant, collector) mde_refresh_last_success_timestamp_seconds{` + selector + `}`
}

// fleetStates limits a selector to the collector of security states.
const fleetStates = `$where, collector="security_states"`

// numbers is whether a tenant has values of its fleet: 1 yes, 2 yes but the last
// refresh failed, 3 not yet, 4 withdrawn, 5 never read.
const numbers = `2 * (group by (tenant) (mde_machines{$where}) and on (tenant) (min by (tenant) (mde_refresh_success{` + fleetStates + `}) == 0))
or group by (tenant) (mde_machines{$where})
or 4 * group by (tenant) (mde_refresh_last_success_timestamp_seconds{` + fleetStates + `})
or 5 + (min by (tenant) (mde_refresh_success{` + fleetStates + `}) == 0)
or 3 * group by (tenant) (mde_refresh_interval_seconds{` + fleetStates + `})`

// numberWords maps the values of numbers to words.
var numberWords = words(
	[3]string{"1", "current", calm}, [3]string{"2", "not refreshed", warn}, [3]string{"3", "not yet read", "blue"},
	[3]string{"4", "withdrawn", alarm}, [3]string{"5", "never read", alarm})

// unprotected is the number of unprotected machines that contacted a domain, as
// the alert rules record it.
const unprotected = `tenant_domain:mde_watched_domain_machines_unprotected:max{$where, domain=~"$domain"}`

// firing returns the firing alerts of the bundled rules that match, including
// alerts without a tenant.
func firing(matchers string) string {
	return `ALERTS{alertname=~"MDE.+", alertstate="firing", job=~"$job|", tenant=~"$tenant|", ` + matchers + `}`
}

// firingAlerts returns the row with the table of firing alerts. Every dashboard has
// it.
func firingAlerts() row {
	const keys = "alertname, severity, tenant, domain, list, property, device_group, os_build, collector, instance"
	of := func(expr string) string { return `max by (` + keys + `) (` + expr + `)` }
	rank := `3 * ` + of(firing(`severity="critical"`)) + `
or 2 * ` + of(firing(`severity="warning"`)) + `
or ` + of(firing(`severity!~"critical|warning"`)) + `
or 4 * label_replace(absent(tenant:mde_threshold), "alertname", "Prometheus has not loaded the alert rules", "", "")`
	since := `1000 * ` + of(`ALERTS_FOR_STATE{alertname=~"MDE.+", job=~"$job|", tenant=~"$tenant|"}`) + `
  and on (` + keys + `) ` + of(firing(`severity=~".+"`))
	return row{title: "Which alerts fire?", panels: []*panel{
		table("Firing alerts",
			"Firing alerts of the rules in alerts/mde.yaml, the most severe first. The runbooks have a section for each.", 100,
			column{title: "Alert", label: "alertname", width: 390},
			column{title: "Severity", label: "severity", width: 80, none: "–"},
			column{hidden: true, sorted: true, query: rank},
			column{title: "Tenant", label: "tenant", none: "–"},
			column{title: "Domain", label: "domain", none: "–"},
			column{title: "List", label: "list", width: 80, none: "–"},
			column{title: "Property", label: "property", none: "–"},
			column{title: "Device group", label: "device_group", none: "–"},
			column{title: "OS build", label: "os_build", width: 80, none: "–"},
			column{title: "Collector", label: "collector", width: 130, none: "–"},
			column{title: "Exporter", label: "instance", none: "–"},
			column{title: "Active since", query: since, unit: "dateTimeFromNow", width: 145},
		).none("No alert fires").size(24, 8),
	}}
}

// level is a label value that has a rank, such as a severity.
type level struct{ name, colour string }

// Defender's levels, the worst first.
var (
	exposureLevels = []level{{"High", alarm}, {"Medium", warn}, {"Low", notice}, {"None", calm}}
	riskScores     = slices.Insert(slices.Clone(exposureLevels), 3, level{"Informational", "blue"})
	atRisk         = riskScores[:4]
	severities     = []level{{"High", alarm}, {"Medium", warn}, {"Low", notice}, {"Informational", "blue"}, {"UnSpecified", "purple"}}
)

// anyLevel matches the documented levels of risk, exposure and severity.
const anyLevel = "High|Medium|Low|Informational|UnSpecified|None"

// levels adds a query for each level, the worst first, in the colour of the level.
// Values that are not documented come last, as other. expr has a %s in place of the
// label's matcher.
func (p *panel) levels(expr, label string, all []level) *panel {
	for _, l := range all {
		p.query(fmt.Sprintf(expr, label+`="`+l.name+`"`), l.name)
		p.paint([2]string{l.name, l.colour})
	}
	return p.query(fmt.Sprintf(expr, label+`!~"`+anyLevel+`"`), "other")
}

// bands returns a bar for each span of time: up to the first window, between a
// window and the next, and beyond the last. metric counts the machines within each
// window. all is their total.
func bands(title, about, metric, all string, windows ...string) *panel {
	within := func(window string) string {
		name, matchers, _ := strings.Cut(strings.TrimSuffix(metric, "}"), "{")
		if matchers != "" {
			matchers += ", "
		}
		return fmt.Sprintf(`sum(%s{$where, %swindow="%s"})`, name, matchers, window)
	}
	p := bars(title, about).size(8, 8)
	colours := []string{calm, notice, warn, "dark-orange", alarm}
	before := ""
	for i, window := range windows {
		name, query := "up to "+window, within(window)
		if before != "" {
			name, query = before+" to "+window, query+" - "+within(before)
		}
		p.query(query, name).paint([2]string{name, colours[i]})
		before = window
	}
	older := "older or never"
	return p.query(all+" - "+within(before), older).paint([2]string{older, "dark-red"})
}
