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
	// fileLatency is the maximum time until a changed watch-list file is read.
	// reloadLatency is how long the previous list may be shown after a reload.
	fileLatency   = 15 * time.Second
	reloadLatency = 3 * time.Second
)

// TestProgramWithRandomFaults runs the program while tenants fail, files change
// and the process is stopped and killed, at random. Each scrape must agree with
// what was served.
func TestProgramWithRandomFaults(t *testing.T) {
	servertest.Slow(t)
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	duration := *durationFlag
	if testing.Short() {
		duration = min(duration, 5*time.Second)
	}
	t.Logf("reproduce with: MDE_TEST_SERVERS=required go test ./internal/chaos -run %s -chaos.seed=%d -chaos.duration=%s", t.Name(), seed, duration)

	s := newProgramTest(t, newDice(seed))
	s.start()
	for end := time.Now().Add(duration); time.Now().Before(end); {
		s.log(s.step())
		s.check()
		time.Sleep(s.duration(0, time.Second))
		s.check()
	}
	if !testing.Short() {
		s.outage()
		s.awaitRecovery()
	}
	if code := s.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.checkCalls()
	s.checkLog()
}

// programTest contains the program, its files and its simulated tenants.
type programTest struct {
	*program
	dice
	dir, storage string
	tenants      []*programTenant
	spare        bool // The last tenant is configured.
	decoy        *simulation.Tenant
	decoyURL     string
	began        time.Time
	secrets      []string // All secrets so tenant.
}

// programTenant is a simulated tenant and its section of the configuration.
type programTenant struct {
	*simulation.Tenant
	server    *simulation.Server
	name      string
	interval  time.Duration
	perMinute int
	inline    []string    // Watch list in the configuration.
	listed    []string    // Watch list in the file.
	lists     []datedList // Both together: the current list last, and earlier ones.
	oracle    *oracle
}

type datedList struct {
	domains []string
	until   time.Time // Zero for the current list.
}

// recordList records a changed watch list, and for how long the earlier ones may
// still be shown.
func (tenant *programTenant) recordList(latency time.Duration) {
	until := time.Now().Add(latency)
	for i, list := range tenant.lists {
		if list.until.IsZero() || until.Before(list.until) {
			tenant.lists[i].until = until
		}
	}
	domains := append(slices.Clone(tenant.inline), tenant.listed...)
	slices.Sort(domains)
	tenant.lists = append(tenant.lists, datedList{domains: slices.Compact(domains)})
}

