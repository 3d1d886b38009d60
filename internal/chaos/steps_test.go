package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// dice is the source of all random choices of a run.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 2))} }

func oneOf[T any](d dice, choices ...T) T { return choices[d.IntN(len(choices))] }

// duration returns a random duration in [from, to).
func (d dice) duration(from, to time.Duration) time.Duration {
	return from + time.Duration(d.Int64N(int64(to-from)))
}

// randomStep changes the tenant at random and describes the change. decoy is an
// origin that must never be called.
func randomStep(d dice, sim *simulation.Tenant, domains []string, decoy string, longest time.Duration) string {
	switch d.IntN(10) {
	case 0:
		n := oneOf(d, 0, 1, 40, 300, 700, 1100)
		sim.SetMachines(n)
		return fmt.Sprintf("has %d machines", n)
	case 1:
		property := oneOf(d, simulation.AntivirusNotReporting, simulation.AntivirusOff, simulation.EdrImpairedCommunications, simulation.EdrInactive)
		share := oneOf(d, 0.1, 0.5, 1)
		salt := fmt.Sprint(d.Uint64())
		sim.Change(func(m *simulation.Machine) {
			if m.Chance(salt) < share {
				m.Require(property)
			}
		})
		return fmt.Sprintf("%s on %v of its machines", property, share)
	case 2:
		sim.Restore()
		return "is healthy again"
	case 3, 4:
		domain, n := oneOf(d, domains...), oneOf(d, 0, 0, 1, 7, 80, 499, 500, 900)
		sim.Contact(domain, n)
		return fmt.Sprintf("%d machines contact %s", n, domain)
	case 5:
		if d.IntN(2) == 0 {
			sim.RevokeTokens()
			return "revokes its tokens"
		}
		sim.Clear()
		return "has no more faults"
	default:
		api := oneOf(d, simulation.Every, simulation.Token, simulation.MachineSecurityStates, simulation.Machines,
			simulation.DeviceAVInfo, simulation.DomainMachines, simulation.DomainStats)
		f, name := fault(d, decoy)
		if d.IntN(2) == 0 {
			f.Times = 1 + d.IntN(4)
		} else {
			f.For = d.duration(longest/10, longest)
		}
		f.Skip = oneOf(d, 0, 0, 1, 3)
		sim.Fail(api, f)
		return fmt.Sprintf("%s on %s, skip %d, %d times, for %s", name, api, f.Skip, f.Times, f.For)
	}
}

// fault returns a fault that makes a response invalid. A faulty response is never
// a valid one.
func fault(d dice, decoy string) (simulation.Fault, string) {
	switch d.IntN(13) {
	case 0:
		after := oneOf(d, "1", "2", "3", time.Now().Add(2*time.Second).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
		return simulation.Fault{Status: 429, RetryAfter: after}, "429, Retry-After " + after
	case 1:
		return simulation.Fault{Status: 429}, "429"
	case 2:
		status := oneOf(d, 500, 502, 503, 504)
		return simulation.Fault{Status: status}, fmt.Sprint(status)
	case 3:
		return simulation.Fault{Status: 503, NoBody: true, RetryAfter: "1"}, "503 without a body"
	case 4:
		return simulation.Fault{Hang: true}, "hang"
	case 5:
		return simulation.Fault{Reset: true}, "reset"
	case 6:
		n := 1 + d.IntN(3000)
		return simulation.Fault{Truncate: n}, fmt.Sprintf("truncate after %d bytes", n)
	case 7:
		n := 1 + d.IntN(3000)
		return simulation.Fault{Truncate: n, Stall: true}, fmt.Sprintf("stall after %d bytes", n)
	case 8:
		return simulation.Fault{Body: simulation.SignInPage}, "sign-in page"
	case 9:
		body := oneOf(d, `{"value":[{"id":"`, `{`, `{}`, `null`, `[]`, `{"value":{}}`, `{"value":[1,2]}`, `{"value":[]}x`, `{"value":null}`,
			`{"error":{"code":"InternalServerError"}}`, strings.Repeat("[", 10_000), "\x00\xff\xfe", `{"value":[{}],"value":[{}]}`)
		return simulation.Fault{Body: body}, fmt.Sprintf("body %.30q", body)
	case 10:
		link := oneOf(d, decoy+"/testwdatppreview/machinesecuritystates?$skiptoken=1", "//"+strings.TrimPrefix(decoy, "http://")+"/api/machines",
			"https://evil.example/", "file:///etc/passwd", "http://user:password@127.0.0.1/", ":", "\x00")
		return simulation.Fault{NextLink: link}, fmt.Sprintf("nextLink %q", link)
	case 11:
		status := oneOf(d, 301, 302, 303, 307, 308)
		return simulation.Fault{Redirect: decoy + "/api/machines", Status: status}, fmt.Sprintf("redirect %d", status)
	default:
		delay := d.duration(time.Millisecond, time.Second)
		return simulation.Fault{Delay: delay}, fmt.Sprintf("delay %s", delay)
	}
}
