package simulation

import (
	"math"
	"time"
)

// The demo's watched domains, by what the story does with them.
const (
	DemoSuspectedDomain = "invoice-update.example" // suddenly contacted by more and more machines
	DemoPhishingDomain  = "login-portal.example"   // contacted by a few
	DemoOldDomain       = "old-botnet.example"     // contacted by three, long ago
	DemoWidespread      = "free-toolbar.example"   // contacted by more machines than an answer holds
)

// DemoDomains are the domains that the demo watches. Some were never contacted.
func DemoDomains() []string {
	return []string{
		DemoSuspectedDomain,
		DemoPhishingDomain,
		DemoOldDomain,
		DemoWidespread,
		"ransom-note.example",
		"command-server.example",
		"parcel-tracking.example",
		"crypto-miner.example",
	}
}

// Demo describes the tenant of the demo: some 4,200 machines, and a story that
// repeats every half hour and shows something within the first minute.
//
//   - From 0:30 to 10:00 the feature update of Windows 11 from build 22631 to
//     26100 reaches most machines; from 25:00 on it is taken back.
//   - Every ten minutes a patch brings each build to its next revision.
//   - From 1:00 to 7:30 of each quarter of an hour the antivirus of build 19045
//     stops reporting: 2 %, up to 30 %, and back.
//   - EDR communication gets slowly worse over the half hour, and recovers.
//   - At 0:45 DemoSuspectedDomain is contacted for the first time, and by more
//     than a hundred machines in the end.
//   - Machines come and go, one every ten seconds.
//
// What the tenant offers is for the caller to choose: PreviewStatus 404 leaves
// /api/machines and /api/deviceavinfo alone.
func Demo() Options {
	return Options{
		Machines: demoMachines,
		Seed:     2018,
		PageSize: 1000,
		CallLog:  1000,
		Story:    &Story{Fleet: demoFleet, Machine: demoMachine, Domain: demoDomain},
	}
}

const (
	demoMachines = 4200
	demoCycle    = 30 * time.Minute
)

// demoFleet slides over the machines, a new one for each that goes, and swells
// and shrinks by some fifty machines.
func demoFleet(since time.Duration) (first, count int) {
	wave := math.Sin(2 * math.Pi * float64(since%demoCycle) / float64(demoCycle))
	return int(since / (10 * time.Second)), demoMachines + int(50*wave)
}

func demoMachine(m *Machine, since time.Duration) {
	cycle := since % demoCycle

	update := 0.85*ramp(cycle, 30*time.Second, 10*time.Minute) - 0.85*ramp(cycle, 25*time.Minute, 29*time.Minute)
	if m.Build == 22631 && m.Chance("feature update") < update {
		m.Release, m.Build, m.Revision = "24H2", 26100, 3476
	}

	month := since / (10 * time.Minute)
	if m.Build != 0 {
		m.Revision += 137 * int(month)
		patched := ramp(since%(10*time.Minute), 20*time.Second, 8*time.Minute)
		if m.Chance("patch") < 0.97*patched {
			m.Revision += 137
		}
	}

	quarter := since % (15 * time.Minute)
	outage := 0.30 * (ramp(quarter, time.Minute, 150*time.Second) - ramp(quarter, 6*time.Minute, 450*time.Second))
	if m.Build == 19045 && m.hasAntivirusRow() && m.Chance("antivirus outage") < outage {
		m.Require(AntivirusNotReporting)
	}

	drift := 0.04 * (ramp(cycle, 0, 20*time.Minute) - ramp(cycle, 20*time.Minute, 28*time.Minute))
	if m.Health == "Active" && m.Chance("drift") < drift {
		m.Require(EdrImpairedCommunications)
	}
}

func demoDomain(name string, since time.Duration) (Domain, bool) {
	cycle := since % demoCycle
	switch name {
	case DemoSuspectedDomain:
		begin := 45 * time.Second
		if cycle < begin {
			return Domain{}, false
		}
		spread := ramp(cycle, begin, 14*time.Minute) - ramp(cycle, 26*time.Minute, demoCycle)
		return Domain{Machines: 4 + int(130*spread), FirstSeen: cycle - begin + time.Second}, true
	case DemoPhishingDomain:
		return Domain{Machines: 9 + int(since/(4*time.Minute))%5, FirstSeen: 6 * 24 * time.Hour, LastSeen: since % (4 * time.Minute)}, true
	case DemoOldDomain:
		return Domain{Machines: 3, FirstSeen: 200 * 24 * time.Hour, LastSeen: 19*24*time.Hour + since}, true
	case DemoWidespread:
		return Domain{Machines: 1480 + int(cycle/(20*time.Second)), FirstSeen: 90 * 24 * time.Hour, LastSeen: since % time.Minute}, true
	}
	return Domain{}, false
}

// ramp goes from 0 to 1 between two moments.
func ramp(now, from, to time.Duration) float64 {
	return min(1, max(0, float64(now-from)/float64(to-from)))
}
