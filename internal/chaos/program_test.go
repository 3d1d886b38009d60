package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

const (
	programTimeout       = 4 * time.Second
	programStatesMaxAge  = 8 * time.Second
	programDomainsMaxAge = 15 * time.Second
	// fileLatency is how long a watch-list file may be changed before it is read,
	// and reloadLatency how long the list before a reload may be shown after it.
	fileLatency   = 15 * time.Second
	reloadLatency = 3 * time.Second
)

// TestProgramAmidChaos runs the program while far ends fail, files change and
// the process is stopped and killed, at random. Each scrape must agree with what
// was served.
func TestProgramAmidChaos(t *testing.T) {
	servertest.Slow(t)
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	duration := *durationFlag
	if testing.Short() {
		duration = min(duration, 5*time.Second)
	}
	t.Logf("again with: MDE_TEST_SERVERS=required go test ./internal/chaos -run %s -chaos.seed=%d -chaos.duration=%s", t.Name(), seed, duration)

	s := newStage(t, newDice(seed))
	s.start()
	for end := time.Now().Add(duration); time.Now().Before(end); {
		s.log(s.step())
		s.check()
		time.Sleep(s.duration(0, time.Second))
		s.check()
	}
	if !testing.Short() {
		s.outage()
		s.recover()
	}
	if code := s.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("the program ends with %d", code)
	}
	s.checkFarEnds()
	s.checkLog()
}

// stage is the program, its files and its far ends.
type stage struct {
	*program
	dice
	dir, storage string
	tenants      []*stageTenant
	spare        bool // The last tenant is in the configuration.
	decoy        *simulation.Tenant
	decoyURL     string
	began        time.Time
	secrets      []string // All that ever were.
}

// stageTenant is a far end and the section of the configuration about it.
type stageTenant struct {
	*simulation.Tenant
	server    *simulation.Server
	name      string
	interval  time.Duration
	perMinute int
	inline    []string    // The watch list of the configuration.
	listed    []string    // That of the file.
	lists     []datedList // Both together, as they are and were; the latest last.
	witness   *witness
}

type datedList struct {
	domains []string
	until   time.Time // Zero while it is in force.
}

// noteList notes that the watch list is another, and for how long the ones before
// it may still be shown.
func (far *stageTenant) noteList(latency time.Duration) {
	until := time.Now().Add(latency)
	for i, list := range far.lists {
		if list.until.IsZero() || until.Before(list.until) {
			far.lists[i].until = until
		}
	}
	domains := append(slices.Clone(far.inline), far.listed...)
	slices.Sort(domains)
	far.lists = append(far.lists, datedList{domains: slices.Compact(domains)})
}

func newStage(t *testing.T, d dice) *stage {
	t.Helper()
	s := &stage{dice: d, dir: t.TempDir(), began: time.Now()}
	s.storage = filepath.Join(s.dir, "storage")
	s.program = newProgram(t, build(t), "--config.file="+s.file("mde.yml"), "--storage.path="+s.storage, "--web.enable-lifecycle")
	s.tenant("preview", 2*time.Second, 100, simulation.Options{Seed: 1, Machines: 1300, PageSize: 700})
	s.tenant("machines", 3*time.Second, 100, simulation.Options{Seed: 2, Machines: 600, PreviewStatus: 404, UnknownDomain404: true, StatsAsStrings: true})
	s.tenant("thrifty", time.Second, 12, simulation.Options{Seed: 3, Machines: 200, NextLinkLast: true})
	s.tenant("spare", 2*time.Second, 100, simulation.Options{Seed: 4, Machines: 90})
	s.decoy = simulation.New(simulation.Options{})
	server, err := s.decoy.Listen(simulation.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s.decoyURL = server.APIURL
	s.configure()
	return s
}

func (s *stage) tenant(name string, interval time.Duration, perMinute int, o simulation.Options) {
	s.Helper()
	far := &stageTenant{Tenant: simulation.New(o), name: name, interval: interval, perMinute: perMinute}
	server, err := far.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(server.Close)
	far.server = server
	far.inline = []string{"evil.example", "only-" + name + ".example"}
	far.witness = newWitness(name, far.Tenant)
	far.witness.statesMaxAge, far.witness.domainsMaxAge = programStatesMaxAge, programDomainsMaxAge
	far.witness.late = programTimeout + 2*time.Second
	far.witness.grace = 2 * time.Second
	s.tenants = append(s.tenants, far)
	s.rotate(far)
	s.list(far, "listed.example")
}

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) log(step string) {
	s.Logf("%6.2fs %s", time.Since(s.began).Seconds(), step)
}

