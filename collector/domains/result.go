package domains

import (
	"bytes"
	"cmp"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/collector/attention"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

var (
	domainMachinesFamily = collector.NewFamily("mde_watched_domain_machines",
		"Machines that contacted the domain within Defender's retention period; 0 if none did.", "domain")
	domainTruncatedFamily = collector.NewFamily("mde_watched_domain_machines_truncated",
		"1 where the API's limit of 500 machines makes the count of machines a lower bound.", "domain")
	domainAttentionFamily = collector.NewFamily("mde_watched_domain_machines_attention",
		"Machines that contacted the domain and whose property requires attention. Absent for domains without machines.", "domain", "property")
	domainRiskFamily = collector.NewFamily("mde_watched_domain_machines_risk",
		"Machines that contacted the domain, by Defender's risk score. Absent for domains without machines.", "domain", "risk_score")
	domainGroupFamily = collector.NewFamily("mde_watched_domain_device_group_machines",
		"Machines that contacted the domain, by device group. Absent for groups without such a machine.", "domain", "device_group")
	domainInfoFamily = collector.NewFamily("mde_watched_domain_machine_info",
		"1: a machine that contacted the domain, newest contact first up to the limit.", "domain", "machine_id", "computer_dns_name")
	domainPrevalenceFamily = collector.NewFamily("mde_watched_domain_prevalence",
		"Machines that contacted the domain by the organization's statistics, not capped at 500.", "domain")
	domainLastSeenFamily = collector.NewFamily("mde_watched_domain_last_seen_timestamp_seconds",
		"When the organization last contacted the domain. Absent for a domain never contacted.", "domain")
	domainInvalidFamily = collector.NewFamily("mde_watched_domain_invalid",
		"1: the API rejects the domain's name as invalid. Absent otherwise.", "domain")
	domainLastSuccessFamily = collector.NewFamily("mde_watched_domain_last_success_timestamp_seconds",
		"When the domain was last looked up successfully.", "domain")
	domainListFamily = collector.NewFamily("mde_watched_domain_info",
		"1: the domain is on that list.", "domain", "list")
	domainsFamily = collector.NewFamily("mde_watched_domains",
		"Domains on all watch lists, each once.")
	listIntervalFamily = collector.NewFamily("mde_watched_domain_list_interval_seconds",
		"The interval at which each domain of the list is looked up, as the call quota allows.", "list")
	listConfiguredIntervalFamily = collector.NewFamily("mde_watched_domain_list_configured_interval_seconds",
		"The configured interval of the list.", "list")
	listLastSuccessFamily = collector.NewFamily("mde_watched_domain_list_last_success_timestamp_seconds",
		"When the oldest count of a domain on the list was read. A domain on several lists counts for the one with the shortest interval.", "list")
	domainsIntervalFamily = collector.NewFamily("mde_watched_domains_interval_seconds",
		"The longest interval at which the domains of a list are looked up, as the call quota allows.")
	domainsListReadFamily = collector.NewFamily("mde_watched_domains_list_last_read_successful",
		"1 while every file of the watch list was read without a mistake the last time; "+
			"0: an older list is in force or, after a start, only the valid lines.")
)

// domainResult is the result of a domain's last lookups. It is stored as JSON.
type domainResult struct {
	// At is when the machines were last read; zero means never.
	At time.Time `json:"at"`
	// Invalid is when the API rejected the name as invalid; zero if the last lookup
	// read the machines.
	Invalid   time.Time      `json:"invalid,omitzero"`
	Machines  int            `json:"machines"`
	Truncated bool           `json:"truncated,omitempty"`
	Risk      map[string]int `json:"risk,omitempty"`
	// Groups counts the machines by device group; nil if that is disabled.
	Groups map[string]int `json:"groups,omitempty"`
	// IDs are the sorted machine ids, concatenated, for the join.
	IDs   []byte         `json:"ids,omitempty"`
	Named []namedMachine `json:"named,omitempty"`
	// Statistics are those of the last successful request.
	Statistics *domainStatistics `json:"statistics,omitempty"`
	// Attention is the join with the last available fleet.
	Attention *domainAttention `json:"attention,omitempty"`
}

type namedMachine struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	LastSeen time.Time `json:"last_seen"`
}

type domainStatistics struct {
	At         time.Time `json:"at"`
	Prevalence int64     `json:"prevalence"`
	LastSeen   time.Time `json:"last_seen,omitzero"`
}

// domainAttention is the join with the fleet.
type domainAttention struct {
	At         time.Time `json:"at"` // Time of the fleet.
	Properties []string  `json:"properties"`
	Machines   []int     `json:"machines"` // One for each property.
}

