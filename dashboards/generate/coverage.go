package main

import (
	_ "embed"
	"fmt"
)

// hunting is the query of docs/hunting.md, limited to the values selected at the
// top of the dashboard.
//
//go:embed hunting.kql
var hunting string

// coverage returns the dashboard about coverage, owners, stale machines and the
// antivirus.
func coverage() dashboard {
	const (
		onboarded  = `mde_machines_onboarding{$where, onboarding_status="Onboarded"}`
		pending    = `mde_machines_onboarding{$where, onboarding_status="CanBeOnboarded"}`
		coverable  = `mde_machines_onboarding{$where, onboarding_status=~"Onboarded|CanBeOnboarded"}`
		group      = `$where, device_group=~"$device_group"`
		inGroup    = `sum by (device_group) (mde_device_group_machines{` + group + `})`
		needy      = `sum by (device_group) (mde_device_group_machines_requiring_attention{` + group + `})`
		groupLink  = "/d/mde-coverage?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}&var-device_group=${__value.raw}"
		seen       = `mde_machines_seen_within{$where, window="%s"}`
		signatures = `mde_machines_antivirus_signatures_within{$where, window="%s"}`
		antivirus  = `mde_machines_antivirus_mode{$where, mode!="unknown"}`
		noMachines = "unknown: needs the machines API as source"
		worrying   = 0.05
		dangerous  = 0.20
	)
	share := func(of, all string) string { return `sum(` + of + `) / (sum(` + all + `) > 0)` }
	notSeen := func(window string) string {
		return `1 - sum(` + fmt.Sprintf(seen, window) + `) / (sum(mde_machines{$where} and on (job, tenant) mde_machines_seen_within) > 0)`
	}
	oldSignatures := func(window string) string {
		return `1 - sum(` + fmt.Sprintf(signatures, window) + `) / (sum(` + antivirus + `) > 0)`
	}
	// A lower bound of the unprotected machines of a device group: those with the most
	// frequent property that the alert rules count as unprotected.
	unprotectedInGroup := `sum by (device_group) (max by (job, tenant, device_group) (mde_device_group_machines_attention{` + group + `} and on (property) property:mde_unprotected))
or 0 * ` + inGroup + ` and on () property:mde_unprotected`

	return dashboard{
		uid: "mde-coverage", title: "Defender for Endpoint / Coverage and owners", from: "now-24h",
		description: "Which machines are covered, who owns the unprotected ones, and how stale the values are. Most panels need the machines API as source of the states.",
		variables: []variable{
			{name: "device_group", title: "Device group", series: `mde_device_group_machines{$where}`, label: "device_group"},
			{name: "property", title: "Property", series: `mde_machines_attention{$where}`, label: "property"},
			{name: "tag", title: "Tag", series: `mde_tag_machines{$where}`, label: "tag"},
		},
		rows: []row{
			{title: "Are we covered?", panels: []*panel{
				stat("Coverage",
					"Share of onboarded machines among those that can be onboarded. Machines that Defender does not support, or knows too little about, do not count. Orange below 95%, red below 90%.",
					share(onboarded, coverable)).unit("percentunit").decimals(1).thresholds(alarm, step{0.90, warn}, step{0.95, calm}).none("unknown"),
				stat("Could be onboarded",
					"Machines without a sensor that discovery found.",
					`sum(`+pending+`)`).thresholds(calm, step{1, warn}).none("unknown"),
				stat("Not seen for 7 days",
					"Share of the machines whose last full report is older than 7 days.",
					notSeen("7d")).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
				stat("Old signatures",
					"Share of the machines with a known antivirus whose signatures were published more than 7 days ago.",
					oldSignatures("7d")).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
				stat("Antivirus disabled",
					"Machines whose Microsoft Defender Antivirus is disabled. Passive mode does not count: it is normal beside another antivirus.",
					`sum(mde_machines_antivirus_mode{$where, mode="disabled"})`).thresholds(calm, step{1, warn}).none("unknown"),
				namedStat("Worst device group",
					"The device group with the largest share of machines that require attention, among groups with at least 20 machines.",
					`topk(1, `+needy+` / (`+inGroup+` >= 20))`, "{{device_group}}").now().unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
			}},
			firingAlerts(),
			{title: "What does the service list?", panels: []*panel{
				bars("Records",
					"Records of the machines API by disposition. Their sum is the number of records that the service lists. The device count of the portal excludes merged records.").
					query(`sum by (disposition) (mde_machine_records{$where})`, "{{disposition}}").none(noMachines).size(8, 6),
				bars("Onboarding status",
					"Machines by onboarding status, without merged records.").
					query(`sort_desc(sum by (onboarding_status) (mde_machines_onboarding{$where}))`, "{{onboarding_status}}").paint([2]string{"Onboarded", calm}, [2]string{"CanBeOnboarded", warn}).none(noMachines).size(8, 6),
				table("Coverage by platform",
					"Onboarded machines and machines that could be onboarded, by platform. Platforms with the most machines to onboard come first.", 50,
					column{title: "Platform", label: "os_platform"},
					column{title: "Onboarded", query: `sum by (os_platform) (` + onboarded + `)`, width: 95},
					column{title: "Could be", query: `sum by (os_platform) (` + pending + `)`, sorted: true, width: 85, steps: []step{{1, warn}}},
					column{title: "Coverage", query: `sum by (os_platform) (` + onboarded + `) / (sum by (os_platform) (` + coverable + `) > 0)`, unit: "percentunit", width: 90, digits: new(1)},
				).none(noMachines).size(8, 6),
			}},
			{title: "Who owns the unprotected machines?", panels: []*panel{
				table("Device groups",
					"Device groups, those with the most machines that require attention first. Unprotected is a lower bound: machines with the most frequent property that the alert rules count as unprotected. none: machines without a group. Click a group to select it for the query below.", 200,
					column{title: "Device group", label: "device_group", link: groupLink, width: 125},
					column{title: "Machines", query: inGroup, width: 90},
					column{title: "Require attention", query: needy, sorted: true, width: 130},
					column{title: "Share", query: needy + ` / (` + inGroup + ` > 0)`, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}},
					column{title: "Unprotected", query: unprotectedInGroup, width: 105, steps: []step{{1, warn}}, none: "unknown"},
					column{title: "Since yesterday", query: sinceYesterday("device_group", `mde_device_group_machines_requiring_attention{`+group+`}`), width: 125, steps: []step{{1, warn}, {20, alarm}}},
					column{title: "Exposure", query: `max by (device_group) (mde_device_group_exposure_score{` + group + `})`, unit: "none", width: 85, digits: new(1), none: "unknown"},
				).none(noMachines).size(14, 9),
				table("Tags",
					"Machines with each tag of security_states.tags.", 100,
					column{title: "Tag", label: "tag"},
					column{title: "Machines", query: `sum by (tag) (mde_tag_machines{$where, tag=~"$tag"})`, width: 90},
					column{title: "Require attention", query: `sum by (tag) (mde_tag_machines_requiring_attention{$where, tag=~"$tag"})`, sorted: true, width: 130},
					column{title: "Share", query: `sum by (tag) (mde_tag_machines_requiring_attention{$where, tag=~"$tag"}) / (sum by (tag) (mde_tag_machines{$where, tag=~"$tag"}) > 0)`, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}},
				).none("No tags configured: set security_states.tags").size(10, 9),
				table("Which problem in which group",
					"Share of each device group's machines with the property, for the five largest groups. A red column: one owner has a problem. A red row: all owners have it.", 12,
				).matrix("device_group",
					`sum by (device_group, property) (mde_device_group_machines_attention{`+group+`, property=~"$property"})
  / on (device_group) group_left () (`+inGroup+` > 0)
  and on (device_group) topk(5, `+inGroup+`)`,
					step{0.02, notice}, step{worrying, warn}, step{dangerous, alarm}).unit("percentunit").decimals(1).none(noMachines).size(14, 10),
				table("Whose machines contacted watched domains?",
					"Machines that contacted a watched domain, by device group, most machines first. Needs watched_domains.device_groups.", 200,
					column{title: "Device group", label: "device_group"},
					column{title: "Domain", label: "domain", link: "/d/mde-watched-domains?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}&var-domain=${__value.raw}"},
					column{title: "Machines", query: `sum by (device_group, domain) (mde_watched_domain_device_group_machines{` + group + `})`, sorted: true, width: 90},
				).none("No known contact, or watched_domains.device_groups is off").size(10, 10),
				lines("Machines that require attention, by device group",
					"Share of each device group's machines, for the ten groups with the largest share.").
					query(top("device_group", needy+` / (`+inGroup+` > 0)`), "{{device_group}}").unit("percentunit").stepped().beside().none("No values in this time range").size(24, 8),
			}},
			{title: "Which machines are these?", panels: []*panel{
				text("From a number to the machines",
					"An advanced hunting query that lists the machines with the selected properties, device groups and tags.",
					"Select property, device group and tag above. Copy the query into [advanced hunting](https://security.microsoft.com/v2/advanced-hunting) of the tenant and run it. "+
						"[More queries, portal filters and API calls](https://github.com/mde-exporter/mde_exporter/blob/main/docs/hunting.md) for each property and group.\n\n```kusto\n"+hunting+"```\n").size(24, 17),
			}},
			{title: "How stale is what we see?", panels: []*panel{
				bands("Last seen", "Machines by the time since their last full report. A machine sends one about every 24 hours.", "mde_machines_seen_within", `sum(mde_machines{$where} and on (job, tenant) mde_machines_seen_within)`, "1d", "7d", "14d", "30d", "90d").none(noMachines),
				bands("Signatures published", "Machines with a known antivirus by the age of its signatures.", "mde_machines_antivirus_signatures_within", `sum(`+antivirus+`)`, "1d", "3d", "7d", "14d", "30d").none(noMachines),
				lines("Stale machines",
					"Share of the machines that were not seen for 7 days. Share of the machines with a known antivirus whose signatures are older than 3 and 7 days.").
					query(notSeen("7d"), "not seen for 7 days").query(oldSignatures("3d"), "signatures older than 3 days").query(oldSignatures("7d"), "signatures older than 7 days").unit("percentunit").stepped().none("No values in this time range").size(8, 8),
			}},
			{title: "Is the antivirus working?", panels: []*panel{
				ranking("Antivirus mode", "Machines by the mode of Microsoft Defender Antivirus. unknown: no row in the antivirus report.", "mde_machines_antivirus_mode", "mode").
					paint([2]string{"active", calm}, [2]string{"disabled", alarm}).none(noMachines).size(8, 8),
				bands("Last quick scan", "Machines with a known antivirus by the time since the last completed quick scan.", `mde_machines_antivirus_scanned_within{scan="quick"}`, `sum(`+antivirus+`)`, "1d", "7d", "30d").none(noMachines),
				table("Versions",
					"Machines by version of the sensor, the antivirus engine and the antivirus platform, most machines first.", 100,
					column{title: "Component", label: "component", width: 150},
					column{title: "Version", label: "version"},
					column{title: "Machines", query: `sum by (component, version) (mde_machines_component_version{$where})`, sorted: true, width: 90},
				).none(noMachines).size(8, 8),
			}},
		},
	}
}