// write replaces a file as editors do.
func (s *stage) write(name, content string) {
	s.Helper()
	if err := os.WriteFile(s.file(name+".new"), []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(s.file(name+".new"), s.file(name)); err != nil {
		s.Fatal(err)
	}
}

// configured are the tenants of the configuration.
func (s *stage) configured() []*stageTenant {
	if s.spare {
		return s.tenants
	}
	return s.tenants[:len(s.tenants)-1]
}

func (s *stage) configure() {
	s.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "global:\n  request_timeout: %s\n  watched_domains: {refresh_interval: 10s, max_age: %s, statistics: true, machine_info_limit: 2}\ntenants:\n",
		programTimeout, programDomainsMaxAge)
	for _, far := range s.configured() {
		fmt.Fprintf(&b, "- name: %s\n  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret_file: secret-%[1]s}}\n", far.name, far.TenantID(), far.ClientID())
		fmt.Fprintf(&b, "  endpoints: {login_url: %q, graph_url: %q, api_url: %q}\n", far.server.LoginURL, far.server.GraphURL, far.server.APIURL)
		fmt.Fprintf(&b, "  security_states: {refresh_interval: %s, max_age: %s}\n  quota: {calls_per_minute: %d}\n", far.interval, programStatesMaxAge, far.perMinute)
		fmt.Fprintf(&b, "  watched_domains: {domains: [%s], files: [watched-%s*.txt]}\n", strings.Join(far.inline, ", "), far.name)
	}
	s.write("mde.yml", b.String())
}

// rotate gives a tenant a new secret, at the far end and in the file.
func (s *stage) rotate(far *stageTenant) {
	s.Helper()
	secret := fmt.Sprintf("secret-%s-%x", far.name, s.Uint64())
	s.secrets = append(s.secrets, secret)
	far.SetSecrets(secret)
	s.write("secret-"+far.name, secret)
}

// list replaces a tenant's watch-list file.
func (s *stage) list(far *stageTenant, domains ...string) {
	s.Helper()
	far.listed = domains
	far.noteList(fileLatency)
	s.write("watched-"+far.name+".txt", "# watched\n"+strings.Join(domains, "\n")+"\n")
}

// step does one thing at random and says what.
func (s *stage) step() string {
	far := one(s.dice, s.tenants...)
	switch s.IntN(24) {
	case 0:
		s.rotate(far)
		return far.name + " gets a new secret"
	case 1:
		far = one(s.dice, s.tenants[:2]...)
		far.SetSecrets("another one")
		return far.name + " refuses its secret"
	case 2:
		far.SetPreview(one(s.dice, 0, 404, 410, 403))
		return far.name + " has another preview"
	case 3, 4:
		domains := one(s.dice, []string{}, []string{"listed.example"}, []string{"listed.example", "more.example", "evil.example"}, []string{"more.example"})
		s.list(far, domains...)
		return fmt.Sprintf("%s watches %v by file", far.name, domains)
	case 5, 6:
		return s.reload()
	case 7:
		return s.reloadMistake()
	case 8, 9:
		if code := s.signal(syscall.SIGTERM); code != 0 {
			s.Fatalf("the program ends with %d\n%s", code, s.logged())
		}
		harm := s.harmStorage()
		s.start()
		return "stop and start" + harm
	case 10, 11:
		s.signal(syscall.SIGKILL)
		harm := s.harmStorage()
		s.start()
		return "kill and start" + harm
	case 12:
		return s.stopAtStart()
	case 13:
		return s.hangAll()
	case 14, 15:
		wait := s.duration(100*time.Millisecond, 3*time.Second)
		time.Sleep(wait)
		return "wait " + wait.String()
	default:
		what := mischief(s.dice, far.Tenant, append(slices.Clone(far.inline), "listed.example"), s.decoyURL, 5*time.Second)
		return far.name + " " + what
	}
}

