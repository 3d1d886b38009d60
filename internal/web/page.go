package web

import (
	"bytes"
	_ "embed" // page.html and page.css are part of the program.
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// page is the front page: every tenant at a glance, or, with ?tenant=NAME, one
// tenant with all its domains.
type page struct {
	status   func() Status
	template *template.Template
	links    links
	style    string
}

// links are relative, so that they hold behind a proxy that adds a prefix.
type links struct {
	Metrics            string
	Dashboards, Alerts []string
	Pprof, Lifecycle   bool
}

func newPage(o Options, dashboards, alerts []string) (*page, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"count":  count,
		"number": number,
		"span":   span,
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("parse the front page: %w", err)
	}
	return &page{
		status:   o.Status,
		template: t,
		links: links{
			Metrics:    strings.TrimPrefix(o.TelemetryPath, "/"),
			Dashboards: dashboards,
			Alerts:     alerts,
			Pprof:      o.Pprof,
			Lifecycle:  o.Reload != nil,
		},
		style: pageCSS,
	}, nil
}

func (p *page) serve(w http.ResponseWriter, r *http.Request) {
	status, now := p.status(), time.Now()
	query := r.URL.Query()
	v, found := overview(status, now), true
	if query.Has("tenant") {
		v, found = tenantView(status, now, query.Get("tenant"), query.Get("page"))
	}
	if !found {
		http.NotFound(w, r)
		return
	}

	// The page is whole or an error, hence the buffer.
	var b bytes.Buffer
	err := p.template.Execute(&b, struct {
		view
		Links links
		Style template.CSS
	}{v, p.links, template.CSS(p.style)}) //nolint:gosec // The style is part of the program.
	if err != nil {
		http.Error(w, "The page could not be built: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b.Bytes()) // A client that left needs no answer.
}

// count writes a number with its thousands apart.
func count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// number writes a whole number as count does, and any other with one decimal.
func number(n float64) string {
	if n == math.Trunc(n) {
		return count(int(n))
	}
	return strconv.FormatFloat(n, 'f', 1, 64)
}

// span writes a duration with the two units that matter.
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
