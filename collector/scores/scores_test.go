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

// farEnd answers each path of the API, with status 200 unless the answer begins
// with another.
type farEnd struct{ exposure, groups, secure string }

func (f *farEnd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

func asDocumented() *farEnd {
	return &farEnd{
		exposure: `{"@odata.context":"x","time":"2019-12-03T07:23:53.280499Z","score":33.491554051195706}`,
		groups: `{"value":[{"time":"2019-12-03T09:51:28.214338Z","score":41.38041766305988,"rbacGroupName":"GroupOne","rbacGroupId":1},
			{"time":"2019-12-03T09:51:28.2143399Z","score":37.403726933165366,"rbacGroupName":"UnassignedGroup"}]}`,
		secure: `{"@odata.context":"x","time":"2019-12-03T09:15:58.1665846Z","score":340}`,
	}
}

func newScores(t *testing.T, far *farEnd) (*collectortest.World, collector.Collector) {
	w := collectortest.NewWorld()
	env := w.Env("scores")
	env.Client = collectortest.Client(t, far.ServeHTTP)
	var c Config
	c.Defaults()
	c.Validate(collector.Validation{})
	return w, c.New(env)
}

func TestTheScoresAreExposedAsTheAPIGivesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newScores(t, asDocumented())
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

func TestScoresOfEachKindOfAnswer(t *testing.T) {
	const notFound = `404{"error":{"code":"ResourceNotFound","message":"none"}}`
	many := make([]string, 203)
	for i := range many {
		many[i] = fmt.Sprintf(`{"score":%d,"rbacGroupName":"G%03d"}`, i%100, i)
	}
	for _, test := range []struct {
		name   string
		change func(*farEnd)
		want   map[string]string // Of series by what stands behind mde_; "" is absent.
		fails  string
	}{
		{"no group has a score", func(f *farEnd) { f.groups = `{"value":[]}` },
			map[string]string{`exposure_score`: "33.491554051195706", `device_group_exposure_score,none`: ""}, ""},
		{"zero", func(f *farEnd) { f.exposure = `{"score":0}` }, map[string]string{`exposure_score`: "0"}, ""},
		{"a 404 in the service's own words", func(f *farEnd) { f.exposure, f.groups = notFound, notFound },
			map[string]string{`exposure_score`: "", `device_group_exposure_score,GroupOne`: "", `device_secure_score`: "340"}, ""},
		{"groups without a name", func(f *farEnd) {
			f.groups = `{"value":[{"score":1,"rbacGroupName":null},{"score":3,"rbacGroupName":""},{"score":2}]}`
		}, map[string]string{`device_group_exposure_score,none`: "3"}, ""},
		{"a group twice, spelled with control characters", func(f *farEnd) {
			f.groups = `{"value":[{"score":50,"rbacGroupName":"A\u0007"},{"score":4,"rbacGroupName":"A"}]}`
		}, map[string]string{`device_group_exposure_score,A`: "50"}, ""},
		{"more groups than places", func(f *farEnd) { f.groups = `{"value":[` + strings.Join(many, ",") + `]}` },
			map[string]string{`device_group_exposure_score,G199`: "99", `device_group_exposure_score,G202`: "", `device_group_exposure_score,other`: "2"}, ""},
		{"a score that is no number", func(f *farEnd) { f.secure = `{"score":"low"}` }, nil, "read device secure score"},
		{"a gateway's 404", func(f *farEnd) { f.groups = `404<html>` }, nil, "read exposure scores of device groups"},
		{"a missing role", func(f *farEnd) { f.exposure = `403{"error":{"code":"Forbidden"}}` }, nil, "read exposure score"},
		{"no list", func(f *farEnd) { f.groups = `{"score":1}` }, nil, "read exposure scores of device groups"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				far := asDocumented()
				test.change(far)
				w, c := newScores(t, far)
				err := w.Refresh(t.Context(), c)
				if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v, want %q", err, test.fails)
				}
				exposed := w.Exposed(t)
				if err != nil && exposed != "" {
					t.Errorf("a refresh that failed exposed\n%s", exposed)
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
