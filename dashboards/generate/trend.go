package main

// trend returns the dashboard about changes over weeks, and about Defender's own
// alerts.
func trend() dashboard {
	const (
		onboarded = `mde_machines_onboarding{$where, onboarding_status="Onboarded"}`
		coverable = `mde_machines_onboarding{$where, onboarding_status=~"Onboarded|CanBeOnboarded"}`
		waiting   = `mde_unresolved_alerts_unassigned{$where, severity="High"}`
		waitingAt = `mde_unresolved_alerts_unassigned_oldest_timestamp_seconds{$where, severity="High"}`
		noScores  = "unknown: scores are off, or not read yet"
		noAlerts  = "unknown: alerts are off, or not read yet"
		noStates  = "No values in this time range"
	)
	return dashboard{
		uid: "mde-trend", title: "Defender for Endpoint / Trend", from: "now-30d",
		description: "Whether protection, risk, exposure and scores improve over 30 days, and whether Defender's alerts get an owner.",
		rows: []row{
			{title: "Is it getting better? (change within the time range)", panels: []*panel{
				stat("Require attention",
					"Share of the machines with at least one property that requires attention. Inactive machines do not count if the states come from the machines API.",
					`sum`+attentive+` / (sum`+active+` > 0)`).unit("percentunit").decimals(1).thresholds(calm, step{0.05, warn}, step{0.10, alarm}).change(lowerIsBetter).none("no data"),
				stat("Coverage",
					"Share of onboarded machines among those that can be onboarded.",
					`sum(`+onboarded+`) / (sum(`+coverable+`) > 0)`).unit("percentunit").decimals(1).thresholds(alarm, step{0.90, warn}, step{0.95, calm}).change(higherIsBetter).none("unknown"),
				stat("High risk",
					"Share of the machines with the risk score High.",
					`(sum(mde_machines_risk{$where, risk_score="High"}) or 0 * sum(mde_machines_risk{$where})) / (sum(mde_machines_risk{$where}) > 0)`).unit("percentunit").decimals(1).thresholds(calm, step{0.01, warn}, step{0.05, alarm}).change(lowerIsBetter).none("unknown"),
				stat("Exposure score",
					"The highest exposure score of the tenants: 0 is good, 100 is bad.",
					`max(mde_exposure_score{$where})`).unit("none").decimals(1).thresholds(calm, step{30, warn}, step{70, alarm}).change(lowerIsBetter).none("unknown"),
				stat("Secure score",
					"The lowest Microsoft Secure Score for Devices of the tenants, in points. Higher is better; the API has no maximum.",
					`min(mde_device_secure_score{$where})`).decimals(0).colourValue().change(higherIsBetter).none("unknown"),
				stat("High, without owner",
					"Unresolved Defender alerts of high severity without an owner.",
					`sum(`+waiting+`)`).decimals(0).thresholds(calm, step{1, warn}).change(lowerIsBetter).none("unknown"),
			}},
			firingAlerts(),
			{title: "Machines", panels: []*panel{
				lines("Machines that require attention, by tenant",
					"Share of each tenant's machines, for the ten tenants with the largest share.").
					query(top("tenant", `sum by (tenant) `+attentive+` / (sum by (tenant) `+active+` > 0)`), "{{tenant}}").unit("percentunit").none(noStates).size(8, 9),
				lines("Machines that require attention, by property",
					"Share of the machines with each property, for the ten most frequent.").
					query(top("property", `sum by (property) (mde_machines_attention{$where}) / on () group_left () (sum(mde_machines{$where}) > 0)`), "{{property}}").unit("percentunit").none(noStates).size(8, 9),
				lines("Machines without a sensor, by tenant",
					"Share of the machines that can be onboarded and are not, for the ten tenants with the largest share.").
					query(top("tenant", `1 - sum by (tenant) (`+onboarded+`) / (sum by (tenant) (`+coverable+`) > 0)`), "{{tenant}}").unit("percentunit").none("unknown: needs the machines API as source").size(8, 9),
				lines("Risk", "Machines by Defender's risk score, except those without risk.").
					levels(`sum(mde_machines_risk{$where, %s})`, "risk_score", atRisk).stacked().inOrder().none(noStates).size(8, 9),
				lines("Exposure", "Machines by exposure level.").
					levels(`sum(mde_machines_exposure{$where, %s})`, "exposure_level", exposureLevels).stacked().inOrder().none(noStates).size(8, 9),
				lines("Sensor health", "Machines whose sensor is not active, by health.").
					query(`sum by (health_status) (mde_machines_health{$where, health_status!="Active"})`, "{{health_status}}").stacked().none(noStates).size(8, 9),
			}},
			{title: "Scores (needs scores.enabled)", panels: []*panel{
				lines("Exposure score, by tenant", "The ten tenants with the highest exposure score: 0 is good, 100 is bad.").
					query(top("tenant", `max by (tenant) (mde_exposure_score{$where})`), "{{tenant}}").unit("none").decimals(1).none(noScores).size(8, 9),
				lines("Exposure score, by device group", "The ten device groups with the highest exposure score.").
					query(top("device_group", `max by (device_group) (mde_device_group_exposure_score{$where})`), "{{device_group}}").unit("none").decimals(1).none(noScores).size(8, 9),
				lines("Secure score for devices, by tenant", "In points; higher is better. Do not compare tenants: their maximum differs.").
					query(`max by (tenant) (mde_device_secure_score{$where})`, "{{tenant}}").decimals(0).none(noScores).size(8, 9),
			}},
			{title: "Do Defender's alerts get an owner? (needs alerts.enabled)", panels: []*panel{
				stat("Oldest high alert without an owner",
					"How long ago it was created. The alert MDEAlertUnassigned fires after four hours.",
					`max(time() - `+waitingAt+`)`).unit("s").now().thresholds(calm, step{3600, warn}, step{4 * 3600, alarm}).none("none known").size(8, 4),
				stat("Unresolved alerts", "Defender alerts that are not resolved.",
					`sum(mde_unresolved_alerts{$where})`).decimals(0).colourValue().none("unknown").size(8, 4),
				stat("Alerts without an owner", "Unresolved Defender alerts without an owner, of any severity.",
					`sum(mde_unresolved_alerts_unassigned{$where})`).decimals(0).thresholds(calm, step{1, warn}).none("unknown").size(8, 4),
				lines("Unresolved alerts, by severity", "Defender alerts that are not resolved.").
					levels(`sum(mde_unresolved_alerts{$where, %s})`, "severity", severities).decimals(0).stacked().inOrder().none(noAlerts).size(8, 8),
				bars("By detection source", "What detected the unresolved alerts.").
					query(`sort_desc(topk(12, sum by (detection_source) (mde_unresolved_alerts_detection_source{$where})))`, "{{detection_source}}").none(noAlerts).size(8, 8),
				table("Tenants with alerts",
					"Unresolved Defender alerts by tenant. Tenants with the most alerts of high severity without an owner come first.", 500,
					column{title: "Tenant", label: "tenant", link: "/d/mde-trend?${datasource:queryparam}&${job:queryparam}&${__url_time_range}&var-tenant=${__value.raw}"},
					column{title: "High, no owner", query: `sum by (tenant) (` + waiting + `)`, sorted: true, width: 110, steps: []step{{1, alarm}}},
					column{title: "High", query: `sum by (tenant) (mde_unresolved_alerts{$where, severity="High"})`, width: 50, steps: []step{{1, warn}}},
					column{title: "All", query: `sum by (tenant) (mde_unresolved_alerts{$where})`, width: 50},
					column{title: "Waits since", query: `1000 * min by (tenant) (` + waitingAt + `)`, unit: "dateTimeFromNow", width: 115},
				).none(noAlerts).size(8, 8),
			}},
		},
	}
}
