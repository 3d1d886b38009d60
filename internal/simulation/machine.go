package simulation

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// The properties a machine may have, by the names the preview and the mapping
// from the supported APIs give them.
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

// Machine is what is true of one machine at one moment. Both sources are
// written from it: /api/machines and /api/deviceavinfo show its fields, the
// preview shows the Properties that follow from them.
type Machine struct {
	// Index is the machine's place in the fleet and, with the tenant's seed,
	// determines everything about it that no Change and no Story altered.
	Index int

	Platform string // osPlatform, as in "Windows11"
	Release  string // version, as in "23H2"
	// Build is the osBuild; 0 is sent as null, as for macOS and Linux.
	Build    int
	Revision int
	// Architecture is in the preview's words: Amd64, Arm64 or X86; empty is
	// sent as null.
	Architecture string

	// Name is the computerDnsName. Empty means one made from Index.
	Name       string
	Health     string // healthStatus
	Onboarding string // onboardingStatus
	Merged     bool   // the record was merged into another machine's
	Risk       string // riskScore; empty is sent as null
	Exposure   string // exposureLevel; empty is sent as null
	// LastSeen is how long ago the machine made its last full report; negative
	// means never, which the API spells as the year 0001.
	LastSeen time.Duration

	Antivirus Antivirus

	// Extra are further properties that only the preview tells.
	Extra []string

	dice dice
}

// Antivirus is what /api/deviceavinfo tells of a machine.
type Antivirus struct {
	// Absent tells that there is no row. There is none either for a machine
	// whose sensor sends nothing.
	Absent bool
	Mode   string // avMode: "0" active, "1" passive, "2" disabled, …
	// Signature, Engine and Platform are "True", "False" or "Unknown".
	Signature, Engine, Platform string
	// Age is how long ago the row was refreshed.
	Age time.Duration
}

// antivirusSilence is the age from which a row says nothing any more.
const antivirusSilence = 7 * 24 * time.Hour

// ID is the machine's id: 40 hexadecimal digits.
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

// Chance is a number in [0, 1) that depends on the machine and the name alone:
// a Change that alters machines whose Chance is below a share alters that share
// of the fleet, and always the same machines.
func (m *Machine) Chance(name string) float64 {
	return float64(mix(uint64(m.dice)^hashString(name))>>11) / (1 << 53)
}

// Onboarded tells whether the machine has a security state: onboarded, in any
// case of letters, and not merged into another.
func (m *Machine) Onboarded() bool {
	return strings.EqualFold(m.Onboarding, "Onboarded") && !m.Merged
}

