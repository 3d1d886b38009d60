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

// A witness counts what one far end served and reports whether a scrape agrees
// with it. It looks at the simulated machines themselves, never at an answer.
type witness struct {
	tenant string
	far    *simulation.Tenant
	// statesMaxAge and domainsMaxAge are those of the configuration.
	statesMaxAge, domainsMaxAge time.Duration
	// late is how long after its request arrived an answer may still be read.
	late time.Duration
	// grace is how much a clock read by two processes may differ.
	grace time.Duration

	read        map[int]bool // Calls that were looked at, by number.
	fleets      []*servedFleet
	walks       map[simulation.View]*servedFleet
	antivirus   simulation.View
	domains     map[string][]servedDomain
	prevalences map[string][]servedPrevalence
}

func newWitness(tenant string, far *simulation.Tenant) *witness {
	return &witness{
		tenant: tenant, far: far,
		read: map[int]bool{}, walks: map[simulation.View]*servedFleet{},
		domains: map[string][]servedDomain{}, prevalences: map[string][]servedPrevalence{},
	}
}

// servedFleet is what one walk through a source showed.
type servedFleet struct {
	begin, end                       time.Time // When its first and its last call arrived.
	source                           string
	machines, requiring              map[simulation.Group]int
	attention                        map[attentionKey]int
	health, risk, exposure, platform map[string]int
	properties                       map[int][]string // By index, of machines that have some.
}

type attentionKey struct {
	simulation.Group
	property string
}

// servedDomain is what one answer for a domain showed.
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

// observe takes in the answers that ended since it was last called.
func (w *witness) observe() {
	for _, c := range w.far.Calls() {
		if !c.Done || w.read[c.Number] {
			continue
		}
		w.read[c.Number] = true
		if c.Broken || c.View == (simulation.View{}) || c.Status != 200 && c.Status != 404 {
			continue
		}
		switch c.API {
		case simulation.MachineSecurityStates:
			if walk := w.walks[c.View]; walk != nil {
				walk.end = c.At
				continue
			}
			walk := countFleet(c.View, (*simulation.Machine).Properties)
			walk.source, walk.begin, walk.end = "machinesecuritystates", c.At, c.At
			w.walks[c.View] = walk
			w.fleets = append(w.fleets, walk)
		case simulation.DeviceAVInfo:
			w.antivirus = c.View
		case simulation.Machines:
			walk := countFleet(c.View, joinedWith(w.antivirus))
			walk.source, walk.begin, walk.end = "machines", c.At, c.At
			w.fleets = append(w.fleets, walk)
		case simulation.DomainMachines:
			name := domainOf(c.Target)
			w.domains[name] = append(w.domains[name], countDomain(c, name))
		case simulation.DomainStats:
			name := domainOf(c.Target)
			w.prevalences[name] = append(w.prevalences[name], servedPrevalence{c.At, c.View.DomainTally(name).Prevalence})
		}
	}
	w.forget(time.Now())
}

// forget drops what is too old to be shown.
func (w *witness) forget(now time.Time) {
	old := func(end time.Time, maxAge time.Duration) bool {
		return now.Sub(end) > maxAge+w.late+w.grace+time.Minute
	}
	w.fleets = slices.DeleteFunc(w.fleets, func(f *servedFleet) bool { return old(f.end, w.statesMaxAge) })
	maps.DeleteFunc(w.walks, func(_ simulation.View, f *servedFleet) bool { return old(f.end, w.statesMaxAge) })
	for name := range w.domains {
		w.domains[name] = slices.DeleteFunc(w.domains[name], func(d servedDomain) bool { return old(d.end, w.domainsMaxAge) })
		w.prevalences[name] = slices.DeleteFunc(w.prevalences[name], func(p servedPrevalence) bool { return old(p.end, w.domainsMaxAge) })
	}
}

// domainOf is the domain in the path /api/domains/NAME/….
func domainOf(target string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(target, "/api/domains/"), "/")
	return name
}

// joinedWith tells a machine's properties where its antivirus row was asked for
// at another moment than the machine itself.
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

// check returns what a scrape, made between two moments, says that the far end
// never served, or that is too old to be said, or that is missing although it is
// still good.
func (w *witness) check(e exposition, before, after time.Time) []string {
	w.observe()
	var faults []string
	complain := func(format string, args ...any) {
		faults = append(faults, "tenant "+w.tenant+": "+fmt.Sprintf(format, args...))
	}
	fleets := w.checkFleet(e, before, after, complain)
	w.checkDomains(e, fleets, before, after, complain)
	w.checkCounters(e, complain)
	return faults
}

type complaint func(format string, args ...any)

// checkFleet returns those of the fleets that were served which the scrape may
// show, none where it shows none.
func (w *witness) checkFleet(e exposition, before, after time.Time, complain complaint) []*servedFleet {
	seconds, known := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", w.tenant, "collector", "security_states")
	at := fromUnix(seconds)
	age, laterAge := before.Sub(at), after.Sub(at)
	_, shown := e.value("mde_security_states_incomplete", "tenant", w.tenant)
	machines := e.samples("mde_machines", "tenant", w.tenant)
	switch {
	case known && laterAge < -w.grace:
		complain("the states' last success is %s from now", -laterAge)
	case !shown && len(machines) > 0:
		complain("machines without mde_security_states_incomplete")
	case !shown && known && laterAge < w.statesMaxAge-w.grace:
		complain("states of %s ago are gone", laterAge)
	case shown && !known:
		complain("states without a last success")
	case shown && age > w.statesMaxAge+w.grace:
		complain("states of %s ago are still shown, max_age is %s", age, w.statesMaxAge)
	}
	if !shown {
		return nil
	}
	var fleets []*servedFleet
	differences := []string{"nothing was served then"}
	for _, f := range w.fleets {
		if !f.servedDuring(e, w, at) {
			continue
		}
		differences = f.differences(e, w.tenant)
		if len(differences) == 0 {
			fleets = append(fleets, f)
		}
	}
	if len(fleets) == 0 {
		complain("states that were never served, last success %s ago: %d machines; beside what was served last: %s",
			age, int(sum(machines)), strings.Join(differences[:min(len(differences), 5)], "; "))
	}
	return fleets
}

