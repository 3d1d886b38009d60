package client_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

const hexID = "000050e1b4afeee3742489ede9ad7a3e16bbd9c4"

func TestSecurityStateDecoding(t *testing.T) {
	for _, test := range []struct {
		name string
		row  string
		want string // build, revision, architecture and properties
	}{
		{"as documented", `{"id":"` + hexID + `","build":14393,"revision":2485,"architecture":"Amd64","osVersion":"10.0.14393.2485.amd64fre.rs1_release.180827-1809","propertiesRequireAttention":["AntivirusNotReporting","EdrImpairedCommunications"]}`, `"14393" "2485" "Amd64" ["AntivirusNotReporting" "EdrImpairedCommunications"]`},
		{"nothing at all", `{}`, `"" "" "" []`},
		{"all null", `{"id":null,"build":null,"revision":null,"architecture":null,"propertiesRequireAttention":null}`, `"" "" "" []`},
		{"numbers that are strings", `{"build":"14393","revision":"2485"}`, `"14393" "2485" "" []`},
		{"numbers of any spelling", `{"build":14393.0,"revision":-2e3}`, `"14393.0" "-2e3" "" []`},
		{"the wrong types", `{"build":{"a":[1]},"revision":[1],"architecture":true,"propertiesRequireAttention":"A"}`, `"" "" "" []`},
		{"wrong types within the list", `{"propertiesRequireAttention":["A",null,{},["B"],"",true,"C"]}`, `"" "" "" ["A" "C"]`},
		{"a list that is an object", `{"propertiesRequireAttention":{"A":true}}`, `"" "" "" []`},
		{"a name twice", `{"propertiesRequireAttention":["A","A"]}`, `"" "" "" ["A" "A"]`},
		{"a member twice", `{"build":1,"build":2}`, `"2" "" "" []`},
		{"escapes", `{"architecture":"a\"\\\/\u0062\ud83d\ude00\n"}`, `"" "" "a\"\\/b😀\n" []`},
		{"half a surrogate", `{"architecture":"a\ud83d"}`, `"" "" "a�" []`},
		{"unknown members", `{"a":1,"b":{"build":2},"c":[{"build":3}],"build":4}`, `"4" "" "" []`},
		{"another case", `{"Build":1,"BUILD":2}`, `"" "" "" []`},
		{"a string of a megabyte", `{"build":"` + strings.Repeat("1", 1<<20) + `"}`, `"` + strings.Repeat("1", 1<<20) + `" "" "" []`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The rows before and after are full, so that a value left over from them would be noticed.
				full := `{"id":"x","build":99999,"revision":99999,"architecture":"Left over","propertiesRequireAttention":["Left","Over","Again"]}`
				api := newFakeAPI(t, respond(200, `{"value":[`+full+`,`+test.row+`,`+full+`]}`))
				got, err := collect(t, api.client(t).SecurityStates(t.Context()), func(s *client.SecurityState) string {
					return fmt.Sprintf("%q %q %q %q", s.Build, s.Revision, s.Architecture, slices.Collect(s.Properties.All()))
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != 3 || got[1] != test.want {
					t.Errorf("got %.300q, want %.300q", got, test.want)
				}
			})
		})
	}
}

func TestInvalidUTF8IsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, "{\"value\":[{\"build\":\"a\xff\x00\"}]}"))
		_, err := builds(t.Context(), t, api.client(t))
		checkError(t, err, client.ReasonDecode, "invalid character") // A control character is not valid JSON.

		api = newFakeAPI(t, respond(200, "{\"value\":[{\"build\":\"a\xffb\"}]}"))
		got, err := builds(t.Context(), t, api.client(t))
		if len(got) != 1 || got[0] != "a\xffb" || err != nil {
			t.Errorf("builds %q, error %v", got, err)
		}
	})
}

