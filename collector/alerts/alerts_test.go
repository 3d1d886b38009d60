package alerts

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

func newAlerts(t *testing.T, api http.HandlerFunc) (*collectortest.World, collector.Collector) {
	w := collectortest.NewWorld()
	env := w.Env("alerts")
	env.Client = collectortest.Client(t, api)
	var c Config
	c.Defaults()
	c.Validate(collector.Validation{})
	return w, c.New(env)
}

// rows responds with a list of rows.
func rows(rows ...string) http.HandlerFunc {
	return respond(http.StatusOK, `{"value":[`+strings.Join(rows, ",")+`]}`)
}

func respond(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestUnresolvedAlertsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newAlerts(t, rows(
			`{"id":"da1","severity":"High","status":"New","assignedTo":null,"alertCreationTime":"2021-01-26T20:33:57.7220239Z","detectionSource":"WindowsDefenderAtp"}`,
			`{"id":"da2","severity":"High","status":"InProgress","assignedTo":"soc@corp.example","alertCreationTime":"2021-01-25T20:33:57Z","detectionSource":"WindowsDefenderAv"}`,
			`{"id":"da3","severity":"Low","status":"New","assignedTo":"","alertCreationTime":"2021-01-24T20:33:57Z","detectionSource":"WindowsDefenderAv"}`,
			`{"id":"DA1","severity":"Medium","status":"New","assignedTo":null}`,
		))
		if err := w.Refresh(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "alerts.prom", w.Scraped(t))
		if got, want := c.Page().Summary, "3 unresolved alerts, 2 without an owner"; got != want {
			t.Errorf("page %q, want %q", got, want)
		}
		w.Lint(t)
	})
}

