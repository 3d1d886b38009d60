package client

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"
)

// DomainMachinesLimit is the number of machines after which the API cuts the
// answer for a domain short. An answer of so many means "this many or more".
const DomainMachinesLimit = 500

// DomainStatistics is how an organization communicated with a domain, from
// /api/domains/{domain}/stats.
type DomainStatistics struct {
	// Prevalence is the number of machines that communicated with the domain,
	// not capped as DomainMachines is.
	Prevalence int64
	// LastSeen is the zero time for a domain the organization never contacted.
	LastSeen time.Time
}

// DomainMachines yields the machines that communicated with a domain within the
// last 30 days, DomainMachinesLimit at most, from
// GET {api}/api/domains/{domain}/machines. A domain the service does not know has
// none. After an error nothing more is yielded.
func (c *Client) DomainMachines(ctx context.Context, domain string) iter.Seq2[*Machine, error] {
	return func(yield func(*Machine, error) bool) {
		if err := checkDomain(DomainMachines, domain); err != nil {
			yield(nil, err)
			return
		}
		for machine, err := range rows(ctx, c, c.list(DomainMachines, domain), decodeMachine) {
			if IsNotFound(err) {
				return
			}
			if !yield(machine, err) {
				return
			}
		}
	}
}

// DomainStatistics asks how the organization communicated with a domain within
// the last 30 days, from GET {api}/api/domains/{domain}/stats. A domain the
// service does not know has zero statistics.
func (c *Client) DomainStatistics(ctx context.Context, domain string) (DomainStatistics, error) {
	if err := checkDomain(DomainStats, domain); err != nil {
		return DomainStatistics{}, err
	}
	s, err := single(ctx, c, DomainStats, domain, decodeDomainStatistics)
	if IsNotFound(err) {
		return DomainStatistics{}, nil
	}
	return s, err
}

func decodeDomainStatistics(d *decoder, row []byte, s *DomainStatistics) {
	*s = DomainStatistics{}
	known := false
	for name, value := range d.members(row) {
		switch string(name) {
		case "organizationPrevalence", "orgPrevalence":
			known = true
			s.Prevalence = d.count(value)
		case "orgLastSeen":
			s.LastSeen = d.time(value)
		default:
			d.readError(string(name), value)
		}
	}
	if !known && d.refusal == nil {
		d.fail("it has no organizationPrevalence")
	}
}

// count reads a whole number, which some versions of the service send as a
// string. Null is zero; anything else is an error, since nobody could tell it from
// a domain that was never seen.
func (d *decoder) count(value []byte) int64 {
	text := string(d.text(value))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1<<53 || n != math.Trunc(n) {
		d.fail("%q is no count", text)
		return 0
	}
	return int64(n)
}

// checkDomain refuses what would lead to another path.
func checkDomain(api API, domain string) error {
	if domain == "" || domain == "." || domain == ".." {
		return &Error{API: api, Reason: ReasonOther, Message: fmt.Sprintf("%q is no domain", domain)}
	}
	return nil
}
