// Package simulation is a simulated tenant of Microsoft Defender for Endpoint:
// one HTTP server with the sign-in endpoint, the machine security states of the
// Graph preview, and the Defender APIs for machines, antivirus health and
// domains. It behaves as the real ones were seen to, quirks included, changes
// over time as a real fleet does, and fails on demand. The demo, the tests and
// the benchmarks all talk to it, over HTTP.
//
// Both sources of security states show the same fleet: the properties that the
// preview tells follow, by the mapping that docs/metrics.md describes, from what
// /api/machines and /api/deviceavinfo tell. The two differ only where the
// supported APIs say less: machines without an antivirus row have no revision
// there. Where a machine has two antivirus rows, the one refreshed last is true.
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

// API names one kind of call, as the api label of the exporter's metrics does.
type API string

// The calls the tenant answers.
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
	// Unknown is every call to another path.
	Unknown API = "unknown"
	// Every stands for all of them when faults are scripted or calls counted.
	Every API = "*"
)

// The roles the APIs ask for.
const (
	RoleMachines   = "Machine.Read.All"
	RoleStatistics = "URL.Read.All"
	RoleScores     = "Score.Read.All"
	RoleAlerts     = "Alert.Read.All"
)

// Options describe a tenant. The zero value is a steady tenant of 1,000
// machines that nothing happens to.
type Options struct {
	// TenantID, ClientID and ClientSecret are the app registration that may
	// sign in. Empty ones get well-known values that tell what they are; read
	// them with the Tenant's methods of these names.
	TenantID, ClientID, ClientSecret string
	// MultiTenant accepts every tenant id, as of customers that all consented to
	// the app: one far end then serves many tenants, each with a quota of its own.
	MultiTenant bool
	// Roles are those of tokens for the Defender API. Nil means RoleMachines
	// and RoleStatistics; an empty slice none.
	Roles []string
	// GraphRoles are those of tokens for Graph, which the preview does not ask
	// for. Nil means none.
	GraphRoles []string
	// TokenLifetime is how long a token is good. Zero means an hour.
	TokenLifetime time.Duration
	// NoGraphToken makes the sign-in endpoint refuse a token for Graph.
	NoGraphToken bool

	// Machines is how many machines have a security state. Zero means 1,000,
	// a negative number none.
	Machines int
	// OtherRecords is how many further records /api/machines has that have no
	// security state: never onboarded, or merged into another. Zero means one
	// for twenty machines, a negative number none.
	OtherRecords int
	// Alerts is how many alerts there are, resolved ones included. Zero means
	// one for twenty machines, a negative number none.
	Alerts int
	// Seed determines the machines, the alerts and the scores.
	Seed uint64
	// Domains are those that machines communicated with, by name.
	Domains map[string]Domain
	// Story makes the tenant change over time. Nil means that it stays as it is
	// but for edits.
	Story *Story
	// Start is when the story begins. Zero means the moment of New.
	Start time.Time

	// PreviewStatus is what the preview answers: 0 means the machine security
	// states, 404, 410, 400, 401 or 403 that it is gone or refused.
	PreviewStatus int
	// PageSize is the number of rows of one page of the preview, and of
	// /api/machines without $top. Zero means 1,000.
	PageSize int
	// NextLinkLast puts @odata.nextLink behind the rows instead of before them.
	NextLinkLast bool
	// NextLinks makes /api/machines and /api/deviceavinfo send a nextLink with
	// $top, too, while rows are left.
	NextLinks bool
	// InOrder sends each row once and in the same order always. Without it rows
	// repeat across pages and pages differ in their order from call to call;
	// never is a row left out.
	InOrder bool
	// UnknownDomain404 answers 404 for a domain that no machine communicated
	// with, as the service once did, instead of an empty list.
	UnknownDomain404 bool
	// NoAlertFilter refuses every $filter of /api/alerts with 400.
	NoAlertFilter bool
	// StatsAsStrings answers /stats as older services do: the prevalence under
	// orgPrevalence, as a string.
	StatsAsStrings bool

	// Limits are enforced with 429 and Retry-After, each API's by itself. Nil
	// means no limits; DocumentedLimits are the service's.
	Limits map[API]Limit
	// CallLog is how many calls are remembered, the latest ones. Zero means
	// 100,000, a negative number none; they are counted all the same.
	CallLog int
	// CachePages keeps every page that was written and sends it again, as it
	// was, while the fleet stays the same: for benchmarks, where writing and
	// compressing pages would cost more than what is measured. It needs a
	// steady tenant, and memory for all the pages.
	CachePages bool
}