func newProgramTest(t *testing.T, d dice) *programTest {
	t.Helper()
	s := &programTest{dice: d, dir: t.TempDir(), began: time.Now()}
	s.storage = filepath.Join(s.dir, "storage")
	s.program = newProgram(t, build(t), "--config.file="+s.file("mde.yml"), "--storage.path="+s.storage, "--web.enable-lifecycle")
	s.addTenant("preview", 2*time.Second, 100, simulation.Options{Seed: 1, Machines: 1300, PageSize: 700})
	s.addTenant("machines", 3*time.Second, 100, simulation.Options{Seed: 2, Machines: 600, PreviewStatus: 404, UnknownDomain404: true, StatsAsStrings: true})
	s.addTenant("lowquota", time.Second, 12, simulation.Options{Seed: 3, Machines: 200, NextLinkLast: true})
	s.addTenant("spare", 2*time.Second, 100, simulation.Options{Seed: 4, Machines: 90})
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

func (s *programTest) addTenant(name string, interval time.Duration, perMinute int, o simulation.Options) {
	s.Helper()
	tenant := &programTenant{Tenant: simulation.New(o), name: name, interval: interval, perMinute: perMinute}
	server, err := tenant.Listen(simulation.ListenOptions{Separate: true})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(server.Close)
	tenant.server = server
	tenant.inline = []string{"evil.example", "only-" + name + ".example"}
	tenant.oracle = newOracle(name, tenant.Tenant)
	tenant.oracle.statesMaxAge, tenant.oracle.domainsMaxAge = programStatesMaxAge, programDomainsMaxAge
	tenant.oracle.late = programTimeout + 2*time.Second
	tenant.oracle.grace = 2 * time.Second
	s.tenants = append(s.tenants, tenant)
	s.rotate(tenant)
	s.list(tenant, "listed.example")
}

func (s *programTest) file(name string) string { return filepath.Join(s.dir, name) }

func (s *programTest) log(step string) {
	s.Logf("%6.2fs %s", time.Since(s.began).Seconds(), step)
}

// write replaces a file by renaming, as editors do.
func (s *programTest) write(name, content string) {
	s.Helper()
	if err := os.WriteFile(s.file(name+".new"), []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Rename(s.file(name+".new"), s.file(name)); err != nil {
		s.Fatal(err)
	}
}

// configured returns the configured tenants.
func (s *programTest) configured() []*programTenant {
	if s.spare {
		return s.tenants
	}
	return s.tenants[:len(s.tenants)-1]
}

func (s *programTest) configure() {
	s.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "global:\n  request_timeout: %s\n  watched_domains: {refresh_interval: 10s, max_age: %s, statistics: true, machine_info_limit: 2}\ntenants:\n",
		programTimeout, programDomainsMaxAge)
	for _, tenant := range s.configured() {
		fmt.Fprintf(&b, "- name: %s\n  azuread: {oauth: {tenant_id: %s, client_id: %s, client_secret_file: secret-%[1]s}}\n", tenant.name, tenant.TenantID(), tenant.ClientID())
		fmt.Fprintf(&b, "  endpoints: {login_url: %q, graph_url: %q, api_url: %q}\n", tenant.server.LoginURL, tenant.server.GraphURL, tenant.server.APIURL)
		fmt.Fprintf(&b, "  security_states: {refresh_interval: %s, max_age: %s}\n  quota: {calls_per_minute: %d}\n", tenant.interval, programStatesMaxAge, tenant.perMinute)
		fmt.Fprintf(&b, "  watched_domains: {domains: [%s], files: [watched-%s*.txt]}\n", strings.Join(tenant.inline, ", "), tenant.name)
	}
	s.write("mde.yml", b.String())
}

// rotate sets a new secret for a tenant, both in the simulation and in the file.
func (s *programTest) rotate(tenant *programTenant) {
	s.Helper()
	secret := fmt.Sprintf("secret-%s-%x", tenant.name, s.Uint64())
	s.secrets = append(s.secrets, secret)
	tenant.SetSecrets(secret)
	s.write("secret-"+tenant.name, secret)
}

// list replaces a tenant's watch-list file.
func (s *programTest) list(tenant *programTenant, domains ...string) {
	s.Helper()
	tenant.listed = domains
	tenant.recordList(fileLatency)
	s.write("watched-"+tenant.name+".txt", "# watched\n"+strings.Join(domains, "\n")+"\n")
}

// step performs a random step and describes it.
func (s *programTest) step() string {
	tenant := oneOf(s.dice, s.tenants...)
	switch s.IntN(24) {
	case 0:
		s.rotate(tenant)
		return tenant.name + " gets a new secret"
	case 1:
		tenant = oneOf(s.dice, s.tenants[:2]...)
		tenant.SetSecrets("another one")
		return tenant.name + " rejects its secret"
	case 2:
		tenant.SetPreview(oneOf(s.dice, 0, 404, 410, 403))
		return tenant.name + " has another preview"
	case 3, 4:
		domains := oneOf(s.dice, []string{}, []string{"listed.example"}, []string{"listed.example", "more.example", "evil.example"}, []string{"more.example"})
		s.list(tenant, domains...)
		return fmt.Sprintf("%s watches %v by file", tenant.name, domains)
	case 5, 6:
		return s.reload()
	case 7:
		return s.reloadMistake()
	case 8, 9:
		if code := s.signal(syscall.SIGTERM); code != 0 {
			s.Fatalf("exit code %d\n%s", code, s.logged())
		}
		damage := s.damageStorage()
		s.start()
		return "stop and start" + damage
	case 10, 11:
		s.signal(syscall.SIGKILL)
		damage := s.damageStorage()
		s.start()
		return "kill and start" + damage
	case 12:
		return s.stopAtStart()
	case 13:
		return s.scrapeDuringHang()
	case 14, 15:
		wait := s.duration(100*time.Millisecond, 3*time.Second)
		time.Sleep(wait)
		return "wait " + wait.String()
	default:
		what := randomStep(s.dice, tenant.Tenant, append(slices.Clone(tenant.inline), "listed.example"), s.decoyURL, 5*time.Second)
		return tenant.name + " " + what
	}
}

// reload loads a changed configuration.
func (s *programTest) reload() string {
	tenant := oneOf(s.dice, s.tenants...)
	var what string
	if s.IntN(2) == 0 {
		s.spare = !s.spare
		what = fmt.Sprintf("the spare tenant is configured: %t", s.spare)
	} else {
		all := []string{"evil.example", "only-" + tenant.name + ".example", "late.example"}
		tenant.inline = all[s.IntN(2) : 1+s.IntN(3)]
		if len(tenant.inline) == 0 {
			tenant.inline = all[:1]
		}
		what = fmt.Sprintf("%s watches %v", tenant.name, tenant.inline)
	}
	s.load()
	return "reload: " + what
}

// load reloads the valid configuration and the watch-list files.
func (s *programTest) load() {
	s.configure()
	if status, body := s.request(http.MethodPost, "/-/reload", ""); status != http.StatusOK {
		s.Fatalf("reload: status %d: %s", status, body)
	}
	for _, tenant := range s.tenants {
		tenant.recordList(reloadLatency)
	}
}

// reloadMistake loads a configuration with a mistake, which must change nothing.
func (s *programTest) reloadMistake() string {
	s.write("mde.yml", oneOf(s.dice, "", "tenants: [", "tenants: []\n", "tenants:\n- name: x\n", "global: {request_timeout: 0s}\n", "\x00\xff"))
	status, body := s.request(http.MethodPost, "/-/reload", "")
	if successful, _ := s.scrape().value("mde_exporter_config_last_reload_successful"); status == http.StatusOK || successful != 0 {
		s.Fatalf("a configuration with a mistake is loaded: %d %s", status, body)
	}
	s.load()
	return fmt.Sprintf("a configuration with a mistake: %.100q", body)
}

// stopAtStart stops the program during its start, perhaps before it handles
// signals.
func (s *programTest) stopAtStart() string {
	s.signal(syscall.SIGKILL)
	s.launch()
	wait := s.duration(0, 60*time.Millisecond)
	time.Sleep(wait)
	if code := s.signal(syscall.SIGTERM); code > 0 {
		s.Fatalf("stopped after %s: exit code %d\n%s", wait, code, s.logged())
	}
	s.start()
	return fmt.Sprintf("stop %s after the start", wait)
}

// scrapeDuringHang scrapes while the same call hangs before and after the scrape.
func (s *programTest) scrapeDuringHang() string {
	tenant := s.tenants[0]
	tenant.Clear()
	tenant.Fail(simulation.Every, simulation.Fault{Hang: true})
	defer tenant.Clear()
	hanging := func() map[int]bool {
		open := map[int]bool{}
		for _, c := range tenant.Calls() {
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
				return "scrape during hanging calls"
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "no hanging call" // For example during a pause after a rejection.
}

// damageStorage sometimes damages a file while the program is stopped. It only
// flips bits in files of spent calls, so that no call is lost.
func (s *programTest) damageStorage() string {
	files, err := filepath.Glob(filepath.Join(s.storage, "*"))
	if err != nil || len(files) == 0 || s.IntN(2) == 0 {
		return ""
	}
	name := oneOf(s.dice, files...)
	content, err := os.ReadFile(name)
	if err != nil || len(content) < 200 {
		return ""
	}
	what := "flip bits of"
	switch values := strings.HasSuffix(name, ".values"); {
	case values && s.IntN(3) == 0:
		what, content = "truncate", content[:s.IntN(len(content))]
	case values && s.IntN(3) == 0:
		what, content = "overwrite", []byte("other content\n")
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
func (s *programTest) check() exposition {
	s.Helper()
	before := time.Now()
	e := s.scrape()
	after := time.Now()
	var problems []string
	// The simulation records the end of a response a little later than the
	// client.
	for range 10 {
		problems = s.problems(e, before, after)
		if len(problems) == 0 {
			return e
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, problem := range problems {
		s.Error(problem)
	}
	s.Fatalf("log:\n%s", s.logged())
	return nil
}

func (s *programTest) problems(e exposition, before, after time.Time) []string {
	var problems []string
	for _, tenant := range s.configured() {
		problems = append(problems, tenant.oracle.check(e, before, after)...)
		problems = append(problems, tenant.checkList(e, after)...)
	}
	if !s.spare {
		name := s.tenants[len(s.tenants)-1].name
		for family := range e {
			if len(e.samples(family, "tenant", name)) > 0 {
				problems = append(problems, family+" is exposed for a tenant that is not configured")
			}
		}
	}
	return problems
}

// checkList checks that the watch list is the current one or a recent one.
func (tenant *programTenant) checkList(e exposition, now time.Time) []string {
	watched, ok := e.value("mde_watched_domains", "tenant", tenant.name)
	if !ok {
		return nil // Its first refresh is still pending.
	}
	var shown []string
	for _, s := range e.samples("mde_watched_domain_last_success_timestamp_seconds", "tenant", tenant.name) {
		shown = append(shown, s.labels["domain"])
	}
	var possible [][]string
	for _, list := range tenant.lists {
		if !list.until.IsZero() && now.After(list.until) {
			continue
		}
		possible = append(possible, list.domains)
		unlisted := func(name string) bool { return !slices.Contains(list.domains, name) }
		if int(watched) == len(list.domains) && !slices.ContainsFunc(shown, unlisted) {
			return nil
		}
	}
	return []string{fmt.Sprintf("tenant %s: %v domains are watched, %v have values; the list is one of %v", tenant.name, watched, shown, possible)}
}

// outage makes every call fail until all values are withdrawn.
func (s *programTest) outage() {
	s.Helper()
	s.log("outage of all tenants")
	for _, tenant := range s.tenants {
		tenant.Clear()
		tenant.Fail(simulation.Every, oneOf(s.dice, simulation.Fault{Hang: true}, simulation.Fault{Status: 503}, simulation.Fault{Reset: true}))
	}
	s.eventually("values are withdrawn", func(e exposition) bool {
		return len(e["mde_machines"]) == 0 && len(e["mde_watched_domain_machines"]) == 0
	})
}

// awaitRecovery ends all faults and waits until all values are current.
func (s *programTest) awaitRecovery() {
	s.Helper()
	s.log("end of all faults")
	since := time.Now()
	for _, tenant := range s.tenants {
		tenant.Clear()
		s.rotate(tenant)
	}
	s.eventually("values match the tenants", func(e exposition) bool {
		for _, tenant := range s.configured() {
			if tenant.name == "lowquota" {
				continue // Its quota may be spent for a minute.
			}
			if n := int(sum(e.samples("mde_machines", "tenant", tenant.name))); n != tenant.Now().Tally().Total {
				return false
			}
			for _, collector := range []string{"security_states", "watched_domains"} {
				success, _ := e.value("mde_refresh_success", "tenant", tenant.name, "collector", collector)
				at, _ := e.value("mde_refresh_last_success_timestamp_seconds", "tenant", tenant.name, "collector", collector)
				if success != 1 || fromUnix(at).Before(since) {
					return false
				}
			}
		}
		return true
	})
}

// eventually scrapes until ok returns true. It checks each scrape.
func (s *programTest) eventually(what string, ok func(exposition) bool) {
	s.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(s.check()); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, body := s.request(http.MethodGet, "/metrics", "")
			s.Fatalf("timed out waiting until %s\n%s\n%s", what, body, s.logged())
		}
	}
	s.log(what)
}

// checkCalls checks the calls that the tenants received, over all restarts.
func (s *programTest) checkCalls() {
	s.Helper()
	if n := s.decoy.Count(simulation.Every); n > 0 {
		s.Errorf("%d calls reached the decoy host", n)
	}
	for _, tenant := range s.tenants {
		for _, c := range tenant.Misdirected() {
			s.Errorf("%s: misdirected token: %s for %q", tenant.name, c.Target, c.Audience)
		}
		for api, limit := range simulation.DocumentedLimits() {
			limit.PerMinute = min(limit.PerMinute, tenant.perMinute)
			if n := tenant.Busiest(api, time.Minute); n > limit.PerMinute {
				s.Errorf("%s: %d calls of %s within a minute, %d are allowed", tenant.name, n, api, limit.PerMinute)
			}
		}
	}
	s.Logf("%s: at most %d of %d calls within a minute", s.tenants[2].name,
		s.tenants[2].Busiest(simulation.MachineSecurityStates, time.Minute), s.tenants[2].perMinute)
}

// checkLog checks that the log contains no secret, race or panic.
func (s *programTest) checkLog() {
	s.Helper()
	log := s.logged()
	for _, word := range append(s.secrets, "eyJ", "DATA RACE", "panic", "goroutine ") {
		if strings.Contains(log, word) {
			s.Errorf("the log contains %q\n%s", word, log)
		}
	}
}