// reload loads another configuration.
func (s *stage) reload() string {
	far := one(s.dice, s.tenants...)
	var what string
	if s.IntN(2) == 0 {
		s.spare = !s.spare
		what = fmt.Sprintf("the spare tenant is there: %t", s.spare)
	} else {
		all := []string{"evil.example", "only-" + far.name + ".example", "late.example"}
		far.inline = all[s.IntN(2) : 1+s.IntN(3)]
		if len(far.inline) == 0 {
			far.inline = all[:1]
		}
		what = fmt.Sprintf("%s watches %v", far.name, far.inline)
	}
	s.load()
	return "reload: " + what
}

// load loads the configuration, which has no mistake, and with it the files.
func (s *stage) load() {
	s.configure()
	if status, body := s.request(http.MethodPost, "/-/reload", ""); status != http.StatusOK {
		s.Fatalf("a reload is answered with %d: %s", status, body)
	}
	for _, far := range s.tenants {
		far.noteList(reloadLatency)
	}
}

// reloadMistake loads a configuration with a mistake, which changes nothing.
func (s *stage) reloadMistake() string {
	s.write("mde.yml", one(s.dice, "", "tenants: [", "tenants: []\n", "tenants:\n- name: x\n", "global: {request_timeout: 0s}\n", "\x00\xff"))
	status, body := s.request(http.MethodPost, "/-/reload", "")
	if successful, _ := s.scrape().value("mde_exporter_config_last_reload_successful"); status == http.StatusOK || successful != 0 {
		s.Fatalf("a mistake is loaded: %d %s", status, body)
	}
	s.load()
	return fmt.Sprintf("a mistaken configuration: %.100q", body)
}

// stopAtStart stops the program while it starts. It may not have come to listen
// to signals yet.
func (s *stage) stopAtStart() string {
	s.signal(syscall.SIGKILL)
	s.launch()
	wait := s.duration(0, 60*time.Millisecond)
	time.Sleep(wait)
	if code := s.signal(syscall.SIGTERM); code > 0 {
		s.Fatalf("the program, stopped after %s, ends with %d\n%s", wait, code, s.logged())
	}
	s.start()
	return fmt.Sprintf("stop %s after the start", wait)
}

