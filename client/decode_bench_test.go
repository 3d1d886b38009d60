//go:build unix

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// The benchmarks decode a page of 10,000 rows and count them by build and by what
// is wrong with them: with this package, with encoding/json and structs as a plain
// program would, and by reading the bytes once, which nobody can beat. On a machine
// that does other things, too, only processor time within a round compares.

const benchmarkRows = 10_000

func benchmarkID(random *rand.Rand) string {
	return fmt.Sprintf("%016x%016x%08x", random.Uint64(), random.Uint64(), random.Uint32())
}

func statesPage(random *rand.Rand) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"@odata.context":"https://graph.example/testwdatppreview/$metadata#MachineSecurityStates","@odata.count":10000,"@odata.nextLink":"","value":[`)
	for i := range benchmarkRows {
		if i > 0 {
			b.WriteByte(',')
		}
		properties := []string{``, ``, ``, `"AntivirusNotReporting"`, `"AntivirusNotReporting","EdrImpairedCommunications"`}[random.IntN(5)]
		build := []int{14393, 17763, 19045, 22631, 26100}[random.IntN(5)]
		fmt.Fprintf(&b, `{"id":"%s","build":%d,"revision":%d,"architecture":"Amd64","osVersion":"10.0.%d.2485.amd64fre.rs1_release.180827-1809","propertiesRequireAttention":[%s]}`,
			benchmarkID(random), build, random.IntN(5000), build, properties)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func machinesPage() []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString(`{"@odata.context":"https://api.example/api/$metadata#Machines","value":[`)
	for i := range benchmarkRows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%s","mergedIntoMachineId":null,"isPotentialDuplication":false,"isExcluded":false,"exclusionReason":null,`+
			`"computerDnsName":"c-lab-%d","firstSeen":"2024-11-05T11:54:59.5717001Z","lastSeen":"2025-01-05T11:54:59.5717001Z","osPlatform":"Windows10",`+
			`"osVersion":null,"osProcessor":"x64","version":"22H2","lastIpAddress":"192.0.2.17","lastExternalIpAddress":"198.51.100.1","agentVersion":"10.8790.19045.5608",`+
			`"osBuild":%d,"healthStatus":"%s","deviceValue":"Normal","rbacGroupId":0,"rbacGroupName":null,"riskScore":"%s","exposureLevel":"Low",`+
			`"isAadJoined":true,"aadDeviceId":"00000000-0000-0000-0000-%012d","machineTags":["site-%d","office"],"onboardingStatus":"Onboarded","osArchitecture":"64-bit","managedBy":"Intune",`+
			`"managedByStatus":"Unknown","ipAddresses":[%s],"vmMetadata":null}`,
			benchmarkID(random), i, []int{17763, 19045, 22631}[random.IntN(3)], []string{"Active", "Inactive"}[random.IntN(2)],
			[]string{"None", "Low", "High"}[random.IntN(3)], i, i%7,
			strings.TrimSuffix(strings.Repeat(`{"ipAddress":"192.0.2.17","macAddress":"005056ABCDEF","type":"Ethernet","operationalStatus":"Up"},`, 6), ","))
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// onePage reads the rows of a page that is in memory.
func onePage[Entity any](tb testing.TB, page []byte, decode func(*decoder, *Entity), row func(*Entity)) func() {
	var entity Entity
	ch := chain{list: list{api: Machines, bounds: listBounds}}
	return func() {
		ch.contents = make(map[content]bool)
		p := &pageCall{cancel: func() {}, done: make(chan struct{}), answer: &answer{body: bytes.NewReader(page), finished: func(error) {}}}
		close(p.done)
		if _, err := ch.readPage(context.Background(), p, func(d *decoder) bool {
			decode(d, &entity)
			row(&entity)
			return true
		}); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkSecurityStates(b *testing.B) {
	page := statesPage(rand.New(rand.NewPCG(1, 2)))
	builds, properties := map[string]*int{}, map[string]*int{}
	read := onePage(b, page, decodeSecurityState, func(s *SecurityState) {
		count(builds, s.Build)
		for _, p := range s.Properties {
			count(properties, p)
		}
	})
	plainBuilds, plainProperties := map[int]int{}, map[string]int{}
	compare(b, page, read, func() {
		var decoded struct {
			NextLink string `json:"@odata.nextLink"`
			Value    []struct {
				ID                         string   `json:"id"`
				Build                      int      `json:"build"`
				Revision                   int      `json:"revision"`
				Architecture               string   `json:"architecture"`
				PropertiesRequireAttention []string `json:"propertiesRequireAttention"`
			} `json:"value"`
		}
		if err := json.Unmarshal(page, &decoded); err != nil {
			b.Fatal(err)
		}
		for _, s := range decoded.Value {
			plainBuilds[s.Build]++
			for _, name := range s.PropertiesRequireAttention {
				plainProperties[name]++
			}
		}
	})
}

func BenchmarkMachines(b *testing.B) {
	page := machinesPage()
	builds, health := map[string]*int{}, map[string]*int{}
	read := onePage(b, page, decodeMachine, func(m *Machine) {
		count(builds, m.OSBuild)
		count(health, m.HealthStatus)
	})
	plainBuilds, plainHealth := map[int]int{}, map[string]int{}
	compare(b, page, read, func() {
		var decoded struct {
			Value []struct {
				ID               string `json:"id"`
				MergedInto       string `json:"mergedIntoMachineId"`
				OSBuild          int    `json:"osBuild"`
				OSProcessor      string `json:"osProcessor"`
				OSPlatform       string `json:"osPlatform"`
				HealthStatus     string `json:"healthStatus"`
				OnboardingStatus string `json:"onboardingStatus"`
				RiskScore        string `json:"riskScore"`
			} `json:"value"`
		}
		if err := json.Unmarshal(page, &decoded); err != nil {
			b.Fatal(err)
		}
		for _, m := range decoded.Value {
			plainBuilds[m.OSBuild]++
			plainHealth[m.HealthStatus]++
		}
	})
}

// compare runs the ways in turn and reports the medians of the ratios of their
// processor times within a round.
func compare(b *testing.B, page []byte, read, plain func()) {
	var faster, distance, each []float64
	for b.Loop() {
		ours := processorTime(b, read)
		faster = append(faster, processorTime(b, plain)/ours)
		distance = append(distance, ours/processorTime(b, func() { readOnce(page) }))
		each = append(each, ours/benchmarkRows)
	}
	b.ReportMetric(0, "ns/op") // A round's, which says nothing.
	b.ReportMetric(median(each), "ns/machine")
	b.ReportMetric(median(faster), "times-as-fast-as-encoding/json")
	b.ReportMetric(median(distance), "times-reading-bytes")
	b.ReportMetric(testing.AllocsPerRun(5, read)/benchmarkRows, "allocs/machine")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime is what this process used for it, in nanoseconds.
func processorTime(b *testing.B, work func()) float64 {
	used := func() int64 {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return usage.Utime.Nano() + usage.Stime.Nano()
	}
	before := used()
	work()
	return float64(used() - before)
}

// count adds one to the count of a name without allocating for names it knows.
func count(counts map[string]*int, name []byte) {
	n, ok := counts[string(name)]
	if !ok {
		n = new(int)
		counts[string(name)] = n
	}
	*n++
}

var bytesSeen int

// readOnce looks at every byte of a page, through a buffer of the decoder's size.
func readOnce(page []byte) {
	buffer := make([]byte, 4<<10)
	for r := bytes.NewReader(page); ; {
		n, err := r.Read(buffer)
		bytesSeen += bytes.Count(buffer[:n], []byte("{"))
		if err != nil {
			return
		}
	}
}
