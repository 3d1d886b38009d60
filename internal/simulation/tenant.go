// Package simulation simulates a tenant of Microsoft Defender for Endpoint. It is
// an HTTP server with the sign-in endpoint, the machine security states of the
// Graph preview, and the Defender APIs for machines, antivirus health, domains,
// scores and alerts. It reproduces the observed behaviour of the real services,
// changes over time like a real fleet, and fails on demand. The demo, tests and
// benchmarks call it over HTTP.
//
// Both sources of security states show the same fleet: the preview's properties
// follow from /api/machines and /api/deviceavinfo by the mapping in
// docs/metrics.md. The only difference is what the supported APIs omit: machines
// without an antivirus row have no revision there. If a machine has two antivirus
// rows, the one refreshed last applies.
package simulation

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// API is a kind of call, named as in the api label of the exporter's metrics.
type API string

// The calls that the tenant serves.
const (
	Token                    API = "token"
	MachineSecurityStates    API = "machinesecuritystates"
	Machines                 API = "machines"
	DeviceAVInfo             API = "deviceavinfo"
	DomainMachines           API = "domain_machines"
	DomainStats              API = "domain_stats"
	ExposureScore            API = "exposure_score"
	DeviceGroupExposureScore API = "device_group_exposure_score"
	DeviceSecureScore        API = "device_secure_score"
	Alerts                   API = "alerts"
	// Unknown is any call to another path.
	Unknown API = "unknown"
	// Every means all of them, for faults and counts.
	Every API = "*"
)

// The roles that the APIs require.
const (
	RoleMachines   = "Machine.Read.All"
	RoleStatistics = "URL.Read.All"
	RoleScores     = "Score.Read.All"
	RoleAlerts     = "Alert.Read.All"
)

// Options configure a tenant. The zero value is a constant tenant of 1,000
// machines.
type Options struct {
	// TenantID, ClientID and ClientSecret are the app registration that can sign
	// in. Empty means a default; the Tenant's methods of the same names return
	// it.
	TenantID, ClientID, ClientSecret string
	// MultiTenant accepts every tenant id, like an app that several tenants
	// consented to. One simulated tenant then serves many, each with its own
	// quota.
	MultiTenant bool
	// Roles are the roles in tokens for the Defender API. Nil means RoleMachines
	// and RoleStatistics; an empty slice means none.
	Roles []string
	// GraphRoles are the roles in tokens for Graph. The preview requires none.
	// Nil means none.
	GraphRoles []string
	// TokenLifetime is the validity of a token. Zero means an hour.
	TokenLifetime time.Duration
	// NoGraphToken makes the sign-in endpoint reject token requests for Graph.
	NoGraphToken bool

	// Machines is the number of machines with a security state. Zero means 1,000,
	// a negative number none.
	Machines int
	// OtherRecords is the number of further records in /api/machines, which have
	// no security state: never onboarded, or merged into another. Zero means one
	// for each 20 machines, a negative number none.
	OtherRecords int
	// Alerts is the number of alerts, resolved ones included. Zero means one for
	// each 20 machines, a negative number none.
	Alerts int
	// Seed determines the machines, the alerts and the scores.
	Seed uint64
	// Domains are the contacted domains by name.
	Domains map[string]Domain
	// Story changes the tenant over time. Nil means that only edits change it.
	Story *Story
	// Start is the start of the story. Zero means the time of New.
	Start time.Time

	// PreviewStatus is the preview's status: 0 means that it serves machine
	// security states; 404, 410, 400, 401 or 403 that it is gone or rejects
	// calls.
	PreviewStatus int
	// PageSize is the number of rows in a page of the preview, and of
	// /api/machines without $top. Zero means 1,000.
	PageSize int
	// NextLinkLast writes @odata.nextLink after the rows instead of before them.
	NextLinkLast bool
	// NextLinks makes /api/machines and /api/deviceavinfo send a nextLink with
	// $top, too, while rows are left.
	NextLinks bool
	// InOrder sends each row once, always in the same order. Without it, rows
	// repeat across pages and their order changes from call to call. No row is
	// ever omitted.
	InOrder bool
	// UnknownDomain404 responds with 404 instead of an empty list for a domain
	// without contacts, as the service once did.
	UnknownDomain404 bool
	// NoAlertFilter rejects every $filter of /api/alerts with 400.
	NoAlertFilter bool
	// StatsAsStrings formats /stats as older services do: the prevalence as a
	// string in orgPrevalence.
	StatsAsStrings bool

	// Limits are the limits of each API, enforced with 429 and Retry-After. Nil
	// means none; DocumentedLimits returns those of the service.
	Limits map[API]Limit
	// CallLog is the number of latest calls in the log. Zero means 100,000, a
	// negative number none. Counts include all calls.
	CallLog int
	// CachePages caches pages while the fleet does not change. Benchmarks use it,
	// where writing and compressing pages would cost more than what they measure.
	// It needs memory for all pages.
	CachePages bool
}

// Tenant is a simulated tenant. It is an http.Handler for all origins on one
// host; LoginHandler, GraphHandler and APIHandler serve them separately. Its
// methods are safe for concurrent use.
type Tenant struct {
	options Options
	start   time.Time
	key     []byte // signs the tokens

	mu           sync.Mutex
	fleet        *fleet
	shape        *shape
	chains       []*chain
	chainCount   int
	faults       map[API][]*Fault
	secrets      map[string]bool // the value is true if the secret expired
	certificates []*x509.Certificate
	assertions   map[string]bool
	usedIDs      map[string]time.Time
	roles        []string
	graphRoles   []string
	generation   int // tokens of earlier generations are revoked
	preview      int
	noGraphToken bool

	log    callLog
	limits limiter
	pages  pageCache
}

