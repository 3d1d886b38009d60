package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// panel is one panel of a dashboard. The functions below return one of each kind;
// the methods change it and return it.
type panel struct {
	kind, title, about string
	width, height      int
	interval           string // shortest step of the queries
	base               string // colour below the first step
	steps              []step

	options         map[string]any
	defaults        map[string]any // of the fields' appearance
	overrides       []any
	queries         []any
	transformations []any
}

// The colours of states: green needs no action, orange needs action today, red needs
// action now.
const (
	calm    = "green"
	notice  = "#EAB839"
	warn    = "orange"
	alarm   = "red"
	neutral = "text"
)

// step is a threshold: the colour of values from a value on.
type step struct {
	from   float64
	colour string
}

// lastValue reduces a series to its last value.
var lastValue = map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}

// newPanel returns a panel that shows numbers with thousands separators.
func newPanel(kind, title, about string) *panel {
	p := &panel{
		kind: kind, title: title, about: about,
		options: map[string]any{}, defaults: map[string]any{}, width: 8, height: 8,
	}
	return p.unit("locale")
}

// stat returns a panel with the last value of a series and its recent course.
func stat(title, about, query string) *panel {
	return namedStat(title, about, query, "")
}

// namedStat is a stat that shows the name of the series beside its value.
func namedStat(title, about, query, name string) *panel {
	p := newPanel("stat", title, about).size(4, 4)
	p.options = map[string]any{
		"reduceOptions": lastValue,
		"colorMode":     "background", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
		"textMode": "value", "wideLayout": true,
	}
	if name != "" {
		p.options["textMode"] = "value_and_name"
	}
	return p.query(query, name).thresholds(neutral)
}

// lines returns a panel with series over time. The legend below it has the last and
// the highest value of each.
func lines(title, about string) *panel {
	p := newPanel("timeseries", title, about).size(12, 9)
	p.options = map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}, "sortBy": "Last *", "sortDesc": true},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	p.defaults["color"] = map[string]any{"mode": "palette-classic"}
	p.defaults["custom"] = map[string]any{
		"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 2, "fillOpacity": 8, "gradientMode": "none",
		"showPoints": "never", "spanNulls": false, "stacking": map[string]any{"mode": "none", "group": "A"},
		"axisSoftMin": 0, "thresholdsStyle": map[string]any{"mode": "off"},
	}
	return p.thresholds(calm)
}

// bars returns a panel with a bar for each series.
func bars(title, about string) *panel {
	p := newPanel("bargauge", title, about)
	p.options = map[string]any{
		"reduceOptions": lastValue,
		"displayMode":   "basic", "orientation": "horizontal", "valueMode": "color", "namePlacement": "left",
		"showUnfilled": true, "sizing": "auto", "minVizHeight": 16, "minVizWidth": 8, "maxVizHeight": 28,
	}
	p.defaults["min"] = 0
	return p.thresholds("blue")
}

// text returns a panel with Markdown, in which Grafana replaces ${variable:regex} by
// the values selected at the top of the dashboard.
func text(title, about, markdown string) *panel {
	p := newPanel("text", title, about)
	p.queries = []any{}
	p.options = map[string]any{"mode": "markdown", "content": markdown, "code": map[string]any{"language": "plaintext", "showLineNumbers": false, "showMiniMap": false}}
	return p
}

// table returns a panel with at most limit rows. Each column is a query, whose
// remaining labels are columns, too. Results with the same labels share a row.
func table(title, about string, limit int, columns ...column) *panel {
	p := newPanel("table", title, about).size(24, 9)
	p.options = map[string]any{"showHeader": true, "cellHeight": "sm"}
	p.defaults["custom"] = map[string]any{
		"align": "auto", "cellOptions": map[string]any{"type": "auto"}, "inspect": false, "filterable": false,
	}
	p.thresholds(neutral)

	if len(columns) == 0 {
		return p // a matrix
	}
	single := len(slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.query == "" })) == 1
	order, names, without, sortBy := map[string]any{}, map[string]any{}, map[string]any{"Time": true}, ""
	for i, c := range columns {
		field := c.label
		if c.query != "" {
			ref := p.add(map[string]any{"expr": c.query, "instant": true, "range": false, "format": "table"})
			field = "Value #" + ref
			if single {
				field = "Value" // Grafana's name if there is one query
			}
		}
		if c.sorted {
			sortBy = field
		}
		if c.hidden {
			without[field] = true
			continue
		}
		order[field], names[field] = i, c.title
		p.overrides = append(p.overrides, c.override())
	}
	p.transformations = []any{
		transformation("merge", map[string]any{}),
		transformation("sortBy", map[string]any{"fields": map[string]any{}, "sort": []any{map[string]any{"field": sortBy, "desc": true}}}),
		transformation("limit", map[string]any{"limitField": limit}),
		transformation("organize", map[string]any{"excludeByName": without, "indexByName": order, "renameByName": names, "includeByName": map[string]any{}}),
	}
	return p
}

