package simulation

import (
	"strconv"
	"time"
)

// The rows are appended by hand: a page of ten thousand machines is 15 MB, and
// the far end must not be what a benchmark measures.

// appendState writes a row of machinesecuritystates.
func appendState(dst []byte, m *Machine) []byte {
	dst = append(dst, `{"id":"`...)
	dst = m.appendID(dst)
	dst = append(dst, `","build":`...)
	dst = appendIntOrNull(dst, m.Build)
	dst = append(dst, `,"revision":`...)
	dst = appendIntOrNull(dst, m.Revision)
	dst = append(dst, `,"architecture":`...)
	dst = appendStringOrNull(dst, m.Architecture)
	dst = append(dst, `,"osVersion":`...)
	if m.Build == 0 {
		dst = append(dst, `null`...)
	} else {
		dst = append(dst, `"10.0.`...)
		dst = strconv.AppendInt(dst, int64(m.Build), 10)
		dst = append(dst, '.')
		dst = strconv.AppendInt(dst, int64(m.Revision), 10)
		dst = append(dst, '.')
		dst = append(dst, flavour(m.Architecture)...)
		dst = append(dst, `.rs_release.180827-1809"`...)
	}
	dst = append(dst, `,"propertiesRequireAttention":[`...)
	comma := false
	set := m.properties()
	for i, name := range propertyNames {
		if set&(1<<i) == 0 {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"')
	}
	for _, name := range m.Extra {
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = appendString(dst, name)
	}
	return append(dst, `]}`...)
}

func flavour(architecture string) string {
	switch architecture {
	case "Arm64":
		return "arm64fre"
	case "X86":
		return "x86fre"
	}
	return "amd64fre"
}

// appendMachine writes a row of /api/machines and of /api/domains/{domain}/machines,
// about 1.5 kB with every field of the real one. Its types lie where theirs do.
func appendMachine(dst []byte, m *Machine, at time.Time) []byte {
	d := m.dice
	d += 0x632be59bd9b4e019 // other numbers than those that made the machine

	dst = append(dst, `{"id":"`...)
	dst = m.appendID(dst)
	dst = append(dst, `","mergedIntoMachineId":`...)
	if m.Merged {
		dst = append(dst, '"')
		var into Machine
		into.generate(uint64(m.dice), 0)
		dst = into.appendID(dst)
		dst = append(dst, '"')
	} else {
		dst = append(dst, `null`...)
	}
	dst = append(dst, `,"isPotentialDuplication":false,"isExcluded":false,"exclusionReason":null,"computerDnsName":`...)
	dst = appendName(dst, m)
	dst = append(dst, `,"firstSeen":`...)
	if d.below(200) == 0 {
		dst = append(dst, yearOne...)
	} else {
		dst = appendTime(dst, at.Add(-40*24*time.Hour-d.duration(0, 300*24*time.Hour)))
	}
	dst = append(dst, `,"lastSeen":`...)
	if m.LastSeen < 0 {
		dst = append(dst, yearOne...)
	} else {
		dst = appendTime(dst, at.Add(-m.LastSeen))
	}
	dst = append(dst, `,"osPlatform":`...)
	dst = appendStringOrNull(dst, m.Platform)
	dst = append(dst, `,"osVersion":`...)
	switch d.below(20) {
	case 0:
		dst = append(dst, `10.0`...)
	case 1, 2:
		dst = appendOSVersion(dst, m)
	default:
		dst = append(dst, `null`...)
	}
	dst = append(dst, `,"osProcessor":`...)
	processor, width := hardware(m.Architecture)
	if width != "" && m.Architecture != "Arm64" && d.below(30) == 0 {
		processor = "" // the architecture follows from osArchitecture then
	}
	dst = appendStringOrNull(dst, processor)
	dst = append(dst, `,"version":`...)
	dst = appendStringOrNull(dst, m.Release)
	host := d.next()
	dst = append(dst, `,"lastIpAddress":"`...)
	dst = appendIP(dst, 10, host)
	dst = append(dst, `","lastExternalIpAddress":"203.0.113.`...)
	dst = strconv.AppendUint(dst, host>>24&0xff, 10)
	dst = append(dst, `","agentVersion":"10.8790.`...)
	dst = strconv.AppendInt(dst, int64(m.Build), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(m.Revision), 10)
	dst = append(dst, `","osBuild":`...)
	dst = appendIntOrNull(dst, m.Build)
	dst = append(dst, `,"healthStatus":`...)
	dst = appendStringOrNull(dst, m.Health)
	dst = append(dst, `,"deviceValue":"Normal","rbacGroupId":`...)
	if group := d.below(8); group%2 == 0 {
		dst = strconv.AppendInt(dst, int64(group), 10)
		dst = append(dst, `,"rbacGroupName":null`...)
	} else {
		dst = append(dst, '"')
		dst = strconv.AppendInt(dst, int64(group), 10)
		dst = append(dst, `","rbacGroupName":"Workplaces"`...)
	}
	dst = append(dst, `,"riskScore":`...)
	dst = appendStringOrNull(dst, m.Risk)
	dst = append(dst, `,"exposureLevel":`...)
	dst = appendStringOrNull(dst, m.Exposure)
	dst = append(dst, `,"isAadJoined":true,"aadDeviceId":"`...)
	dst = appendGUID(dst, d.next(), d.next())
	dst = append(dst, `","machineTags":["Site-`...)
	dst = strconv.AppendUint(dst, host>>40&0x1f, 10)
	dst = append(dst, `"],"onboardingStatus":`...)
	dst = appendStringOrNull(dst, m.Onboarding)
	dst = append(dst, `,"osArchitecture":`...)
	dst = appendStringOrNull(dst, width)
	dst = append(dst, `,"managedBy":"Intune","managedByStatus":"Unknown","ipAddresses":[`...)
	dst = appendAddress(dst, 10, host, "Ethernet", "Up")
	dst = append(dst, ',')
	dst = appendAddress(dst, 172, d.next(), "Wireless80211", "Down")
	dst = append(dst, ',')
	dst = appendAddress(dst, 127, d.next(), "SoftwareLoopback", "Up")
	dst = append(dst, ',')
	dst = appendAddress(dst, 100, d.next(), "Tunnel", "Up")
	dst = append(dst, ',')
	dst = appendAddress(dst, 192, d.next(), "Ethernet", "Down")
	dst = append(dst, ',')
	dst = appendAddress(dst, 169, d.next(), "Ppp", "Down")
	return append(dst, `],"vmMetadata":null}`...)
}

// hardware is how /api/machines spells an architecture of the preview's.
func hardware(architecture string) (processor, width string) {
	switch architecture {
	case "Amd64":
		return "x64", "64-bit"
	case "Arm64":
		return "arm64", "64-bit"
	case "X86":
		return "x86", "32-bit"
	}
	return architecture, ""
}

// appendAntivirus writes a row of /api/deviceavinfo. The second row of a machine
// is an older one.
func appendAntivirus(dst []byte, m *Machine, n int, at time.Time) []byte {
	av := m.Antivirus
	if n > 0 {
		av.Mode, av.Signature, av.Engine, av.Platform = "0", "False", "False", "False"
		av.Age += 24 * time.Hour
	}
	refreshed := at.Add(-av.Age)
	dst = append(dst, `{"id":"`...)
	dst = appendGUID(dst, uint64(m.dice), uint64(n))
	dst = append(dst, `","machineId":"`...)
	dst = m.appendID(dst)
	dst = append(dst, `","computerDnsName":`...)
	dst = appendName(dst, m)
	dst = append(dst, `,"osKind":"`...)
	dst = append(dst, m.osKind()...)
	dst = append(dst, `","osPlatform":`...)
	dst = appendStringOrNull(dst, m.Platform)
	dst = append(dst, `,"osVersion":`...)
	dst = appendOSVersion(dst, m)
	dst = append(dst, `,"avMode":`...)
	dst = appendString(dst, av.Mode)
	dst = append(dst, `,"avSignatureVersion":"1.423.1279.0","avEngineVersion":"1.1.25020.1007","avPlatformVersion":"4.18.25010.11","lastSeenTime":`...)
	dst = appendTime(dst, refreshed)
	dst = append(dst, `,"quickScanResult":"Completed","quickScanError":"","quickScanTime":`...)
	dst = appendTime(dst, refreshed)
	dst = append(dst, `,"fullScanResult":"","fullScanError":"","fullScanTime":null,"dataRefreshTimestamp":`...)
	dst = appendTime(dst, refreshed)
	dst = append(dst, `,"avEngineUpdateTime":null,"avSignatureUpdateTime":null,"avPlatformUpdateTime":null,"avIsSignatureUpToDate":`...)
	dst = appendString(dst, av.Signature)
	dst = append(dst, `,"avIsEngineUpToDate":`...)
	dst = appendString(dst, av.Engine)
	dst = append(dst, `,"avIsPlatformUpToDate":`...)
	dst = appendString(dst, av.Platform)
	return append(dst, `,"avSignaturePublishTime":null,"rbacGroupName":"Workplaces","rbacGroupId":"7"}`...)
}

func appendOSVersion(dst []byte, m *Machine) []byte {
	if m.Build == 0 {
		return appendStringOrNull(dst, m.Release)
	}
	dst = append(dst, `"10.0.`...)
	dst = strconv.AppendInt(dst, int64(m.Build), 10)
	dst = append(dst, '.')
	dst = strconv.AppendInt(dst, int64(m.Revision), 10)
	return append(dst, '"')
}

func appendName(dst []byte, m *Machine) []byte {
	if m.Name != "" {
		return appendString(dst, m.Name)
	}
	dst = append(dst, '"')
	dst = append(dst, m.osKind()[:1]...)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, int64(m.Index), 10)
	return append(dst, `.corp.example"`...)
}