// maxDomainRows is the limit of rows that are read of a domain: twice the API's
// documented limit. The ids are kept for the join, so it bounds the memory if the API
// returns too many rows for 10,000 domains.
const maxDomainRows = 2 * client.DomainMachinesLimit

// domainRow is the part of a row that is kept until all rows are read.
type domainRow struct {
	id      client.MachineID
	into    client.MachineID // Zero if the record was not merged into another.
	risk    string
	group   string
	machine namedMachine // Empty id if machines are not exposed by name.
	intoID  string       // As a label value; empty if machines are not exposed by name.
}

// countDomain counts the machines of a domain without duplicates. A merged record
// counts as the machine it was merged into, whose own row takes precedence. risk and
// group return the label values of risk_score and device_group; a nil group disables
// counting groups. limit is the maximum number of machines that are named.
func countDomain(machines iter.Seq2[*client.Machine, error], risk, group func([]byte) string, limit int) (*domainResult, error) {
	var rows []domainRow
	for m, err := range machines {
		if err != nil {
			return nil, err
		}
		row := newDomainRow(m, risk, limit > 0)
		if group != nil {
			row.group = group(m.DeviceGroup)
		}
		rows = append(rows, row)
		if len(rows) == maxDomainRows {
			break
		}
	}
	var named []namedMachine
	r := &domainResult{Truncated: len(rows) >= client.DomainMachinesLimit}
	for _, row := range joinMerged(rows) {
		if r.Risk == nil {
			r.Risk = make(map[string]int)
			for _, score := range client.RiskScores {
				r.Risk[score] = 0
			}
		}
		if group != nil {
			if r.Groups == nil {
				r.Groups = make(map[string]int)
			}
			r.Groups[row.group]++
		}
		r.Risk[row.risk]++
		r.Machines++
		if row.id != (client.MachineID{}) {
			r.IDs = append(r.IDs, row.id[:]...)
		}
		if row.machine.ID != "" {
			named = append(named, row.machine)
		}
	}
	r.Named = newestMachines(named, limit)
	return r, nil
}

// newestMachines returns the machines seen last, and of those seen at the same time the
// ones that sort first by id. Ids may be equal because label values are truncated.
func newestMachines(machines []namedMachine, limit int) []namedMachine {
	slices.SortFunc(machines, func(a, b namedMachine) int { return strings.Compare(a.ID, b.ID) })
	machines = slices.CompactFunc(machines, func(a, b namedMachine) bool { return a.ID == b.ID })
	slices.SortStableFunc(machines, func(a, b namedMachine) int { return b.LastSeen.Compare(a.LastSeen) })
	return append([]namedMachine(nil), machines[:min(len(machines), max(limit, 0))]...)
}

// withoutSecrets removes machines whose id contains a secret and replaces names that
// contain a secret by unknown.
func withoutSecrets(machines []namedMachine, isSecret func(name string) bool) []namedMachine {
	machines = slices.DeleteFunc(machines, func(m namedMachine) bool { return isSecret(m.ID) })
	for i := range machines {
		if isSecret(machines[i].Name) {
			machines[i].Name = labels.Unknown
		}
	}
	return machines
}

func newDomainRow(m *client.Machine, risk func([]byte) string, named bool) domainRow {
	row := domainRow{id: m.ID, risk: risk(m.RiskScore)}
	if m.Merged && m.MergedInto != m.ID {
		row.into = m.MergedInto
	}
	if named {
		row.machine = namedMachine{ID: labels.Clean(m.RawID), Name: cmp.Or(labels.Clean(m.ComputerDNSName), labels.Unknown), LastSeen: m.LastSeen}
		row.intoID = labels.Clean(m.RawMergedInto)
	}
	return row
}

// joinMerged returns one row for each machine, sorted by id. Rows without an id count
// as separate machines.
func joinMerged(rows []domainRow) []domainRow {
	merged := make(map[client.MachineID]*domainRow) // By the id of the merged record.
	for i := range rows {
		if row := &rows[i]; row.into != (client.MachineID{}) && row.id != (client.MachineID{}) {
			merged[row.id] = row
		}
	}
	var machines []domainRow
	at := make(map[client.MachineID]int) // Index of each machine in machines.
	own := make(map[client.MachineID]bool)
	for _, row := range rows {
		isOwn := row.into == (client.MachineID{})
		if !isOwn {
			row.id, row.machine.ID = row.into, row.intoID
			for range len(merged) { // Limited because merges may form a cycle.
				next := merged[row.id]
				if next == nil {
					break
				}
				row.id, row.machine.ID = next.into, next.intoID
			}
		}
		i, seen := at[row.id]
		switch {
		case row.id == (client.MachineID{}):
			machines = append(machines, row)
		case !seen:
			at[row.id] = len(machines)
			own[row.id] = isOwn
			machines = append(machines, row)
		case isOwn && !own[row.id]:
			own[row.id] = true
			machines[i] = row
		}
	}
	slices.SortStableFunc(machines, func(a, b domainRow) int { return bytes.Compare(a.id[:], b.id[:]) })
	return machines
}