func TestSummarySeparatesThousands(t *testing.T) {
	r := result{Alerts: map[string]map[string]int{"High": {"New": 4000, "InProgress": 321}}, Unassigned: map[string]int{"High": 1000}}
	if got, want := describe(r).Summary, "4,321 unresolved alerts, 1,000 without an owner"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestUnusualAlerts(t *testing.T) {
	many := make([]string, 53)
	for i := range many {
		many[i] = fmt.Sprintf(`{"id":"%d","severity":"S%d","status":"T%d","detectionSource":"D%d"}`, i, i, i, i)
	}
	for _, test := range []struct {
		name string
		rows []string
		want map[string]string // "" means absent.
	}{
		{"none", nil, map[string]string{
			`mde_unresolved_alerts{severity="High",status="New",`: "0", `mde_unresolved_alerts{severity="UnSpecified",status="InProgress",`: "0",
			`mde_unresolved_alerts_unassigned{severity="High",`: "0", `mde_unresolved_alerts_oldest_timestamp_seconds{severity="High",`: "",
			`mde_unresolved_alerts{severity="High",status="Unknown",`: "",
		}},
		{"different case", []string{`{"id":"1","severity":"high","status":"inProgress","assignedTo":"x"}`, `{"id":"2","severity":"HIGH","status":"new"}`, `{"id":"3","severity":"high","status":"resolved"}`}, map[string]string{
			`mde_unresolved_alerts{severity="High",status="InProgress",`: "1", `mde_unresolved_alerts{severity="High",status="New",`: "1",
			`mde_unresolved_alerts_unassigned{severity="High",`: "1", `mde_unresolved_alerts{severity="high",status="new",`: "",
		}},
		{"the oldest has an owner", []string{
			`{"id":"1","severity":"High","assignedTo":"x","alertCreationTime":"2021-01-25T20:33:57Z"}`,
			`{"id":"2","severity":"High","alertCreationTime":"2021-01-26T20:33:57Z"}`, `{"id":"3","severity":"High","alertCreationTime":"2021-01-26T20:33:58Z"}`,
			`{"id":"4","severity":"Low","assignedTo":"x","alertCreationTime":"2021-01-25T20:33:57Z"}`, `{"id":"5","severity":"Low"}`,
		}, map[string]string{
			`mde_unresolved_alerts_oldest_timestamp_seconds{severity="High",`: "1.611606837e+09", `mde_unresolved_alerts_unassigned_oldest_timestamp_seconds{severity="High",`: "1.611693237e+09",
			`mde_unresolved_alerts_oldest_timestamp_seconds{severity="Low",`: "1.611606837e+09", `mde_unresolved_alerts_unassigned_oldest_timestamp_seconds{severity="Low",`: "",
		}},
		{"only ids", []string{`{"id":"1"}`, `{"id":"2","severity":null,"status":"unknown","alertCreationTime":"0001-01-01T00:00:00Z"}`}, map[string]string{
			`mde_unresolved_alerts{severity="UnSpecified",status="Unknown",`: "2", `mde_unresolved_alerts_unassigned{severity="UnSpecified",`: "2",
			`mde_unresolved_alerts_oldest_timestamp_seconds{severity="UnSpecified",`: "", `mde_unresolved_alerts_detection_source{detection_source="unknown",`: "2",
		}},
		{"without an id", []string{`{"severity":"Low","status":"New"}`, `{"severity":"Low","status":"New","id":null}`}, map[string]string{
			`mde_unresolved_alerts{severity="Low",status="New",`: "2",
		}},
		{"values that are not documented", []string{`{"id":"1","severity":"Critical","status":"Parked","assignedTo":"x"}`}, map[string]string{
			`mde_unresolved_alerts{severity="Critical",status="Parked",`: "1", `mde_unresolved_alerts_unassigned{severity="Critical",`: "0",
		}},
		{"more values than the limit", many, map[string]string{
			`mde_unresolved_alerts{severity="other",status="other",`: "33", `mde_unresolved_alerts{severity="S19",status="T19",`: "1",
			`mde_unresolved_alerts_detection_source{detection_source="D49",`: "1", `mde_unresolved_alerts_detection_source{detection_source="other",`: "3",
		}},
		{"wrong types", []string{`{"id":7,"severity":["High"],"status":{},"assignedTo":true,"alertCreationTime":1,"detectionSource":null}`}, map[string]string{
			`mde_unresolved_alerts{severity="UnSpecified",status="Unknown",`: "1",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, c := newAlerts(t, rows(test.rows...))
				if err := w.Refresh(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				exposed := w.Exposed(t)
				for series, want := range test.want {
					if got := collectortest.Value(exposed, series+`tenant="contoso"}`); got != want {
						t.Errorf("%s is %q, want %q, in\n%s", series, got, want, exposed)
					}
				}
			})
		})
	}
}

func TestOnlyTwo404sOfTheServiceMeanNoAlerts(t *testing.T) {
	none := respond(http.StatusNotFound, `{"error":{"code":"ResourceNotFound","message":"none"}}`)
	some := rows(`{"id":"1","severity":"High","status":"New"}`)
	for _, test := range []struct {
		name      string
		responses []http.HandlerFunc
		want      string // New alerts of severity High; "" if the refresh fails.
	}{
		{"404 twice", []http.HandlerFunc{none, none}, "0"},
		{"404 once", []http.HandlerFunc{none, some}, "1"},
		{"404 of a gateway", []http.HandlerFunc{respond(http.StatusNotFound, "<html>")}, ""},
		{"missing role", []http.HandlerFunc{respond(http.StatusForbidden, `{"error":{"code":"Forbidden"}}`)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				w, c := newAlerts(t, func(w http.ResponseWriter, r *http.Request) {
					test.responses[min(calls, len(test.responses)-1)](w, r)
					calls++
				})
				err := w.Refresh(t.Context(), c)
				got := collectortest.Value(w.Exposed(t), `mde_unresolved_alerts{severity="High",status="New",tenant="contoso"}`)
				if got != test.want || (err == nil) != (test.want != "") {
					t.Errorf("%q new alerts of severity High, error %v, %d calls", got, err, calls)
				}
			})
		})
	}
}
