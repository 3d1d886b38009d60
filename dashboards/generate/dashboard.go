package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// dashboard describes one dashboard.
type dashboard struct {
	uid, title, description string
	from                    string     // start of the time range, such as now-24h
	variables               []variable // besides data source, job and tenant
	rows                    []row
}

// row is a titled row of panels, laid out from left to right and wrapped at the
// width of the grid. Grafana queries a folded row when it is opened.
type row struct {
	title  string
	folded bool
	panels []*panel
}

// variable selects one or more values of a label at the top of the dashboard.
type variable struct {
	name, title string
	series      string // whose label is listed
	label       string
}

// gridWidth is the number of columns of Grafana's layout.
const gridWidth = 24

// where limits a selector to the job and tenant selected at the top of the
// dashboard. Queries write it as $where.
const where = `job=~"$job", tenant=~"$tenant"`

// datasource is the data source selected at the top of the dashboard.
var datasource = map[string]any{"type": "prometheus", "uid": "${datasource}"}

// json returns the dashboard as a file to import or provision.
func (d dashboard) json() []byte {
	variables := []any{map[string]any{
		"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
		"current": map[string]any{}, "hide": 0, "includeAll": false, "multi": false, "refresh": 1, "regex": "",
	}}
	for _, v := range append([]variable{
		{name: "job", title: "Job", series: "mde_exporter_build_info", label: "job"},
		{name: "tenant", title: "Tenant", series: `mde_refresh_interval_seconds{job=~"$job"}`, label: "tenant"},
	}, d.variables...) {
		variables = append(variables, v.model())
	}
	file, err := json.MarshalIndent(map[string]any{
		"uid": d.uid, "title": d.title, "description": d.description, "tags": []string{"mde_exporter"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "fiscalYearStartMonth": 0,
		"refresh": "1m", "timezone": "browser",
		"time":        map[string]any{"from": d.from, "to": "now"},
		"timepicker":  map[string]any{},
		"annotations": map[string]any{"list": []any{alertAnnotations()}},
		"templating":  map[string]any{"list": variables},
		"links": []any{map[string]any{
			"type": "dashboards", "title": "Defender for Endpoint", "tags": []string{"mde_exporter"}, "asDropdown": false,
			"keepTime": true, "includeVars": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
		}},
		"panels": d.layout(),
	}, "", "\t")
	if err != nil {
		panic(fmt.Sprintf("dashboard %s: %v", d.uid, err)) // Only a mistake in this program causes it.
	}
	return append(file, '\n')
}

// alertAnnotations marks in all graphs when a critical or warning alert fires.
func alertAnnotations() any {
	return map[string]any{
		"name": "Alerts", "datasource": datasource, "enable": true, "hide": false, "iconColor": alarm,
		"target": map[string]any{
			"refId": "Alerts", "interval": longestScrape,
			"expr": "max by (alertname, severity, tenant, domain, property) (" + firing(`severity=~"critical|warning"`) + ")",
		},
		"titleFormat": "{{alertname}}", "textFormat": "{{tenant}} {{domain}} {{property}}", "tagKeys": "severity",
	}
}

func (v variable) model() map[string]any {
	query := fmt.Sprintf("label_values(%s, %s)", strings.ReplaceAll(v.series, "$where", where), v.label)
	return map[string]any{
		"type": "query", "name": v.name, "label": v.title, "datasource": datasource,
		"query": map[string]any{"query": query, "refId": v.name},
		"multi": true, "includeAll": true, "allValue": ".*",
		"current": map[string]any{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		"options": []any{}, "refresh": 2, "regex": "", "sort": 1, "hide": 0, "skipUrlSync": false,
	}
}

// layout returns the rows and panels with their positions and ids.
func (d dashboard) layout() []any {
	var placed []any
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range d.rows {
		head := map[string]any{
			"type": "row", "id": next(), "title": r.title, "collapsed": r.folded, "panels": []any{},
			"gridPos": map[string]any{"x": 0, "y": y, "w": gridWidth, "h": 1},
		}
		placed = append(placed, head)
		y++
		var inside []any
		x, tallest := 0, 0
		for _, p := range r.panels {
			if x+p.width > gridWidth {
				x, y, tallest = 0, y+tallest, 0
			}
			inside = append(inside, p.model(next(), x, y))
			x, tallest = x+p.width, max(tallest, p.height)
		}
		y += tallest
		if r.folded {
			head["panels"] = inside
		} else {
			placed = append(placed, inside...)
		}
	}
	return placed
}