func TestMachineIDIgnoresCase(t *testing.T) {
	other := sha256.Sum256([]byte("some-other-id"))
	short := sha256.Sum256([]byte(hexID[:38]))
	noHex := sha256.Sum256([]byte(strings.Repeat("g", 40)))
	number, zero, zeros := sha256.Sum256([]byte("17")), sha256.Sum256([]byte("0")), sha256.Sum256([]byte(strings.Repeat("0", 40)))
	for _, test := range []struct {
		name string
		id   string
		want client.MachineID
	}{
		{"forty digits", `"` + hexID + `"`, client.MachineID{0, 0, 0x50, 0xe1, 0xb4, 0xaf, 0xee, 0xe3, 0x74, 0x24, 0x89, 0xed, 0xe9, 0xad, 0x7a, 0x3e, 0x16, 0xbb, 0xd9, 0xc4}},
		{"forty digits in capitals", `"` + strings.ToUpper(hexID) + `"`, client.MachineID{0, 0, 0x50, 0xe1, 0xb4, 0xaf, 0xee, 0xe3, 0x74, 0x24, 0x89, 0xed, 0xe9, 0xad, 0x7a, 0x3e, 0x16, 0xbb, 0xd9, 0xc4}},
		{"any other text", `"some-other-id"`, client.MachineID(other[:20])},
		{"any other text in capitals", `"Some-OTHER-id"`, client.MachineID(other[:20])},
		{"too few digits", `"` + hexID[:38] + `"`, client.MachineID(short[:20])},
		{"forty characters that are not digits", `"` + strings.Repeat("g", 40) + `"`, client.MachineID(noHex[:20])},
		{"empty", `""`, client.MachineID{}},
		{"null", `null`, client.MachineID{}},
		{"a number", `17`, client.MachineID(number[:20])},
		{"the number as a text", `"17"`, client.MachineID(number[:20])},
		{"forty zeros", `"` + strings.Repeat("0", 40) + `"`, client.MachineID(zeros[:20])},
		{"zero", `0`, client.MachineID(zero[:20])},
		{"an object", `{"id":"a"}`, client.MachineID{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := `{"value":[{"id":` + test.id + `,"machineId":` + test.id + `}]}`
				c := newFakeAPI(t, respond(200, body)).client(t)
				states, _ := collect(t, c.SecurityStates(t.Context()), func(s *client.SecurityState) client.MachineID { return s.ID })
				machines, _ := collect(t, c.Machines(t.Context()), func(m *client.Machine) client.MachineID { return m.ID })
				health, _ := collect(t, c.AntivirusHealth(t.Context()), func(h *client.AntivirusHealth) client.MachineID { return h.MachineID })
				for _, got := range [][]client.MachineID{states, machines, health} {
					if len(got) != 1 || got[0] != test.want {
						t.Errorf("got %x, want %x", got, test.want)
					}
				}
			})
		})
	}
}

