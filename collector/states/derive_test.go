package states

import (
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func propertyNames(set derivedSet) []string {
	var names []string
	for rest := uint8(set); rest != 0; rest &= rest - 1 {
		names = append(names, derivedProperties[bits.TrailingZeros8(rest)])
	}
	return names
}

func TestEDRProperties(t *testing.T) {
	for health, want := range map[string][]string{
		"Active":                            nil,
		"Unknown":                           nil,
		"":                                  nil,
		"Inactive":                          {"EdrInactive"},
		"ImpairedCommunication":             {"EdrImpairedCommunications"},
		"NoSensorData":                      {"EdrNoSensorData"},
		"NoSensorDataImpairedCommunication": {"EdrImpairedCommunications", "EdrNoSensorData"},
		"SomethingNew":                      nil,
	} {
		if got := propertyNames(edrProperties([]byte(health))); !slices.Equal(got, want) {
			t.Errorf("health %q: %v, want %v", health, got, want)
		}
	}
}

func TestAntivirusProperties(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	row := func(kind, mode, signature, engine, platform string, age time.Duration) client.AntivirusHealth {
		return client.AntivirusHealth{
			OSKind: []byte(kind), Mode: []byte(mode), SignatureUpToDate: []byte(signature),
			EngineUpToDate: []byte(engine), PlatformUpToDate: []byte(platform), DataRefreshedAt: now.Add(-age),
		}
	}
	for name, tc := range map[string]struct {
		row  client.AntivirusHealth
		want []string
	}{
		"healthy":                               {row("windows", "0", "True", "True", "True", time.Hour), nil},
		"windows, everything unknown":           {row("windows", "0", "Unknown", "Unknown", "Unknown", time.Hour), []string{"AntivirusNotReporting"}},
		"windows, two of three unknown":         {row("windows", "0", "Unknown", "Unknown", "True", time.Hour), nil},
		"mac, everything unknown":               {row("mac", "0", "Unknown", "Unknown", "Unknown", time.Hour), nil},
		"windows silent for exactly seven days": {row("windows", "0", "True", "True", "True", 7*24*time.Hour), nil},
		"windows silent for longer":             {row("Windows", "0", "True", "True", "True", 7*24*time.Hour+time.Second), []string{"AntivirusNotReporting"}},
		"linux silent for longer":               {row("linux", "0", "True", "True", "True", 8*24*time.Hour), nil},
		"windows that never reported":           {client.AntivirusHealth{OSKind: []byte("windows"), NeverRefreshed: true}, []string{"AntivirusNotReporting"}},
		"a mac that never reported":             {client.AntivirusHealth{OSKind: []byte("mac"), NeverRefreshed: true}, nil},
		"windows without a timestamp":           {client.AntivirusHealth{OSKind: []byte("windows")}, nil},
		"disabled":                              {row("windows", "2", "True", "True", "True", time.Hour), []string{"AntivirusOff"}},
		"disabled and out of date":              {row("windows", "2", "False", "True", "True", time.Hour), []string{"AntivirusOff", "AntivirusDefinitionsOutOfDate"}},
		"definitions out of date":               {row("mac", "0", "False", "True", "True", time.Hour), []string{"AntivirusDefinitionsOutOfDate"}},
		"engine out of date":                    {row("linux", "0", "True", "False", "True", time.Hour), []string{"AntivirusEngineOutOfDate"}},
		"platform out of date":                  {row("windows", "0", "True", "True", "False", time.Hour), []string{"AntivirusPlatformOutOfDate"}},
		"passive and out of date":               {row("windows", "1", "False", "False", "False", time.Hour), nil},
		"passive audit and out of date":         {row("windows", "5", "False", "False", "False", time.Hour), nil},
		"EDR block mode and out of date":        {row("windows", "4", "False", "False", "False", time.Hour), []string{"AntivirusDefinitionsOutOfDate", "AntivirusEngineOutOfDate", "AntivirusPlatformOutOfDate"}},
		"passive and not reporting":             {row("windows", "1", "Unknown", "Unknown", "Unknown", time.Hour), []string{"AntivirusNotReporting"}},
		"an unknown mode":                       {row("windows", "9", "True", "False", "True", time.Hour), []string{"AntivirusEngineOutOfDate"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := propertyNames(antivirusProperties(&tc.row, now)); !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestArchitecturesUseThePreviewFormat(t *testing.T) {
	for _, tc := range []struct{ processor, architecture, want string }{
		{"x64", "64-bit", "Amd64"},
		{"x86", "64-bit", "X86"},
		{"x86", "", "X86"},
		{"arm64", "64-bit", "Arm64"},
		{"ARM64", "", "Arm64"},
		{"", "64-bit", "Amd64"},
		{"", "32-bit", "X86"},
		{"", "", ""},
		{"", "128-bit", ""},
		{"mips", "64-bit", ""},
	} {
		m := client.Machine{OSProcessor: []byte(tc.processor), OSArchitecture: []byte(tc.architecture)}
		if got := string(architectureOf(&m)); got != tc.want {
			t.Errorf("processor %q and architecture %q: %q, want %q", tc.processor, tc.architecture, got, tc.want)
		}
	}
}

func TestOnlyOnboardedMachinesHaveASecurityState(t *testing.T) {
	for _, tc := range []struct {
		status string
		merged bool
		want   bool
	}{
		{"Onboarded", false, true},
		{"onboarded", false, true},
		{"ONBOARDED", false, true},
		{"", false, true},
		{"Onboarded", true, false},
		{"CanBeOnboarded", false, false},
		{"Unsupported", false, false},
		{"InsufficientInfo", false, false},
	} {
		if got := rowStateOf(&client.Machine{OnboardingStatus: []byte(tc.status), Merged: tc.merged}) == rowCounted; got != tc.want {
			t.Errorf("status %q, merged %v: %v", tc.status, tc.merged, got)
		}
	}
}

func TestRevisionOf(t *testing.T) {
	for version, want := range map[string]string{
		"10.0.19044.1865": "1865", "10.0.19044": "", "": "", "10.0.19044.": "", "22H2": "", "10.0.14393.2485.amd64fre": "", "1.2.3.x": "",
	} {
		if got := string(revisionOf([]byte(version))); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}
