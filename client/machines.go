package client

import (
	"context"
	"iter"
	"time"
)

// MachineID identifies a machine across all APIs. It is the 20 bytes that the API encodes
// as 40 hexadecimal digits, or the first 20 bytes of the SHA-256 sum of any other text.
// The zero MachineID means that the id is missing: two machines without an id are
// different machines.
type MachineID [20]byte

// Machine is one machine as /api/machines and /api/domains/{domain}/machines
// describe it.
type Machine struct {
	ID MachineID
	// RawID is the id as the API sends it.
	RawID           []byte
	ComputerDNSName []byte
	OSPlatform      []byte
	OSBuild         []byte
	// OSVersion is free text. For Windows 10 and newer it may end with the build and
	// revision.
	OSVersion        []byte
	OSProcessor      []byte
	OSArchitecture   []byte
	HealthStatus     []byte
	OnboardingStatus []byte
	RiskScore        []byte
	ExposureLevel    []byte
	// AgentVersion is the version of the sensor.
	AgentVersion []byte
	// DeviceGroup is the name of the machine's device group. It is empty or
	// "UnassignedGroup" for a machine without one.
	DeviceGroup []byte
	// Tags are the machineTags as the API sends them: a tag may occur twice.
	Tags TextList
	// LastSeen is the zero time if the API returns none or the year 0001.
	LastSeen time.Time
	// Merged reports whether the record was merged into the machine MergedInto.
	// RawMergedInto is that machine's id as the API sends it.
	Merged        bool
	MergedInto    MachineID
	RawMergedInto []byte
}

// Machines yields every machine of GET {api}/api/machines, including merged and not
// onboarded ones. A machine may be yielded more than once, because the order of pages is
// not stable. Iteration ends after an error.
func (c *Client) Machines(ctx context.Context) iter.Seq2[*Machine, error] {
	return rows(ctx, c, c.list(Machines, ""), decodeMachine)
}

func decodeMachine(d *decoder, row []byte, m *Machine) {
	*m = Machine{}
	for name, value := range d.members(row) {
		switch string(name) {
		case "id":
			m.RawID = d.id(&m.ID, value)
		case "mergedIntoMachineId":
			if text := d.text(value); len(text) > 0 {
				m.Merged, m.RawMergedInto = true, text
				m.MergedInto.parse(text)
			}
		case "computerDnsName":
			m.ComputerDNSName = d.text(value)
		case "osPlatform":
			m.OSPlatform = d.text(value)
		case "osBuild":
			m.OSBuild = d.text(value)
		case "osVersion":
			m.OSVersion = d.text(value)
		case "osProcessor":
			m.OSProcessor = d.text(value)
		case "osArchitecture":
			m.OSArchitecture = d.text(value)
		case "healthStatus":
			m.HealthStatus = d.text(value)
		case "onboardingStatus":
			m.OnboardingStatus = d.text(value)
		case "riskScore":
			m.RiskScore = d.text(value)
		case "exposureLevel":
			m.ExposureLevel = d.text(value)
		case "agentVersion":
			m.AgentVersion = d.text(value)
		case "rbacGroupName":
			m.DeviceGroup = d.text(value)
		case "machineTags":
			m.Tags = d.list(value)
		case "lastSeen":
			m.LastSeen = d.time(value)
		}
	}
}

// RiskScores are the documented values of Machine.RiskScore. An empty RiskScore means None.
var RiskScores = []string{"None", "Informational", "Low", "Medium", "High"}
