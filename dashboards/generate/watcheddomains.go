package main

// watchedDomains returns the dashboard about contacts with watched domains.
func watchedDomains() dashboard {
	const (
		chosen    = `{$where, domain=~"$domain"}`
		counted   = `mde_watched_domain_machines` + chosen
		contacted = counted + ` > 0`

		refreshes = `$where, collector="watched_domains"`
		keys      = "tenant, domain"
		open      = "/d/mde-watched-domains?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}"
	)
	// ofContacted limits a column to contacted domains: a watch list has thousands of
	// domains, and nearly all of them were never contacted.
	ofContacted := func(expr string) string {
		return expr + "\n  and on (" + keys + ") max by (" + keys + ") (" + contacted + ")"
	}
	// Domains without a current count, by tenant: never read, or withdrawn. Invalid
	// names have none.
	uncounted := `(mde_watched_domains{$where} - on (job, instance, tenant) (
  count by (job, instance, tenant) (mde_watched_domain_machines{$where} or mde_watched_domain_invalid{$where})
  or on (job, instance, tenant) 0 * mde_watched_domains{$where}
))`
	// 0 if nothing is found and every domain has a count, no value if a domain has
	// none.
	orNone := `
or 0 * count(` + counted + `) unless on () sum(` + uncounted + `) > 0`
	machines := `max by (` + keys + `) (mde_watched_domain_machines` + chosen + `)`

	failedUncounted := `(sum(` + uncounted + ` and on (job, instance, tenant) mde_refresh_success{` + refreshes + `} == 0) > 0)`
	// The result of the last refresh of a tenant's domains: 0 failed, 1 succeeded, 2 the
	// first round through the list still runs, 3 no domain is watched.
	result := `3 + max by (tenant) (mde_watched_domains{$where} == 0)
or min by (tenant) (mde_refresh_success{` + refreshes + `})
or 2 * group by (tenant) (mde_refresh_interval_seconds{` + refreshes + `})`

	return dashboard{
		uid: "mde-watched-domains", title: "Defender for Endpoint / Watched domains", from: "now-24h",
		description: "Which watched domains were contacted, by how many machines, how many of them are unprotected, and since when.",
		variables:   []variable{{name: "domain", title: "Domain", series: `mde_watched_domain_last_success_timestamp_seconds{$where}`, label: "domain"}},
		rows: []row{
			{title: "Was a watched domain contacted?", panels: []*panel{
				stat("Contacted domains",
					"Domains that at least one machine contacted. A domain that two tenants watch counts twice. none known: some domains have no count.",
					`count(`+contacted+`)`+orNone).thresholds(calm, step{1, warn}).none("none known"),
				stat("New within a day",
					"Contacted domains whose count was 0 at some time within the last 24 hours.",
					`count((`+contacted+`) and on (job, tenant, domain) min_over_time(`+counted+`[1d]) == 0)`+orNone).now().thresholds(calm, step{1, alarm}).none("none known"),
				stat("By unprotected machines",
					"Domains contacted by unprotected machines, as the alert rules define them: their sensor or antivirus may not report what happened. none known: some domains have no count, a tenant with contacted domains has no security states, or Prometheus has not loaded the alert rules.",
					`count(`+unprotected+` > 0)
or (0 * count(`+counted+`) unless on () sum(`+uncounted+`) > 0) unless on () (`+contacted+` unless on (job, tenant, domain) `+unprotected+`)`).thresholds(calm, step{1, alarm}).none("none known"),
				stat("Largest count",
					"The largest count of one domain. The API lists at most 500 machines, so 500 means 500 or more.",
					`max(`+contacted+`)`+orNone).thresholds(calm, step{1, warn}).none("none known"),
				namedStat("Without a count",
					"Domains of the selected tenants without a current count: not yet read, failing, or withdrawn. Invalid names are not included. filling: a long list is being read for the first time, and no refresh failed.",
					`sum(`+uncounted+`) and on () `+failedUncounted, "failed").query(
					`sum(`+uncounted+`) > 0 unless on () `+failedUncounted, "filling").query(
					`sum(`+uncounted+`) == 0`, "all counted").now().thresholds(calm, step{1, alarm}).paint([2]string{"filling", "blue"}).none("no list"),
				stat("Oldest, in intervals",
					"Age of the oldest count, in intervals that the call quota allows its list. Below 2 is normal. At 3 counts are withdrawn by default. A list that is read for the first time has no age. never: it failed.",
					`max(`+intervalsOf(refreshes)+`)`).decimals(1).unit("none").now().thresholds(calm, step{2, warn}, step{3, alarm}).set("mappings", neverWord).none("no full round yet"),
			}},
			firingAlerts(),
			{title: "Which, by how many, since when?", panels: []*panel{
				table("Contacted domains",
					"One row for each contacted domain. Contacted since: the time of the last count of 0. before this range: the selected time range has no such count, select a longer one. within this range: the count was 0 too briefly to show when, select a shorter one. at first count: the domain had contacts when it was first counted. Prevalence and last contact need watched_domains.statistics.", 500,
					column{title: "Domain", label: "domain", link: open + "&var-domain=${__value.raw}"},
					column{title: "Tenant", label: "tenant"},
					column{title: "List", label: "list", width: 90, none: "–"},
					column{hidden: true, query: ofContacted(`topk by (tenant, domain) (1, 1 / (max by (tenant, domain, list) (mde_watched_domain_info` + chosen + ` * on (job, instance, tenant, list) group_left () mde_watched_domain_list_interval_seconds{$where})))`)},
					column{title: "Machines", query: ofContacted(machines), sorted: true, width: 90},
					column{title: "Limit", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_machines_truncated` + chosen + `)`), width: 100, mapping: words([3]string{"1", "500 or more", "orange"}, [3]string{"0", "exact", "text"})},
					column{title: "Unprotected", query: ofContacted(`max by (` + keys + `) (` + unprotected + `)`), width: 130, steps: []step{{1, alarm}}, none: "unknown"},
					column{title: "High risk", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_machines_risk{$where, domain=~"$domain", risk_score="High"})`), width: 85, steps: []step{{1, alarm}}},
					column{title: "Since yesterday", query: ofContacted(machines + ` - max by (` + keys + `) (mde_watched_domain_machines` + chosen + ` offset 1d)`), width: 120, steps: []step{{1, warn}, {10, alarm}}},
					column{title: "Contacted since", query: ofContacted(`(
  1000 * max by (` + keys + `) (max_over_time(timestamp(mde_watched_domain_machines` + chosen + ` == 0)[$__range:$__interval]))
  or
  2 + max by (` + keys + `) (min_over_time(mde_watched_domain_machines` + chosen + `[$__range]) == 0)
  or
  0 * max by (` + keys + `) (last_over_time(mde_watched_domain_machines` + chosen + `[1h] offset $__range))
  or
  1 + 0 * ` + machines + `
)`), unit: "dateTimeFromNow", width: 145, mapping: words([3]string{"0", "before this range", neutral}, [3]string{"1", "at first count", neutral}, [3]string{"2", "within this range", neutral})},
					column{title: "Last contact", query: ofContacted(`1000 * max by (` + keys + `) (mde_watched_domain_last_seen_timestamp_seconds` + chosen + `)`), unit: "dateTimeFromNow", width: 145},
					column{title: "Prevalence", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_prevalence` + chosen + `)`), width: 95},
					column{title: "Counted", query: ofContacted(`max by (` + keys + `) (time() - mde_watched_domain_last_success_timestamp_seconds` + chosen + `)`), unit: "s", width: 90},
				).none("No contacted domain among those with a count").size(24, 9),
			}},
			{title: "Is every list read?", panels: []*panel{
				table("Watch lists",
					"Tenants whose last refresh failed first, then those with the most domains without a count. filling: the list is being read for the first time. List files, failed: an older list is in force, or only the valid lines. Interval: the longest that the call quota allows a list.", 500,
					column{title: "Tenant", label: "tenant", link: "/d/mde-watched-domains?${datasource:queryparam}&${job:queryparam}&${__url_time_range}&var-tenant=${__value.raw}"},
					column{hidden: true, sorted: true, query: `1e9 * ((` + result + `) == bool 0) + on (tenant) sum by (tenant) (` + uncounted + `)`},
					column{title: "Last refresh", query: result, width: 100, shade: true, mapping: words(
						[3]string{"1", "succeeded", calm}, [3]string{"0", "failed", alarm}, [3]string{"2", "filling", "blue"}, [3]string{"3", "no domains", neutral})},
					column{title: "Domains", query: `sum by (tenant) (mde_watched_domains{$where})`, width: 85},
					column{title: "Without a count", query: `sum by (tenant) (` + uncounted + `)`, width: 130, steps: []step{{1, warn}}},
					column{title: "Contacted", query: `count by (tenant) (` + contacted + `) or 0 * count by (tenant) (` + counted + `)`, width: 90, steps: []step{{1, warn}}, none: "unknown"},
					column{title: "Invalid", query: `count by (tenant) (mde_watched_domain_invalid{$where}) or 0 * group by (tenant) (mde_watched_domains{$where})`, width: 75, steps: []step{{1, warn}}},
					column{title: "List files", query: `min by (tenant) (mde_watched_domains_list_last_read_successful{$where})`, width: 85, mapping: words([3]string{"1", "read", calm}, [3]string{"0", "failed", alarm})},
					column{title: "Interval", query: `max by (tenant) (mde_watched_domains_interval_seconds{$where})`, unit: "s", width: 85},
					column{title: "Oldest count", query: `max by (tenant) (` + ageOf(refreshes) + `)`, unit: "s", width: 110, mapping: neverWord},
				).none("No domains are watched, or no exporter is scraped").size(24, 6),
				table("Lists",
					"The watch lists, those with the most contacted domains first. New contact: the severity of alerts about a first contact. Oldest: the age of the oldest count in intervals of the list; below 2 is normal, at 3 it is withdrawn by default. Stretched: the interval that the call quota allows, as a multiple of the configured one.", 500,
					column{title: "List", label: "list"},
					column{title: "Tenant", label: "tenant"},
					column{title: "New contact", label: "severity", width: 100, none: "unknown"},
					column{hidden: true, query: `max by (tenant, list, severity) (tenant_list:mde_contact_severity{contact="new", tenant=~"$tenant"}) and on (tenant, list) mde_watched_domain_list_interval_seconds{$where}`},
					column{title: "Domains", query: `count by (tenant, list) (mde_watched_domain_info{$where}) or 0 * max by (tenant, list) (mde_watched_domain_list_interval_seconds{$where})`, width: 85},
					column{title: "Contacted", query: `count by (tenant, list) (mde_watched_domain_info{$where} and on (job, tenant, domain) mde_watched_domain_machines{$where} > 0)
or 0 * count by (tenant, list) (mde_watched_domain_info{$where} and on (job, tenant, domain) mde_watched_domain_machines{$where})`, sorted: true, width: 90, steps: []step{{1, warn}}, none: "unknown"},
					column{title: "Interval", query: `max by (tenant, list) (mde_watched_domain_list_interval_seconds{$where})`, unit: "s", width: 85},
					column{title: "Stretched", query: `max by (tenant, list) (mde_watched_domain_list_interval_seconds{$where} / mde_watched_domain_list_configured_interval_seconds{$where})`, unit: "none", width: 90, digits: new(1), steps: []step{{1.05, warn}}},
					column{title: "Oldest", query: `max by (tenant, list) (` + listIntervals + `)`, unit: "none", width: 80, digits: new(1), steps: []step{{2, warn}, {3, alarm}}, none: "unknown"},
				).none("No domains are watched, or no exporter is scraped").size(18, 6),
				table("Invalid names",
					"Domains on the lists that the API rejects as invalid. They have no count: correct or remove them.", 500,
					column{title: "Domain", label: "domain", sorted: true},
					column{title: "Tenant", label: "tenant"},
					column{hidden: true, query: `max by (tenant, domain) (mde_watched_domain_invalid` + chosen + `)`},
				).none("No known invalid name").size(6, 6),
			}},
			{title: "How does it spread?", panels: []*panel{
				lines("Machines by device group",
					"Machines that contacted a selected domain, by device group. A machine that contacted two domains counts twice. Needs watched_domains.device_groups.").
					query(top("device_group", `sum by (device_group) (mde_watched_domain_device_group_machines`+chosen+`)`), "{{device_group}}").stepped().size(8, 10).none("No known contact, or watched_domains.device_groups is off"),
				lines("Machines by domain",
					"Machines that contacted each domain, for the ten domains with the most. 500 means 500 or more. A line that ends keeps its last value in the legend.").
					query(top(keys, `max by (`+keys+`) (`+contacted+`)`), "{{domain}} · {{tenant}}").stepped().custom("scaleDistribution", map[string]any{"type": "log", "log": 10}).custom("axisSoftMin", 1).size(8, 10).none("No contacted domain in this time range"),
				lines("Contacted domains",
					"Domains with at least one contact, for the ten tenants with the most. A line that ends keeps its last value in the legend.").
					query(top("tenant", `count by (tenant) (`+contacted+`)`), "{{tenant}}").decimals(0).stepped().size(8, 10).none("No contacted domain in this time range"),
			}},
			{title: "How dangerous is it?", panels: []*panel{
				lines("Of these, machines that require attention, by domain and property",
					"Machines that contacted the domain and have the property, for the ten largest numbers. A line that ends keeps its last value in the legend.").
					query(top("tenant, domain, property", `max by (tenant, domain, property) (mde_watched_domain_machines_attention`+chosen+` > 0)`), "{{domain}} · {{property}} · {{tenant}}").stepped().none("No such machine in this time range"),
				lines("Of these, machines at risk",
					"Machines with a risk score of Defender, summed over the domains. A machine that contacted two domains counts twice.").
					levels(`sum(mde_watched_domain_machines_risk{$where, domain=~"$domain", %s})`, "risk_score", atRisk).stepped().stacked().inOrder().none("No contacted domain in this time range"),
			}},
			{title: "Which machines? (only with machine_info_limit, which names machines)", folded: true, panels: []*panel{
				table("Machines",
					"Machines that contacted the selected domains, as many as machine_info_limit allows. Off by default.", 200,
					column{title: "Machine", label: "computer_dns_name"},
					column{title: "Machine id", label: "machine_id"},
					column{title: "Domain", label: "domain", sorted: true},
					column{title: "Tenant", label: "tenant"},
					column{hidden: true, query: `max by (tenant, domain, machine_id, computer_dns_name) (mde_watched_domain_machine_info` + chosen + `)`},
				).none("No machines: machine_info_limit is 0, or no domain was contacted").size(24, 9),
			}},
		},
	}
}