// Properties lists what requires attention, as the preview would.
func (m *Machine) Properties() []string {
	var names []string
	set := m.properties()
	for i, name := range propertyNames {
		if set&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return append(names, m.Extra...)
}

// Require alters what is true of the machine so that the property follows from
// it. A machine without an antivirus row gets one. It reports whether name is a
// property that can follow; other names are added to Extra.
func (m *Machine) Require(name string) bool {
	switch name {
	case EdrImpairedCommunications:
		m.Health = "ImpairedCommunication"
	case EdrNoSensorData:
		m.Health = "NoSensorData"
	case EdrInactive:
		m.Health = "Inactive"
	case AntivirusNotReporting:
		m.reportAntivirus()
		m.Antivirus.Signature, m.Antivirus.Engine, m.Antivirus.Platform = "Unknown", "Unknown", "Unknown"
	case AntivirusOff:
		m.reportAntivirus()
		m.Antivirus.Mode = "2"
	case AntivirusDefinitionsOutdated:
		m.reportActiveAntivirus()
		m.Antivirus.Signature = "False"
	case AntivirusEngineOutdated:
		m.reportActiveAntivirus()
		m.Antivirus.Engine = "False"
	case AntivirusPlatformOutdated:
		m.reportActiveAntivirus()
		m.Antivirus.Platform = "False"
	default:
		m.Extra = append(slices.Clip(m.Extra), name)
		return false
	}
	return true
}

// Heal alters what is true of the machine so that nothing requires attention.
func (m *Machine) Heal() {
	m.Health = "Active"
	m.Antivirus.Mode = "0"
	m.Antivirus.Signature, m.Antivirus.Engine, m.Antivirus.Platform = "True", "True", "True"
	m.Antivirus.Age = min(m.Antivirus.Age, 24*time.Hour)
	m.Extra = nil
}

func (m *Machine) reportAntivirus() {
	m.Antivirus.Absent = false
	if !m.hasAntivirusRow() {
		m.Health = "Active"
	}
}

func (m *Machine) reportActiveAntivirus() {
	m.reportAntivirus()
	if m.Antivirus.Mode == "1" || m.Antivirus.Mode == "5" {
		m.Antivirus.Mode = "0"
	}
}

// propertyNames are in the order in which the preview lists them; their places
// are the bits of a propertySet.
var propertyNames = [...]string{
	EdrImpairedCommunications, EdrNoSensorData, EdrInactive,
	AntivirusNotReporting, AntivirusOff,
	AntivirusDefinitionsOutdated, AntivirusEngineOutdated, AntivirusPlatformOutdated,
}

type propertySet uint16

func (m *Machine) properties() propertySet {
	var set propertySet
	switch m.Health {
	case "ImpairedCommunication":
		set |= 1 << 0
	case "NoSensorData":
		set |= 1 << 1
	case "NoSensorDataImpairedCommunication":
		set |= 1<<0 | 1<<1
	case "Inactive":
		set |= 1 << 2
	}
	if !m.hasAntivirusRow() {
		return set
	}
	av := &m.Antivirus
	unknown := av.Signature == "Unknown" && av.Engine == "Unknown" && av.Platform == "Unknown"
	if m.osKind() == "windows" && (unknown || av.Age > antivirusSilence) {
		set |= 1 << 3
	}
	if av.Mode == "2" {
		set |= 1 << 4
	}
	if av.Mode == "1" || av.Mode == "5" {
		return set
	}
	if av.Signature == "False" {
		set |= 1 << 5
	}
	if av.Engine == "False" {
		set |= 1 << 6
	}
	if av.Platform == "False" {
		set |= 1 << 7
	}
	return set
}

func (m *Machine) hasAntivirusRow() bool {
	return m.antivirusRows() > 0
}

// antivirusRows is 0, 1 or, for one machine in fifty, 2: the second row is an
// older one, which says that everything was out of date then.
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

// release is one line of the spread of operating systems, in thousandths.
type release struct {
	share           int
	platform        string
	release         string
	build, revision int
}

var releases = [...]release{
	{300, "Windows10", "22H2", 19045, 5608},
	{240, "Windows11", "23H2", 22631, 5039},
	{120, "Windows11", "24H2", 26100, 3476},
	{60, "Windows11", "22H2", 22621, 4890},
	{60, "WindowsServer2022", "21H2", 20348, 3328},
	{60, "WindowsServer2019", "1809", 17763, 7009},
	{50, "Windows10", "21H2", 19044, 5608},
	{30, "WindowsServer2016", "1607", 14393, 7876},
	{10, "WindowsServer2025", "24H2", 26100, 3476},
	{10, "Windows10", "1809", 17763, 7009},
	{30, "macOS", "15.3", 0, 0},
	{20, "Ubuntu", "22.04", 0, 0},
	{10, "RedHatEnterpriseLinux", "9.4", 0, 0},
}

// generate makes the machine that the seed and the index stand for.
func (m *Machine) generate(seed uint64, index int) {
	*m = Machine{Index: index, dice: dice(mix(seed ^ mix(uint64(index)+0x5851f42d4c957f2d)))}
	d := m.dice

	os := pick(releases[:], d.below(1000), func(r release) int { return r.share })
	m.Platform, m.Release, m.Build, m.Revision = os.platform, os.release, os.build, os.revision
	m.Architecture = architecture(os, d.below(1000))

	day := 24 * time.Hour
	m.Onboarding = "Onboarded"
	if d.below(100) == 0 {
		m.Onboarding = "onboarded"
	}
	m.Health = pick(healths[:], d.below(1000), share.of).value
	m.Risk = pick(risks[:], d.below(1000), share.of).value
	m.Exposure = pick(exposures[:], d.below(1000), share.of).value
	m.LastSeen = d.duration(0, day)
	switch {
	case m.Health == "Inactive":
		m.LastSeen += 8 * day
	case d.below(500) == 0:
		m.LastSeen = -1
	}

	m.Antivirus = Antivirus{
		Absent:    d.below(100) == 0,
		Mode:      pick(modes[:], d.below(1000), share.of).value,
		Signature: upToDate(d.below(1000) >= 30),
		Engine:    upToDate(d.below(1000) >= 15),
		Platform:  upToDate(d.below(1000) >= 20),
		Age:       d.duration(time.Hour, 36*time.Hour),
	}
	switch silent := d.below(1000); {
	case silent < 10:
		m.Antivirus.Signature, m.Antivirus.Engine, m.Antivirus.Platform = "Unknown", "Unknown", "Unknown"
	case silent < 20:
		m.Antivirus.Age += 8 * day
	}
}

func architecture(os release, thousandth int) string {
	if thousandth >= 997 {
		return ""
	}
	arm, x86 := 0, 0
	switch os.platform {
	case "Windows10":
		arm, x86 = 10, 20
	case "Windows11":
		arm = 60
	case "macOS":
		arm = 600
	case "Ubuntu", "RedHatEnterpriseLinux":
		arm = 100
	}
	switch {
	case thousandth < arm:
		return "Arm64"
	case thousandth < arm+x86:
		return "X86"
	}
	return "Amd64"
}

func upToDate(yes bool) string {
	if yes {
		return "True"
	}
	return "False"
}

// share is one value of a closed set and how many in a thousand have it.
type share struct {
	thousandths int
	value       string
}

func (s share) of() int { return s.thousandths }

var (
	healths = [...]share{
		{960, "Active"}, {20, "Inactive"}, {10, "ImpairedCommunication"}, {6, "NoSensorData"},
		{2, "NoSensorDataImpairedCommunication"}, {2, "Unknown"},
	}
	risks     = [...]share{{870, "None"}, {60, "Low"}, {30, "Informational"}, {25, "Medium"}, {10, "High"}, {5, ""}}
	exposures = [...]share{{700, "Low"}, {220, "Medium"}, {50, "High"}, {20, "None"}, {10, ""}}
	modes     = [...]share{{935, "0"}, {40, "1"}, {10, "4"}, {8, "2"}, {5, "5"}, {2, "3"}}
)

// pick returns the choice into whose share n falls.
func pick[T any](choices []T, n int, share func(T) int) T {
	for _, c := range choices[:len(choices)-1] {
		if n -= share(c); n < 0 {
			return c
		}
	}
	return choices[len(choices)-1]
}

// dice yields a sequence of numbers that depends on its first value alone.
type dice uint64

func (d *dice) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	return mix(uint64(*d))
}

func (d *dice) below(n int) int { return int((d.next() >> 32) * uint64(n) >> 32) }

func (d *dice) duration(from, to time.Duration) time.Duration {
	return from + time.Duration(d.next()%uint64(to-from))
}

// mix is the finalizer of SplitMix64: each bit of x changes half of the result's.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// hashString is FNV-1a, mixed.
func hashString(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}
