package states

import (
	"bytes"
	"strconv"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
	"github.com/mde-exporter/mde_exporter/collector/labels"
)

// derivedProperties are the properties that /api/machines and /api/deviceavinfo provide
// in place of the preview's propertiesRequireAttention, named like the preview's. A
// derivedSet has bit i for the i-th of them.
var derivedProperties = [...]string{
	"EdrImpairedCommunications",
	"EdrNoSensorData",
	"EdrInactive",
	"AntivirusNotReporting",
	"AntivirusOff",
	"AntivirusDefinitionsOutOfDate",
	"AntivirusEngineOutOfDate",
	"AntivirusPlatformOutOfDate",
}

// derivedSet is a set of derivedProperties.
type derivedSet uint8

const (
	edrImpairedCommunications derivedSet = 1 << iota
	edrNoSensorData
	edrInactive
	antivirusNotReporting
	antivirusOff
	antivirusDefinitionsOutOfDate
	antivirusEngineOutOfDate
	antivirusPlatformOutOfDate
)

// reportAge is the age after which an antivirus row counts as not reported.
const reportAge = 7 * 24 * time.Hour

// edrProperties derives the properties that follow from a machine's healthStatus.
func edrProperties(healthStatus []byte) derivedSet {
	is := func(status string) bool { return bytes.EqualFold(healthStatus, []byte(status)) }
	switch {
	case is("ImpairedCommunication"):
		return edrImpairedCommunications
	case is("NoSensorData"):
		return edrNoSensorData
	case is("NoSensorDataImpairedCommunication"):
		return edrImpairedCommunications | edrNoSensorData
	case is("Inactive"):
		return edrInactive
	default:
		return 0
	}
}

// antivirusProperties derives the properties that follow from a row of antivirus
// health. A row without a timestamp counts as current.
func antivirusProperties(row *client.AntivirusHealth, now time.Time) derivedSet {
	var set derivedSet
	if bytes.EqualFold(row.OSKind, []byte("windows")) {
		silent := isUnknown(row.SignatureUpToDate) && isUnknown(row.EngineUpToDate) && isUnknown(row.PlatformUpToDate)
		old := row.NeverRefreshed || !row.DataRefreshedAt.IsZero() && now.Sub(row.DataRefreshedAt) > reportAge
		if silent || old {
			set |= antivirusNotReporting
		}
	}
	switch antivirusModeOf(row.Mode) {
	case modeDisabled:
		set |= antivirusOff
	case modePassive, modePassiveAudit:
		return set // Another product protects the machine; this one may be behind.
	}
	if isFalse(row.SignatureUpToDate) {
		set |= antivirusDefinitionsOutOfDate
	}
	if isFalse(row.EngineUpToDate) {
		set |= antivirusEngineOutOfDate
	}
	if isFalse(row.PlatformUpToDate) {
		set |= antivirusPlatformOutOfDate
	}
	return set
}

func isUnknown(b []byte) bool { return bytes.EqualFold(b, []byte("Unknown")) }
func isFalse(b []byte) bool   { return bytes.EqualFold(b, []byte("False")) }

var (
	amd64 = []byte("Amd64")
	x86   = []byte("X86")
	arm64 = []byte("Arm64")
)

// architectureOf returns a machine's architecture in the preview's format, or nil if it
// is missing or not one of the documented ones.
func architectureOf(m *client.Machine) []byte {
	switch {
	case bytes.EqualFold(m.OSProcessor, []byte("x64")):
		return amd64
	case bytes.EqualFold(m.OSProcessor, []byte("x86")):
		return x86
	case bytes.EqualFold(m.OSProcessor, []byte("arm64")):
		return arm64
	case len(m.OSProcessor) > 0:
		return nil
	case string(m.OSArchitecture) == "64-bit":
		return amd64
	case string(m.OSArchitecture) == "32-bit":
		return x86
	default:
		return nil
	}
}

// rowState says how the first row of a machine in /api/machines was counted.
type rowState uint8

const (
	rowMissing rowState = iota
	rowMerged
	rowNotOnboarded
	rowCounted // It has a security state.
)

// dispositions are the values of the label disposition by rowState.
var dispositions = []string{"", "merged", "not_onboarded", "counted"}

// rowStateOf returns rowCounted for a machine that belongs to the fleet: onboarded, and
// not merged into another record. A machine without an onboarding status belongs to it.
func rowStateOf(m *client.Machine) rowState {
	switch {
	case m.Merged:
		return rowMerged
	case len(m.OnboardingStatus) == 0, bytes.EqualFold(m.OnboardingStatus, []byte("Onboarded")):
		return rowCounted
	default:
		return rowNotOnboarded
	}
}

// antivirusMode is a mode of the antivirus. A worse mode has a larger value.
type antivirusMode uint8

const (
	modeUnknown antivirusMode = iota // No row, or a row without a mode.
	modeActive
	modeEDRBlock
	modePassiveAudit
	modePassive
	modeOther
	modeDisabled
)

// antivirusModes are the values of the label mode by antivirusMode.
var antivirusModes = []string{labels.Unknown, "active", "edr_block", "passive_audit", "passive", labels.Other, "disabled"}

// antivirusModeOf parses avMode.
func antivirusModeOf(raw []byte) antivirusMode {
	switch string(raw) {
	case "":
		return modeUnknown
	case "0":
		return modeActive
	case "1":
		return modePassive
	case "2":
		return modeDisabled
	case "4":
		return modeEDRBlock
	case "5":
		return modePassiveAudit
	default:
		return modeOther
	}
}

// completed returns the time of a completed scan, and the zero time of any other.
func completed(s client.Scan) time.Time {
	if bytes.EqualFold(s.Result, []byte("Completed")) {
		return s.At
	}
	return time.Time{}
}

// revisionOf returns the build revision of a version, such as 1865 of 10.0.19044.1865.
// It returns nil if the version has fewer than four parts or the last is not a number.
func revisionOf(version []byte) []byte {
	if bytes.Count(version, []byte(".")) < 3 {
		return nil
	}
	revision := version[bytes.LastIndexByte(version, '.')+1:]
	if _, err := strconv.ParseUint(string(revision), 10, 32); err != nil {
		return nil
	}
	return revision
}