// hangAll scrapes while a call hangs that was there before and is there after.
func (s *stage) hangAll() string {
	far := s.tenants[0]
	far.Clear()
	far.Fail(simulation.Every, simulation.Fault{Hang: true})
	defer far.Clear()
	hanging := func() map[int]bool {
		open := map[int]bool{}
		for _, c := range far.Calls() {
			if !c.Done {
				open[c.Number] = true
			}
		}
		return open
	}
	for range 40 {
		before := hanging()
		s.scrape()
		for number := range hanging() {
			if before[number] {
				return "scrape beside hanging calls"
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "no call came to hang" // Such as where the tenant waits after a refusal.
}

// harmStorage damages a file while the program does not run, or does not. Calls
// that were spent are never forgotten by it: their files are only garbled.
func (s *stage) harmStorage() string {
	files, err := filepath.Glob(filepath.Join(s.storage, "*"))
	if err != nil || len(files) == 0 || s.IntN(2) == 0 {
		return ""
	}
	name := one(s.dice, files...)
	content, err := os.ReadFile(name)
	if err != nil || len(content) < 200 {
		return ""
	}
	what := "garble"
	switch values := strings.HasSuffix(name, ".values"); {
	case values && s.IntN(3) == 0:
		what, content = "truncate", content[:s.IntN(len(content))]
	case values && s.IntN(3) == 0:
		what, content = "overwrite", []byte("something else\n")
	default:
		for range 1 + s.IntN(5) {
			content[64+s.IntN(len(content)-64)] ^= byte(1 + s.IntN(255))
		}
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		s.Fatal(err)
	}
	return fmt.Sprintf(", %s %s", what, filepath.Base(name))
}

// check compares a scrape with what was served.
func (s *stage) check() exposition {
	s.Helper()
	before := time.Now()
	e := s.scrape()
	after := time.Now()
	var faults []string
	// The far end notes that an answer has ended a little after it was read.
	for range 10 {
		faults = s.faults(e, before, after)
		if len(faults) == 0 {
			return e
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, fault := range faults {
		s.Error(fault)
	}
	s.Fatalf("log:\n%s", s.logged())
	return nil
}

func (s *stage) faults(e exposition, before, after time.Time) []string {
	var faults []string
	for _, far := range s.configured() {
		faults = append(faults, far.witness.check(e, before, after)...)
		faults = append(faults, far.checkList(e, after)...)
	}
	if !s.spare {
		name := s.tenants[len(s.tenants)-1].name
		for family := range e {
			if len(e.samples(family, "tenant", name)) > 0 {
				faults = append(faults, family+" is there of a tenant that is not")
			}
		}
	}
	return faults
}

// checkList sees that the list in force is one that is or was so a moment ago.
func (far *stageTenant) checkList(e exposition, now time.Time) []string {
	watched, ok := e.value("mde_watched_domains", "tenant", far.name)
	if !ok {
		return nil // Its first refresh waits for its turn.
	}
	var shown []string
	for _, s := range e.samples("mde_watched_domain_last_success_timestamp_seconds", "tenant", far.name) {
		shown = append(shown, s.labels["domain"])
	}
	var possible [][]string
	for _, list := range far.lists {
		if !list.until.IsZero() && now.After(list.until) {
			continue
		}
		possible = append(possible, list.domains)
		unlisted := func(name string) bool { return !slices.Contains(list.domains, name) }
		if int(watched) == len(list.domains) && !slices.ContainsFunc(shown, unlisted) {
			return nil
		}
	}
	return []string{fmt.Sprintf("tenant %s: %v domains are watched, %v have values; the list is one of %v", far.name, watched, shown, possible)}
}

// outage lets every call fail until no value is left.
func (s *stage) outage() {
	s.Helper()
	s.log("all fail")
	for _, far := range s.tenants {
		far.Clear()
		far.Fail(simulation.Every, one(s.dice, simulation.Fault{Hang: true}, simulation.Fault{Status: 503}, simulation.Fault{Reset: true}))
	}
	s.eventually("values are withdrawn", func(e exposition) bool {
		return len(e["mde_machines"]) == 0 && len(e["mde_watched_domain_machines"]) == 0
	})
}

// recover lets everything go well and waits until that shows.
func (s *stage) recover() {
	s.Helper()
	s.log("all go well")
	since := time.Now()
	for _, far := range s.tenants {
		far.Clear()
		s.rotate(far)
	}
	s.eventually("values are those of the far ends", func(e exposition) bool {
		for _, far := range s.configured() {
			if far.name == "thrifty" {
				continue // Its quota may be spent for a minute.
			}
			if n := int(sum(e.samples("mde_machines", "tenant", far.name))); n != far.Now().Tally().Total {
				return false
			}
			for _, collector := range []string{"security_states", "watched_domains"} {
				success, _ := e.value("mde_refresh_success", "tenant", far.name, "collector", collector)
				at, _ := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", far.name, "collector", collector)
				if success != 1 || fromUnix(at).Before(since) {
					return false
				}
			}
		}
		return true
	})
}

// eventually scrapes, and checks each scrape, until something is true.
func (s *stage) eventually(what string, ok func(exposition) bool) {
	s.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(s.check()); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, body := s.request(http.MethodGet, "/metrics", "")
			s.Fatalf("never came true: %s\n%s\n%s", what, body, s.logged())
		}
	}
	s.log(what)
}

// checkFarEnds looks at what reached the far ends, over all restarts.
func (s *stage) checkFarEnds() {
	s.Helper()
	if n := s.decoy.Count(simulation.Every); n > 0 {
		s.Errorf("%d calls reached a host they were led to", n)
	}
	for _, far := range s.tenants {
		for _, c := range far.Misdirected() {
			s.Errorf("%s: a token at the wrong place: %s for %q", far.name, c.Target, c.Audience)
		}
		for api, limit := range simulation.DocumentedLimits() {
			limit.PerMinute = min(limit.PerMinute, far.perMinute)
			if n := far.Busiest(api, time.Minute); n > limit.PerMinute {
				s.Errorf("%s: %d calls of %s within a minute, %d are allowed", far.name, n, api, limit.PerMinute)
			}
		}
	}
	s.Logf("%s: at most %d calls within a minute of its %d", s.tenants[2].name,
		s.tenants[2].Busiest(simulation.MachineSecurityStates, time.Minute), s.tenants[2].perMinute)
}

// checkLog sees that nothing secret and no race was told.
func (s *stage) checkLog() {
	s.Helper()
	log := s.logged()
	for _, word := range append(s.secrets, "eyJ", "DATA RACE", "panic", "goroutine ") {
		if strings.Contains(log, word) {
			s.Errorf("the log holds %q\n%s", word, log)
		}
	}
}
