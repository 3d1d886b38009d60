package client

import (
	"context"
	"iter"
	"time"
)

// MachineID identifies a machine across all APIs. It holds the 20 bytes that
// the API spells as 40 hexadecimal digits, or, of any other text, the first 20
// bytes of its SHA-256 sum. The zero MachineID stands for a missing id: two
// machines without one are never the same machine.
type MachineID [20]byte

// Machine is one machine as /api/machines and /api/domains/{domain}/machines
// describe it.
type Machine struct {
	ID MachineID
	// RawID is the id as the API spells it.
	RawID           []byte
	ComputerDNSName []byte
	OSPlatform      []byte
	OSBuild         []byte
	// OSVersion is free text; of Windows 10 and newer it may end in the build
	// and revision.
	OSVersion        []byte
	OSProcessor      []byte
	OSArchitecture   []byte
	HealthStatus     []byte
	OnboardingStatus []byte
	RiskScore        []byte
	ExposureLevel    []byte
	// AgentVersion is that of the sensor.
	AgentVersion []byte
	// DeviceGroup is the name of the machine's device group. Machines in none have
	// an empty one or "UnassignedGroup".
	DeviceGroup []byte
	// Tags are the machineTags, as sent: a tag may occur twice.
	Tags [][]byte
	// LastSeen is the zero time where the API names none, or the year 0001.
	LastSeen time.Time
	// Merged reports that the record was merged into the machine MergedInto, whose
	// id the API spells as RawMergedInto.
	Merged        bool
	MergedInto    MachineID
	RawMergedInto []byte
}

// Machines yields every machine of GET {api}/api/machines, merged and not
// onboarded ones included. A machine may come more than once: the order is not
// stable from page to page. After an error nothing more is yielded.
func (c *Client) Machines(ctx context.Context) iter.Seq2[*Machine, error] {
	return rows(ctx, c, c.list(Machines, ""), decodeMachine)
}

func decodeMachine(d *decoder, m *Machine) {
	*m = Machine{Tags: m.Tags[:0]}
	d.entity()
	for d.object(); d.member(); {
		switch string(d.name) {
		case "id":
			m.ID, m.RawID = d.id()
		case "mergedIntoMachineId":
			if text := d.text(); len(text) > 0 {
				m.Merged, m.MergedInto, m.RawMergedInto = true, machineID(text), text
			}
		case "computerDnsName":
			m.ComputerDNSName = d.text()
		case "osPlatform":
			m.OSPlatform = d.text()
		case "osBuild":
			m.OSBuild = d.text()
		case "osVersion":
			m.OSVersion = d.text()
		case "osProcessor":
			m.OSProcessor = d.text()
		case "osArchitecture":
			m.OSArchitecture = d.text()
		case "healthStatus":
			m.HealthStatus = d.text()
		case "onboardingStatus":
			m.OnboardingStatus = d.text()
		case "riskScore":
			m.RiskScore = d.text()
		case "exposureLevel":
			m.ExposureLevel = d.text()
		case "agentVersion":
			m.AgentVersion = d.text()
		case "rbacGroupName":
			m.DeviceGroup = d.text()
		case "machineTags":
			m.Tags = d.list(m.Tags)
		case "lastSeen":
			m.LastSeen = d.time()
		default:
			d.skip()
		}
	}
}

// RiskScores are the documented values of Machine.RiskScore, which is empty for None.
var RiskScores = []string{"None", "Informational", "Low", "Medium", "High"}