const yearOne = `"0001-01-01T00:00:00Z"`

// appendTime writes a time as the API does, in UTC with seven digits.
func appendTime(dst []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(dst, `"2006-01-02T15:04:05.0000000Z"`)
}

func appendIP(dst []byte, network int64, host uint64) []byte {
	dst = strconv.AppendInt(dst, network, 10)
	for shift := 16; shift >= 0; shift -= 8 {
		dst = append(dst, '.')
		dst = strconv.AppendUint(dst, host>>shift&0xff, 10)
	}
	return dst
}

func appendAddress(dst []byte, network int64, host uint64, kind, status string) []byte {
	dst = append(dst, `{"ipAddress":"`...)
	dst = appendIP(dst, network, host)
	dst = append(dst, `","macAddress":"02`...)
	dst = appendHex(dst, host>>16, 10)
	dst = append(dst, `","type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, `","operationalStatus":"`...)
	dst = append(dst, status...)
	return append(dst, `"}`...)
}

func appendGUID(dst []byte, a, b uint64) []byte {
	b = mix(a ^ b)
	dst = append(appendHex(dst, a, 8), '-')
	dst = append(appendHex(dst, a>>32, 4), '-')
	dst = append(appendHex(dst, a>>48, 4), '-')
	dst = append(appendHex(dst, b, 4), '-')
	return appendHex(dst, b>>16, 12)
}

func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&0xf])
	}
	return dst
}

func appendIntOrNull(dst []byte, n int) []byte {
	if n == 0 {
		return append(dst, `null`...)
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func appendStringOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, `null`...)
	}
	return appendString(dst, s)
}

// appendString quotes s for JSON. Bytes that are not UTF-8 stay as they are:
// a test may want the far end to send them.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, `\u00`...)
			dst = appendHex(dst, uint64(c), 2)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
