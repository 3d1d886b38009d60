package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// panel is one picture, with the question it answers as its title. The
// functions below make one of each kind; the methods refine it and return it.
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

// Colours say the same everywhere: green needs nobody, orange somebody today, red now.
const (
	calm    = "green"
	notice  = "#EAB839"
	warn    = "orange"
	alarm   = "red"
	neutral = "text"
)

// step is the value from which on a colour holds.
type step struct {
	from   float64
	colour string
}

// lastValue reduces a course to one number.
var lastValue = map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}

func newPanel(kind, title, about string) *panel {
	return &panel{
		kind: kind, title: title, about: about,
		options: map[string]any{}, defaults: map[string]any{}, width: 8, height: 8,
	}
}

// stat is one number, the last one, with its recent course behind it.
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

// lines is a course over time. The legend is a table of the last and the
// highest values, below the picture.
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

// bars is some numbers, each with its name.
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

// text is Markdown, in which ${variable:regex} stands for what is chosen at the
// top of the dashboard.
func text(title, about, markdown string) *panel {
	p := newPanel("text", title, about)
	p.queries = []any{}
	p.options = map[string]any{"mode": "markdown", "content": markdown, "code": map[string]any{"language": "plaintext", "showLineNumbers": false, "showMiniMap": false}}
	return p
}

// table is a list of at most limit rows. Each column is a query whose
// remaining labels are columns too; rows with the same labels become one.
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
				field = "Value" // as Grafana names the values of an only query
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
	hidden  bool   // the query only says which rows there are, or how they are sorted
	unit    string
	width   int
	steps   []step
	bar     float64 // draw the value as a bar from 0 to here
	shade   bool    // colour the cell instead of the figure
	mapping []any
	link    string // where a click on the cell leads to
	digits  *int   // decimal places
	none    string // shown in a cell without a value; empty means a dash, for a label what the table shows without rows
}

func (c column) override() any {
	properties := []any{}
	set := func(needed bool, id string, value any) {
		if needed {
			properties = append(properties, property(id, value))
		}
	}
	colourText := map[string]any{"type": "color-text"}
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

// shaded colours a cell instead of its figure.
var shaded = map[string]any{"type": "color-background", "mode": "basic"}

// override sets properties of the field of a name alone.
func override(field string, properties ...any) any {
	return map[string]any{"matcher": map[string]any{"id": "byName", "options": field}, "properties": properties}
}

func property(id string, value any) any { return map[string]any{"id": id, "value": value} }

func transformation(id string, options map[string]any) any {
	return map[string]any{"id": id, "options": options}
}

// longestScrape is the scrape interval up to which rates have data whatever the
// data source says. As the minimum step of a query it makes $__rate_interval at
// least four times as long; without it Grafana takes the data source's interval,
// which is 15 s unless somebody set it.
const longestScrape = "1m"

// add adds a query and returns the letter that stands for it.
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

// query adds a course over the time range, or for bars the value at its end. name
// is the legend, with {{label}}s.
func (p *panel) query(expr, name string) *panel {
	instant := p.kind == "bargauge"
	p.add(map[string]any{"expr": expr, "range": !instant, "instant": instant, "format": "time_series", "legendFormat": name})
	return p
}

// now makes a stat of the value at the end of the range only, for queries
// whose past is dear or means nothing.
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

// What a stat's change over the time range means.
const (
	higherIsBetter = "standard"
	lowerIsBetter  = "inverted"
)

// change shows beside the value how it changed within the time range.
func (p *panel) change(colours string) *panel {
	p.options["showPercentChange"], p.options["percentChangeColorMode"] = true, colours
	return p
}

func (p *panel) decimals(n int) *panel { return p.set("decimals", n) }

// none is what stands where there is no value; in a table or a course, where
// there is no row or line. It has no colour, for there is nothing to judge: the
// thresholds, which come before, begin with the least number.
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

// stacked piles the lines up, for parts of a whole.
func (p *panel) stacked() *panel {
	return p.custom("stacking", map[string]any{"mode": "normal", "group": "A"}).custom("fillOpacity", 45).custom("lineWidth", 1)
}

// stepped draws values that change only with a refresh.
func (p *panel) stepped() *panel { return p.custom("lineInterpolation", "stepAfter") }

// sparse is for what happens every few minutes only: the step is long enough
// to hold some of it, and a line continues over steps that hold none.
func (p *panel) sparse() *panel {
	p.interval = "5m"
	return p.custom("spanNulls", true).custom("showPoints", "auto")
}

// beside puts the legend to the right, where names are long and many.
func (p *panel) beside() *panel {
	p.options["legend"].(map[string]any)["placement"] = "right"
	return p
}

// colourValue colours the figure instead of its background, for plain facts.
func (p *panel) colourValue() *panel { p.options["colorMode"] = "value"; return p }

// matrix turns a table into a grid of one query's values: a row for each
// property, a column for each value of another label, each cell coloured.
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
	return p.custom("cellOptions", shaded).custom("minWidth", 66).thresholds("transparent", steps...)
}

// thresholds is Grafana's form of steps. The base has no value.
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

// never is the age of what has no age because no refresh has succeeded: greater
// than every age, so that it is the worst of them. Queries write it as $never.
const never = "1e12"

// neverWord shows ages of never as the word.
var neverWord = []any{map[string]any{"type": "range", "options": map[string]any{
	"from": 1e11, "to": 1e18, "result": map[string]any{"text": "never", "color": alarm, "index": 0},
}}}

// top keeps the ten series of expr that are largest at the end of the time
// range, so that no line appears and vanishes along the way. labels tell the
// series apart.
//
// A series counts with its last value of the range: what went silent, as in an
// outage, stays in the picture.
func top(labels, expr string) string {
	last := selector.ReplaceAllString(expr, "last_over_time($0[$$__range] @ end())")
	return fmt.Sprintf("%s\n  and on (%s)\ntopk(10, %s)", expr, labels, last)
}

// selector finds the metrics in a query: all of them are limited by $where.
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

// paint gives series by name the colours that their meaning asks for.
func (p *panel) paint(colours ...[2]string) *panel {
	for _, c := range colours {
		p.overrides = append(p.overrides, override(c[0], property("color", map[string]any{"mode": "fixed", "fixedColor": c[1]})))
	}
	return p
}
