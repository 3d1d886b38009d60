package scores

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mde-exporter/mde_exporter/collector"
	"github.com/mde-exporter/mde_exporter/internal/collectortest"
)

// fakeAPI holds the response for each path of the API: a body, optionally preceded by a
// status other than 200.
type fakeAPI struct{ exposure, groups, secure string }

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := map[string]string{
		"/api/exposureScore": f.exposure, "/api/exposureScore/ByMachineGroups": f.groups, "/api/configurationScore": f.secure,
	}[r.URL.Path]
	status := http.StatusOK
	if _, err := fmt.Sscanf(body, "%d", &status); err == nil {
		body = body[3:]
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func documentedAPI() *fakeAPI {
	return &fakeAPI{
		exposure: `{"@odata.context":"x","time":"2019-12-03T07:23:53.280499Z","score":33.491554051195706}`,
		groups: `{"value":[{"time":"2019-12-03T09:51:28.214338Z","score":41.38041766305988,"rbacGroupName":"GroupOne","rbacGroupId":1},
			{"time":"2019-12-03T09:51:28.2143399Z","score":37.403726933165366,"rbacGroupName":"UnassignedGroup"}]}`,
		secure: `{"@odata.context":"x","time":"2019-12-03T09:15:58.1665846Z","score":340}`,
	}
}

func newScores(t *testing.T, api *fakeAPI) (*collectortest.World, collector.Collector) {
	w := collectortest.NewWorld()
	env := w.Env("scores")
	env.Client = collectortest.Client(t, api.ServeHTTP)
	var c Config
	c.Defaults()
	c.Validate(collector.Validation{})
	return w, c.New(env)
}

func TestScoresAreExposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newScores(t, documentedAPI())
		if err := w.Refresh(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		collectortest.Golden(t, "scores.prom", w.Scraped(t))
		if got, want := c.Page().Summary, "exposure score 33.49, device secure score 340, 2 device groups with an exposure score"; got != want {
			t.Errorf("page %q, want %q", got, want)
		}
		w.Lint(t)
	})
}

func TestUnusualScores(t *testing.T) {
	const notFound = `404{"error":{"code":"ResourceNotFound","message":"none"}}`
	many := make([]string, 203)
	for i := range many {
		many[i] = fmt.Sprintf(`{"score":%d,"rbacGroupName":"G%03d"}`, i%100, i)
	}
	for _, test := range []struct {
		name   string
		change func(*fakeAPI)
		want   map[string]string // By metric name without mde_, and device group; "" means absent.
		fails  string
	}{
		{"no group has a score", func(f *fakeAPI) { f.groups = `{"value":[]}` },
			map[string]string{`exposure_score`: "33.491554051195706", `device_group_exposure_score,none`: ""}, ""},
		{"zero", func(f *fakeAPI) { f.exposure = `{"score":0}` }, map[string]string{`exposure_score`: "0"}, ""},
		{"a 404 of the service", func(f *fakeAPI) { f.exposure, f.groups = notFound, notFound },
			map[string]string{`exposure_score`: "", `device_group_exposure_score,GroupOne`: "", `device_secure_score`: "340"}, ""},
		{"groups without a name", func(f *fakeAPI) {
			f.groups = `{"value":[{"score":1,"rbacGroupName":null},{"score":3,"rbacGroupName":""},{"score":2}]}`
		}, map[string]string{`device_group_exposure_score,none`: "3"}, ""},
		{"a duplicate group with control characters", func(f *fakeAPI) {
			f.groups = `{"value":[{"score":50,"rbacGroupName":"A\u0007"},{"score":4,"rbacGroupName":"A"}]}`
		}, map[string]string{`device_group_exposure_score,A`: "50"}, ""},
		{"more groups than the limit", func(f *fakeAPI) { f.groups = `{"value":[` + strings.Join(many, ",") + `]}` },
			map[string]string{`device_group_exposure_score,G199`: "99", `device_group_exposure_score,G202`: "", `device_group_exposure_score,other`: "2"}, ""},
		{"a score that is not a number", func(f *fakeAPI) { f.secure = `{"score":"low"}` }, nil, "read device secure score"},
		{"a 404 of a gateway", func(f *fakeAPI) { f.groups = `404<html>` }, nil, "read exposure scores of device groups"},
		{"a missing role", func(f *fakeAPI) { f.exposure = `403{"error":{"code":"Forbidden"}}` }, nil, "read exposure score"},
		{"not a list", func(f *fakeAPI) { f.groups = `{"score":1}` }, nil, "read exposure scores of device groups"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := documentedAPI()
				test.change(api)
				w, c := newScores(t, api)
				err := w.Refresh(t.Context(), c)
				if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v, want %q", err, test.fails)
				}
				exposed := w.Exposed(t)
				if err != nil && exposed != "" {
					t.Errorf("failed refresh exposed\n%s", exposed)
				}
				for series, want := range test.want {
					name, group, grouped := strings.Cut(series, ",")
					if name = "mde_" + name + "{"; grouped {
						name += `device_group="` + group + `",`
					}
					if got := collectortest.Value(exposed, name+`tenant="contoso"}`); got != want {
						t.Errorf("%s is %q, want %q, in\n%s", series, got, want, exposed)
					}
				}
			})
		})
	}
}
