package client

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"
)

// DomainMachinesLimit is the maximum number of machines that the API returns for a domain.
// That many machines mean "this many or more".
const DomainMachinesLimit = 500

// DomainStatistics are an organization's contacts with a domain, from
// /api/domains/{domain}/stats.
type DomainStatistics struct {
	// Prevalence is the number of machines that contacted the domain,
	// not capped as DomainMachines is.
	Prevalence int64
	// LastSeen is the zero time if the organization never contacted the domain.
	LastSeen time.Time
}

// DomainMachines yields the machines that contacted a domain within the tenant's
// retention period, DomainMachinesLimit at most, from
// GET {api}/api/domains/{domain}/machines. It yields none for a domain that the service
// does not know. Iteration ends after an error.
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

// DomainStatistics returns the organization's contacts with a domain within the last
// 30 days, from GET {api}/api/domains/{domain}/stats. It returns zero statistics for a
// domain that the service does not know.
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
	if !known && d.serviceErr == nil {
		d.fail("organizationPrevalence is missing")
	}
}

// count reads a whole number, which some versions of the service send as a string. Null
// is zero. Any other value is an error, because zero means that the domain was never
// contacted.
func (d *decoder) count(value []byte) int64 {
	text := string(d.text(value))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1<<53 || n != math.Trunc(n) {
		d.fail("%q is not a count", text)
		return 0
	}
	return int64(n)
}

// checkDomain rejects domains that would change the path of the URL.
func checkDomain(api API, domain string) error {
	if domain == "" || domain == "." || domain == ".." {
		return &Error{API: api, Reason: ReasonOther, Message: fmt.Sprintf("%q is not a domain", domain)}
	}
	return nil
}
