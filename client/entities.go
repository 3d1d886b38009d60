package client

import "time"

// MachineID identifies a machine across all APIs. It holds the 20 bytes that
// the API spells as 40 hexadecimal digits, or, of any other text, the first 20
// bytes of its SHA-256 sum. The zero MachineID stands for a missing id: two
// machines without one are never the same machine.
type MachineID [20]byte

// SecurityState is one machine as machinesecuritystates describes it.
//
// Like every entity in this package it is valid until the next one is yielded:
// its byte slices point into a buffer that is used again. A field that is
// missing, null or of an unexpected type is empty; numbers keep the spelling of
// the API.
type SecurityState struct {
	ID           MachineID
	Build        []byte
	Revision     []byte
	Architecture []byte
	// Properties are the names of propertiesRequireAttention, as sent: a name
	// may occur twice.
	Properties [][]byte
}

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
	// LastSeen is the zero time where the API names none, or the year 0001.
	LastSeen time.Time
	// Merged reports that the record was merged into the machine MergedInto, whose
	// id the API spells as RawMergedInto.
	Merged        bool
	MergedInto    MachineID
	RawMergedInto []byte
}

// AntivirusHealth is one row of /api/deviceavinfo.
type AntivirusHealth struct {
	// MachineID joins the row with a Machine.
	MachineID         MachineID
	OSKind            []byte
	OSVersion         []byte
	Mode              []byte
	SignatureUpToDate []byte
	EngineUpToDate    []byte
	PlatformUpToDate  []byte
	// DataRefreshedAt is the zero time where the API names none, or the year
	// 0001, by which it says never; then NeverRefreshed is true.
	DataRefreshedAt time.Time
	NeverRefreshed  bool
}

// DomainStatistics is how an organization communicated with a domain, from
// /api/domains/{domain}/stats.
type DomainStatistics struct {
	// Prevalence is the number of machines that communicated with the domain,
	// not capped as DomainMachines is.
	Prevalence int64
	// LastSeen is the zero time for a domain the organization never contacted.
	LastSeen time.Time
}

// DomainMachinesLimit is the number of machines after which the API cuts the
// answer for a domain short. An answer of so many means "this many or more".
const DomainMachinesLimit = 500
