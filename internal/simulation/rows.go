package simulation

import (
	"cmp"
	"io"
	"strconv"
	"sync"
	"time"
)

// page buffers the JSON of a page. It appends rows by hand: a page of 10,000
// machines has 15 MB, and benchmarks must not measure the simulation.
type page struct {
	w    io.Writer
	buf  []byte
	rows int
}

const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferSize+32<<10)
	return &b
}}

func (p *page) flush() {
	_, _ = p.w.Write(p.buf) // the client may have disconnected
	p.buf = p.buf[:0]
}

// state writes a row of machinesecuritystates.
func (p *page) state(m *Machine) {
	p.row()
	p.id("id", m)
	p.number("build", m.Build)
	p.number("revision", m.Revision)
	p.text("architecture", m.Architecture)
	if p.key("osVersion"); m.Build == 0 {
		p.raw(`null`)
	} else {
		p.version(`"10.0.`, m)
		p.raw(`.`, hardwareOf(m.Architecture).flavour, `.rs_release.180827-1809"`)
	}
	p.list("propertiesRequireAttention", m.Properties())
	p.raw(`}`)
}

// machine writes a row of /api/machines and of /api/domains/{domain}/machines,
// about 1.5 kB with every field of the real API, in the same order.
func (p *page) machine(m *Machine, at time.Time) {
	d := m.dice
	d += 0x632be59bd9b4e019 // a sequence other than that of generate

	p.row()
	p.id("id", m)
	if m.Merged {
		p.id("mergedIntoMachineId", &Machine{dice: cmp.Or(m.into, m.dice+1)})
	} else {
		p.text("mergedIntoMachineId", "")
	}
	duplicate, excluded := `false`, `false`
	switch m.dice >> 8 % 64 {
	case 0:
		duplicate = `true`
	case 1:
		excluded = `"false"`
	case 2:
		excluded = `true`
	}
	p.raw(`,"isPotentialDuplication":`, duplicate, `,"isExcluded":`, excluded, `,"exclusionReason":null`)
	p.name(m)
	firstSeen := -time.Duration(1)
	if d.below(200) != 0 {
		firstSeen = max(m.LastSeen, 0) + 40*day + d.duration(0, 300*day)
	}
	p.ago("firstSeen", at, firstSeen, yearOne)
	p.ago("lastSeen", at, m.LastSeen, yearOne)
	p.text("osPlatform", m.Platform)
	switch d.below(20) {
	case 0:
		p.raw(`,"osVersion":10.0`)
	case 1, 2:
		p.osVersion(m)
	default:
		p.text("osVersion", "")
	}
	h := hardwareOf(m.Architecture)
	if h.width != "" && m.Architecture != "Arm64" && d.below(30) == 0 {
		h.processor = "" // then only osArchitecture shows the architecture
	}
	p.text("osProcessor", h.processor)
	p.text("version", m.Release)
	host := d.next()
	p.key("lastIpAddress")
	p.ip(10, host)
	p.raw(`,"lastExternalIpAddress":"203.0.113.`)
	p.buf = strconv.AppendUint(p.buf, host>>24&0xff, 10)
	p.raw(`"`)
	if p.text("agentVersion", m.Agent); m.Agent != "" && m.Build != 0 {
		p.buf[len(p.buf)-1] = '.'
		p.version("", m)
		p.raw(`"`)
	}
	p.number("osBuild", m.Build)
	p.text("healthStatus", m.Health)
	p.raw(`,"deviceValue":"Normal"`)
	if id := groupID(m.Group); d.below(2) == 0 {
		p.int("rbacGroupId", id)
	} else {
		p.text("rbacGroupId", strconv.Itoa(id))
	}
	p.text("rbacGroupName", m.Group)
	p.text("riskScore", m.Risk)
	p.text("exposureLevel", m.Exposure)
	p.raw(`,"isAadJoined":true`)
	p.guid("aadDeviceId", d.next(), d.next())
	if m.Tags == nil {
		p.text("machineTags", "")
	} else {
		p.list("machineTags", m.Tags)
	}
	p.text("onboardingStatus", m.Onboarding)
	p.text("osArchitecture", h.width)
	p.raw(`,"managedBy":"Intune","managedByStatus":"Unknown","ipAddresses":[`)
	for i, a := range addresses {
		if i > 0 {
			p.raw(`,`)
			host = d.next()
		}
		p.raw(`{"ipAddress":`)
		p.ip(a.network, host)
		p.raw(`,"macAddress":"02`)
		p.hex(host>>16, 10)
		p.raw(a.rest)
	}
	p.raw(`],"vmMetadata":null}`)
}