func TestMachineDecoding(t *testing.T) {
	full := `{"id":"` + hexID + `","mergedIntoMachineId":null,"isPotentialDuplication":false,"isExcluded":false,
		"exclusionReason":null,"computerDnsName":"c-lab-08","firstSeen":"2024-11-05T11:54:59.5717001Z","lastSeen":"2025-01-02T03:04:05.5Z","osPlatform":"Windows10",
		"osVersion":null,"osProcessor":"x64","version":"22H2","lastIpAddress":"192.0.2.1","lastExternalIpAddress":"198.51.100.1","agentVersion":"10.8790.19045.5608",
		"osBuild":19045,"healthStatus":"Active","deviceValue":"Normal","rbacGroupId":0,"rbacGroupName":null,"riskScore":"None","exposureLevel":"Low",
		"isAadJoined":true,"aadDeviceId":"00000000-0000-0000-0000-000000000000","machineTags":[],"onboardingStatus":"Onboarded","osArchitecture":"64-bit","managedBy":"Intune",
		"managedByStatus":"Unknown","ipAddresses":[{"ipAddress":"192.0.2.1","macAddress":"0","type":"Ethernet","operationalStatus":"Up"}],"vmMetadata":null}`
	for _, test := range []struct {
		name string
		row  string
		want client.Machine
	}{
		{"a real row", full, client.Machine{
			RawID: []byte(hexID), ComputerDNSName: []byte("c-lab-08"), OSPlatform: []byte("Windows10"), OSBuild: []byte("19045"),
			OSProcessor: []byte("x64"), OSArchitecture: []byte("64-bit"), HealthStatus: []byte("Active"), OnboardingStatus: []byte("Onboarded"),
			RiskScore: []byte("None"), ExposureLevel: []byte("Low"), LastSeen: time.Date(2025, 1, 2, 3, 4, 5, 5e8, time.UTC),
		}},
		{"unexpected types", `{"id":"A","rbacGroupId":"0","osVersion":10.0,"osBuild":null,"riskScore":null,"lastSeen":"0001-01-01T00:00:00Z","healthStatus":7}`, client.Machine{
			RawID: []byte("A"), OSVersion: []byte("10.0"), HealthStatus: []byte("7"),
		}},
		{"a merged record", `{"mergedIntoMachineId":"` + hexID + `"}`, client.Machine{
			Merged: true, RawMergedInto: []byte(hexID),
			MergedInto: client.MachineID{0, 0, 0x50, 0xe1, 0xb4, 0xaf, 0xee, 0xe3, 0x74, 0x24, 0x89, 0xed, 0xe9, 0xad, 0x7a, 0x3e, 0x16, 0xbb, 0xd9, 0xc4},
		}},
		{"merged into nothing", `{"mergedIntoMachineId":""}`, client.Machine{}},
		{"a time with a zone", `{"lastSeen":"2025-01-02T05:04:05+02:00"}`, client.Machine{LastSeen: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)}},
		{"a time without a zone", `{"lastSeen":"2025-01-02T03:04:05.5"}`, client.Machine{LastSeen: time.Date(2025, 1, 2, 3, 4, 5, 5e8, time.UTC)}},
		{"invalid times", `{"lastSeen":"yesterday","lastSeen":17}`, client.Machine{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+full+`,`+test.row+`]}`))
				show := func(m *client.Machine) string {
					return fmt.Sprintf("%q %q %q %q %q %q %q %q %q %q %q %v %v %x %q", m.RawID, m.ComputerDNSName, m.OSPlatform, m.OSBuild, m.OSVersion,
						m.OSProcessor, m.OSArchitecture, m.HealthStatus, m.OnboardingStatus, m.RiskScore, m.ExposureLevel, m.LastSeen.UTC(), m.Merged, m.MergedInto, m.RawMergedInto)
				}
				got, err := collect(t, api.client(t).Machines(t.Context()), show)
				if want := show(&test.want); err != nil || len(got) != 2 || got[1] != want {
					t.Errorf("got %v, error %v, want %v", got, err, want)
				}
			})
		})
	}
}

func TestAntivirusHealthDecoding(t *testing.T) {
	for _, test := range []struct {
		name string
		row  string
		want string
	}{
		{"as documented", `{"machineId":"a","id":"other","osKind":"windows","osVersion":"10.0.19044.1865","avMode":"0","avIsSignatureUpToDate":"True","avIsEngineUpToDate":"False","avIsPlatformUpToDate":"Unknown","dataRefreshTimestamp":"2025-01-02T03:04:05Z"}`,
			`"windows" "10.0.19044.1865" "0" "True" "False" "Unknown" 2025-01-02 03:04:05 +0000 UTC`},
		{"never refreshed", `{"dataRefreshTimestamp":"0001-01-01T00:00:00Z"}`, `"" "" "" "" "" "" 0001-01-01 00:00:00 +0000 UTC, never`},
		{"unexpected types", `{"avMode":4,"avIsSignatureUpToDate":true,"avIsEngineUpToDate":false,"avIsPlatformUpToDate":null}`,
			`"" "" "4" "True" "False" "" 0001-01-01 00:00:00 +0000 UTC`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+test.row+`]}`))
				got, err := collect(t, api.client(t).AntivirusHealth(t.Context()), func(h *client.AntivirusHealth) string {
					row := fmt.Sprintf("%q %q %q %q %q %q %v", h.OSKind, h.OSVersion, h.Mode, h.SignatureUpToDate, h.EngineUpToDate, h.PlatformUpToDate, h.DataRefreshedAt)
					if h.NeverRefreshed {
						row += ", never"
					}
					return row
				})
				if err != nil || len(got) != 1 || got[0] != test.want {
					t.Errorf("got %v, error %v, want %v", got, err, test.want)
				}
				if query := api.requestsTo("deviceavinfo")[0].query; query != "$top=10000" {
					t.Errorf("query %q: without $top the API returns only 20 rows", query)
				}
			})
		})
	}
}

