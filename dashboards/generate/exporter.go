package main

// exporter returns the dashboard about the exporter: how old the values are, which
// refreshes fail and why, and what it costs.
func exporter() dashboard {
	const (
		keys = "tenant, collector"
		left = `1 - mde_api_quota_calls{$where} / on (job, instance, tenant, api, window) mde_api_quota_limit_calls{$where}`
		open = "/d/mde-exporter?${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
	)
	// The result of the last refresh: 0 failed, 1 succeeded, 2 the first round through
	// the watch list still runs, 3 the first refresh still runs.
	result := `min by (` + keys + `) (mde_refresh_success{$where})
or 2 * group by (` + keys + `) (mde_refresh_interval_seconds{$where, collector="watched_domains"})
or 3 * group by (` + keys + `) (mde_refresh_interval_seconds{$where})`
	overdue := `max by (` + keys + `) (` + intervalsOf("$where") + `)`
	// Failing collectors first: those that never succeeded, then the others by age. Then
	// first refreshes, then the rest by age.
	worst := `($never * (min by (` + keys + `) (mde_refresh_success{$where}) == bool 0) or 0 * group by (` + keys + `) (mde_refresh_interval_seconds{$where}))
+ on (` + keys + `) (` + overdue + ` or 1e6 * group by (` + keys + `) (mde_refresh_interval_seconds{$where}))`
	quantile := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (le) (rate(mde_api_request_duration_seconds_bucket{$where}[$__rate_interval])))`
	}
	return dashboard{
		uid: "mde-exporter", title: "Defender for Endpoint / Exporter", from: "now-6h",
		description: "How old the values are, what fails and why, and what the exporter costs the tenant and the machine that it runs on.",
		rows: []row{
			{title: "Can the numbers be trusted?", panels: []*panel{
				stat("Failing collectors",
					"Collectors whose last refresh failed. They keep their last values until max_age.",
					`count(mde_refresh_success{$where} == 0) or 0 * count(mde_refresh_success{$where})`).thresholds(calm, step{1, warn}, step{5, alarm}).none("no refresh yet"),
				stat("Oldest, in intervals",
					"Age of the oldest values in refresh intervals; for watched domains, in intervals of their list. Below 2 is normal. At 3 the values are withdrawn by default. never: a collector failed and has not succeeded yet.",
					`max(`+intervalsOf("$where")+`)`).decimals(1).unit("none").now().thresholds(calm, step{2, warn}, step{3, alarm}).set("mappings", neverWord).none("no refresh yet"),
				stat("Failed API calls",
					"Share of the API calls of the last hour without a successful response.",
					`(sum(increase(mde_api_requests_total{$where, code!~"2.."}[1h])) or vector(0)) / (sum(increase(mde_api_requests_total{$where}[1h])) > 0)`).unit("percentunit").decimals(1).thresholds(calm, step{0.01, warn}, step{0.1, alarm}).none("no calls"),
				stat("Least quota left",
					"Share of the hour's call quota that is left, for the API and tenant with the least. A stretched watch list spends all of it on purpose.",
					`min(`+left+` and on (job, instance, tenant, api, window) mde_api_quota_calls{$where, window="hour"})`).unit("percentunit").decimals(0).set("min", 0).set("max", 1).thresholds(alarm, step{0.02, warn}, step{0.2, calm}).none("no calls"),
				stat("Credential expires in",
					"Time until the first credential expires. A client secret counts only if client_secret_expires is set, since the exporter cannot read its date.",
					`min(mde_credential_expiry_timestamp_seconds{$where} - time())`).unit("s").now().thresholds(alarm, step{2 * 86400, warn}, step{14 * 86400, calm}).none("no date known"),
				stat("Exporters",
					"Exporters that Prometheus scrapes. For others see the targets page of Prometheus and the alert MDEExporterDown.",
					`count(mde_exporter_build_info{job=~"$job"}) or vector(0)`).thresholds(alarm, step{1, calm}),
			}},
			firingAlerts(),
			{title: "What is late or failing, and why?", panels: []*panel{
				table("Collectors",
					"Collectors of each tenant. Failing ones come first, those that never succeeded at the top; the others are sorted by age. Failures: those within the selected time range. At 3 intervals without a success, values are withdrawn by default.", 500,
					column{title: "Tenant", label: "tenant", link: open + "&var-tenant=${__value.raw}"},
					column{title: "Collector", label: "collector", width: 140},
					column{hidden: true, sorted: true, query: worst},
					column{title: "Last refresh", query: result, width: 100, shade: true, mapping: words(
						[3]string{"1", "succeeded", calm}, [3]string{"0", "failed", alarm}, [3]string{"2", "filling", "blue"}, [3]string{"3", "not yet", "blue"})},
					column{title: "Age", query: `max by (` + keys + `) (` + ageOf("$where") + `)`, unit: "s", width: 85, mapping: neverWord},
					column{title: "Intervals", query: overdue, unit: "none", width: 80, digits: new(1), steps: []step{{2, warn}, {3, alarm}}, mapping: neverWord},
					column{title: "Took", query: `max by (` + keys + `) (mde_refresh_duration_seconds{$where})`, unit: "s", width: 80},
					column{title: "Failures", query: `sum by (` + keys + `) (increase(mde_refresh_failures_total{$where}[$__range]))`, width: 75, digits: new(0), steps: []step{{1, warn}}},
				).none("No tenant is configured, or no exporter is scraped").size(13, 11),
				lines("Failed refreshes, by reason",
					"auth and forbidden: a person must fix a secret, a role or a consent. throttled, timeout, network and server are usually temporary. decode and pagination: the response was not valid.").
					query(`sum by (reason) (increase(mde_refresh_failures_total{$where}[$__rate_interval]))`, "{{reason}}").sparse().stacked().custom("drawStyle", "bars").custom("fillOpacity", 80).decimals(0).custom("axisSoftMax", 1).size(11, 11).none("No refresh ended in this time range").
					paint([2]string{"auth", alarm}, [2]string{"forbidden", "dark-red"}, [2]string{"throttled", warn}, [2]string{"timeout", notice}, [2]string{"network", "blue"}, [2]string{"server", "purple"}),
			}},
			{title: "How do the APIs respond?", panels: []*panel{
				lines("API calls, by API and code",
					"Calls a second by status code. 429: throttled. 401 and 403: a token or a role. error: no response.").
					query(`sum by (api, code) (rate(mde_api_requests_total{$where}[$__rate_interval]))`, "{{api}} {{code}}").unit("reqps").sparse().size(8, 9).none("No calls in this time range"),
				lines("Latency of API calls",
					"Time until the response of a call is complete: 50%, 90% and 99% of the calls are faster than these lines.").
					query(quantile("0.5"), "median").query(quantile("0.9"), "90%").query(quantile("0.99"), "99%").unit("s").sparse().size(8, 9).none("No calls in this time range"),
				lines("Median latency, by API",
					"Shows which API is slow.").
					query(`histogram_quantile(0.5, sum by (api, le) (rate(mde_api_request_duration_seconds_bucket{$where}[$__rate_interval])))`, "{{api}}").unit("s").sparse().size(8, 9).none("No calls in this time range"),
			}},
			{title: "Is the call quota sufficient?", panels: []*panel{
				lines("Quota spent",
					"Share of the call quota that was spent in the last minute and in the last hour, for the tenant that spends most.").
					query(`max by (api, window) (mde_api_quota_calls{$where} / on (job, instance, tenant, api, window) mde_api_quota_limit_calls{$where})`, "{{api}}, {{window}}").unit("percentunit").set("min", 0).set("max", 1).custom("thresholdsStyle", map[string]any{"mode": "dashed"}).thresholds(calm, step{0.98, warn}).size(8, 9).none("No calls in this time range"),
				lines("Calls waiting for quota",
					"Average number of calls that wait. Waiting paces a long watch list; it is not a fault.").
					query(`sum by (api) (rate(mde_api_quota_wait_seconds_total{$where}[$__rate_interval]))`, "{{api}}").unit("none").decimals(2).sparse().custom("axisSoftMax", 1).size(8, 9).none("No calls in this time range"),
				lines("Interval of the watch lists",
					"Interval that the call quota allows a list, as a multiple of the configured one, for the ten most stretched lists. Above 1: shorten the list or raise the quota.").
					query(top("tenant, list", `max by (tenant, list) (mde_watched_domain_list_interval_seconds{$where} / mde_watched_domain_list_configured_interval_seconds{$where})`), "{{tenant}} · {{list}}").unit("none").size(8, 9).none("No watched domains"),
			}},
			{title: "What does the exporter itself cost?", folded: true, panels: []*panel{
				lines("Memory", "Resident memory of each exporter.").
					query(`process_resident_memory_bytes{job=~"$job"} and on (job, instance) mde_exporter_build_info{job=~"$job"}`, "{{instance}}").unit("bytes").size(8, 8).none("No exporter was scraped in this time range"),
				lines("Processor", "Share of one processor that each exporter uses.").
					query(`rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval]) and on (job, instance) mde_exporter_build_info{job=~"$job"}`, "{{instance}}").unit("percentunit").size(8, 8).none("No exporter was scraped in this time range"),
				lines("Scrapes", "How long Prometheus takes to scrape each exporter. A scrape never waits for an API.").
					query(`scrape_duration_seconds{job=~"$job"} and on (job, instance) mde_exporter_build_info{job=~"$job"}`, "{{instance}}").unit("s").size(8, 8).none("No exporter was scraped in this time range"),
				table("Versions", "Version of each exporter, result of the last reload, result of the last writes to the storage, and number of label values that count under other.", 50,
					column{title: "Instance", label: "instance"},
					column{title: "Version", label: "version"},
					column{title: "Runs", query: `sum by (instance, version) (mde_exporter_build_info{job=~"$job"})`, sorted: true, width: 80},
					column{title: "Last reload", query: `min by (instance) (mde_exporter_config_last_reload_successful{job=~"$job"})`, width: 120, mapping: words([3]string{"1", "succeeded", calm}, [3]string{"0", "failed", alarm})},
					column{title: "Storage", query: `min by (instance) (mde_exporter_storage_success{job=~"$job"})`, width: 100, mapping: words([3]string{"1", "succeeded", calm}, [3]string{"0", "failed", alarm}), none: "not used"},
					column{title: "Label values dropped", query: `sum by (instance) (mde_label_values_dropped_total{$where})`, width: 170, steps: []step{{1, warn}}},
				).none("No exporter is scraped").size(24, 6),
			}},
		},
	}
}