var addresses = [...]struct {
	network int64
	rest    string
}{
	{10, `","type":"Ethernet","operationalStatus":"Up"}`},
	{172, `","type":"Wireless80211","operationalStatus":"Down"}`},
	{127, `","type":"SoftwareLoopback","operationalStatus":"Up"}`},
	{100, `","type":"Tunnel","operationalStatus":"Up"}`},
	{192, `","type":"Ethernet","operationalStatus":"Down"}`},
	{169, `","type":"Ppp","operationalStatus":"Down"}`},
}

// hardware is an architecture of the preview in the formats of other fields.
type hardware struct{ processor, width, flavour string }

func hardwareOf(architecture string) hardware {
	switch architecture {
	case "Amd64":
		return hardware{"x64", "64-bit", "amd64fre"}
	case "Arm64":
		return hardware{"arm64", "64-bit", "arm64fre"}
	case "X86":
		return hardware{"x86", "32-bit", "x86fre"}
	}
	return hardware{architecture, "", "amd64fre"}
}

// antivirus writes a row of /api/deviceavinfo. A machine's second row is older.
func (p *page) antivirus(m *Machine, n int, at time.Time) {
	av := m.Antivirus
	if n > 0 {
		av.Mode, av.Signature, av.Engine, av.Platform = "0", "False", "False", "False"
		av.Age += day
		av.EngineVersion, av.PlatformVersion, av.SignatureAge = oldEngine, oldPlatform, 30*day
	}
	published := av.SignatureAge
	if av.Unpublished {
		published = -1
	}
	p.row()
	p.guid("id", uint64(m.dice), uint64(n))
	p.id("machineId", m)
	p.name(m)
	p.text("osKind", m.osKind())
	p.text("osPlatform", m.Platform)
	p.osVersion(m)
	p.text("avMode", av.Mode)
	p.raw(`,"avSignatureVersion":"1.423.`)
	p.buf = strconv.AppendInt(p.buf, int64(2000-av.SignatureAge/(6*time.Hour)), 10)
	p.raw(`.0"`)
	p.text("avEngineVersion", av.EngineVersion)
	p.text("avPlatformVersion", av.PlatformVersion)
	p.ago("lastSeenTime", at, av.Age, `null`)
	p.scan("quick", av.Quick, at)
	p.scan("full", av.Full, at)
	p.ago("dataRefreshTimestamp", at, av.Age, `null`)
	p.ago("avSignatureUpdateTime", at, av.SignatureAge, `null`)
	p.raw(`,"avEngineUpdateTime":null,"avPlatformUpdateTime":null`)
	p.text("avIsSignatureUpToDate", av.Signature)
	p.text("avIsEngineUpToDate", av.Engine)
	p.text("avIsPlatformUpToDate", av.Platform)
	p.ago("avSignaturePublishTime", at, published, `null`)
	p.text("rbacGroupName", m.Group)
	p.text("rbacGroupId", strconv.Itoa(groupID(m.Group)))
	p.raw(`}`)
}

func (p *page) scan(kind string, s Scan, at time.Time) {
	p.key(kind + "ScanResult")
	p.string(s.Result)
	p.raw(`,"`, kind, `ScanError":""`)
	p.ago(kind+"ScanTime", at, s.Age, `null`)
}

// groupID returns the rbacGroupId of a device group, 0 for none.
func groupID(name string) int {
	if name == "" || name == "UnassignedGroup" {
		return 0
	}
	return int(hashString(name)%1000) + 1
}

// row begins the next row.
func (p *page) row() {
	if len(p.buf) >= bufferSize {
		p.flush()
	}
	if p.rows > 0 {
		p.raw(`,`)
	}
	p.rows++
	p.raw(`{`)
}

func (p *page) raw(parts ...string) {
	for _, part := range parts {
		p.buf = append(p.buf, part...)
	}
}