// servedDuring reports whether the fleet may be the one that a refresh read which
// began at a time. How long that took is known of a refresh that was the last.
func (f *servedFleet) servedDuring(e exposition, w *witness, at time.Time) bool {
	if f.end.Before(at.Add(-w.grace)) {
		return false
	}
	success, _ := e.value("mde_refresh_success", "tenant", w.tenant, "collector", "security_states")
	seconds, _ := e.value("mde_refresh_duration_seconds", "tenant", w.tenant, "collector", "security_states")
	took := time.Duration(seconds * float64(time.Second))
	return success == 0 || !f.begin.After(at.Add(took+w.grace))
}

// differences tells in what a scrape differs from the fleet.
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
		return append(out, "the source is another")
	}
	if incomplete, _ := e.value("mde_security_states_incomplete", "tenant", tenant); incomplete != 0 {
		return append(out, "the antivirus rows are missing, which no fault of the far end allows")
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

func (w *witness) checkDomains(e exposition, fleets []*servedFleet, before, after time.Time, complain complaint) {
	for _, s := range e.samples("mde_watched_domain_machines", "tenant", w.tenant) {
		domain := s.labels["domain"]
		seconds, known := e.value("mde_watched_domain_last_success_timestamp_seconds", "tenant", w.tenant, "domain", domain)
		at := fromUnix(seconds)
		age := before.Sub(at)
		if !known || after.Sub(at) < -w.grace || age > w.domainsMaxAge+w.grace {
			complain("%s has values of %s ago (known %t), max_age is %s", domain, age, known, w.domainsMaxAge)
			continue
		}
		served, ok := w.servedAt(e, domain, int(s.value), at)
		if !ok {
			complain("%s has %v machines, last success %s ago: that was never served; served were %s", domain, s.value, age, w.servedMachines(domain))
			continue
		}
		w.checkJoin(e, domain, served, fleets, complain)
		for _, info := range e.samples("mde_watched_domain_machine_info", "tenant", w.tenant, "domain", domain) {
			if !served.ids[info.labels["machine_id"]] {
				complain("%s names the machine %s, which did not contact it", domain, info.labels["machine_id"])
			}
		}
	}
	for _, s := range e.samples("mde_watched_domain_prevalence", "tenant", w.tenant) {
		domain := s.labels["domain"]
		if !slices.ContainsFunc(w.prevalences[domain], func(p servedPrevalence) bool {
			return p.prevalence == int(s.value) && before.Sub(p.end) < w.domainsMaxAge+w.late+w.grace
		}) {
			complain("%s has a prevalence of %v, which was not served within max_age", domain, s.value)
		}
	}
}

// servedAt finds the answer that a domain's values were made of.
func (w *witness) servedAt(e exposition, domain string, machines int, at time.Time) (servedDomain, bool) {
	truncated, _ := e.value("mde_watched_domain_machines_truncated", "tenant", w.tenant, "domain", domain)
	risk := map[string]int{}
	for _, s := range e.samples("mde_watched_domain_machines_risk", "tenant", w.tenant, "domain", domain) {
		if s.value != 0 {
			risk[s.labels["risk_score"]] = int(s.value)
		}
	}
	for _, d := range slices.Backward(w.domains[domain]) {
		inTime := !d.end.After(at.Add(w.grace+time.Millisecond)) && !d.end.Before(at.Add(-w.late-w.grace))
		if inTime && d.machines == machines && d.truncated == (truncated == 1) && maps.Equal(d.risk, risk) {
			return d, true
		}
	}
	return servedDomain{}, false
}

func (w *witness) servedMachines(domain string) string {
	var out []string
	for _, d := range w.domains[domain] {
		out = append(out, fmt.Sprintf("%d at %s", d.machines, d.end.Format("15:04:05.000")))
	}
	return strings.Join(out, ", ")
}

// checkJoin compares the properties of a domain's machines with those that they
// had in the fleet that is shown.
func (w *witness) checkJoin(e exposition, domain string, served servedDomain, fleets []*servedFleet, complain complaint) {
	samples := e.samples("mde_watched_domain_machines_attention", "tenant", w.tenant, "domain", domain)
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
	complain("%s is joined to %v, which the fleet that is shown does not explain: %d fleets were served then", domain, shown, len(fleets))
}

// checkCounters sees that refreshes and their failures add up.
func (w *witness) checkCounters(e exposition, complain complaint) {
	for _, s := range e.samples("mde_refreshes_total", "tenant", w.tenant) {
		collector := s.labels["collector"]
		failures := sum(e.samples("mde_refresh_failures_total", "tenant", w.tenant, "collector", collector))
		if failures > s.value {
			complain("%s: %v refreshes, %v of them failed", collector, s.value, failures)
		}
	}
}

func fromUnix(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }
