package main

// tenants returns the dashboard that compares tenants.
func tenants() dashboard {
	const (
		configured = `group by (tenant) (mde_refresh_interval_seconds{$where})`
		withStates = `group by (tenant) (mde_refresh_interval_seconds{` + fleetStates + `})`
		share      = `sum by (tenant) ` + attentive + ` / (sum by (tenant) ` + active + ` > 0)`
		covered    = `sum by (tenant) (mde_machines_onboarding{$where, onboarding_status="Onboarded"})
  / (sum by (tenant) (mde_machines_onboarding{$where, onboarding_status=~"Onboarded|CanBeOnboarded"}) > 0)`
		silentShare = `1 - sum by (tenant) (mde_machines_seen_within{$where, window="7d"})
  / (sum by (tenant) (mde_machines{$where} and on (job, tenant) mde_machines_seen_within) > 0)`
		oldSignatures = `1 - sum by (tenant) (mde_machines_antivirus_signatures_within{$where, window="7d"})
  / (sum by (tenant) (mde_machines_antivirus_mode{$where, mode!="unknown"}) > 0)`
		withoutOwner = `sum by (tenant) (mde_unresolved_alerts_unassigned{$where, severity="High"})`
		contacted    = `count by (tenant) (mde_watched_domain_machines{$where} > 0) or 0 * count by (tenant) (mde_watched_domain_machines{$where})`
		// No firing alert, if Prometheus has the rules.
		loaded   = ` or 0 * ` + configured + ` and on () tenant:mde_threshold`
		open     = "/d/mde-fleet?${datasource:queryparam}&${job:queryparam}&${__url_time_range}&var-tenant=${__value.raw}"
		unknowns = `(` + withStates + ` unless on (tenant) mde_machines{$where})`
	)
	alertsOf := func(severity string) string {
		return `count by (tenant) (` + firing(`severity="`+severity+`"`) + `)`
	}
	orZero := func(expr string) string { return `(` + expr + ` or 0 * ` + configured + `)` }
	// Critical alerts count most, then missing values, then warnings, then the share of
	// machines.
	worst := `1e6 * ` + orZero(alertsOf("critical")) + `
+ 5e5 * ` + orZero(unknowns) + `
+ 1e3 * ` + orZero(alertsOf("warning")) + `
+ 100 * ` + orZero(share)

	return dashboard{
		uid: "mde-tenants", title: "Defender for Endpoint / Tenants", from: "now-24h",
		description: "All tenants, the worst first: which customer needs help, and why.",
		rows: []row{
			{title: "Which tenant needs help first?", panels: []*panel{
				stat("Tenants", "Tenants that the exporters serve.",
					`count(`+configured+`)`).now().colourValue().decimals(0).none("no tenant"),
				stat("With a critical alert", "Tenants with a firing critical alert. unknown: Prometheus has not loaded the alert rules.",
					`count(`+configured+` and on (tenant) `+firing(`severity="critical"`)+`) or 0 * count(`+configured+`) and on () tenant:mde_threshold`).now().thresholds(calm, step{1, alarm}).none("unknown"),
				stat("Without numbers", "Tenants without current values: never read, or withdrawn because they were older than max_age.",
					`count(`+unknowns+`) or 0 * count(`+withStates+`)`).now().thresholds(calm, step{1, alarm}).none("no tenant"),
				namedStat("Lowest coverage", "The tenant with the smallest share of onboarded machines among those that can be onboarded.",
					`bottomk(1, `+covered+`)`, "{{tenant}}").now().unit("percentunit").decimals(1).thresholds(alarm, step{0.90, warn}, step{0.95, calm}).none("unknown"),
				namedStat("Highest exposure", "The tenant with the highest exposure score: 0 is good, 100 is bad.",
					`topk(1, max by (tenant) (mde_exposure_score{$where}))`, "{{tenant}}").now().unit("none").decimals(1).thresholds(calm, step{30, warn}, step{70, alarm}).none("unknown"),
				stat("High, without owner", "Unresolved Defender alerts of high severity without an owner, in all tenants.",
					`sum(`+withoutOwner+`)`).now().decimals(0).thresholds(calm, step{1, warn}).none("unknown"),
			}},
			{title: "All tenants, the worst first", panels: []*panel{
				table("Tenants",
					"Tenants with a critical alert first, then those without values, then those with a warning, then by share of machines that require attention. A dash or unknown is not good news: nothing is known. Click a tenant to open its fleet.", 500,
					column{title: "Tenant", label: "tenant", link: open},
					column{hidden: true, sorted: true, query: worst},
					column{title: "Critical", query: alertsOf("critical") + loaded, width: 75, steps: []step{{1, alarm}}, none: "unknown"},
					column{title: "Warning", query: alertsOf("warning") + loaded, width: 75, steps: []step{{1, warn}}, none: "unknown"},
					column{title: "Numbers", query: numbers, width: 115, shade: true, mapping: numberWords},
					column{title: "Machines", query: `sum by (tenant) (mde_machines{$where})`, width: 85, none: "unknown"},
					column{title: "Coverage", query: covered, unit: "percentunit", width: 85, digits: new(1), none: "unknown"},
					column{title: "Attention", query: share, unit: "percentunit", width: 85, digits: new(1), steps: []step{{0.05, warn}, {0.10, alarm}}, none: "unknown"},
					column{title: "Since yesterday", query: sinceYesterday("tenant", attentive), width: 120, steps: []step{{1, warn}, {50, alarm}}},
					column{title: "Not seen, 7 d", query: silentShare, unit: "percentunit", width: 105, digits: new(1), steps: []step{{0.05, warn}, {0.20, alarm}}, none: "unknown"},
					column{title: "Old signatures", query: oldSignatures, unit: "percentunit", width: 115, digits: new(1), steps: []step{{0.05, warn}, {0.20, alarm}}, none: "unknown"},
					column{title: "Exposure", query: `max by (tenant) (mde_exposure_score{$where})`, unit: "none", width: 85, digits: new(1), steps: []step{{30, warn}, {70, alarm}}, none: "unknown"},
					column{title: "High, no owner", query: withoutOwner, width: 115, steps: []step{{1, alarm}}, none: "unknown"},
					column{title: "Domains contacted", query: contacted, width: 140, steps: []step{{1, warn}}, none: "unknown"},
				).none("No tenant is configured, or no exporter is scraped").size(24, 14),
			}},
			firingAlerts(),
			{title: "Which tenants are getting worse?", panels: []*panel{
				lines("Machines that require attention", "Share of each tenant's machines, for the ten tenants with the largest share.").
					query(top("tenant", share), "{{tenant}}").unit("percentunit").stepped().beside().none("No values in this time range"),
				lines("Exposure score", "The ten tenants with the highest exposure score: 0 is good, 100 is bad.").
					query(top("tenant", `max by (tenant) (mde_exposure_score{$where})`), "{{tenant}}").unit("none").decimals(1).stepped().beside().none("unknown: scores are off, or not read yet"),
			}},
		},
	}
}
