package client

import (
	"net/url"
	"strings"
	"sync"
)

// Quotas count what the clients of one process spend. A quota belongs to a
// QuotaKey and not to a Client: clients of one key share it, with the smallest of
// their limits, and it outlives them, so that a tenant that is renamed, or removed
// and added again, has no new one. What a service or a sign-in host asked to wait
// is kept beside it. Methods may be called concurrently.
type Quotas struct {
	ledger func(QuotaKey) Ledger

	mu     sync.Mutex
	quotas map[QuotaKey]*quota
}

// NewQuotas returns Quotas of which nothing is spent but what the ledgers know.
// A ledger is asked for when a quota gets its first client; nil means that
// nothing is known of calls before this process.
func NewQuotas(ledger func(QuotaKey) Ledger) *Quotas {
	if ledger == nil {
		ledger = func(QuotaKey) Ledger { return nil }
	}
	return &Quotas{ledger: ledger, quotas: make(map[QuotaKey]*quota)}
}

// A QuotaKey is by what a service counts calls. Keys are compared with ==: ids
// and host are in lower case.
type QuotaKey struct {
	// TenantID and ClientID are those of the app registration. A managed
	// identity does not know its tenant, and has only one: its TenantID is
	// "managed-identity". Its ClientID is "system-assigned" where it has none.
	TenantID, ClientID string
	// Host is the host that is called, with its port.
	Host string
}

// String is "TENANT/CLIENT@HOST".
func (k QuotaKey) String() string { return k.TenantID + "/" + k.ClientID + "@" + k.Host }

func newQuotaKey(c Credential, u *url.URL) QuotaKey {
	tenantID, clientID := c.app()
	_, host, _ := strings.Cut(origin(u), "://")
	return QuotaKey{TenantID: strings.ToLower(tenantID), ClientID: strings.ToLower(clientID), Host: host}
}

// quota is what is kept of one key.
type quota struct {
	clients int
	gates   map[API]*gate
	signIn  throttle
}

// part is a client's part in its quotas.
type part struct {
	signIn *throttle
	shares map[API]*share
	quotas []*quota
}

// join makes the client one of those that share its quotas, and its limits count.
func (q *Quotas) join(c *Client) *part {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &part{shares: make(map[API]*share)}
	for _, api := range PacedAPIs() {
		key := c.QuotaKey(api)
		quota := q.take(p, key)
		g := quota.gates[api]
		if g == nil {
			g = newGate(api, q.ledger(key))
			quota.gates[api] = g
		}
		p.shares[api] = g.join(c.limits, c.observer)
	}
	p.signIn = &q.take(p, newQuotaKey(c.credential, c.api.tokens.signIn.login)).signIn
	return p
}

// take makes the client one of those of a quota, which it makes where there is none.
func (q *Quotas) take(p *part, key QuotaKey) *quota {
	taken := q.quotas[key]
	if taken == nil {
		taken = &quota{gates: make(map[API]*gate)}
		q.quotas[key] = taken
	}
	taken.clients++
	p.quotas = append(p.quotas, taken)
	return taken
}

// leave ends the client's part: its limits count no more.
func (q *Quotas) leave(p *part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range p.shares {
		s.leave()
	}
	for _, quota := range p.quotas {
		quota.clients--
	}
	p.quotas = nil
}

// Sweep forgets the quotas that no client shares, of which no limit reaches a
// call any more and no pause lasts. It returns the keys of all others.
func (q *Quotas) Sweep() []QuotaKey {
	q.mu.Lock()
	defer q.mu.Unlock()
	var kept []QuotaKey
	for key, quota := range q.quotas {
		if quota.clients == 0 && quota.isIdle() {
			delete(q.quotas, key)
			continue
		}
		kept = append(kept, key)
	}
	return kept
}

func (q *quota) isIdle() bool {
	for _, g := range q.gates {
		if !g.isIdle() {
			return false
		}
	}
	return q.signIn.isIdle()
}