func TestUnknownDomainHasNoMachines(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"404", respond(404, `{"error":{"code":"ResourceNotFound"}}`), "[]"},
		{"200 with nothing", respond(200, `{"value":[]}`), "[]"},
		{"200 with machines", respond(200, `{"value":[{"id":"a"},{"id":"b"}]}`), "[a b]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				got, err := collect(t, api.client(t).DomainMachines(t.Context(), "evil.example"), func(m *client.Machine) string { return string(m.RawID) })
				if fmt.Sprint(got) != test.want || err != nil {
					t.Errorf("machines %v, error %v, want %v", got, err, test.want)
				}
				if path := api.requestsTo("domains")[0].path; path != "/api/domains/evil.example/machines" {
					t.Errorf("path %q", path)
				}
			})
		})
	}
}

func TestOnly404WithNotFoundCodeMeansNone(t *testing.T) {
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<html><h1>404 Not Found</h1>nginx")
	}
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		none    bool
	}{
		{"NotFound", respond(404, `{"error":{"code":"NotFound","message":"x"}}`), true},
		{"ResourceNotFound", respond(404, `{"error":{"code":"ResourceNotFound"}}`), true},
		{"in another case, after a byte order mark", respond(404, "\ufeff"+`{"Error":{"Code":"resourcenotfound"}}`), true},
		{"of Graph", respond(404, `{"error":{"code":"Request_ResourceNotFound"}}`), true},
		{"an empty body", respond(404, ""), false},
		{"a page of a gateway", html, false},
		{"another code", respond(404, `{"error":{"code":"SubscriptionNotFound"}}`), false},
		{"no code", respond(404, `{"error":{"message":"NotFound"}}`), false},
		{"a code that is a number", respond(404, `{"error":{"code":404}}`), false},
		{"JSON of an API gateway", respond(404, `{"statusCode":404,"message":"Resource not found"}`), false},
		{"JSON of a web framework", respond(404, `{"code":"NotFound","title":"Not Found","status":404}`), false},
		{"the code as a text", respond(404, `{"error":"NotFound"}`), false},
		{"JSON that breaks off", respond(404, `{"error":{"code":"NotFound"`), false},
		{"JSON in a page", respond(404, `<p>{"error":{"code":"NotFound"}}</p>`), false},
		{"the code with another status", respond(400, `{"error":{"code":"NotFound"}}`), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFakeAPI(t, test.handler).client(t)
				check := func(what string, err error, wantsNone bool) {
					e, failed := errors.AsType[*client.Error](err)
					switch {
					case failed && e.NotFound() != test.none:
						t.Errorf("%s: NotFound of %q is %t, want %t", what, err, e.NotFound(), test.none)
					case failed == wantsNone:
						t.Errorf("%s: error %v, want one: %t", what, err, !wantsNone)
					}
				}
				_, err := collect(t, c.DomainMachines(t.Context(), "evil.example"), func(*client.Machine) int { return 0 })
				check("domain machines", err, test.none)
				_, err = c.DomainStatistics(t.Context(), "evil.example")
				check("domain statistics", err, test.none)
				_, err = collect(t, c.Machines(t.Context()), func(*client.Machine) int { return 0 })
				check("machines", err, false)
				_, err = collect(t, c.AntivirusHealth(t.Context()), func(*client.AntivirusHealth) int { return 0 })
				check("antivirus health", err, false)
				_, err = collect(t, c.SecurityStates(t.Context()), func(*client.SecurityState) int { return 0 })
				check("security states", err, false)
			})
		})
	}
}

func Test404OfALaterPageIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("page") == "" {
				respond(200, `{"value":[],"@odata.nextLink":"?page=2"}`)(w, r)
				return
			}
			respond(404, `{"error":{"code":"NotFound"}}`)(w, r)
		})
		c := api.client(t)
		_, err := collect(t, c.DomainMachines(t.Context(), "evil.example"), func(*client.Machine) int { return 0 })
		if e := checkError(t, err, client.ReasonPagination, "NotFound"); e.NotFound() {
			t.Errorf("%q is NotFound", err)
		}
		_, err = collect(t, c.Machines(t.Context()), func(*client.Machine) int { return 0 })
		if e := checkError(t, err, client.ReasonPagination, "NotFound"); e.NotFound() {
			t.Errorf("%q is NotFound", err)
		}
	})
}

func TestDomainIsEscapedInURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, `{"value":[]}`))
		c := api.client(t)
		for _, domain := range []string{"", ".", ".."} {
			_, err := collect(t, c.DomainMachines(t.Context(), domain), func(*client.Machine) int { return 0 })
			checkError(t, err, client.ReasonOther, "is not a domain")
			_, err = c.DomainStatistics(t.Context(), domain)
			checkError(t, err, client.ReasonOther, "is not a domain")
		}
		if calls := api.requestsTo(""); len(calls) != 0 {
			t.Errorf("%d requests for invalid domains", len(calls))
		}
		for range c.DomainMachines(t.Context(), "../../a?b#c") {
			t.Error("a machine is yielded, want none")
		}
		if got, want := api.requestsTo("domains")[0], "/api/domains/../../a?b#c/machines"; got.path != want || got.query != "" {
			t.Errorf("path %q and query %q, want the path %q, its slashes escaped", got.path, got.query, want)
		}
	})
}

func TestDomainStatisticsDecoding(t *testing.T) {
	seen := time.Date(2017, 8, 29, 13, 9, 5, 0, time.UTC)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    client.DomainStatistics
		text    string
	}{
		{"as documented", respond(200, `{"host":"example.com","organizationPrevalence":4070,"orgFirstSeen":"2017-07-30T13:23:48Z","orgLastSeen":"2017-08-29T13:09:05Z"}`), client.DomainStatistics{4070, seen}, ""},
		{"of an older service", respond(200, `{"host":"example.com","orgPrevalence":"4070","orgLastSeen":"2017-08-29T13:09:05Z"}`), client.DomainStatistics{4070, seen}, ""},
		{"of an unknown domain", respond(200, `{"host":"example.com","organizationPrevalence":0,"orgFirstSeen":null,"orgLastSeen":null}`), client.DomainStatistics{}, ""},
		{"null", respond(200, `{"organizationPrevalence":null}`), client.DomainStatistics{}, ""},
		{"404", respond(404, `{"error":{"code":"NotFound"}}`), client.DomainStatistics{}, ""},
		{"a whole number with a point", respond(200, `{"organizationPrevalence":12.0}`), client.DomainStatistics{Prevalence: 12}, ""},
		{"an error with 200", respond(200, `{"error":{"code":"Busy","message":"later"}}`), client.DomainStatistics{}, "HTTP 200: Busy: later"},
		{"an error beside the number", respond(200, `{"organizationPrevalence":1,"error":{"code":"Busy"}}`), client.DomainStatistics{}, "Busy"},
		{"a text", respond(200, `{"organizationPrevalence":"many"}`), client.DomainStatistics{}, `"many" is not a count`},
		{"a negative number", respond(200, `{"organizationPrevalence":-1}`), client.DomainStatistics{}, `"-1" is not a count`},
		{"half a machine", respond(200, `{"organizationPrevalence":1.5}`), client.DomainStatistics{}, `"1.5" is not a count`},
		{"as large as numbers are exact", respond(200, `{"organizationPrevalence":9007199254740992}`), client.DomainStatistics{Prevalence: 1 << 53}, ""},
		{"too large", respond(200, `{"organizationPrevalence":1e300}`), client.DomainStatistics{}, `"1e300" is not a count`},
		{"without the number", respond(200, `{"host":"example.com"}`), client.DomainStatistics{}, "organizationPrevalence is missing"},
		{"a list", respond(200, `[]`), client.DomainStatistics{}, "want an object"},
		{"a page", respond(200, `<html>`), client.DomainStatistics{}, "HTML page"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				got, err := api.client(t).DomainStatistics(t.Context(), "example.com")
				if got != test.want {
					t.Errorf("statistics %+v, want %+v", got, test.want)
				}
				if test.text != "" {
					checkError(t, err, client.ReasonDecode, test.text)
				} else if err != nil {
					t.Error(err)
				}
				if r := api.requestsTo("domains")[0]; r.path+"?"+r.query != "/api/domains/example.com/stats?lookBackHours=720" {
					t.Errorf("requested %s?%s", r.path, r.query)
				}
			})
		})
	}
}
