package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// An oracle records what a simulated tenant served and checks scrapes against it.
// It reads the simulated machines, never a response.
type oracle struct {
	tenant string
	sim    *simulation.Tenant
	// statesMaxAge and domainsMaxAge are the configured values.
	statesMaxAge, domainsMaxAge time.Duration
	// late is the maximum time from the arrival of a request until the client has
	// read the response.
	late time.Duration
	// grace is the allowed difference between the clocks of two processes.
	grace time.Duration

	read        map[int]bool // Recorded calls by number.
	fleets      []*servedFleet
	fetches     map[simulation.View]*servedFleet
	antivirus   simulation.View
	domains     map[string][]servedDomain
	prevalences map[string][]servedPrevalence
}

func newOracle(tenant string, sim *simulation.Tenant) *oracle {
	return &oracle{
		tenant: tenant, sim: sim,
		read: map[int]bool{}, fetches: map[simulation.View]*servedFleet{},
		domains: map[string][]servedDomain{}, prevalences: map[string][]servedPrevalence{},
	}
}

// servedFleet is the fleet that all pages of one fetch showed.
type servedFleet struct {
	begin, end                       time.Time // Arrival of the first and the last call.
	source                           string
	machines, requiring              map[simulation.Group]int
	attention                        map[attentionKey]int
	health, risk, exposure, platform map[string]int
	properties                       map[int][]string // By machine index, only machines with properties.
}

type attentionKey struct {
	simulation.Group
	property string
}

// servedDomain is what one response for a domain showed.
type servedDomain struct {
	end       time.Time
	machines  int
	truncated bool
	risk      map[string]int
	indexes   []int
	ids       map[string]bool
}

type servedPrevalence struct {
	end        time.Time
	prevalence int
}

// observe records the responses that ended since the last call.
func (o *oracle) observe() {
	for _, c := range o.sim.Calls() {
		if !c.Done || o.read[c.Number] {
			continue
		}
		o.read[c.Number] = true
		if c.Broken || c.View == (simulation.View{}) || c.Status != 200 && c.Status != 404 {
			continue
		}
		switch c.API {
		case simulation.MachineSecurityStates:
			if walk := o.fetches[c.View]; walk != nil {
				walk.end = c.At
				continue
			}
			walk := countFleet(c.View, (*simulation.Machine).Properties)
			walk.source, walk.begin, walk.end = "machinesecuritystates", c.At, c.At
			o.fetches[c.View] = walk
			o.fleets = append(o.fleets, walk)
		case simulation.DeviceAVInfo:
			o.antivirus = c.View
		case simulation.Machines:
			walk := countFleet(c.View, joinedWith(o.antivirus))
			walk.source, walk.begin, walk.end = "machines", c.At, c.At
			o.fleets = append(o.fleets, walk)
		case simulation.DomainMachines:
			name := domainOf(c.Target)
			o.domains[name] = append(o.domains[name], countDomain(c, name))
		case simulation.DomainStats:
			name := domainOf(c.Target)
			o.prevalences[name] = append(o.prevalences[name], servedPrevalence{c.At, c.View.DomainTally(name).Prevalence})
		}
	}
	o.expire(time.Now())
}

// expire drops what is too old to be shown.
func (o *oracle) expire(now time.Time) {
	old := func(end time.Time, maxAge time.Duration) bool {
		return now.Sub(end) > maxAge+o.late+o.grace+time.Minute
	}
	o.fleets = slices.DeleteFunc(o.fleets, func(f *servedFleet) bool { return old(f.end, o.statesMaxAge) })
	maps.DeleteFunc(o.fetches, func(_ simulation.View, f *servedFleet) bool { return old(f.end, o.statesMaxAge) })
	for name := range o.domains {
		o.domains[name] = slices.DeleteFunc(o.domains[name], func(d servedDomain) bool { return old(d.end, o.domainsMaxAge) })
		o.prevalences[name] = slices.DeleteFunc(o.prevalences[name], func(p servedPrevalence) bool { return old(p.end, o.domainsMaxAge) })
	}
}

