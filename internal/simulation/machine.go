package simulation

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// The properties of a machine, by the preview's names.
const (
	EdrImpairedCommunications    = "EdrImpairedCommunications"
	EdrNoSensorData              = "EdrNoSensorData"
	EdrInactive                  = "EdrInactive"
	AntivirusNotReporting        = "AntivirusNotReporting"
	AntivirusOff                 = "AntivirusOff"
	AntivirusDefinitionsOutdated = "AntivirusDefinitionsOutOfDate"
	AntivirusEngineOutdated      = "AntivirusEngineOutOfDate"
	AntivirusPlatformOutdated    = "AntivirusPlatformOutOfDate"
)

// Machine is the state of one machine at one moment. Both sources derive from it:
// /api/machines and /api/deviceavinfo show its fields, the preview shows its
// Properties.
type Machine struct {
	// Index is the machine's position in the fleet. Together with the tenant's
	// seed it determines every field that no Change and no Story changes.
	Index int

	Platform string // osPlatform, as in "Windows11"
	Release  string // version, as in "23H2"
	// Build is the osBuild. 0 means null, as for macOS and Linux.
	Build    int
	Revision int
	// Architecture is in the preview's format: Amd64, Arm64 or X86. Empty means
	// null.
	Architecture string

	// Name is the computerDnsName. Empty means one derived from Index.
	Name       string
	Health     string // healthStatus
	Onboarding string // onboardingStatus
	Merged     bool   // merged into another machine's record
	Risk       string // riskScore; empty means null
	Exposure   string // exposureLevel; empty means null
	// LastSeen is the time since the last full report. Negative means never,
	// which the API sends as the year 0001.
	LastSeen time.Duration
	Group    string // rbacGroupName; empty means null
	// Tags are the machineTags. Nil means null. Machines share the slice, so a
	// Change must replace it.
	Tags []string
	// Agent is the agentVersion, on Windows without the appended build and
	// revision. Empty means null.
	Agent string

	Antivirus Antivirus

	// Extra are additional properties, only in the preview.
	Extra []string

	dice dice
	into dice // of the machine it was merged into
}

// Antivirus contains the fields of /api/deviceavinfo.
type Antivirus struct {
	// Absent is true if there is no row. A machine whose sensor sends no data has
	// no row either.
	Absent bool
	Mode   string // avMode: "0" active, "1" passive, "2" disabled, …
	// Signature, Engine and Platform are "True", "False" or "Unknown".
	Signature, Engine, Platform string
	// Age is the time since the row was refreshed.
	Age time.Duration
	// EngineVersion and PlatformVersion are null if empty.
	EngineVersion, PlatformVersion string
	// SignatureAge is the time since the signatures were published and updated.
	// Negative means unknown, which is sent as null. With Unpublished the
	// publication time is null, too.
	SignatureAge time.Duration
	Unpublished  bool
	// Quick and Full are the last scans.
	Quick, Full Scan
}

// Scan is a scan of a machine.
type Scan struct {
	Result string        // "Completed", "Canceled", "Failed", "" or "-"
	Age    time.Duration // negative means never, sent as null
}

// antivirusSilence is the age from which a row counts as not reporting.
const antivirusSilence = 7 * day

const day = 24 * time.Hour

// ID returns the machine's id, 40 hexadecimal digits.
func (m *Machine) ID() string { return string(m.appendID(nil)) }

func (m *Machine) appendID(dst []byte) []byte {
	var id [24]byte
	for i := range 3 {
		v := mix(uint64(m.dice) + uint64(i+1)*0xd1342543de82ef95)
		for j := range 8 {
			id[8*i+j] = byte(v >> (8 * j))
		}
	}
	return hex.AppendEncode(dst, id[:20])
}

// Chance returns a number in [0, 1) that depends only on the machine and the
// name. A Change can use it to select a share of the fleet, always the same
// machines.
func (m *Machine) Chance(name string) float64 { return m.dice.chance(name) }

// Onboarded reports whether the machine has a security state: onboarded, ignoring
// case, and not merged into another.
func (m *Machine) Onboarded() bool {
	return strings.EqualFold(m.Onboarding, "Onboarded") && !m.Merged
}

// Properties returns the properties that require attention, as in the preview.
func (m *Machine) Properties() []string {
	var names []string
	for _, p := range properties {
		if p.applies(m) {
			names = append(names, p.name)
		}
	}
	return append(names, m.Extra...)
}

// Require changes the machine so that it gets the property. It adds an antivirus
// row if needed. For an unknown property it returns false and adds the name to
// Extra.
func (m *Machine) Require(name string) bool {
	for _, p := range properties {
		if p.name == name {
			p.require(m)
			return true
		}
	}
	m.Extra = append(slices.Clip(m.Extra), name)
	return false
}