// column is a label, or the value of a query, in a table.
type column struct {
	title   string
	label   string // the label shown, or
	query   string // the query whose value is shown
	sorted  bool   // the table is sorted by this column, largest first
	hidden  bool   // the query only adds rows or sorts them
	unit    string
	width   int
	steps   []step
	bar     float64 // draw the value as a bar from 0 to here
	shade   bool    // colour the cell instead of the figure
	mapping []any
	link    string // the cell's link
	digits  *int   // decimal places
	none    string // text of a cell without a value; default: a dash, for a label the table's text
}

func (c column) override() any {
	properties := []any{}
	set := func(needed bool, id string, value any) {
		if needed {
			properties = append(properties, property(id, value))
		}
	}
	colourText := map[string]any{"type": "color-text"}
	set(c.label != "", "unit", "string") // A build is no number.
	set(c.unit != "", "unit", c.unit)
	set(c.digits != nil, "decimals", c.digits)
	set(c.width > 0, "custom.width", c.width)
	set(c.shade, "custom.cellOptions", shaded)
	set(c.steps != nil, "thresholds", thresholds(neutral, c.steps))
	set(c.steps != nil && c.bar == 0, "custom.cellOptions", colourText)
	set(c.bar > 0, "min", 0)
	set(c.bar > 0, "max", c.bar)
	set(c.bar > 0, "custom.cellOptions", map[string]any{"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
	set(c.mapping != nil && !c.shade, "custom.cellOptions", colourText)
	set(c.mapping != nil, "mappings", c.mapping)
	set(c.query != "" || c.none != "", "noValue", cmp.Or(c.none, "–"))
	set(c.link != "", "links", []any{map[string]any{"title": "Show " + strings.ToLower(c.title), "url": c.link, "targetBlank": false}})
	return override(c.title, properties...)
}

// shaded colours a cell instead of its text.
var shaded = map[string]any{"type": "color-background", "mode": "basic"}

// override sets properties of one field.
func override(field string, properties ...any) any {
	return map[string]any{"matcher": map[string]any{"id": "byName", "options": field}, "properties": properties}
}

func property(id string, value any) any { return map[string]any{"id": id, "value": value} }

func transformation(id string, options map[string]any) any {
	return map[string]any{"id": id, "options": options}
}

// longestScrape is the longest scrape interval with which rates have data. As the
// minimum step of a query it makes $__rate_interval at least four times as long.
// Without it Grafana uses the interval of the data source, 15 s by default.
const longestScrape = "1m"

// add adds a query and returns its letter.
func (p *panel) add(target map[string]any) string {
	ref := string(rune('A' + len(p.queries)))
	target["refId"], target["datasource"], target["editorMode"] = ref, datasource, "code"
	expr := strings.NewReplacer("$where", where, "$never", never).Replace(target["expr"].(string))
	target["expr"] = expr
	if strings.Contains(expr, "$__rate_interval") {
		target["interval"] = longestScrape
	}
	p.queries = append(p.queries, target)
	return ref
}

// query adds a query over the time range, or for bars one at its end. name is the
// legend, with {{label}}s.
func (p *panel) query(expr, name string) *panel {
	instant := p.kind == "bargauge"
	p.add(map[string]any{"expr": expr, "range": !instant, "instant": instant, "format": "time_series", "legendFormat": name})
	return p
}

// now makes a stat query only the end of the range, for queries whose history is
// expensive or has no meaning.
func (p *panel) now() *panel {
	for _, q := range p.queries {
		q := q.(map[string]any)
		q["range"], q["instant"] = false, true
	}
	p.options["graphMode"] = "none"
	return p
}

func (p *panel) size(width, height int) *panel { p.width, p.height = width, height; return p }

// set sets a property of all fields.
func (p *panel) set(key string, value any) *panel { p.defaults[key] = value; return p }

func (p *panel) unit(unit string) *panel { return p.set("unit", unit) }

// How a stat colours its change over the time range.
const (
	higherIsBetter = "standard"
	lowerIsBetter  = "inverted"
)

// change shows how the value changed within the time range.
func (p *panel) change(colours string) *panel {
	p.options["showPercentChange"], p.options["percentChangeColorMode"] = true, colours
	return p
}

func (p *panel) decimals(n int) *panel { return p.set("decimals", n) }

// none sets the text of a panel without a value, row or line. The text has no colour:
// the lowest threshold is the least number. Call it after thresholds.
func (p *panel) none(text string) *panel {
	if p.kind == "stat" && p.options["colorMode"] == "background" {
		p.thresholds("transparent", append([]step{{-1e12, p.base}}, p.steps...)...)
	}
	return p.set("noValue", text)
}

func (p *panel) thresholds(base string, steps ...step) *panel {
	p.base, p.steps = base, steps
	if _, ok := p.defaults["color"]; !ok {
		p.set("color", map[string]any{"mode": "thresholds"})
	}
	return p.set("thresholds", thresholds(base, steps))
}

func (p *panel) custom(key string, value any) *panel {
	p.defaults["custom"].(map[string]any)[key] = value
	return p
}

// stacked stacks the lines, for parts of a whole.
func (p *panel) stacked() *panel {
	return p.custom("stacking", map[string]any{"mode": "normal", "group": "A"}).custom("fillOpacity", 45).custom("lineWidth", 1)
}

// stepped draws values that change only with a refresh.
func (p *panel) stepped() *panel { return p.custom("lineInterpolation", "stepAfter") }

// sparse is for events that are minutes apart: each step is 5 minutes, and a line
// continues over steps without a value.
func (p *panel) sparse() *panel {
	p.interval = "5m"
	return p.custom("spanNulls", true).custom("showPoints", "auto")
}

// beside puts the legend to the right, where names are long and many.
func (p *panel) beside() *panel {
	p.options["legend"].(map[string]any)["placement"] = "right"
	return p
}

// colourValue colours the number instead of its background, for values without
// thresholds.
func (p *panel) colourValue() *panel { p.options["colorMode"] = "value"; return p }

// matrix turns a table into a grid of one query's values: a row for each property
// and a column for each value of another label. Each cell is coloured.
func (p *panel) matrix(columnLabel, expr string, steps ...step) *panel {
	const corner = "Property"
	p.add(map[string]any{"expr": expr, "instant": true, "range": false, "format": "table"})
	p.transformations = []any{
		transformation("groupingToMatrix", map[string]any{"columnField": columnLabel, "rowField": "property", "valueField": "Value", "emptyValue": "null"}),
		transformation("organize", map[string]any{"renameByName": map[string]any{`property\` + columnLabel: corner}, "excludeByName": map[string]any{}, "indexByName": map[string]any{}, "includeByName": map[string]any{}}),
		transformation("sortBy", map[string]any{"fields": map[string]any{}, "sort": []any{map[string]any{"field": corner, "desc": true}}}),
	}
	p.overrides = append(p.overrides, override(corner,
		property("unit", "string"), property("custom.width", 225), property("custom.cellOptions", map[string]any{"type": "auto"}),
		property("links", []any{map[string]any{"title": "Show the machines", "url": machinesLink, "targetBlank": false}})))
	return p.custom("cellOptions", shaded).custom("minWidth", 66).custom("wrapHeaderText", true).thresholds("transparent", steps...)
}

// thresholds returns steps in Grafana's format. The base has no value.
func thresholds(base string, steps []step) any {
	all := []any{map[string]any{"color": base, "value": nil}}
	for _, s := range steps {
		all = append(all, map[string]any{"color": s.colour, "value": s.from})
	}
	return map[string]any{"mode": "absolute", "steps": all}
}

// words maps values to words.
func words(pairs ...[3]string) []any {
	options := map[string]any{}
	for i, p := range pairs {
		options[p[0]] = map[string]any{"text": p[1], "color": p[2], "index": i}
	}
	return []any{map[string]any{"type": "value", "options": options}}
}

// never is the age of values of which no refresh has succeeded. It is greater than
// every real age. Queries write it as $never.
const never = "1e12"

// neverWord maps ages of never to the word.
var neverWord = []any{map[string]any{"type": "range", "options": map[string]any{
	"from": 1e11, "to": 1e18, "result": map[string]any{"text": "never", "color": alarm, "index": 0},
}}}

// top returns the ten series of expr that are largest at the end of the time range,
// so that lines do not come and go within it. labels identify a series.
//
// A series without a value at the end counts with its last value in the range.
func top(labels, expr string) string {
	last := selector.ReplaceAllString(expr, "last_over_time($0[$$__range] @ end())")
	return fmt.Sprintf("%s\n  and on (%s)\ntopk(10, %s)", expr, labels, last)
}

// selector matches the selectors of a query, all of which have matchers.
var selector = regexp.MustCompile(`\w+\{[^}]*\}`)

func (p *panel) model(id, x, y int) map[string]any {
	model := map[string]any{
		"id": id, "type": p.kind, "title": p.title, "description": p.about, "datasource": datasource,
		"gridPos":     map[string]any{"x": x, "y": y, "w": p.width, "h": p.height},
		"fieldConfig": map[string]any{"defaults": p.defaults, "overrides": append([]any{}, p.overrides...)},
		"options":     p.options, "targets": p.queries,
	}
	if p.interval != "" {
		model["interval"] = p.interval
	}
	if p.transformations != nil {
		model["transformations"] = p.transformations
	}
	return model
}

// inOrder keeps the legend in the order of the queries.
func (p *panel) inOrder() *panel {
	legend := p.options["legend"].(map[string]any)
	delete(legend, "sortBy")
	delete(legend, "sortDesc")
	return p
}

// paint sets the colours of series by name.
func (p *panel) paint(colours ...[2]string) *panel {
	for _, c := range colours {
		p.overrides = append(p.overrides, override(c[0], property("color", map[string]any{"mode": "fixed", "fixedColor": c[1]})))
	}
	return p
}
