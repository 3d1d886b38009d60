package main

// fleet returns the dashboard about machines that require attention: how many, why
// and where.
func fleet() dashboard {
	const (
		share      = `sum` + attentive + ` / (sum` + active + ` > 0)`
		configured = `group by (job, tenant) (mde_refresh_interval_seconds{` + fleetStates + `})`

		open      = "/d/mde-fleet?${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
		worrying  = 0.05
		dangerous = 0.10
	)
	growing := `sum(` + attentive + ` and ` + thenToo + `)
  / (sum(` + active + ` and ` + thenToo + `) > 0)
- sum(` + dayBefore(attentive) + ` and ` + nowToo + `)
  / (sum(` + dayBefore(active) + ` and ` + nowToo + `) > 0)`
	perBuild := `sum by (os_build, architecture) ` + attentive
	perTenant := `sum by (tenant) ` + attentive
	tenantShare := perTenant + ` / (sum by (tenant) ` + active + ` > 0)`
	propertyShare := `sum by (property) (mde_machines_attention{$where}) / on () group_left () (sum(mde_machines{$where}) > 0)`

	// Tenants without values first, then the others by share of machines.
	worst := `((` + numbers + `) > 2)
or ` + tenantShare + `
or 0 * group by (tenant) (mde_machines{$where})`

	return dashboard{
		uid: "mde-fleet", title: "Defender for Endpoint / Fleet", from: "now-24h",
		description: "How many machines require attention, whether it is getting worse, and where.",
		rows: []row{
			{title: "Is the fleet protected?", panels: []*panel{
				stat("Require attention",
					"Share of the machines with at least one property that requires attention. A machine counts once. Inactive machines do not count if the states come from the machines API. Orange from 5%, red from 10%.",
					share).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("no data"),
				stat("Since yesterday",
					"Change of the share of machines that require attention since the same time yesterday, in percentage points. Only tenants with values then and now count. Above zero is worse.",
					growing).unit("percentunit").decimals(1).now().thresholds(calm, step{0.005, warn}, step{0.05, alarm}).none("no history yet"),
				namedStat("Most frequent problem",
					"The most frequent property, and the share of the machines that have it.",
					`topk(1, `+propertyShare+` > 0)
or on () label_replace(0 * sum(mde_machines{$where}), "property", "no problem", "", "")`, "{{property}}").now().unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("no data"),
				stat("Machines",
					"Machines with a security state. A steep fall means that machines are no longer monitored, or that the values of a tenant were withdrawn.",
					`sum(mde_machines{$where})`).colourValue().none("no data"),
				stat("Tenants without numbers",
					"Configured tenants without current values: never read, or withdrawn because they were older than max_age. The other panels do not include them.",
					`count(`+configured+` unless on (job, tenant) mde_machines{$where}) or 0 * count(`+configured+`)`).now().thresholds(calm, step{1, alarm}).none("no tenant"),
				stat("Oldest count",
					"Age of the last complete count, for the tenant with the oldest. never: a tenant failed and has not succeeded yet. By default the exporter counts every 15 minutes and withdraws values after 45 minutes.",
					`max(`+ageOf(fleetStates)+`)`).unit("s").now().thresholds(calm, step{1800, warn}, step{2700, alarm}).set("mappings", neverWord).none("no count yet"),
			}},
			firingAlerts(),
			{title: "What is wrong?", panels: []*panel{
				lines("Which properties, as share of the fleet",
					"Share of all machines with each property, for the ten most frequent. A machine with two properties counts in both lines.").
					query(top("property", propertyShare), "{{property}}").unit("percentunit").stepped().none("No values in this time range").size(14, 11),
				table("What got worse since yesterday",
					"Machines with each property now, and the change since the same time yesterday. A negative number is an improvement. Only tenants with values then and now count.", 15,
					column{title: "Property", label: "property", link: machinesLink},
					column{title: "Machines", query: `sum by (property) (mde_machines_attention{$where} and ` + thenToo + `)`, width: 85},
					column{title: "Share", query: `sum by (property) (mde_machines_attention{$where} and ` + thenToo + `) / on () group_left () (sum(mde_machines{$where} and ` + thenToo + `) > 0)`, unit: "percentunit", width: 70, digits: new(1)},
					column{title: "Since yesterday", query: sinceYesterday("property", `mde_machines_attention{$where}`), sorted: true, width: 125, steps: []step{{1, warn}, {50, alarm}}},
				).none("No tenant has values from the same time yesterday").size(10, 11),
			}},
			{title: "Where?", panels: []*panel{
				table("Builds and architectures with the most machines that require attention",
					"OS builds by the number of machines that require attention. The bar is their share of the build's machines. The last column is the change since the same time yesterday.", 25,
					column{title: "OS build", label: "os_build", width: 90},
					column{title: "Architecture", label: "architecture", width: 105},
					column{title: "Machines", query: `sum by (os_build, architecture) (mde_machines{$where})`, width: 90},
					column{title: "Require attention", query: perBuild, sorted: true, width: 130},
					column{title: "Share", query: perBuild + ` / sum by (os_build, architecture) ` + active, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {0.2, alarm}}},
					column{title: "Since yesterday", query: sinceYesterday("os_build, architecture", attentive), width: 125, steps: []step{{1, warn}, {20, alarm}}},
				).none("No values: see Tenants").size(12, 10),
				table("Which problem on which build",
					"Share of each build's machines with the property, for the seven largest builds and the twelve most frequent properties. A red cell: an outage on one build. A red row: an outage everywhere.", 12,
				).matrix("os_build",
					`sum by (os_build, property) (mde_machines_attention{$where})
  / on (os_build) group_left () sum by (os_build) (mde_machines{$where})
  and on (property) topk(12, sum by (property) (mde_machines_attention{$where}))
  and on (os_build) topk(7, sum by (os_build) (mde_machines{$where}))`,
					step{0.02, notice}, step{worrying, warn}, step{0.2, alarm}).unit("percentunit").decimals(1).none("No values: see Tenants").size(12, 10),
				table("Tenants",
					"Tenants without current values first, then by share of machines that require attention. Click a tenant to show only its values.", 500,
					column{title: "Tenant", label: "tenant", link: open + "&var-tenant=${__value.raw}"},
					column{hidden: true, sorted: true, query: worst},
					column{title: "Numbers", query: numbers, width: 120, shade: true, mapping: numberWords},
					column{title: "Machines", query: `sum by (tenant) (mde_machines{$where})`, width: 100, none: "unknown"},
					column{title: "Require attention", query: perTenant, width: 140, none: "unknown"},
					column{title: "Share", query: tenantShare, unit: "percentunit", width: 100, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}, none: "unknown"},
					column{title: "Since yesterday", query: sinceYesterday("tenant", attentive), width: 130, steps: []step{{1, warn}, {50, alarm}}},
					column{title: "Counted", query: `max by (tenant) (` + ageOf(fleetStates) + `)`, unit: "s", width: 110, steps: []step{{1800, warn}, {2700, alarm}}, mapping: neverWord},
				).none("No tenant is configured, or no exporter is scraped").size(24, 8),
			}},
			{title: "How did it develop?", panels: []*panel{
				lines("Machines that require attention, by OS build",
					"The ten builds with the most machines that require attention.").
					query(top("os_build", `sum by (os_build) `+attentive), "{{os_build}}").stepped().beside().none("No values in this time range"),
				lines("Machines by OS build",
					"The ten largest builds. During a feature update one build grows while another shrinks.").
					query(top("os_build", `sum by (os_build) (mde_machines{$where})`), "{{os_build}}").stepped().stacked().beside().none("No values in this time range"),
			}},
			{title: "Risk, exposure, sensor health, platforms (where the states come from the machines API)", folded: true, panels: []*panel{
				ranked("Risk", "Machines by Defender's risk score, the highest first. Needs the machines API as source.", "mde_machines_risk", "risk_score", riskScores),
				ranked("Exposure", "Machines by Defender's exposure level, the highest first. Needs the machines API as source.", "mde_machines_exposure", "exposure_level", exposureLevels),
				ranking("Sensor health", "Machines by the health of their sensor. Needs the machines API as source.", "mde_machines_health", "health_status").
					paint([2]string{"Active", calm}),
				ranking("Platform", "Machines by platform, the largest twelve. Needs the machines API as source.", "mde_machines_os_platform", "os_platform"),
			}},
		},
	}
}

// ranking is a small bar for each value of a label, the largest first.
func ranking(title, about, metric, label string) *panel {
	return smallBars(title, about).query(`sort_desc(topk(12, sum by (`+label+`) (`+metric+`{$where})))`, "{{"+label+"}}")
}

// ranked is a small bar for each level of a label, the worst level first.
func ranked(title, about, metric, label string, all []level) *panel {
	return smallBars(title, about).levels(`sum(`+metric+`{$where, %s})`, label, all)
}

func smallBars(title, about string) *panel {
	return bars(title, about).none("unknown").size(12, 7)
}