// Heal changes the machine so that nothing requires attention.
func (m *Machine) Heal() {
	m.Health = "Active"
	m.Antivirus.Mode = "0"
	m.Antivirus.Signature, m.Antivirus.Engine, m.Antivirus.Platform = "True", "True", "True"
	m.Antivirus.Age = min(m.Antivirus.Age, day)
	m.Extra = nil
}

// properties are in the preview's order: when a property applies, and how to make
// it apply.
var properties = [...]struct {
	name    string
	applies func(*Machine) bool
	require func(*Machine)
}{
	{EdrImpairedCommunications, func(m *Machine) bool { return strings.HasSuffix(m.Health, "ImpairedCommunication") },
		func(m *Machine) { m.Health = "ImpairedCommunication" }},
	{EdrNoSensorData, func(m *Machine) bool { return strings.HasPrefix(m.Health, "NoSensorData") },
		func(m *Machine) { m.Health = "NoSensorData" }},
	{EdrInactive, func(m *Machine) bool { return m.Health == "Inactive" },
		func(m *Machine) { m.Health = "Inactive" }},
	{AntivirusNotReporting, func(m *Machine) bool {
		av := &m.Antivirus
		unknown := av.Signature == "Unknown" && av.Engine == "Unknown" && av.Platform == "Unknown"
		return m.osKind() == "windows" && (unknown || av.Age > antivirusSilence) && m.antivirusRows() > 0
	}, func(m *Machine) {
		m.reportAntivirus()
		m.Antivirus.Signature, m.Antivirus.Engine, m.Antivirus.Platform = "Unknown", "Unknown", "Unknown"
	}},
	{AntivirusOff, func(m *Machine) bool { return m.Antivirus.Mode == "2" && m.antivirusRows() > 0 },
		func(m *Machine) { m.reportAntivirus().Mode = "2" }},
	{AntivirusDefinitionsOutdated, func(m *Machine) bool { return m.outdated(m.Antivirus.Signature) },
		func(m *Machine) {
			m.reportActiveAntivirus().Signature = "False"
			m.Antivirus.SignatureAge = max(m.Antivirus.SignatureAge, 8*day)
		}},
	{AntivirusEngineOutdated, func(m *Machine) bool { return m.outdated(m.Antivirus.Engine) },
		func(m *Machine) { m.reportActiveAntivirus().Engine = "False" }},
	{AntivirusPlatformOutdated, func(m *Machine) bool { return m.outdated(m.Antivirus.Platform) },
		func(m *Machine) { m.reportActiveAntivirus().Platform = "False" }},
}

func (m *Machine) reportAntivirus() *Antivirus {
	if m.Antivirus.Absent = false; m.antivirusRows() == 0 {
		m.Health = "Active"
	}
	return &m.Antivirus
}

func (m *Machine) reportActiveAntivirus() *Antivirus {
	if m.reportAntivirus(); m.Antivirus.passive() {
		m.Antivirus.Mode = "0"
	}
	return &m.Antivirus
}

func (m *Machine) outdated(upToDate string) bool {
	return upToDate == "False" && !m.Antivirus.passive() && m.antivirusRows() > 0
}

func (a *Antivirus) passive() bool { return a.Mode == "1" || a.Mode == "5" }

// antivirusRows returns the number of antivirus rows: 0, 1 or, for one machine in
// fifty, 2. The second row is older and has everything out of date.
func (m *Machine) antivirusRows() int {
	switch m.Health {
	case "Inactive", "NoSensorData", "NoSensorDataImpairedCommunication":
		return 0
	}
	if m.Antivirus.Absent || !m.Onboarded() {
		return 0
	}
	if m.dice%50 == 7 {
		return 2
	}
	return 1
}

func (m *Machine) osKind() string {
	switch {
	case strings.HasPrefix(m.Platform, "Windows"):
		return "windows"
	case m.Platform == "macOS":
		return "mac"
	}
	return "linux"
}

// release is an operating system of the fleet. arm and x86 are thousandths with
// these architectures; the rest is Amd64.
type release struct {
	platform        string
	release         string
	build, revision int
	arm, x86        int
}