// New returns a tenant. It serves requests once Listen is called, or as a handler
// of the caller's server.
func New(o Options) *Tenant {
	o.TenantID = cmp.Or(o.TenantID, "00000000-0000-4000-8000-00000000de30")
	o.ClientID = cmp.Or(o.ClientID, "00000000-0000-4000-8000-00000000c11e")
	o.ClientSecret = cmp.Or(o.ClientSecret, "simulated-client-secret")
	if o.Roles == nil {
		o.Roles = []string{RoleMachines, RoleStatistics}
	}
	o.TokenLifetime = orDefault(o.TokenLifetime, time.Hour)
	o.Machines = orDefault(o.Machines, 1000)
	o.OtherRecords = orDefault(o.OtherRecords, o.Machines/20)
	o.Alerts = orDefault(o.Alerts, o.Machines/20)
	o.PageSize = orDefault(o.PageSize, 1000)
	o.CallLog = orDefault(o.CallLog, 100_000)
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	t := &Tenant{
		options: o,
		start:   o.Start,
		key:     make([]byte, 32),
		fleet: &fleet{
			seed:    o.Seed,
			count:   o.Machines,
			others:  o.OtherRecords,
			alerts:  o.Alerts,
			start:   o.Start.Round(0), // wall clock, as in responses
			domains: maps.Clone(o.Domains),
			story:   *cmp.Or(o.Story, &Story{}),
		},
		faults:       map[API][]*Fault{},
		secrets:      map[string]bool{o.ClientSecret: false},
		assertions:   map[string]bool{},
		usedIDs:      map[string]time.Time{},
		roles:        o.Roles,
		graphRoles:   o.GraphRoles,
		preview:      o.PreviewStatus,
		noGraphToken: o.NoGraphToken,
		log:          callLog{size: o.CallLog},
		limits:       limiter{limits: o.Limits},
	}
	_, _ = rand.Read(t.key) // never fails
	return t
}

// orDefault returns the default if the value is zero, and 0 if it is negative.
func orDefault[T int | time.Duration](value, zero T) T {
	if value == 0 {
		return zero
	}
	return max(value, 0)
}

// TenantID returns the Entra tenant id.
func (t *Tenant) TenantID() string { return t.options.TenantID }

// ClientID returns the id of the app registration that can sign in.
func (t *Tenant) ClientID() string { return t.options.ClientID }

// ClientSecret returns the initial client secret.
func (t *Tenant) ClientSecret() string { return t.options.ClientSecret }

// ServeHTTP serves all origins on one host.
func (t *Tenant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.route(AllOrigins).ServeHTTP(w, r)
}

// LoginHandler serves only the sign-in endpoint.
func (t *Tenant) LoginHandler() http.Handler { return t.route(LoginOrigin) }

// GraphHandler serves only the Graph preview.
func (t *Tenant) GraphHandler() http.Handler { return t.route(GraphOrigin) }

// APIHandler serves only the Defender APIs.
func (t *Tenant) APIHandler() http.Handler { return t.route(APIOrigin) }

// Now returns the fleet at the current time.
func (t *Tenant) Now() View {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now()
}

// storyTick is the interval at which a story changes the fleet.
const storyTick = time.Second

func (t *Tenant) now() View {
	now := time.Now()
	since := time.Duration(0)
	if t.options.Story != nil {
		since = max(0, now.Sub(t.start).Truncate(storyTick))
	}
	if t.shape == nil || t.shape.fleet != t.fleet || t.shape.since != since {
		t.shape = newShape(t.fleet, since)
	}
	return View{t.shape, now}
}

// Change applies a function to every machine from now on, after the story and
// earlier changes. The function must depend only on the machine. It is called
// concurrently, every time a machine is generated.
func (t *Tenant) Change(change func(*Machine)) {
	t.edit(func(f *fleet) { f.changes = append(slices.Clip(f.changes), change) })
}

// Restore removes every Change.
func (t *Tenant) Restore() { t.edit(func(f *fleet) { f.changes = nil }) }

// SetMachines sets the number of machines. A story's Fleet overrides it.
func (t *Tenant) SetMachines(n int) { t.edit(func(f *fleet) { f.count = max(n, 0) }) }

// Contact sets the number of machines that contacted a domain; 0 means none.
func (t *Tenant) Contact(domain string, n int) { t.SetDomain(domain, Domain{Machines: n}) }

// SetDomain sets the contacts with a domain. It overrides the story.
func (t *Tenant) SetDomain(name string, d Domain) {
	t.edit(func(f *fleet) {
		f.domains = maps.Clone(f.domains)
		if f.domains == nil {
			f.domains = map[string]Domain{}
		}
		f.domains[name] = d
	})
}

// Patch sets the revision of a share, 0 to 1, of the machines of one build.
func (t *Tenant) Patch(build, revision int, share float64) {
	t.Change(func(m *Machine) {
		if m.Build == build && m.Chance("patch") < share {
			m.Revision = revision
		}
	})
}

// Outage makes a property require attention on a share, 0 to 1, of the machines
// of one build.
func (t *Tenant) Outage(property string, build int, share float64) {
	t.Change(func(m *Machine) {
		if m.Build == build && m.Chance(property) < share {
			m.Require(property)
		}
	})
}

// SetPreview changes Options.PreviewStatus.
func (t *Tenant) SetPreview(status int) { t.set(func() { t.preview = status }) }

// set calls change with the mutex locked.
func (t *Tenant) set(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
}

func (t *Tenant) edit(change func(*fleet)) {
	t.set(func() {
		next := *t.fleet
		change(&next)
		t.fleet = &next
	})
}