// Tenant is a simulated tenant. It is an http.Handler that answers all calls on
// one host; LoginHandler, GraphHandler and APIHandler answer them apart. Its
// methods may be called concurrently.
type Tenant struct {
	options Options
	start   time.Time
	key     []byte // signs the tokens

	mu           sync.Mutex
	fleet        *fleet
	shape        *shape
	chains       []*chain
	chainsBegun  int
	faults       map[API][]*Fault
	secrets      map[string]bool // true once expired
	certificates []*x509.Certificate
	assertions   map[string]bool
	usedIDs      map[string]time.Time
	roles        []string
	graphRoles   []string
	generation   int // of tokens; those of earlier ones were revoked
	preview      int
	noGraphToken bool

	log    callLog
	limits limiter
	pages  pageCache
}

// New makes a tenant. It serves nothing before Listen or a server of the
// caller's own hands it requests.
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
			start:   o.Start.Round(0), // by the wall clock, as the times that are sent
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

// orDefault is value, or what zero stands for; a negative value stands for none.
func orDefault[T int | time.Duration](value, zero T) T {
	if value == 0 {
		return zero
	}
	return max(value, 0)
}

// TenantID is the directory's id.
func (t *Tenant) TenantID() string { return t.options.TenantID }

// ClientID is the id of the app registration that may sign in.
func (t *Tenant) ClientID() string { return t.options.ClientID }

// ClientSecret is the secret the tenant began with.
func (t *Tenant) ClientSecret() string { return t.options.ClientSecret }

// ServeHTTP answers all calls on one host.
func (t *Tenant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.route(AllOrigins).ServeHTTP(w, r)
}

// LoginHandler answers the sign-in endpoint's calls alone.
func (t *Tenant) LoginHandler() http.Handler { return t.route(LoginOrigin) }

// GraphHandler answers the Graph preview's calls alone.
func (t *Tenant) GraphHandler() http.Handler { return t.route(GraphOrigin) }

// APIHandler answers the Defender APIs' calls alone.
func (t *Tenant) APIHandler() http.Handler { return t.route(APIOrigin) }

// Now is the fleet as it stands.
func (t *Tenant) Now() View {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now()
}

// storyTick is how often a story takes a step.
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

// Change alters every machine by a function from now on, in the order of the
// calls and after the story. The function must depend on the machine alone: it
// is called whenever a machine is looked at, from many goroutines.
func (t *Tenant) Change(change func(*Machine)) {
	t.edit(func(f *fleet) { f.changes = append(slices.Clip(f.changes), change) })
}

// Restore takes back every Change.
func (t *Tenant) Restore() { t.edit(func(f *fleet) { f.changes = nil }) }

// SetMachines sets how many machines there are, where no story tells it.
func (t *Tenant) SetMachines(n int) { t.edit(func(f *fleet) { f.count = max(n, 0) }) }

// Contact lets n machines have communicated with a domain; 0 means none.
func (t *Tenant) Contact(domain string, n int) { t.SetDomain(domain, Domain{Machines: n}) }

// SetDomain sets how a domain was contacted, whatever the story says.
func (t *Tenant) SetDomain(name string, d Domain) {
	t.edit(func(f *fleet) {
		f.domains = maps.Clone(f.domains)
		if f.domains == nil {
			f.domains = map[string]Domain{}
		}
		f.domains[name] = d
	})
}

// Patch brings a share of the machines of one build, 0 to 1, to a revision.
func (t *Tenant) Patch(build, revision int, share float64) {
	t.Change(func(m *Machine) {
		if m.Build == build && m.Chance("patch") < share {
			m.Revision = revision
		}
	})
}

// Outage lets a property require attention on a share, 0 to 1, of the machines
// of one build.
func (t *Tenant) Outage(property string, build int, share float64) {
	t.Change(func(m *Machine) {
		if m.Build == build && m.Chance(property) < share {
			m.Require(property)
		}
	})
}

// SetPreview sets what Options.PreviewStatus set.
func (t *Tenant) SetPreview(status int) { t.set(func() { t.preview = status }) }

// set changes the tenant.
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