// check returns an error if a stored result is invalid.
func (r *domainResult) check() error {
	if err := collector.CheckTime(r.respondedAt()); err != nil {
		return err
	}
	switch {
	case r.Machines < 0 || len(r.IDs)%len(client.MachineID{}) != 0:
		return errors.New("invalid number of machines")
	case r.Machines > maxDomainRows || len(r.IDs) > maxDomainRows*len(client.MachineID{}) || len(r.Named) > maxDomainRows:
		return errors.New("too many machines")
	case r.Attention != nil && len(r.Attention.Machines) != len(r.Attention.Properties):
		return errors.New("wrong number of attention counts")
	default:
		return nil
	}
}

// respondedAt returns the time of the last response.
func (r *domainResult) respondedAt() time.Time { return later(r.At, r.Invalid) }

// join counts the machines that require attention. If the fleet's machines are
// unavailable, it returns the last join if that is of the same fleet.
func (r *domainResult) join(fleet *attention.State) *domainAttention {
	switch {
	case r.Machines == 0:
		return nil
	case fleet.Machines == nil:
		if r.Attention != nil && r.Attention.At.Equal(fleet.At) {
			return r.Attention
		}
		return nil
	}
	const size = len(client.MachineID{})
	ids := make([]client.MachineID, 0, len(r.IDs)/size)
	for id := range slices.Chunk(r.IDs, size) {
		ids = append(ids, client.MachineID(id))
	}
	return &domainAttention{At: fleet.At, Properties: fleet.Machines.Properties, Machines: fleet.Machines.Count(ids)}
}

// blocks returns the series of the domain. The join expires when its fleet is older
// than fleetAge, all others when they are older than maxAge.
func (r *domainResult) blocks(tenant, domain string, maxAge, fleetAge time.Duration) ([]*collector.Block, error) {
	var builders []*collector.BlockBuilder
	if !r.Invalid.IsZero() {
		invalid := collector.NewBlock(tenant, r.Invalid.Add(maxAge))
		invalid.Add(domainInvalidFamily, 1, domain)
		builders = append(builders, invalid)
	}
	if !r.At.IsZero() {
		builders = append(builders, r.builders(tenant, domain, maxAge, fleetAge)...)
	}
	blocks := make([]*collector.Block, len(builders))
	var errs []error
	for i, b := range builders {
		block, err := b.Build()
		errs = append(errs, err)
		blocks[i] = block
	}
	return blocks, errors.Join(errs...)
}

// builders returns the builders of the values that were read.
func (r *domainResult) builders(tenant, domain string, maxAge, fleetAge time.Duration) []*collector.BlockBuilder {
	expires := r.At.Add(maxAge)
	success := collector.NewBlock(tenant, time.Time{})
	success.Add(domainLastSuccessFamily, collector.UnixSeconds(r.At), domain)

	values := collector.NewBlock(tenant, expires)
	values.Add(domainMachinesFamily, float64(r.Machines), domain)
	values.Add(domainTruncatedFamily, collector.BoolValue(r.Truncated), domain)
	for _, score := range slices.Sorted(maps.Keys(r.Risk)) {
		values.Add(domainRiskFamily, float64(r.Risk[score]), domain, score)
	}
	for _, group := range slices.Sorted(maps.Keys(r.Groups)) {
		values.Add(domainGroupFamily, float64(r.Groups[group]), domain, group)
	}
	named := slices.Clone(r.Named)
	slices.SortFunc(named, func(a, b namedMachine) int { return strings.Compare(a.ID, b.ID) })
	for _, m := range named {
		values.Add(domainInfoFamily, 1, domain, m.ID, m.Name)
	}

	builders := []*collector.BlockBuilder{success, values}
	if a := r.Attention; a != nil {
		until := a.At.Add(fleetAge)
		if expires.Before(until) {
			until = expires
		}
		attention := collector.NewBlock(tenant, until)
		for i, property := range a.Properties {
			attention.Add(domainAttentionFamily, float64(a.Machines[i]), domain, property)
		}
		builders = append(builders, attention)
	}
	if s := r.Statistics; s != nil {
		statistics := collector.NewBlock(tenant, s.At.Add(maxAge))
		statistics.Add(domainPrevalenceFamily, float64(s.Prevalence), domain)
		if !s.LastSeen.IsZero() {
			statistics.Add(domainLastSeenFamily, collector.UnixSeconds(s.LastSeen), domain)
		}
		builders = append(builders, statistics)
	}
	return builders
}