var releases = [...]weighted[release]{
	{300, release{"Windows10", "22H2", 19045, 5608, 10, 20}},
	{240, release{"Windows11", "23H2", 22631, 5039, 60, 0}},
	{120, release{"Windows11", "24H2", 26100, 3476, 60, 0}},
	{60, release{"Windows11", "22H2", 22621, 4890, 60, 0}},
	{60, release{"WindowsServer2022", "21H2", 20348, 3328, 0, 0}},
	{60, release{"WindowsServer2019", "1809", 17763, 7009, 0, 0}},
	{50, release{"Windows10", "21H2", 19044, 5608, 10, 20}},
	{30, release{"WindowsServer2016", "1607", 14393, 7876, 0, 0}},
	{10, release{"WindowsServer2025", "24H2", 26100, 3476, 0, 0}},
	{10, release{"Windows10", "1809", 17763, 7009, 10, 20}},
	{30, release{"macOS", "15.3", 0, 0, 600, 0}},
	{20, release{"Ubuntu", "22.04", 0, 0, 100, 0}},
	{10, release{"RedHatEnterpriseLinux", "9.4", 0, 0, 100, 0}},
}

// generate sets m to the machine of the seed and index.
func (m *Machine) generate(seed uint64, index int) {
	*m = Machine{Index: index, dice: newDice(seed, index)}
	d := m.dice

	os := pick(&d, releases[:])
	m.Platform, m.Release, m.Build, m.Revision = os.platform, os.release, os.build, os.revision
	switch n := d.below(1000); {
	case n >= 997:
	case n < os.arm:
		m.Architecture = "Arm64"
	case n < os.arm+os.x86:
		m.Architecture = "X86"
	default:
		m.Architecture = "Amd64"
	}
	m.Onboarding = "Onboarded"
	if d.below(100) == 0 {
		m.Onboarding = "onboarded"
	}
	m.Health, m.Risk, m.Exposure = pick(&d, healths[:]), pick(&d, risks[:]), pick(&d, exposures[:])
	m.LastSeen = d.duration(0, day)
	switch {
	case m.Health == "Inactive":
		m.LastSeen += 8 * day
	case d.below(500) == 0:
		m.LastSeen = -1
	}

	av := &m.Antivirus
	*av = Antivirus{
		Absent:    d.below(100) == 0,
		Mode:      pick(&d, modes[:]),
		Signature: pick(&d, signatureStates[:]),
		Engine:    pick(&d, engineStates[:]),
		Platform:  pick(&d, platformStates[:]),
		Age:       d.duration(time.Hour, 36*time.Hour),
	}
	switch silent := d.below(1000); {
	case silent < 10:
		av.Signature, av.Engine, av.Platform = "Unknown", "Unknown", "Unknown"
	case silent < 20:
		av.Age += 8 * day
	}

	d = m.dice ^ 0x4f1bbcdcbfa53e0b // another sequence, so that further draws below leave the fields above unchanged
	switch {
	case strings.HasPrefix(m.Platform, "WindowsServer"):
		m.Group = pick(&d, serverGroups[:])
	case m.Build == 19045:
		m.Group = pick(&d, oldGroups[:])
	default:
		m.Group = pick(&d, groups[:])
	}
	m.Tags = pick(&d, tags[:])
	if m.Agent = pick(&d, agents[:]); m.Build == 0 && m.Agent != "" {
		m.Agent = "101.25012.0003"
	}
	if m.Health == "Inactive" {
		m.LastSeen += pickAge(&d, inactive[:])
	} else if m.LastSeen >= 0 {
		m.LastSeen += pickAge(&d, asleep[:])
	}
	av.EngineVersion, av.PlatformVersion = pick(&d, engines[:]), pick(&d, platforms[:])
	if av.Engine == "False" {
		av.EngineVersion = oldEngine
	}
	if av.Platform == "False" {
		av.PlatformVersion = oldPlatform
	}
	av.SignatureAge = pickAge(&d, signatures[:])
	if av.Signature != "True" {
		av.SignatureAge = pickAge(&d, oldSignatures[:])
	}
	av.Unpublished = d.below(25) == 0
	av.Quick = Scan{pick(&d, results[:]), pickAge(&d, quickScans[:])}
	av.Full = Scan{pick(&d, results[:]), pickAge(&d, fullScans[:])}
}

// weighted is a value and its share in thousandths.
type weighted[T any] struct {
	thousandths int
	value       T
}

type (
	share = weighted[string]
	span  = weighted[[2]time.Duration] // an age between two bounds; an upper bound of -1 means never
)

const oldEngine, oldPlatform = "1.1.24080.9", "4.18.24080.9"

