package main

import (
	_ "embed"
	"fmt"
)

// hunting is the query of docs/hunting.md, limited to what is chosen at the top
// of the dashboard.
//
//go:embed hunting.kql
var hunting string

// coverage answers: are the machines covered, who owns those that are not
// protected, how stale is what Defender knows, and is the antivirus at work.
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
		noMachines = "unknown: only where the states come from the machines API"
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
	// Machines of a device group that are unprotected, as the alert rules define it:
	// at least those with the most frequent such property.
	unprotectedInGroup := `sum by (device_group) (max by (job, tenant, device_group) (mde_device_group_machines_attention{` + group + `} and on (property) property:mde_unprotected))
or 0 * ` + inGroup + ` and on () property:mde_unprotected`

	return dashboard{
		uid: "mde-coverage", title: "Defender for Endpoint / Coverage and owners", from: "now-24h",
		description: "Which machines are covered, who owns those that are not protected, and how stale the numbers are. Most of it is known only where the states come from the machines API.",
		variables: []variable{
			{name: "device_group", title: "Device group", series: `mde_device_group_machines{$where}`, label: "device_group"},
			{name: "property", title: "Property", series: `mde_machines_attention{$where}`, label: "property"},
			{name: "tag", title: "Tag", series: `mde_tag_machines{$where}`, label: "tag"},
		},
		rows: []row{
			{title: "Are we covered?", panels: []*panel{
				stat("Coverage",
					"Of the machines that can be onboarded, the share that is. Machines that Defender does not support, or knows too little about, do not count. Orange below 95 %, red below 90 %.",
					share(onboarded, coverable)).unit("percentunit").decimals(1).thresholds(alarm, step{0.90, warn}, step{0.95, calm}).none("unknown"),
				stat("Could be onboarded",
					"Machines that discovery found and that have no sensor.",
					`sum(`+pending+`)`).unit("locale").thresholds(calm, step{1, warn}).none("unknown"),
				stat("Not seen for 7 days",
					"Share of the machines whose last full report is older than 7 days.",
					notSeen("7d")).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
				stat("Old signatures",
					"Share of the machines with a known antivirus whose signatures were published more than 7 days ago.",
					oldSignatures("7d")).unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
				stat("Antivirus disabled",
					"Machines whose Microsoft Defender Antivirus is disabled. Passive is no fault beside another antivirus.",
					`sum(mde_machines_antivirus_mode{$where, mode="disabled"})`).unit("locale").thresholds(calm, step{1, warn}).none("unknown"),
				namedStat("Worst device group",
					"The device group with the largest share of machines that require attention, of groups with at least 20 machines.",
					`topk(1, `+needy+` / (`+inGroup+` >= 20))`, "{{device_group}}").now().unit("percentunit").decimals(1).thresholds(calm, step{worrying, warn}, step{dangerous, alarm}).none("unknown"),
			}},
			firingAlerts(),
			{title: "What does the service list?", panels: []*panel{
				bars("Records",
					"What became of each record of the machines API. Their sum is what the service lists; the device count of the portal leaves merged records out.").
					query(`sum by (disposition) (mde_machine_records{$where})`, "{{disposition}}").unit("locale").none(noMachines).size(8, 6),
				bars("Onboarding status",
					"Machines by onboarding status, without merged records.").
					query(`sort_desc(sum by (onboarding_status) (mde_machines_onboarding{$where}))`, "{{onboarding_status}}").paint([2]string{"Onboarded", calm}, [2]string{"CanBeOnboarded", warn}).unit("locale").none(noMachines).size(8, 6),
				table("Coverage by platform",
					"Machines that are onboarded or could be, by platform: most gaps first.", 50,
					column{title: "Platform", label: "os_platform"},
					column{title: "Onboarded", query: `sum by (os_platform) (` + onboarded + `)`, unit: "locale", width: 95},
					column{title: "Could be", query: `sum by (os_platform) (` + pending + `)`, sorted: true, unit: "locale", width: 85, steps: []step{{1, warn}}},
					column{title: "Coverage", query: `sum by (os_platform) (` + onboarded + `) / (sum by (os_platform) (` + coverable + `) > 0)`, unit: "percentunit", width: 90, digits: new(1)},
				).none(noMachines).size(8, 6),
			}},
			{title: "Who owns the unprotected machines?", panels: []*panel{
				table("Device groups",
					"Device groups, most machines that require attention first. Unprotected: machines with the most frequent property that means not protected or not seen, as the alert rules define it. none is the machines in no group. A click selects the group for the query below.", 200,
					column{title: "Device group", label: "device_group", link: groupLink, width: 125},
					column{title: "Machines", query: inGroup, unit: "locale", width: 90},
					column{title: "Require attention", query: needy, sorted: true, unit: "locale", width: 130},
					column{title: "Share", query: needy + ` / (` + inGroup + ` > 0)`, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}},
					column{title: "Unprotected", query: unprotectedInGroup, unit: "locale", width: 105, steps: []step{{1, warn}}, none: "unknown"},
					column{title: "Since yesterday", query: sinceYesterday("device_group", `mde_device_group_machines_requiring_attention{`+group+`}`), unit: "locale", width: 125, steps: []step{{1, warn}, {20, alarm}}},
					column{title: "Exposure", query: `max by (device_group) (mde_device_group_exposure_score{` + group + `})`, unit: "none", width: 85, digits: new(1), none: "unknown"},
				).none(noMachines).size(14, 9),
				table("Which problem in which group",
					"Share of each device group's machines that have the property: the five largest groups. A red column is an owner with a problem, a red line a problem of all.", 12,
				).matrix("device_group",
					`sum by (device_group, property) (mde_device_group_machines_attention{`+group+`, property=~"$property"})
  / on (device_group) group_left () (`+inGroup+` > 0)
  and on (device_group) topk(5, `+inGroup+`)`,
					step{0.02, notice}, step{worrying, warn}, step{dangerous, alarm}).unit("percentunit").decimals(1).none(noMachines).size(10, 9),
				table("Tags",
					"Machines that carry a tag of the option tags.", 100,
					column{title: "Tag", label: "tag"},
					column{title: "Machines", query: `sum by (tag) (mde_tag_machines{$where, tag=~"$tag"})`, unit: "locale", width: 90},
					column{title: "Require attention", query: `sum by (tag) (mde_tag_machines_requiring_attention{$where, tag=~"$tag"})`, sorted: true, unit: "locale", width: 130},
					column{title: "Share", query: `sum by (tag) (mde_tag_machines_requiring_attention{$where, tag=~"$tag"}) / (sum by (tag) (mde_tag_machines{$where, tag=~"$tag"}) > 0)`, unit: "percentunit", bar: 0.5, digits: new(1), steps: []step{{worrying, warn}, {dangerous, alarm}}},
				).none("No tag is counted: see security_states.tags").size(12, 7),
				table("Whose machines contacted watched domains?",
					"Machines that contacted a watched domain, by device group: most machines first. Needs the option device_groups of watched_domains.", 200,
					column{title: "Device group", label: "device_group"},
					column{title: "Domain", label: "domain", link: "/d/mde-watched-domains?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}&var-domain=${__value.raw}"},
					column{title: "Machines", query: `sum by (device_group, domain) (mde_watched_domain_device_group_machines{` + group + `})`, sorted: true, unit: "locale", width: 90},
				).none("No contact is known, or watched_domains.device_groups is off").size(12, 7),
				lines("Machines that require attention, by device group",
					"Share of each device group's machines: the ten with the largest.").
					query(top("device_group", needy+` / (`+inGroup+` > 0)`), "{{device_group}}").unit("percentunit").stepped().beside().none("No numbers in this time range").size(24, 8),
			}},
			{title: "Which machines are these?", panels: []*panel{
				text("From a number to the machines",
					"The query for advanced hunting that lists the machines behind the chosen properties, device groups and tags.",
					"Choose property, device group and tag above, copy the query into [advanced hunting](https://security.microsoft.com/v2/advanced-hunting) of the tenant and run it. "+
						"[More queries, portal filters and API calls](https://github.com/mde-exporter/mde_exporter/blob/main/docs/hunting.md) for each property and group.\n\n```kusto\n"+hunting+"```\n").size(24, 17),
			}},
			{title: "How stale is what we see?", panels: []*panel{
				bands("Last seen", "Machines by the time since their last full report. A machine sends one about every 24 hours.", "mde_machines_seen_within", `sum(mde_machines{$where} and on (job, tenant) mde_machines_seen_within)`, "1d", "7d", "14d", "30d", "90d").none(noMachines),
				bands("Signatures published", "Machines with a known antivirus by the age of its signatures.", "mde_machines_antivirus_signatures_within", `sum(`+antivirus+`)`, "1d", "3d", "7d", "14d", "30d").none(noMachines),
				lines("Stale machines",
					"Share of the machines that were not seen for 7 days, and of those with a known antivirus whose signatures are older than 3 and 7 days.").
					query(notSeen("7d"), "not seen for 7 days").query(oldSignatures("3d"), "signatures older than 3 days").query(oldSignatures("7d"), "signatures older than 7 days").unit("percentunit").stepped().none("No numbers in this time range").size(8, 8),
			}},
			{title: "Is the antivirus at work?", panels: []*panel{
				ranking("Antivirus mode", "Machines by the mode of Microsoft Defender Antivirus; unknown has no row in the antivirus report.", "mde_machines_antivirus_mode", "mode").
					paint([2]string{"active", calm}, [2]string{"disabled", alarm}).none(noMachines).size(8, 8),
				bands("Last quick scan", "Machines with a known antivirus by the time since the last quick scan that was completed.", `mde_machines_antivirus_scanned_within{scan="quick"}`, `sum(`+antivirus+`)`, "1d", "7d", "30d").none(noMachines),
				table("Versions",
					"Machines by version of the sensor, the antivirus engine and its platform: most machines first.", 100,
					column{title: "Component", label: "component", width: 150},
					column{title: "Version", label: "version"},
					column{title: "Machines", query: `sum by (component, version) (mde_machines_component_version{$where})`, sorted: true, unit: "locale", width: 90},
				).none(noMachines).size(8, 8),
			}},
		},
	}
}
