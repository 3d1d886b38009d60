package web

import (
	"bytes"
	_ "embed" // Embeds page.html and page.css.
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/mde-exporter/mde_exporter/collector"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": collector.Number[int], "number": collector.Number[float64], "span": span, "relative": relative, "slug": slug, "runbook": runbookLink,
}).Parse(pageHTML))

// page serves the status page: all tenants or, with ?tenant=NAME, one tenant with
// all rows of its tables. ?q= searches, ?sort= sorts and ?page= selects a page.
// Links are relative, so that they work behind a proxy that adds a path prefix.
func page(o Options, dashboards, alerts []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, ok := parseQuery(w, r)
		if !ok {
			return
		}
		v := newView(o.Status(), time.Now())
		v.Tenant, v.Sort = query.Get("tenant"), query.Get("sort")
		v.Search = strings.TrimSpace(query.Get("q"))
		v.Search = strings.ToValidUTF8(v.Search[:min(maxSearchLength, len(v.Search))], "")
		var found bool
		if query.Has("tenant") {
			found = v.onlyTenant(query.Get("page"))
		} else {
			found = v.overview(query.Get("page"))
		}
		if !found {
			writeText(w, http.StatusNotFound, "No such tenant, column or page.")
			return
		}

		// Buffer the page, so that a template error does not leave half a page.
		var b bytes.Buffer
		err := pageTemplate.Execute(&b, struct {
			view
			Metrics            string
			Dashboards, Alerts []string
			Pprof              bool
			Style              template.CSS
		}{v, strings.TrimPrefix(o.TelemetryPath, "/"), dashboards, alerts, o.Pprof, template.CSS(pageCSS)}) //nolint:gosec // The style is embedded.
		if err != nil {
			http.Error(w, "The page could not be built: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(b.Bytes()) // The client may have disconnected.
	}
}

// span formats a duration with its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "under a second"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	}
}

// relative formats a time as "5m 0s ago" or "in 5m 0s".
func relative(t time.Time) string {
	switch d := time.Since(t).Round(time.Second); {
	case d < 0:
		return "in " + span(-d)
	case d == 0:
		return "now"
	default:
		return span(d) + " ago"
	}
}
