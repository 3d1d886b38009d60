package client

import (
	"net/url"
	"strings"
	"sync"
)

// Quotas count the calls of all clients of a process. A quota belongs to a QuotaKey.
// Clients with the same key share it, with the smallest of their limits. It outlives them,
// so that a tenant that is renamed, or removed and added again, does not get a new quota.
// It also keeps how long a service or a sign-in host asked to wait. Methods may be called
// concurrently.
type Quotas struct {
	ledger func(QuotaKey) Ledger

	mu     sync.Mutex
	quotas map[QuotaKey]*quota
}

// NewQuotas returns Quotas that start with the calls of the ledgers. ledger is called when
// a quota gets its first client. It may be nil or return nil: then calls before the start
// of the process are unknown.
func NewQuotas(ledger func(QuotaKey) Ledger) *Quotas {
	if ledger == nil {
		ledger = func(QuotaKey) Ledger { return nil }
	}
	return &Quotas{ledger: ledger, quotas: make(map[QuotaKey]*quota)}
}

// A QuotaKey identifies the quota by which a service counts calls. Ids and host are in
// lower case, so that keys can be compared with ==.
type QuotaKey struct {
	// TenantID and ClientID are those of the app registration. The TenantID of a managed
	// identity is "managed-identity", because it has one tenant, which is unknown. Its
	// ClientID is "system-assigned" if it has none.
	TenantID, ClientID string
	// Host is the host and port of the service.
	Host string
}

// String returns "TENANT/CLIENT@HOST".
func (k QuotaKey) String() string { return k.TenantID + "/" + k.ClientID + "@" + k.Host }

func newQuotaKey(c Credential, u *url.URL) QuotaKey {
	tenantID, clientID := c.app()
	_, host, _ := strings.Cut(origin(u), "://")
	return QuotaKey{TenantID: strings.ToLower(tenantID), ClientID: strings.ToLower(clientID), Host: host}
}

// quota is the state of one QuotaKey.
type quota struct {
	clients int
	gates   map[API]*gate
	signIn  throttle
}

// membership is a client's shares of its quotas.
type membership struct {
	signIn *throttle
	shares map[API]*share
	quotas []*quota
}

// join adds the client to its quotas and applies its limits.
func (q *Quotas) join(c *Client) *membership {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &membership{shares: make(map[API]*share)}
	for _, api := range PacedAPIs() {
		key := c.QuotaKey(api)
		quota := q.addClient(p, key)
		g := quota.gates[api]
		if g == nil {
			g = newGate(api, q.ledger(key))
			quota.gates[api] = g
		}
		p.shares[api] = g.join(c.limits, c.observer)
	}
	p.signIn = &q.addClient(p, newQuotaKey(c.credential, c.api.tokens.signIn.login)).signIn
	return p
}

// addClient adds the client to the quota of a key, which it creates if necessary.
func (q *Quotas) addClient(m *membership, key QuotaKey) *quota {
	joined := q.quotas[key]
	if joined == nil {
		joined = &quota{gates: make(map[API]*gate)}
		q.quotas[key] = joined
	}
	joined.clients++
	m.quotas = append(m.quotas, joined)
	return joined
}

// leave removes a client and its limits from its quotas.
func (q *Quotas) leave(p *membership) {
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

// Sweep deletes the quotas that have no client, no call within the last hour and no pause.
// It returns the keys of the remaining quotas.
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
