package main

// watchedDomains answers: was a watched domain contacted, by whom, since when.
func watchedDomains() dashboard {
	const (
		chosen    = `{$where, domain=~"$domain"}`
		contacted = `mde_watched_domain_machines` + chosen + ` > 0`
		// Known as 0 within the last day.
		fresh = `count((` + contacted + `) and on (job, tenant, domain) min_over_time(mde_watched_domain_machines` + chosen + `[1d]) == 0) or vector(0)`

		keys = "tenant, domain"
		open = "/d/mde-watched-domains?${datasource:queryparam}&${job:queryparam}&${tenant:queryparam}&${__url_time_range}"
	)
	// Columns of the table are about contacted domains only: a watch list has
	// thousands, of which nearly all were never seen.
	ofContacted := func(expr string) string {
		return expr + "\n  and on (" + keys + ") max by (" + keys + ") (" + contacted + ")"
	}
	machines := `max by (` + keys + `) (mde_watched_domain_machines` + chosen + `)`

	return dashboard{
		uid: "mde-watched-domains", title: "Defender for Endpoint / Watched domains", from: "now-24h",
		description: "Which watched domains were contacted, by how many machines, which of these are unprotected themselves, and since when.",
		variables:   []variable{{name: "domain", title: "Domain", series: `mde_watched_domain_last_success_timestamp_seconds{$where}`, label: "domain"}},
		rows: []row{
			{title: "Was a watched domain contacted?", panels: []*panel{
				stat("Contacted domains",
					"Domains that at least one machine has communicated with. A domain watched in two tenants counts twice.",
					`count(`+contacted+`) or vector(0)`).thresholds(calm, step{1, warn}),
				stat("New within a day",
					"Of these, domains that were known to have no contact at some time within the last 24 hours.",
					fresh).now().thresholds(calm, step{1, alarm}),
				stat("By unprotected machines",
					"Domains contacted by machines that require attention themselves: their sensor or antivirus may not tell what happened.",
					`count(max by (`+keys+`) (mde_watched_domain_machines_attention`+chosen+`) > 0) or vector(0)`).thresholds(calm, step{1, alarm}),
				stat("Largest count",
					"The largest count of one domain. 500 is the most the API lists, so read it as 500 or more.",
					`max(mde_watched_domain_machines`+chosen+`)`).thresholds(calm, step{1, warn}).none("no data"),
				stat("Watched domains",
					"Domains on the lists of the chosen tenants.",
					`sum(mde_watched_domains{$where})`).unit("locale").colourValue().none("no list"),
				stat("Oldest count",
					"Age of the count that was confirmed longest ago, and so the delay with which a contact may be seen.",
					`max(time() - mde_watched_domain_last_success_timestamp_seconds`+chosen+`)`).unit("s").now().thresholds(calm, step{7200, warn}, step{10800, alarm}).none("never"),
			}},
			{title: "Which, by how many, since when?", panels: []*panel{
				table("Contacted domains",
					"One line for each contacted domain. Contacted since is when the domain was last seen without a contact; where that is not within the chosen time range it is the start of the range, so choose a wider one. Prevalence and last contact come with the statistics option.", 100,
					column{title: "Domain", label: "domain", link: open + "&var-domain=${__value.raw}"},
					column{title: "Tenant", label: "tenant"},
					column{title: "Machines", query: ofContacted(machines), sorted: true, width: 90},
					column{title: "Limit", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_machines_truncated` + chosen + `)`), width: 100, mapping: words([3]string{"1", "500 or more", "orange"}, [3]string{"0", "exact", "text"})},
					column{title: "Require attention", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_machines_attention` + chosen + `)`), width: 130, steps: []step{{1, alarm}}},
					column{title: "High risk", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_machines_risk{$where, domain=~"$domain", risk_score="High"})`), width: 85, steps: []step{{1, alarm}}},
					column{title: "Since yesterday", query: ofContacted(machines + ` - max by (` + keys + `) (mde_watched_domain_machines` + chosen + ` offset 1d)`), width: 120, steps: []step{{1, warn}, {10, alarm}}},
					column{title: "Contacted since", query: ofContacted(`1000 * (
  max by (` + keys + `) (max_over_time(timestamp(mde_watched_domain_machines` + chosen + ` == 0)[$__range:$__interval]))
  or
  max by (` + keys + `) (timestamp(` + contacted + `)) - $__range_s
)`), unit: "dateTimeFromNow", width: 130},
					column{title: "Last contact", query: ofContacted(`1000 * max by (` + keys + `) (mde_watched_domain_last_seen_timestamp_seconds` + chosen + `)`), unit: "dateTimeFromNow", width: 145},
					column{title: "Prevalence", query: ofContacted(`max by (` + keys + `) (mde_watched_domain_prevalence` + chosen + `)`), unit: "locale", width: 95},
					column{title: "Counted", query: ofContacted(`max by (` + keys + `) (time() - mde_watched_domain_last_success_timestamp_seconds` + chosen + `)`), unit: "s", width: 90, steps: []step{{7200, warn}, {10800, alarm}}},
				).size(24, 9),
			}},
			{title: "How does it spread?", panels: []*panel{
				lines("Machines by domain",
					"Machines that communicated with each domain: the ten with the most. 500 means 500 or more.").
					query(top(keys, `max by (`+keys+`) (`+contacted+`)`), "{{domain}} · {{tenant}}").stepped().logarithmic().size(12, 10),
				lines("Contacted domains",
					"Domains with at least one contact, by tenant: the ten tenants with the most.").
					query(top("tenant", `count by (tenant) (`+contacted+`)`), "{{tenant}}").decimals(0).stepped().size(12, 10),
			}},
			{title: "How dangerous is it?", panels: []*panel{
				lines("Of these, machines that require attention, by domain and property",
					"Machines that contacted the domain and have the property: the ten largest.").
					query(top("tenant, domain, property", `max by (tenant, domain, property) (mde_watched_domain_machines_attention`+chosen+` > 0)`), "{{domain}} · {{property}}").stepped(),
				lines("Of these, machines at risk",
					"Machines with a risk score of Defender, added up over the domains: a machine that contacted two domains counts twice.").
					query(`sum by (risk_score) (mde_watched_domain_machines_risk{$where, domain=~"$domain", risk_score!="None"})`, "{{risk_score}}").stepped().stacked().
					paint([2]string{"High", alarm}, [2]string{"Medium", warn}, [2]string{"Low", notice}, [2]string{"Informational", "blue"}),
			}},
			{title: "Which machines? (only with machine_info_limit, which names machines)", folded: true, panels: []*panel{
				table("Machines",
					"The machines that communicated with the chosen domains, as many as machine_info_limit allows. Off unless asked for.", 200,
					column{title: "Machine", label: "computer_dns_name"},
					column{title: "Machine id", label: "machine_id"},
					column{title: "Domain", label: "domain", sorted: true},
					column{title: "Tenant", label: "tenant"},
					column{hidden: true, query: `max by (tenant, domain, machine_id, computer_dns_name) (mde_watched_domain_machine_info` + chosen + `)`},
				).size(24, 9),
			}},
		},
	}
}