// domainOf returns the domain in the path /api/domains/NAME/….
func domainOf(target string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(target, "/api/domains/"), "/")
	return name
}

// joinedWith returns a function that returns a machine's properties when its
// antivirus row was fetched at another time than the machine.
func joinedWith(antivirus simulation.View) func(*simulation.Machine) []string {
	rows := map[int][]string{}
	for m := range antivirus.Machines() {
		if p := named(m.Properties(), "Antivirus"); len(p) > 0 {
			rows[m.Index] = p
		}
	}
	return func(m *simulation.Machine) []string {
		return append(named(m.Properties(), "Edr"), rows[m.Index]...)
	}
}

func named(properties []string, prefix string) []string {
	return slices.DeleteFunc(properties, func(p string) bool { return !strings.HasPrefix(p, prefix) })
}

func countFleet(v simulation.View, properties func(*simulation.Machine) []string) *servedFleet {
	f := &servedFleet{
		machines: map[simulation.Group]int{}, requiring: map[simulation.Group]int{}, attention: map[attentionKey]int{},
		health: map[string]int{}, risk: map[string]int{}, exposure: map[string]int{}, platform: map[string]int{},
		properties: map[int][]string{},
	}
	for m := range v.Machines() {
		g := simulation.Group{Build: "unknown", Architecture: orElse(m.Architecture, "unknown")}
		if m.Build != 0 {
			g.Build = strconv.Itoa(m.Build)
		}
		f.machines[g]++
		f.health[m.Health]++
		f.risk[orElse(m.Risk, "None")]++
		f.exposure[orElse(m.Exposure, "None")]++
		f.platform[m.Platform]++
		names := properties(m)
		slices.Sort(names)
		names = slices.Compact(names)
		if len(names) == 0 {
			continue
		}
		f.requiring[g]++
		f.properties[m.Index] = slices.Clone(names)
		for _, name := range names {
			f.attention[attentionKey{g, name}]++
		}
	}
	return f
}