// key writes the name of a member.
func (p *page) key(name string) {
	if p.buf[len(p.buf)-1] != '{' {
		p.buf = append(p.buf, ',')
	}
	p.buf = append(append(append(p.buf, '"'), name...), `":`...)
}

// text writes a string, or null if it is empty.
func (p *page) text(name, s string) {
	if p.key(name); s == "" {
		p.raw(`null`)
		return
	}
	p.string(s)
}

// number writes a number, or null if it is 0.
func (p *page) number(name string, n int) {
	if n == 0 {
		p.text(name, "")
		return
	}
	p.int(name, n)
}

func (p *page) int(name string, n int) {
	p.key(name)
	p.buf = strconv.AppendInt(p.buf, int64(n), 10)
}

func (p *page) float(name string, f float64) {
	p.key(name)
	p.buf = strconv.AppendFloat(p.buf, f, 'f', -1, 64)
}

// list writes an array of strings.
func (p *page) list(name string, values []string) {
	p.key(name)
	p.raw(`[`)
	for i, s := range values {
		if i > 0 {
			p.raw(`,`)
		}
		p.string(s)
	}
	p.raw(`]`)
}

const yearOne = `"0001-01-01T00:00:00Z"`

// ago writes a time in the API's format, UTC with seven decimals. For a negative
// age it writes never.
func (p *page) ago(name string, at time.Time, ago time.Duration, never string) {
	if p.key(name); ago < 0 {
		p.raw(never)
		return
	}
	p.buf = at.Add(-ago).UTC().AppendFormat(p.buf, `"2006-01-02T15:04:05.0000000Z"`)
}

func (p *page) id(name string, m *Machine) {
	p.key(name)
	p.raw(`"`)
	p.buf = m.appendID(p.buf)
	p.raw(`"`)
}

func (p *page) name(m *Machine) {
	if m.Name != "" {
		p.text("computerDnsName", m.Name)
		return
	}
	p.key("computerDnsName")
	p.raw(`"`, m.osKind()[:1], `-`)
	p.buf = strconv.AppendInt(p.buf, int64(m.Index), 10)
	p.raw(`.corp.example"`)
}

func (p *page) osVersion(m *Machine) {
	if m.Build == 0 {
		p.text("osVersion", m.Release)
		return
	}
	p.key("osVersion")
	p.version(`"10.0.`, m)
	p.raw(`"`)
}

// version writes a version that ends in build and revision.
func (p *page) version(prefix string, m *Machine) {
	p.raw(prefix)
	p.buf = strconv.AppendInt(p.buf, int64(m.Build), 10)
	p.raw(`.`)
	p.buf = strconv.AppendInt(p.buf, int64(m.Revision), 10)
}

func (p *page) ip(network int64, host uint64) {
	p.raw(`"`)
	p.buf = strconv.AppendInt(p.buf, network, 10)
	for shift := 16; shift >= 0; shift -= 8 {
		p.raw(`.`)
		p.buf = strconv.AppendUint(p.buf, host>>shift&0xff, 10)
	}
	p.raw(`"`)
}

func (p *page) guid(name string, a, b uint64) {
	p.key(name)
	p.raw(`"`)
	p.buf = appendGUID(p.buf, a, b)
	p.raw(`"`)
}

func appendGUID(dst []byte, a, b uint64) []byte {
	b = mix(a ^ b)
	dst = append(appendHex(dst, a, 8), '-')
	dst = append(appendHex(dst, a>>32, 4), '-')
	dst = append(appendHex(dst, a>>48, 4), '-')
	dst = append(appendHex(dst, b, 4), '-')
	return appendHex(dst, b>>16, 12)
}

func (p *page) hex(v uint64, digits int) { p.buf = appendHex(p.buf, v, digits) }

func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&0xf])
	}
	return dst
}

// string writes s as a JSON string. It keeps invalid UTF-8, which tests use.
func (p *page) string(s string) {
	p.raw(`"`)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			p.buf = append(p.buf, '\\', c)
		case c < 0x20:
			p.raw(`\u00`)
			p.hex(uint64(c), 2)
		default:
			p.buf = append(p.buf, c)
		}
	}
	p.raw(`"`)
}
