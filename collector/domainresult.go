package collector

import (
	"bytes"
	"cmp"
	"errors"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

var (
	domainMachinesFamily = newFamily("mde_watched_domain_machines",
		"Machines that communicated with the domain within the last 30 days; 0 for one never seen.", "domain")
	domainTruncatedFamily = newFamily("mde_watched_domain_machines_truncated",
		"1 where the API's limit of 500 machines makes the count of machines a lower bound.", "domain")
	domainAttentionFamily = newFamily("mde_watched_domain_machines_attention",
		"Machines that communicated with the domain and whose property requires attention. Absent for domains without machines.", "domain", "property")
	domainRiskFamily = newFamily("mde_watched_domain_machines_risk",
		"Machines that communicated with the domain, by Defender's risk score. Absent for domains without machines.", "domain", "risk_score")
	domainInfoFamily = newFamily("mde_watched_domain_machine_info",
		"1: a machine that communicated with the domain, newest contact first up to the limit.", "domain", "machine_id", "computer_dns_name")
	domainPrevalenceFamily = newFamily("mde_watched_domain_prevalence",
		"Machines that communicated with the domain by the organization's statistics, not capped at 500.", "domain")
	domainLastSeenFamily = newFamily("mde_watched_domain_last_seen_timestamp_seconds",
		"When the organization last contacted the domain. Absent for one never contacted.", "domain")
	domainLastSuccessFamily = newFamily("mde_watched_domain_last_success_timestamp_seconds",
		"When the count of the domain's machines was last confirmed.", "domain")
	domainsFamily = newFamily("mde_watched_domains",
		"Domains on the watch list.")
	domainsIntervalFamily = newFamily("mde_watched_domains_interval_seconds",
		"The interval in which each domain is asked, as the call quota really allows it.")
)

// domainResult is what one lookup of a domain told: plain, and stored as it is.
type domainResult struct {
	At        time.Time      `json:"at"`
	Machines  int            `json:"machines"`
	Truncated bool           `json:"truncated,omitempty"`
	Risk      map[string]int `json:"risk,omitempty"`
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
	Expires    time.Time `json:"expires"` // With the fleet it was made from.
	Properties []string  `json:"properties"`
	Machines   []int     `json:"machines"` // Of each property.
}

// countDomain counts the machines of a domain, each once. risk spells the value
// of the label risk_score; limit is how many machines are named.
func countDomain(machines iter.Seq2[*client.Machine, error], risk func([]byte) string, limit int) (*domainResult, error) {
	r := &domainResult{}
	seen := make(map[client.MachineID]struct{})
	rows := 0
	for m, err := range machines {
		if err != nil {
			return nil, err
		}
		rows++
		if m.ID != (client.MachineID{}) {
			if _, twice := seen[m.ID]; twice {
				continue
			}
			seen[m.ID] = struct{}{}
			r.name(m, limit)
		}
		if r.Risk == nil {
			r.Risk = make(map[string]int)
			for _, score := range riskScores {
				r.Risk[score] = 0
			}
		}
		r.Risk[risk(m.RiskScore)]++
		r.Machines++
	}
	ids := slices.Collect(maps.Keys(seen))
	sort.Slice(ids, func(i, j int) bool { return bytes.Compare(ids[i][:], ids[j][:]) < 0 })
	for _, id := range ids {
		r.IDs = append(r.IDs, id[:]...)
	}
	r.Truncated = rows >= client.DomainMachinesLimit
	return r, nil
}

// name keeps the machine if it is one of the newest.
func (r *domainResult) name(m *client.Machine, limit int) {
	full := len(r.Named) >= limit
	if limit <= 0 || full && !m.LastSeen.After(r.Named[limit-1].LastSeen) {
		return
	}
	named := namedMachine{ID: cleanLabel(m.RawID), Name: cmp.Or(cleanLabel(m.ComputerDNSName), unknownValue), LastSeen: m.LastSeen}
	if named.ID == "" || slices.ContainsFunc(r.Named, func(n namedMachine) bool { return n.ID == named.ID }) {
		return
	}
	at, _ := slices.BinarySearchFunc(r.Named, named, func(e, target namedMachine) int {
		if e.LastSeen.Before(target.LastSeen) {
			return 1
		}
		return -1 // Of equally new ones the first stays first.
	})
	r.Named = slices.Insert(r.Named, at, named)
	r.Named = r.Named[:min(len(r.Named), limit)]
}

// check tells whether a result that was stored makes sense.
func (r *domainResult) check() error {
	if err := checkTime(r.At); err != nil {
		return err
	}
	switch {
	case r.Machines < 0 || len(r.IDs)%len(client.MachineID{}) != 0:
		return errors.New("no whole number of machines")
	case r.Attention != nil && len(r.Attention.Machines) != len(r.Attention.Properties):
		return errors.New("attention without a number for each property")
	default:
		return nil
	}
}

// join counts the machines that require attention. Without a fleet the last
// join stays.
func (r *domainResult) join(fleet *attentionIndex) *domainAttention {
	if fleet == nil {
		return r.Attention
	}
	if r.Machines == 0 {
		return nil
	}
	const size = len(client.MachineID{})
	ids := make([]client.MachineID, 0, len(r.IDs)/size)
	for id := range slices.Chunk(r.IDs, size) {
		ids = append(ids, client.MachineID(id))
	}
	return &domainAttention{Expires: fleet.expires, Properties: fleet.properties, Machines: fleet.count(ids)}
}

// blocks builds what a scrape shows of the domain. Its parts expire each at its
// own time.
func (r *domainResult) blocks(tenant, domain string, maxAge time.Duration) ([]*Block, error) {
	expires := r.At.Add(maxAge)
	success := newBlock(tenant, time.Time{})
	success.add(domainLastSuccessFamily, unixSeconds(r.At), domain)

	values := newBlock(tenant, expires)
	values.add(domainMachinesFamily, float64(r.Machines), domain)
	values.add(domainTruncatedFamily, boolValue(r.Truncated), domain)
	for _, score := range slices.Sorted(maps.Keys(r.Risk)) {
		values.add(domainRiskFamily, float64(r.Risk[score]), domain, score)
	}
	named := slices.Clone(r.Named)
	sort.Slice(named, func(i, j int) bool { return named[i].ID < named[j].ID })
	for _, m := range named {
		values.add(domainInfoFamily, 1, domain, m.ID, m.Name)
	}

	builders := []*blockBuilder{success, values}
	if a := r.Attention; a != nil {
		until := a.Expires
		if expires.Before(until) {
			until = expires
		}
		attention := newBlock(tenant, until)
		for i, property := range a.Properties {
			attention.add(domainAttentionFamily, float64(a.Machines[i]), domain, property)
		}
		builders = append(builders, attention)
	}
	if s := r.Statistics; s != nil {
		statistics := newBlock(tenant, s.At.Add(maxAge))
		statistics.add(domainPrevalenceFamily, float64(s.Prevalence), domain)
		if !s.LastSeen.IsZero() {
			statistics.add(domainLastSeenFamily, unixSeconds(s.LastSeen), domain)
		}
		builders = append(builders, statistics)
	}

	blocks := make([]*Block, len(builders))
	var errs []error
	for i, b := range builders {
		block, err := b.build()
		errs = append(errs, err)
		blocks[i] = block
	}
	return blocks, errors.Join(errs...)
}