var (
	healths = [...]share{
		{960, "Active"}, {20, "Inactive"}, {10, "ImpairedCommunication"}, {6, "NoSensorData"},
		{2, "NoSensorDataImpairedCommunication"}, {2, "Unknown"},
	}
	risks     = [...]share{{870, "None"}, {60, "Low"}, {30, "Informational"}, {25, "Medium"}, {10, "High"}, {5, ""}}
	exposures = [...]share{{700, "Low"}, {220, "Medium"}, {50, "High"}, {20, "None"}, {10, ""}}
	modes     = [...]share{{935, "0"}, {40, "1"}, {10, "4"}, {8, "2"}, {5, "5"}, {2, "3"}}

	signatureStates = [...]share{{30, "False"}, {970, "True"}}
	engineStates    = [...]share{{15, "False"}, {985, "True"}}
	platformStates  = [...]share{{20, "False"}, {980, "True"}}

	groups = [...]share{
		{400, "Headquarters"}, {260, "Field staff"}, {120, "Werk Zürich"}, {60, DemoGroup}, {60, "UnassignedGroup"}, {100, ""},
	}
	oldGroups    = [...]share{{700, DemoGroup}, {130, "Headquarters"}, {90, "Field staff"}, {40, "UnassignedGroup"}, {40, ""}}
	serverGroups = [...]share{{800, "Servers"}, {140, "Werk Zürich"}, {30, "UnassignedGroup"}, {30, ""}}

	tags = [...]weighted[[]string]{
		{450, []string{"Site-01"}}, {200, []string{"Site-02"}}, {100, []string{"Site-03", "Laptop"}}, {90, []string{}},
		{50, nil}, {40, []string{"Site-01", "Pilot ring"}}, {30, []string{"Site-02", "VIP"}}, {20, []string{"site-02", "vip"}},
		{15, []string{"Kiosk"}}, {5, []string{"Tier 0", "Site-01", "tier 0"}},
	}
	agents    = [...]share{{800, "10.8790"}, {150, "10.8760"}, {45, "10.8750"}, {5, ""}}
	engines   = [...]share{{900, "1.1.25020.1007"}, {80, "1.1.25010.7"}, {15, "1.1.24090.11"}, {5, ""}}
	platforms = [...]share{{850, "4.18.25010.11"}, {120, "4.18.24090.11"}, {25, "4.18.23110.3"}, {5, ""}}
	results   = [...]share{{900, "Completed"}, {40, "Canceled"}, {30, "Failed"}, {20, ""}, {10, "-"}}

	asleep        = [...]span{{930, ages(0, 1)}, {50, ages(0, 2*day)}, {20, ages(2*day, 5*day)}}
	inactive      = [...]span{{400, ages(0, 5*day)}, {300, ages(5*day, 21*day)}, {200, ages(21*day, 80*day)}, {100, ages(80*day, 170*day)}}
	signatures    = [...]span{{850, ages(time.Hour, 20*time.Hour)}, {120, ages(20*time.Hour, 3*day)}, {30, ages(3*day, 6*day)}}
	oldSignatures = [...]span{{300, ages(7*day, 14*day)}, {400, ages(14*day, 40*day)}, {150, ages(40*day, 200*day)}, {150, ages(0, -1)}}
	quickScans    = [...]span{{800, ages(0, 20*time.Hour)}, {130, ages(20*time.Hour, 6*day)}, {50, ages(6*day, 60*day)}, {20, ages(0, -1)}}
	fullScans     = [...]span{{60, ages(0, day)}, {90, ages(day, 7*day)}, {150, ages(7*day, 60*day)}, {700, ages(0, -1)}}
)

func ages(from, to time.Duration) [2]time.Duration { return [2]time.Duration{from, to} }

// pick draws one of the values by weight.
func pick[T any](d *dice, choices []weighted[T]) T {
	n := d.below(1000)
	for _, c := range choices {
		if n -= c.thousandths; n < 0 {
			return c.value
		}
	}
	return choices[len(choices)-1].value
}

func pickAge(d *dice, spans []span) time.Duration {
	s := pick(d, spans)
	if s[1] < 0 {
		return s[1]
	}
	return d.duration(s[0], s[1])
}

// dice is a pseudo-random sequence that depends only on its first value.
type dice uint64

func (d dice) chance(name string) float64 {
	return float64(mix(uint64(d)^hashString(name))>>11) / (1 << 53)
}

func newDice(seed uint64, index int) dice {
	return dice(mix(seed ^ mix(uint64(index)+0x5851f42d4c957f2d)))
}

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

func (d *dice) below(n int) int { return int((d.next() >> 32) * uint64(n) >> 32) }

func (d *dice) duration(from, to time.Duration) time.Duration {
	return from + time.Duration(d.next()%uint64(to-from))
}

// mix is the finalizer of SplitMix64: each bit of x changes about half of the
// result's bits.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// hashString returns the FNV-1a hash, mixed.
func hashString(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}
