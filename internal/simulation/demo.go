package simulation

import (
	"math"
	"strings"
	"time"
)

// The demo's watched domains.
const (
	DemoSuspectedDomain = "invoice-update.example" // suddenly contacted by more and more machines
	DemoPhishingDomain  = "login-portal.example"   // contacted by a few
	DemoOldDomain       = "old-botnet.example"     // contacted by three, long ago
	DemoWidespread      = "free-toolbar.example"   // contacted by more machines than a response contains
)

// DemoGroup is the device group that gets worse in the demo. Most machines of
// build 19045 belong to it, in every tenant, so an outage of that build affects
// it.
const DemoGroup = "Branch offices"

// DemoDomains returns the watched domains of the demo. Some were never contacted.
func DemoDomains() []string {
	return append(DemoUrgentDomains(),
		DemoPhishingDomain,
		DemoOldDomain,
		DemoWidespread,
		"parcel-tracking.example",
		"crypto-miner.example",
	)
}

// DemoUrgentDomains returns the most important of DemoDomains, the demo's list
// c2.
func DemoUrgentDomains() []string {
	return []string{DemoSuspectedDomain, "ransom-note.example", "command-server.example"}
}

// Demo returns the options of the demo's tenant: about 4,200 machines, and a
// story that repeats every half hour and changes something within the first
// minute.
//
//   - From 0:30 to 10:00 the feature update of Windows 11 from build 22631 to
//     26100 reaches most machines. From 25:00 on it is rolled back.
//   - Every ten minutes a patch raises each build to its next revision.
//   - From 1:00 to 7:30 of each quarter of an hour the antivirus of build 19045
//     stops reporting: on 2%, up to 30%, and back.
//   - EDR communication gets slowly worse over the half hour, and recovers.
//   - At 0:45 DemoSuspectedDomain is contacted for the first time, in the end by
//     more than a hundred machines.
//   - Machines join and leave, one every ten seconds.
//   - From 0:15 to 20:00 the machines of DemoGroup get up to six days behind:
//     they are not seen, not scanned, and receive neither signatures nor the new
//     engine that other machines receive. They recover until 28:00. During the
//     antivirus outage signatures age by two days a minute.
//   - More and more machines are discovered that are not onboarded.
//   - From 0:50 on there is an alert every nine seconds, sixty in total. Each is
//     assigned within ten minutes and resolved five minutes later. One high
//     alert, four hours old at 2:00, stays unassigned until 25:00.
//   - The scores get worse over 20 minutes, and recover.
//
// The caller chooses the sources: with PreviewStatus 404 only /api/machines and
// /api/deviceavinfo are available.
func Demo() Options {
	return Options{
		Machines: demoMachines,
		Seed:     2018,
		PageSize: 1000,
		CallLog:  1000,
		Roles:    []string{RoleMachines, RoleStatistics, RoleScores, RoleAlerts},
		Story: &Story{
			Fleet: demoFleet, Others: demoOthers, Machine: demoMachine, Domain: demoDomain,
			Alerts: demoAlerts, Alert: demoAlert, Scores: demoScores,
		},
	}
}

const (
	demoMachines = 4200
	demoCycle    = 30 * time.Minute
)

// demoFleet moves over the machine indexes: one machine joins for each that
// leaves. The size also varies by about fifty machines.
func demoFleet(since time.Duration) (first, count int) {
	wave := math.Sin(2 * math.Pi * float64(since%demoCycle) / float64(demoCycle))
	return int(since / (10 * time.Second)), demoMachines + int(50*wave)
}

func demoOthers(since time.Duration) int {
	return demoMachines/20 + int(260*swing(since%demoCycle, 10*time.Second, 18*time.Minute, 24*time.Minute, demoCycle))
}

func demoMachine(m *Machine, since time.Duration) {
	cycle := since % demoCycle

	update := 0.85 * swing(cycle, 30*time.Second, 10*time.Minute, 25*time.Minute, 29*time.Minute)
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
	outage := 0.30 * swing(quarter, time.Minute, 150*time.Second, 6*time.Minute, 450*time.Second)
	if m.Build == 19045 && m.antivirusRows() > 0 && m.Chance("antivirus outage") < outage {
		m.Require(AntivirusNotReporting)
		m.Antivirus.SignatureAge = max(m.Antivirus.SignatureAge, 0) + time.Duration(2*(quarter-time.Minute).Minutes()*float64(day))
	}

	drift := 0.04 * swing(cycle, 0, 20*time.Minute, 20*time.Minute, 28*time.Minute)
	if m.Health == "Active" && m.Chance("drift") < drift {
		m.Require(EdrImpairedCommunications)
	}

	behind := demoLag(cycle)
	engine := swing(cycle, 20*time.Second, 12*time.Minute, 29*time.Minute, demoCycle)
	switch av := &m.Antivirus; {
	case m.Group == DemoGroup && m.Chance("behind") < 0.25+0.65*behind:
		lag := time.Duration(6 * float64(day) * behind)
		for _, age := range [...]*time.Duration{&m.LastSeen, &av.SignatureAge, &av.Quick.Age, &av.Full.Age} {
			if *age >= 0 && *age < 7*day { // too recent for the sensor to count as inactive
				*age = max(*age, min(*age+lag, 6*day+20*time.Hour))
			}
		}
	case av.Engine == "True" && m.Chance("engine") < engine:
		av.EngineVersion = "1.1.25030.1"
	}
}

// demoLag returns how far DemoGroup is behind, from 0 to 1.
func demoLag(cycle time.Duration) float64 {
	return swing(cycle, 15*time.Second, 20*time.Minute, 22*time.Minute, 28*time.Minute)
}

// The demo's alerts: older ones, and a wave after the first contact with
// DemoSuspectedDomain.
const (
	demoOldAlerts  = 48
	demoWaveAlerts = 60
	demoWaveBegin  = 50 * time.Second
	demoWaveStep   = 9 * time.Second
)

func demoAlerts(since time.Duration) int {
	wave := (since%demoCycle-demoWaveBegin)/demoWaveStep + 1
	return demoOldAlerts + min(demoWaveAlerts, max(0, int(wave)))
}

func demoAlert(a *Alert, since time.Duration) {
	cycle := since % demoCycle
	wave := a.Index - demoOldAlerts
	switch {
	case a.Index == 0: // unassigned until 25:00
		a.Severity, a.Status, a.Owner, a.Created = "High", "New", "", since-cycle-4*time.Hour+2*time.Minute
		if cycle > 25*time.Minute {
			a.Status, a.Owner = "InProgress", owners[0].value
		}
	case wave < 0:
		if strings.EqualFold(a.Severity, "High") {
			a.Owner = owners[0].value
		}
	default:
		a.dice += dice(since / demoCycle) // another alert in each cycle
		a.Severity, a.Status, a.Owner = [...]string{"High", "Medium", "Low", "Medium"}[wave%4], "New", ""
		a.Category, a.Source = "CommandAndControl", "WindowsDefenderAtp"
		a.Created = since - cycle + demoWaveBegin + time.Duration(wave)*demoWaveStep
		taken := 2*time.Minute + time.Duration(a.dice.chance("taken")*float64(8*time.Minute))
		switch age := since - a.Created; {
		case age > taken+5*time.Minute:
			a.Status, a.Owner = "Resolved", owners[0].value
		case age > taken:
			a.Status, a.Owner = "InProgress", owners[0].value
		}
	}
}

func demoScores(s *Scores, since time.Duration) {
	cycle := since % demoCycle
	drift := swing(cycle, 5*time.Second, 20*time.Minute, 22*time.Minute, 29*time.Minute)
	s.Exposure, s.DeviceSecure = round(28.4+17*drift), round(512-38*drift)
	for name := range s.Groups {
		s.Groups[name] = round(s.Groups[name] + 9*drift)
	}
	s.Groups[DemoGroup] = round(36.2 + 35*demoLag(cycle))
}

func round(f float64) float64 { return math.Round(100*f) / 100 }

func demoDomain(name string, since time.Duration) (Domain, bool) {
	cycle := since % demoCycle
	switch name {
	case DemoSuspectedDomain:
		begin := 45 * time.Second
		if cycle < begin {
			return Domain{}, false
		}
		spread := swing(cycle, begin, 14*time.Minute, 26*time.Minute, demoCycle)
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

// swing rises from 0 to 1 between from and to, and falls again between back and
// end.
func swing(now, from, to, back, end time.Duration) float64 {
	return ramp(now, from, to) - ramp(now, back, end)
}

// ramp rises from 0 to 1 between from and to.
func ramp(now, from, to time.Duration) float64 {
	return min(1, max(0, float64(now-from)/float64(to-from)))
}
