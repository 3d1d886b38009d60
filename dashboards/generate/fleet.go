package main

// fleet answers: how many machines require attention, is it getting worse, and
// where.
func fleet() dashboard {
	const (
		share = `sum(mde_machines_requiring_attention{$where}) / sum(mde_machines{$where})`

		// Yesterday's figures are compared for the tenants that were there yesterday:
		// a tenant that is new is no change for the worse.
		then    = `on (job, tenant) mde_machines{$where} offset 1d`
		growing = `sum(mde_machines_requiring_attention{$where} and ` + then + `)
  / sum(mde_machines{$where} and ` + then + `)
- sum(mde_machines_requiring_attention{$where} offset 1d)
  / sum(mde_machines{$where} offset 1d)`
		propertyGrowing = `sum by (property) (mde_machines_attention{$where} and ` + then + `)
- (
  sum by (property) (mde_machines_attention{$where} offset 1d)
  or
  sum by (property) (mde_machines_attention{$where}) * 0 and on () mde_machines{$where} offset 1d
)`

		open      = "/d/mde-fleet?${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
		worrying  = 0.05
		dangerous = 0.10
	)
	perBuild := `sum by (os_build, architecture) (mde_machines_requiring_attention{$where})`
	perTenant := `sum by (tenant) (mde_machines_requiring_attention{$where})`
	propertyShare := `sum by (property) (mde_machines_attention{$where}) / on () group_left () sum(mde_machines{$where})`

	return dashboard{
		uid: "mde-fleet", title: "Defender for Endpoint / Fleet", from: "now-24h",
		description: "How many machines require attention, whether that is getting worse, and where.",
		rows: []row{
			{title: "Is the fleet protected?", panels: []*panel{
				stat("Require attention",
					"Share of the machines with at least one property that requires attention. A machine counts once. Orange from 5 %, red from 10 %.",
					share).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("no data"),
				stat("Since yesterday",
					"Change of that share since the same time yesterday, in percentage points, for the tenants that were there yesterday. Above zero is worse.",
					growing).unit("percentunit").decimals(1).now().thresholds(calm, step{0.005, warn}, step{0.05, alarm}).none("no history yet"),
				namedStat("Most frequent problem",
					"The property that most machines have, and its share of the fleet.",
					`topk(1, `+propertyShare+`)`, "{{property}}").now().unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("none"),
				stat("Machines",
					"Machines with a security state. A steep fall means that machines are lost to monitoring, or that a tenant's values were withdrawn as too old.",
					`sum(mde_machines{$where})`).unit("locale").colourValue().none("no data"),
				stat("Tenants without numbers",
					"Tenants that are configured and have no current count: never read, or withdrawn because they were older than max_age. Not part of the other figures.",
					`count(group by (job, tenant) (mde_refresh_interval_seconds{$where, collector="security_states"}) unless on (job, tenant) mde_machines{$where}) or vector(0)`).now().thresholds(calm, step{1, alarm}),
				stat("Oldest count",
					"Age of the oldest tenant's last complete count. By default the fleet is counted every 15 minutes and values are withdrawn after 45.",
					`max(time() - mde_refresh_last_success_timestamp_seconds{$where, collector="security_states"})`).unit("s").now().thresholds(calm, step{1800, warn}, step{2700, alarm}).none("never"),
			}},
			{title: "What is wrong?", panels: []*panel{
				lines("Which properties, as share of the fleet",
					"Machines with each property divided by all machines: the ten largest. A machine with two properties is in both lines.").
					query(top("property", propertyShare), "{{property}}").unit("percentunit").stepped().size(14, 11),
				table("What got worse since yesterday",
					"Machines with each property now, and how many more than at the same time yesterday; a minus is an improvement. Without a day of history the last column is empty.", 15,
					column{title: "Property", label: "property"},
					column{title: "Machines", query: `sum by (property) (mde_machines_attention{$where})`, unit: "locale", width: 95},
					column{title: "Share", query: propertyShare, unit: "percentunit", width: 80, digits: new(1)},
					column{title: "Since yesterday", query: propertyGrowing, sorted: true, unit: "locale", width: 130, steps: []step{{1, warn}, {50, alarm}}},
				).size(10, 11),
			}},
			{title: "Where?", panels: []*panel{
				table("Builds and architectures with the most machines that require attention",
					"OS builds by the number of machines that require attention. The bar is their share of the build's own machines; the last column compares with the same time yesterday.", 25,
					column{title: "OS build", label: "os_build", width: 90},
					column{title: "Architecture", label: "architecture", width: 105},
					column{title: "Machines", query: `sum by (os_build, architecture) (mde_machines{$where})`, unit: "locale", width: 90},
					column{title: "Require attention", query: perBuild, sorted: true, unit: "locale", width: 130},
					column{title: "Share", query: perBuild + ` / sum by (os_build, architecture) (mde_machines{$where})`, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {0.2, alarm}}},
					column{title: "Since yesterday", query: perBuild + ` - sum by (os_build, architecture) (mde_machines_requiring_attention{$where} offset 1d)`, unit: "locale", width: 125, steps: []step{{1, warn}, {20, alarm}}},
				).size(12, 10),
				table("Which problem on which build",
					"Share of each build's machines that have the property: the seven largest builds, the twelve most frequent properties. A red cell is an outage on one build, a red line one everywhere.", 12,
				).matrix("os_build", "property",
					`sum by (os_build, property) (mde_machines_attention{$where})
  / on (os_build) group_left () sum by (os_build) (mde_machines{$where})
  and on (property) topk(12, sum by (property) (mde_machines_attention{$where}))
  and on (os_build) topk(7, sum by (os_build) (mde_machines{$where}))`,
					"Property", step{0.02, notice}, step{worrying, warn}, step{0.2, alarm}).unit("percentunit").decimals(1).size(12, 10),
				table("Tenants",
					"Tenants by the share of machines that require attention. A click shows the tenant alone.", 50,
					column{title: "Tenant", label: "tenant", link: open + "&var-tenant=${__value.raw}"},
					column{title: "Machines", query: `sum by (tenant) (mde_machines{$where})`, unit: "locale", width: 110},
					column{title: "Require attention", query: perTenant, unit: "locale", width: 150},
					column{title: "Share", query: perTenant + ` / sum by (tenant) (mde_machines{$where})`, sorted: true, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}},
					column{title: "Since yesterday", query: perTenant + ` - sum by (tenant) (mde_machines_requiring_attention{$where} offset 1d)`, unit: "locale", width: 140, steps: []step{{1, warn}, {50, alarm}}},
					column{title: "Counted", query: `max by (tenant) (time() - mde_refresh_last_success_timestamp_seconds{$where, collector="security_states"})`, unit: "s", width: 110, steps: []step{{1800, warn}, {2700, alarm}}},
				).size(24, 6),
			}},
			{title: "How did it come about?", panels: []*panel{
				lines("Machines that require attention, by OS build",
					"The ten builds with the most machines that require attention.").
					query(top("os_build", `sum by (os_build) (mde_machines_requiring_attention{$where})`), "{{os_build}}").unit("locale").stepped().beside(),
				lines("Machines by OS build",
					"The ten largest builds: a feature update moving through the fleet shows as one growing while another shrinks.").
					query(top("os_build", `sum by (os_build) (mde_machines{$where})`), "{{os_build}}").unit("locale").stepped().stacked().beside(),
			}},
			{title: "Risk, exposure, sensor health, platforms (where the states come from the machines API)", folded: true, panels: []*panel{
				ranking("Risk", "Machines by Defender's risk score. Only where the security states come from the machines API.", "mde_machines_risk", "risk_score").
					paint([2]string{"High", alarm}, [2]string{"Medium", warn}, [2]string{"Low", notice}, [2]string{"Informational", "blue"}, [2]string{"None", calm}),
				ranking("Exposure", "Machines by Defender's exposure level. Only where the security states come from the machines API.", "mde_machines_exposure", "exposure_level").
					paint([2]string{"High", alarm}, [2]string{"Medium", warn}, [2]string{"Low", notice}, [2]string{"None", calm}),
				ranking("Sensor health", "Machines by the health of their sensor. Only where the security states come from the machines API.", "mde_machines_health", "health_status").
					paint([2]string{"Active", calm}),
				ranking("Platform", "Machines by platform, the largest twelve. Only where the security states come from the machines API.", "mde_machines_os_platform", "os_platform"),
			}},
		},
	}
}

// ranking is a small bar for each value of a label, the largest first.
func ranking(title, about, metric, label string) *panel {
	return bars(title, about, `sort_desc(topk(12, sum by (`+label+`) (`+metric+`{$where})))`, "{{"+label+"}}").
		unit("locale").none("not from this source").size(6, 8)
}
