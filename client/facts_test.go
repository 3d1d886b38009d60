package client_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func TestMachineStatusDecoding(t *testing.T) {
	full := `{"id":"x","agentVersion":"left over","rbacGroupName":"left over","machineTags":["left","over","again"]}`
	for _, test := range []struct{ name, row, want string }{
		{"as documented", `{"agentVersion":"10.8790.19045.5608","rbacGroupId":7,"rbacGroupName":"Servers","machineTags":["Site-01","VIP"]}`, `"10.8790.19045.5608" "Servers" ["Site-01" "VIP"]`},
		{"nothing at all", `{}`, `"" "" []`},
		{"all null", `{"agentVersion":null,"rbacGroupName":null,"machineTags":null}`, `"" "" []`},
		{"no tags", `{"machineTags":[]}`, `"" "" []`},
		{"numbers", `{"agentVersion":10.8790,"rbacGroupName":7,"machineTags":[1,2.50]}`, `"10.8790" "7" ["1" "2.50"]`},
		{"the wrong types", `{"agentVersion":{"a":1},"rbacGroupName":["G"],"machineTags":"VIP"}`, `"" "" []`},
		{"wrong types within the tags", `{"machineTags":["A",null,{},["B"],"",true,"a"]}`, `"" "" ["A" "a"]`},
		{"tags that are an object", `{"machineTags":{"A":true}}`, `"" "" []`},
		{"another case", `{"AgentVersion":"1","rbacgroupname":"G","MachineTags":["A"]}`, `"" "" []`},
		{"escapes", `{"rbacGroupName":"Werk Z\u00fcrich \"2\"","machineTags":["a\\b"]}`, `"" "Werk Zürich \"2\"" ["a\\b"]`},
		{"the tags twice", `{"machineTags":["A"],"machineTags":["B"]}`, `"" "" ["B"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+full+`,`+test.row+`,`+full+`]}`))
				c := api.client(t)
				show := func(m *client.Machine) string {
					return fmt.Sprintf("%q %q %q", m.AgentVersion, m.DeviceGroup, slices.Collect(m.Tags.All()))
				}
				machines, err := collect(t, c.Machines(t.Context()), show)
				if err != nil || len(machines) != 3 || machines[1] != test.want {
					t.Errorf("machines %v, error %v, want %v", machines, err, test.want)
				}
				contacted, err := collect(t, c.DomainMachines(t.Context(), "evil.example"), show)
				if err != nil || len(contacted) != 3 || contacted[1] != test.want {
					t.Errorf("machines of a domain %v, error %v, want %v", contacted, err, test.want)
				}
			})
		})
	}
}

func TestAntivirusVersionsAndScansDecoding(t *testing.T) {
	full := `{"avEngineVersion":"left","avPlatformVersion":"over","avSignaturePublishTime":"2020-01-01T00:00:00Z","avSignatureUpdateTime":"2020-01-01T00:00:00Z",
		"quickScanResult":"Failed","quickScanTime":"2020-01-01T00:00:00Z","fullScanResult":"Failed","fullScanTime":"2020-01-01T00:00:00Z"}`
	const none = `"" "" never, never "" never "" never`
	for _, test := range []struct{ name, row, want string }{
		{"as documented", `{"avEngineVersion":"1.1.25020.1007","avPlatformVersion":"4.18.25010.11","avSignaturePublishTime":"2025-01-02T03:04:05.1234567Z","avSignatureUpdateTime":"2025-01-02T04:04:05Z",
			"quickScanResult":"Completed","quickScanTime":"2025-01-01T00:00:00Z","fullScanResult":"Canceled","fullScanTime":"2024-12-01T00:00:00Z"}`,
			`"1.1.25020.1007" "4.18.25010.11" 2025-01-02T03:04:05, 2025-01-02T04:04:05 "Completed" 2025-01-01T00:00:00 "Canceled" 2024-12-01T00:00:00`},
		{"nothing at all", `{}`, none},
		{"all null", `{"avEngineVersion":null,"avPlatformVersion":null,"avSignaturePublishTime":null,"avSignatureUpdateTime":null,"quickScanResult":null,"quickScanTime":null,"fullScanResult":null,"fullScanTime":null}`, none},
		{"without scans", `{"quickScanResult":"-","quickScanTime":null,"fullScanResult":"","fullScanTime":"0001-01-01T00:00:00Z"}`, `"" "" never, never "-" never "" never`},
		{"invalid times", `{"avSignaturePublishTime":"yesterday","avSignatureUpdateTime":17,"quickScanTime":{},"fullScanTime":true}`, none},
		{"a time without a zone", `{"avSignaturePublishTime":"2025-01-02T03:04:05.5"}`, `"" "" 2025-01-02T03:04:05, never "" never "" never`},
		{"numbers", `{"avEngineVersion":1.10,"quickScanResult":0}`, `"1.10" "" never, never "0" never "" never`},
		{"the wrong types", `{"avEngineVersion":["1"],"avPlatformVersion":{},"quickScanResult":false,"fullScanResult":[]}`, none},
		{"another case", `{"AVEngineVersion":"1","QuickScanResult":"Completed"}`, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+full+`,`+test.row+`]}`))
				got, err := collect(t, api.client(t).AntivirusHealth(t.Context()), func(h *client.AntivirusHealth) string {
					return fmt.Sprintf("%q %q %s, %s %q %s %q %s", h.EngineVersion, h.PlatformVersion, stamp(h.SignaturesPublishedAt), stamp(h.SignaturesUpdatedAt),
						h.QuickScan.Result, stamp(h.QuickScan.At), h.FullScan.Result, stamp(h.FullScan.At))
				})
				if err != nil || len(got) != 2 || got[1] != test.want {
					t.Errorf("got %v, error %v, want %v", got, err, test.want)
				}
			})
		})
	}
}

func TestScoreDecoding(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    float64
		text    string
	}{
		{"as documented", respond(200, `{"@odata.context":"x","time":"2019-12-03T07:23:53.280499Z","score":33.491554051195706}`), 33.491554051195706, ""},
		{"points", respond(200, `{"time":"2019-12-03T09:15:58.1665846Z","score":340}`), 340, ""},
		{"zero", respond(200, `{"score":0}`), 0, ""},
		{"a string", respond(200, `{"score":"33.49"}`), 33.49, ""},
		{"with an exponent", respond(200, `{"score":3.3e1}`), 33, ""},
		{"null", respond(200, `{"time":"x","score":null}`), 0, "score is missing"},
		{"empty", respond(200, `{"score":""}`), 0, "score is missing"},
		{"missing", respond(200, `{"time":"x"}`), 0, "score is missing"},
		{"in another case", respond(200, `{"Score":12}`), 0, "score is missing"},
		{"an object", respond(200, `{"score":{"value":1}}`), 0, "score is missing"},
		{"a boolean", respond(200, `{"score":true}`), 0, "score is missing"},
		{"a text", respond(200, `{"score":"low"}`), 0, `"low" is not a score`},
		{"negative", respond(200, `{"score":-1}`), 0, `"-1" is not a score`},
		{"not a number", respond(200, `{"score":"NaN"}`), 0, `"NaN" is not a score`},
		{"infinite", respond(200, `{"score":"Inf"}`), 0, `"Inf" is not a score`},
		{"too large", respond(200, `{"score":1e999}`), 0, `"1e999" is not a score`},
		{"a list", respond(200, `[]`), 0, "want an object"},
		{"an HTML page", respond(200, `<html>`), 0, "HTML page"},
		{"an error with 200", respond(200, `{"error":{"code":"Busy","message":"later"}}`), 0, "HTTP 200: Busy: later"},
		{"an error beside the score", respond(200, `{"score":1,"error":{"code":"Busy"}}`), 0, "Busy"},
		{"data after it", respond(200, `{"score":1}{}`), 0, "unexpected data after the JSON value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				c := api.client(t)
				exposure, err := c.ExposureScore(t.Context())
				secure, secureErr := c.DeviceSecureScore(t.Context())
				if exposure != test.want || secure != test.want {
					t.Errorf("scores %v and %v, want %v", exposure, secure, test.want)
				}
				for _, err := range []error{err, secureErr} {
					if test.text != "" {
						checkError(t, err, client.ReasonDecode, test.text)
					} else if err != nil {
						t.Error(err)
					}
				}
				if len(api.requestsTo("/api/exposureScore")) != 1 || len(api.requestsTo("/api/configurationScore")) != 1 {
					t.Errorf("requests %v", api.requestsTo(""))
				}
			})
		})
	}
}

func TestDeviceGroupScoreDecoding(t *testing.T) {
	for _, test := range []struct{ name, rows, want, text string }{
		{"as documented", `{"time":"2019-12-03T09:51:28.214338Z","score":41.38041766305988,"rbacGroupName":"GroupOne","rbacGroupId":1},{"score":37.4,"rbacGroupName":"GroupTwo"}`, `["GroupOne" 41.38041766305988 "GroupTwo" 37.4]`, ""},
		{"none", ``, `[]`, ""},
		{"in no group", `{"score":1,"rbacGroupName":null},{"score":2},{"score":3,"rbacGroupName":"UnassignedGroup"}`, `["" 1 "" 2 "UnassignedGroup" 3]`, ""},
		{"without a score", `{"rbacGroupName":"A"},{"score":null,"rbacGroupName":"B"},{"score":0,"rbacGroupName":"C"},{"score":[],"rbacGroupName":"D"}`, `["C" 0]`, ""},
		{"strings and numbers", `{"score":"5.5","rbacGroupName":7}`, `["7" 5.5]`, ""},
		{"another case", `{"Score":5,"RbacGroupName":"A"}`, `[]`, ""},
		{"a text", `{"score":1,"rbacGroupName":"A"},{"score":"low","rbacGroupName":"B"}`, `["A" 1]`, `"low" is not a score`},
		{"a row that is null", `null`, `[]`, "want an object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+test.rows+`]}`))
				got, err := collect(t, api.client(t).DeviceGroupExposureScores(t.Context()), func(s *client.DeviceGroupScore) string {
					return fmt.Sprintf("%q %v", s.DeviceGroup, s.Score)
				})
				if fmt.Sprint(got) != test.want {
					t.Errorf("scores %v, want %v", got, test.want)
				}
				if test.text != "" {
					checkError(t, err, client.ReasonDecode, test.text)
				} else if err != nil {
					t.Error(err)
				}
				if r := api.requestsTo("exposureScore"); len(r) != 1 || r[0].path != "/api/exposureScore/ByMachineGroups" || r[0].query != "" {
					t.Errorf("requests %v", r)
				}
			})
		})
	}
}

func TestAlertDecoding(t *testing.T) {
	full := `{"id":"x","severity":"left","status":"New","assignedTo":"over","detectionSource":"again","alertCreationTime":"2020-01-01T00:00:00Z"}`
	for _, test := range []struct{ name, row, want string }{
		{"as documented", `{"id":"da637472900382838869_1364969609","incidentId":1126093,"investigationId":null,"assignedTo":null,"severity":"Low","status":"New","classification":null,"detectionSource":"WindowsDefenderAtp",
			"category":"Execution","title":"t","description":"` + strings.Repeat("long ", 4000) + `","alertCreationTime":"2021-01-26T20:33:57.7220239Z","lastEventTime":"2021-01-26T20:31:33.0577322Z","machineId":"m","rbacGroupName":"A","evidence":[],"domains":[]}`,
			`"Low" "New" "" "WindowsDefenderAtp" 2021-01-26T20:33:57`},
		{"with an owner", `{"assignedTo":"soc@corp.example"}`, `"" "" "soc@corp.example" "" never`},
		{"nothing at all", `{}`, `"" "" "" "" never`},
		{"all null", `{"id":null,"severity":null,"status":null,"assignedTo":null,"detectionSource":null,"alertCreationTime":null}`, `"" "" "" "" never`},
		{"an empty owner", `{"assignedTo":""}`, `"" "" "" "" never`},
		{"odd casing of values", `{"severity":"hIGH","status":"inprogress"}`, `"hIGH" "inprogress" "" "" never`},
		{"another case of names", `{"Severity":"High","STATUS":"New"}`, `"" "" "" "" never`},
		{"numbers", `{"severity":3,"status":1,"assignedTo":5,"detectionSource":2}`, `"3" "1" "5" "2" never`},
		{"the wrong types", `{"id":{"a":1},"severity":["High"],"status":true,"assignedTo":{"name":"x"},"detectionSource":false,"alertCreationTime":[]}`, `"" "" "" "" never`},
		{"invalid times", `{"alertCreationTime":"yesterday"}`, `"" "" "" "" never`},
		{"the year one", `{"alertCreationTime":"0001-01-01T00:00:00Z"}`, `"" "" "" "" never`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, `{"value":[`+full+`,`+test.row+`]}`))
				got, err := collect(t, api.client(t).Alerts(t.Context()), func(a *client.Alert) string {
					return fmt.Sprintf("%q %q %q %q %s", a.Severity, a.Status, a.AssignedTo, a.DetectionSource, stamp(a.CreatedAt))
				})
				if err != nil || len(got) != 2 || got[1] != test.want {
					t.Errorf("got %v, error %v, want %v", got, err, test.want)
				}
				if r := api.requestsTo("alerts"); len(r) != 1 || r[0].path+"?"+r[0].query != "/api/alerts?$top=2000&$filter=status+ne+'Resolved'" {
					t.Errorf("requests %v", r)
				}
			})
		})
	}
}

func TestAlertIDIgnoresCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, `{"value":[{"id":"da63_-1A"},{"id":"DA63_-1a"},{"id":"da63_-1b"},{"id":null},{"id":""}]}`))
		got, err := collect(t, api.client(t).Alerts(t.Context()), func(a *client.Alert) client.AlertID { return a.ID })
		if err != nil || len(got) != 5 || got[0] != got[1] || got[1] == got[2] || got[3] != (client.AlertID{}) || got[4] != (client.AlertID{}) || got[0] == (client.AlertID{}) {
			t.Errorf("ids %x, error %v", got, err)
		}
	})
}

// alertRow returns the row of alert n.
func alertRow(n int, status string) string {
	return fmt.Sprintf(`{"id":"a%d","status":%q,"severity":"High"}`, n, status)
}

func TestResolvedAlertsAreSkippedWithAndWithoutServerFilter(t *testing.T) {
	all := `{"value":[` + strings.Join([]string{alertRow(1, "New"), alertRow(2, "Resolved"), alertRow(3, "resolved"), alertRow(4, "InProgress"), alertRow(5, "Unknown"), alertRow(6, "")}, ",") + `]}`
	refused := respond(400, `{"error":{"code":"ODataError","message":"Invalid filter clause"}}`)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
		calls   int
		status  int
		reason  client.Reason
	}{
		{"a service that ignores the filter", respond(200, all), "[New InProgress Unknown ]", 1, 0, ""},
		{"a service that refuses the filter", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("$filter") {
				refused(w, r)
				return
			}
			respond(200, all)(w, r)
		}, "[New InProgress Unknown ]", 2, 0, ""},
		{"a service that refuses every call", refused, "[]", 2, 400, client.ReasonOther},
		{"a service that forbids", respond(403, `{"error":{"code":"Forbidden","message":"no"}}`), "[]", 1, 403, client.ReasonForbidden},
		{"a service without the list", respond(404, `{"error":{"code":"NotFound"}}`), "[]", 1, 404, client.ReasonOther},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				got, err := collect(t, api.client(t).Alerts(t.Context()), func(a *client.Alert) string { return string(a.Status) })
				e := &client.Error{}
				if test.status != 0 {
					e = checkError(t, err, test.reason)
				} else if err != nil {
					t.Error(err)
				}
				if fmt.Sprint(got) != test.want || e.Status != test.status {
					t.Errorf("statuses %v, error %v, want %v", got, err, test.want)
				}
				if n := len(api.requestsTo("alerts")); n != test.calls {
					t.Errorf("%d calls, want %d", n, test.calls)
				}
			})
		})
	}
}

func TestAlertsAreReadAcrossPages(t *testing.T) {
	page := func(from, n int) string {
		var b bytes.Buffer
		b.WriteString(`{"value":[`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(alertRow(from+i, "New"))
		}
		b.WriteString(`]}`)
		return b.String()
	}
	for _, test := range []struct {
		name string
		// pages are the responses by the value of $skip.
		pages map[string]http.HandlerFunc
		rows  int
		fails bool
	}{
		{"a short last page", map[string]http.HandlerFunc{"": respond(200, page(0, 2000)), "2000": respond(200, page(2000, 7))}, 2007, false},
		{"an empty last page", map[string]http.HandlerFunc{"": respond(200, page(0, 2000)), "2000": respond(200, page(0, 0))}, 2000, false},
		{"a link", map[string]http.HandlerFunc{"": respond(200, `{"@odata.nextLink":"/api/alerts?$skip=3","value":[`+alertRow(1, "New")+`]}`), "3": respond(200, page(1, 2))}, 3, false},
		{"a second page that is refused", map[string]http.HandlerFunc{"": respond(200, page(0, 2000)), "2000": respond(400, `{}`)}, 2000, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
					if page := test.pages[r.URL.Query().Get("$skip")]; page != nil {
						page(w, r)
					} else {
						respond(200, `{"value":[]}`)(w, r)
					}
				})
				got, err := collect(t, api.client(t).Alerts(t.Context()), func(a *client.Alert) client.AlertID { return a.ID })
				if len(got) != test.rows || (err != nil) != test.fails {
					t.Errorf("%d alerts, error %v, want %d", len(got), err, test.rows)
				}
				// After a full page the next one is requested before it is known whether it exists.
				calls := map[string]int{}
				for _, call := range api.requestsTo("alerts") {
					_, skip, _ := strings.Cut(call.query, "$skip=")
					calls[skip]++
				}
				if calls["4000"] == 1 {
					delete(calls, "4000")
				}
				for skip := range test.pages {
					if calls[skip] != 1 || len(calls) != len(test.pages) {
						t.Errorf("calls by $skip: %v", calls)
					}
				}
			})
		})
	}
}

func TestCallerMayStopReadingAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, `{"value":[`+alertRow(1, "New")+`,`+alertRow(2, "New")+`]}`))
		for a, err := range api.client(t).Alerts(t.Context()) {
			if a == nil || err != nil {
				t.Error(err)
			}
			break
		}
		if n := len(api.requestsTo("alerts")); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// stamp formats a time to the second. The zero time is never.
func stamp(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format("2006-01-02T15:04:05")
}
