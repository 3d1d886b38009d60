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
		"Machines that communicated with the domain within the last 30 days; 0 for one never seen.", "domain")
	domainTruncatedFamily = collector.NewFamily("mde_watched_domain_machines_truncated",
		"1 where the API's limit of 500 machines makes the count of machines a lower bound.", "domain")
	domainAttentionFamily = collector.NewFamily("mde_watched_domain_machines_attention",
		"Machines that communicated with the domain and whose property requires attention. Absent for domains without machines.", "domain", "property")
	domainRiskFamily = collector.NewFamily("mde_watched_domain_machines_risk",
		"Machines that communicated with the domain, by Defender's risk score. Absent for domains without machines.", "domain", "risk_score")
	domainGroupFamily = collector.NewFamily("mde_watched_domain_device_group_machines",
		"Machines that communicated with the domain, by device group. Absent for groups without such a machine.", "domain", "device_group")
	domainInfoFamily = collector.NewFamily("mde_watched_domain_machine_info",
		"1: a machine that communicated with the domain, newest contact first up to the limit.", "domain", "machine_id", "computer_dns_name")
	domainPrevalenceFamily = collector.NewFamily("mde_watched_domain_prevalence",
		"Machines that communicated with the domain by the organization's statistics, not capped at 500.", "domain")
	domainLastSeenFamily = collector.NewFamily("mde_watched_domain_last_seen_timestamp_seconds",
		"When the organization last contacted the domain. Absent for one never contacted.", "domain")
	domainInvalidFamily = collector.NewFamily("mde_watched_domain_invalid",
		"1: the API calls the domain's name invalid. Absent otherwise.", "domain")
	domainLastSuccessFamily = collector.NewFamily("mde_watched_domain_last_success_timestamp_seconds",
		"When the count of the domain's machines was last confirmed.", "domain")
	domainListFamily = collector.NewFamily("mde_watched_domain_info",
		"1: the domain is on that list.", "domain", "list")
	domainsFamily = collector.NewFamily("mde_watched_domains",
		"Domains on all watch lists, each once.")
	listIntervalFamily = collector.NewFamily("mde_watched_domain_list_interval_seconds",
		"The interval in which each domain of the list is asked, as the call quota really allows it.", "list")
	listConfiguredIntervalFamily = collector.NewFamily("mde_watched_domain_list_configured_interval_seconds",
		"The configured interval of the list.", "list")
	listLastSuccessFamily = collector.NewFamily("mde_watched_domain_list_last_success_timestamp_seconds",
		"When the oldest count of a domain on the list was confirmed. A domain on several lists counts for the one with the shortest interval.", "list")
	domainsIntervalFamily = collector.NewFamily("mde_watched_domains_interval_seconds",
		"The longest interval that the call quota really allows a watch list.")
	domainsListReadFamily = collector.NewFamily("mde_watched_domains_list_last_read_successful",
		"1 while every file of the watch list was read without a mistake the last time; "+
			"0: an older list is in force, or, after a start, only the lines that are right.")
)

// domainResult is what the last lookups of a domain returned: plain, and stored
// as it is.
type domainResult struct {
	// At is when the machines were last read, zero where they never were.
	At time.Time `json:"at"`
	// Invalid is when the API called the name invalid, zero where the last lookup
	// read the machines.
	Invalid   time.Time      `json:"invalid,omitzero"`
	Machines  int            `json:"machines"`
	Truncated bool           `json:"truncated,omitempty"`
	Risk      map[string]int `json:"risk,omitempty"`
	// Groups counts the machines by device group; nil unless it is asked for.
	Groups map[string]int `json:"groups,omitempty"`
	// IDs are the machines' ids one after the other, sorted, for the join.
	IDs   []byte         `json:"ids,omitempty"`
	Named []namedMachine `json:"named,omitempty"`
	// Statistics are of the last time they could be had.
	Statistics *domainStatistics `json:"statistics,omitempty"`
	// Attention is of the last time the fleet was known.
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
	At         time.Time `json:"at"` // Of the fleet it was made from.
	Properties []string  `json:"properties"`
	Machines   []int     `json:"machines"` // Of each property.
}

// maxDomainRows is how many rows of one domain are read, twice as many as the API
// documents: its ids are kept for the join, and 10,000 domains of a far end that
// sends more than it should must not take more than twice the memory.
const maxDomainRows = 2 * client.DomainMachinesLimit

// domainRow is what is kept of a row until all of them are read.
type domainRow struct {
	id      client.MachineID
	into    client.MachineID // Zero where the record was not merged into another.
	risk    string
	group   string
	machine namedMachine // Without an id where machines are not named.
	intoID  string       // As a label value, likewise.
}

// countDomain counts the machines of a domain, each once: a merged record stands
// for the machine it was merged into, of whose rows its own counts. risk and group
// spell the values of the labels risk_score and device_group, group being nil where
// groups are not counted; limit is how many machines are named.
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

// newestMachines returns the newest of the machines, of equally new ones those
// whose ids come first. Ids may be the same once they are cut to label values.
func newestMachines(machines []namedMachine, limit int) []namedMachine {
	slices.SortFunc(machines, func(a, b namedMachine) int { return strings.Compare(a.ID, b.ID) })
	machines = slices.CompactFunc(machines, func(a, b namedMachine) bool { return a.ID == b.ID })
	slices.SortStableFunc(machines, func(a, b namedMachine) int { return b.LastSeen.Compare(a.LastSeen) })
	return append([]namedMachine(nil), machines[:min(len(machines), max(limit, 0))]...)
}

// withoutSecrets returns the machines whose id may be shown, those whose name may
// not with an unknown one.
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

// joinMerged returns one row for each machine, sorted by id; rows without an id
// are machines of their own.
func joinMerged(rows []domainRow) []domainRow {
	merged := make(map[client.MachineID]*domainRow) // By the id of the record that was merged.
	for i := range rows {
		if row := &rows[i]; row.into != (client.MachineID{}) && row.id != (client.MachineID{}) {
			merged[row.id] = row
		}
	}
	var machines []domainRow
	at := make(map[client.MachineID]int) // Of each machine in machines.
	own := make(map[client.MachineID]bool)
	for _, row := range rows {
		isOwn := row.into == (client.MachineID{})
		if !isOwn {
			row.id, row.machine.ID = row.into, row.intoID
			for range len(merged) { // More would lead in circles.
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

// check reports whether a result that was stored makes sense.
func (r *domainResult) check() error {
	if err := collector.CheckTime(r.answered()); err != nil {
		return err
	}
	switch {
	case r.Machines < 0 || len(r.IDs)%len(client.MachineID{}) != 0:
		return errors.New("no whole number of machines")
	case r.Machines > maxDomainRows || len(r.IDs) > maxDomainRows*len(client.MachineID{}) || len(r.Named) > maxDomainRows:
		return errors.New("more machines than are counted of a domain")
	case r.Attention != nil && len(r.Attention.Machines) != len(r.Attention.Properties):
		return errors.New("attention without a number for each property")
	default:
		return nil
	}
}

// answered is when the last lookup was answered.
func (r *domainResult) answered() time.Time { return later(r.At, r.Invalid) }

// join counts the machines that require attention. Where the machines of the
// fleet are not known, the last join stays if it is one with this fleet.
func (r *domainResult) join(fleet *attention.State) *domainAttention {
	switch {
	case fleet.Unknown:
		return r.Attention
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

// blocks builds what a scrape shows of the domain. Its parts expire each at its
// own time: the join when the fleet it was made from is older than fleetAge, all
// others when they are older than maxAge.
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

// builders are those of the values that were read.
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