func orElse(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

func countDomain(c simulation.Call, name string) servedDomain {
	d := servedDomain{end: c.At, risk: map[string]int{}, ids: map[string]bool{}}
	for m := range c.View.Contacted(name) {
		d.machines++
		d.risk[orElse(m.Risk, "None")]++
		d.indexes = append(d.indexes, m.Index)
		d.ids[m.ID()] = true
		if d.machines == simulation.DomainMachinesLimit {
			d.truncated = true
			break
		}
	}
	return d
}

// check returns the problems of a scrape made between two times: values that were
// never served, stale values, and missing values.
func (o *oracle) check(e exposition, before, after time.Time) []string {
	o.observe()
	var problems []string
	report := func(format string, args ...any) {
		problems = append(problems, "tenant "+o.tenant+": "+fmt.Sprintf(format, args...))
	}
	fleets := o.checkFleet(e, before, after, report)
	o.checkDomains(e, fleets, before, after, report)
	o.checkCounters(e, report)
	return problems
}

type reportFunc func(format string, args ...any)

// checkFleet returns the served fleets that match the scrape.
func (o *oracle) checkFleet(e exposition, before, after time.Time, report reportFunc) []*servedFleet {
	seconds, known := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", o.tenant, "collector", "security_states")
	at := fromUnix(seconds)
	age, laterAge := before.Sub(at), after.Sub(at)
	_, shown := e.value("mde_security_states_incomplete", "tenant", o.tenant)
	machines := e.samples("mde_machines", "tenant", o.tenant)
	switch {
	case known && laterAge < -o.grace:
		report("the states' last success is %s from now", -laterAge)
	case !shown && len(machines) > 0:
		report("machines without mde_security_states_incomplete")
	case !shown && known && laterAge < o.statesMaxAge-o.grace:
		report("states of %s ago are missing", laterAge)
	case shown && !known:
		report("states without a last success")
	case shown && age > o.statesMaxAge+o.grace:
		report("states of %s ago are still shown, max_age is %s", age, o.statesMaxAge)
	}
	if !shown {
		return nil
	}
	var fleets []*servedFleet
	differences := []string{"nothing was served at that time"}
	for _, f := range o.fleets {
		if !f.servedDuring(e, o, at) {
			continue
		}
		differences = f.differences(e, o.tenant)
		if len(differences) == 0 {
			fleets = append(fleets, f)
		}
	}
	if len(fleets) == 0 {
		report("states that were never served, last success %s ago: %d machines; differences from the last served fleet: %s",
			age, int(sum(machines)), strings.Join(differences[:min(len(differences), 5)], "; "))
	}
	return fleets
}

// servedDuring reports whether a refresh that began at this time may have read
// the fleet. The duration is only known for the last refresh.
func (f *servedFleet) servedDuring(e exposition, o *oracle, at time.Time) bool {
	if f.end.Before(at.Add(-o.grace)) {
		return false
	}
	success, _ := e.value("mde_refresh_success", "tenant", o.tenant, "collector", "security_states")
	seconds, _ := e.value("mde_refresh_duration_seconds", "tenant", o.tenant, "collector", "security_states")
	took := time.Duration(seconds * float64(time.Second))
	return success == 0 || !f.begin.After(at.Add(took+o.grace))
}

// differences returns how a scrape differs from the fleet.
func (f *servedFleet) differences(e exposition, tenant string) []string {
	var out []string
	compare := func(family string, served map[string]int, key func(labels) string) {
		shown := map[string]int{}
		for _, s := range e.samples(family, "tenant", tenant) {
			if s.value != 0 {
				shown[key(s.labels)] += int(s.value)
			}
		}
		if !maps.Equal(shown, served) {
			out = append(out, fmt.Sprintf("%s is %v, served was %v", family, shown, served))
		}
	}
	group := func(l labels) string { return l["os_build"] + " " + l["architecture"] }
	compare("mde_machines", byName(f.machines, groupName), group)
	compare("mde_machines_requiring_attention", byName(f.requiring, groupName), group)
	compare("mde_machines_attention",
		byName(f.attention, func(k attentionKey) string { return groupName(k.Group) + " " + k.property }),
		func(l labels) string { return group(l) + " " + l["property"] })
	if source, _ := e.value("mde_security_states_source_info", "tenant", tenant, "source", f.source); source != 1 {
		return append(out, "the source differs")
	}
	if incomplete, _ := e.value("mde_security_states_incomplete", "tenant", tenant); incomplete != 0 {
		return append(out, "the antivirus rows are missing, although no fault causes that")
	}
	if f.source == "machines" {
		compare("mde_machines_health", f.health, func(l labels) string { return l["health_status"] })
		compare("mde_machines_risk", f.risk, func(l labels) string { return l["risk_score"] })
		compare("mde_machines_exposure", f.exposure, func(l labels) string { return l["exposure_level"] })
		compare("mde_machines_os_platform", f.platform, func(l labels) string { return l["os_platform"] })
	}
	return out
}

func groupName(g simulation.Group) string { return g.Build + " " + g.Architecture }

func byName[K comparable](counts map[K]int, name func(K) string) map[string]int {
	out := make(map[string]int, len(counts))
	for k, n := range counts {
		out[name(k)] = n
	}
	return out
}

func (o *oracle) checkDomains(e exposition, fleets []*servedFleet, before, after time.Time, report reportFunc) {
	for _, s := range e.samples("mde_watched_domain_machines", "tenant", o.tenant) {
		domain := s.labels["domain"]
		seconds, known := e.value("mde_watched_domain_last_success_timestamp_seconds", "tenant", o.tenant, "domain", domain)
		at := fromUnix(seconds)
		age := before.Sub(at)
		if !known || after.Sub(at) < -o.grace || age > o.domainsMaxAge+o.grace {
			report("%s has values of %s ago (timestamp %t), max_age is %s", domain, age, known, o.domainsMaxAge)
			continue
		}
		served, ok := o.servedAt(e, domain, int(s.value), at)
		if !ok {
			report("%s has %v machines, last success %s ago, which was never served; served: %s", domain, s.value, age, o.servedMachines(domain))
			continue
		}
		o.checkJoin(e, domain, served, fleets, report)
		for _, info := range e.samples("mde_watched_domain_machine_info", "tenant", o.tenant, "domain", domain) {
			if !served.ids[info.labels["machine_id"]] {
				report("%s names the machine %s, which did not contact it", domain, info.labels["machine_id"])
			}
		}
	}
	for _, s := range e.samples("mde_watched_domain_prevalence", "tenant", o.tenant) {
		domain := s.labels["domain"]
		if !slices.ContainsFunc(o.prevalences[domain], func(p servedPrevalence) bool {
			return p.prevalence == int(s.value) && before.Sub(p.end) < o.domainsMaxAge+o.late+o.grace
		}) {
			report("%s has a prevalence of %v, which was not served within max_age", domain, s.value)
		}
	}
}

// servedAt returns the response that a domain's values were counted from.
func (o *oracle) servedAt(e exposition, domain string, machines int, at time.Time) (servedDomain, bool) {
	truncated, _ := e.value("mde_watched_domain_machines_truncated", "tenant", o.tenant, "domain", domain)
	risk := map[string]int{}
	for _, s := range e.samples("mde_watched_domain_machines_risk", "tenant", o.tenant, "domain", domain) {
		if s.value != 0 {
			risk[s.labels["risk_score"]] = int(s.value)
		}
	}
	for _, d := range slices.Backward(o.domains[domain]) {
		inTime := !d.end.After(at.Add(o.grace+time.Millisecond)) && !d.end.Before(at.Add(-o.late-o.grace))
		if inTime && d.machines == machines && d.truncated == (truncated == 1) && maps.Equal(d.risk, risk) {
			return d, true
		}
	}
	return servedDomain{}, false
}

func (o *oracle) servedMachines(domain string) string {
	var out []string
	for _, d := range o.domains[domain] {
		out = append(out, fmt.Sprintf("%d at %s", d.machines, d.end.Format("15:04:05.000")))
	}
	return strings.Join(out, ", ")
}

// checkJoin compares the properties of a domain's machines with those in the
// fleet that is shown.
func (o *oracle) checkJoin(e exposition, domain string, served servedDomain, fleets []*servedFleet, report reportFunc) {
	samples := e.samples("mde_watched_domain_machines_attention", "tenant", o.tenant, "domain", domain)
	if len(samples) == 0 {
		return
	}
	shown := map[string]int{}
	for _, s := range samples {
		if s.value != 0 {
			shown[s.labels["property"]] = int(s.value)
		}
	}
	for _, f := range fleets {
		joined := map[string]int{}
		for _, index := range served.indexes {
			for _, name := range f.properties[index] {
				joined[name]++
			}
		}
		if maps.Equal(shown, joined) {
			return
		}
	}
	report("%s is joined to %v, which does not match the shown fleet; %d fleets match the states", domain, shown, len(fleets))
}

// checkCounters checks that there are no more failures than refreshes.
func (o *oracle) checkCounters(e exposition, report reportFunc) {
	for _, s := range e.samples("mde_refreshes_total", "tenant", o.tenant) {
		collector := s.labels["collector"]
		failures := sum(e.samples("mde_refresh_failures_total", "tenant", o.tenant, "collector", collector))
		if failures > s.value {
			report("%s: %v refreshes, %v of them failed", collector, s.value, failures)
		}
	}
}

func fromUnix(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }
