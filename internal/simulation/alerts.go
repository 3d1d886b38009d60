package simulation

import (
	"fmt"
	"iter"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Alert is one alert of the tenant.
type Alert struct {
	// Index is the alert's position in the list. Together with the tenant's seed
	// it determines every field that no Story changes.
	Index int
	// Severity and Status are as sent, now and then not in the documented case.
	Severity, Status string
	Owner            string // assignedTo; empty means null
	Category, Source string // Source is the detectionSource
	// Created is the creation time relative to the tenant's start. Negative means
	// before.
	Created time.Duration

	dice dice
}

var (
	severities = [...]share{{80, "UnSpecified"}, {340, "Informational"}, {290, "Low"}, {195, "Medium"}, {90, "High"}, {5, "high"}}
	statuses   = [...]share{{380, "New"}, {5, "new"}, {150, "InProgress"}, {5, "inProgress"}, {445, "Resolved"}, {5, "resolved"}, {10, "Unknown"}}
	owners     = [...]share{{400, "soc@corp.example"}, {350, "night-shift@corp.example"}, {250, "Automation"}}
	categories = [...]share{{300, "SuspiciousActivity"}, {250, "Malware"}, {200, "CommandAndControl"}, {150, "UnwantedSoftware"}, {100, "CredentialAccess"}}
	sources    = [...]share{{500, "WindowsDefenderAv"}, {300, "WindowsDefenderAtp"}, {100, "AutomatedInvestigation"}, {60, "CustomDetection"}, {40, "CustomerTI"}}
	alertAges  = [...]span{{400, ages(0, day)}, {400, ages(day, 14*day)}, {200, ages(14*day, 170*day)}}
)

func (a *Alert) generate(seed uint64, index int) {
	*a = Alert{Index: index, dice: newDice(^seed, index)}
	d := a.dice
	a.Severity, a.Status = pick(&d, severities[:]), pick(&d, statuses[:])
	a.Category, a.Source = pick(&d, categories[:]), pick(&d, sources[:])
	a.Created = -pickAge(&d, alertAges[:])
	if isNew := strings.EqualFold(a.Status, "New"); d.below(100) < 85 != isNew {
		a.Owner = pick(&d, owners[:])
	}
}

// Resolved reports whether the alert is resolved.
func (a *Alert) Resolved() bool { return strings.EqualFold(a.Status, "Resolved") }

// Alerts yields all alerts, resolved ones too. The pointer is valid until the
// next iteration.
func (v View) Alerts() iter.Seq[*Alert] {
	return func(yield func(*Alert) bool) {
		var a Alert
		f := v.fleet
		for i := range v.alertCount {
			a.generate(f.seed, i)
			if f.story.Alert != nil {
				f.story.Alert(&a, v.since)
			}
			if !yield(&a) {
				return
			}
		}
	}
}

// alerts serves GET /api/alerts. With $top the response has a nextLink only if
// Options.NextLinks is set; without $top, while rows are left.
func (x *exchange) alerts() {
	wanted, ok := x.alertFilter(x.r.URL.Query().Get("$filter"))
	if !ok {
		return
	}
	x.pagedList("Alerts", x.options.PageSize, func(v View) list {
		var rows []Alert
		for a := range v.Alerts() {
			if wanted(a) {
				rows = append(rows, *a)
			}
		}
		return list{len(rows), func(p *page, from, to int) {
			for i := range rows[from:to] {
				p.alert(v, &rows[from+i])
			}
		}}
	})
}

var alertCondition = regexp.MustCompile(`^(status|severity|category|detectionSource) (eq|ne) '(\w*)'$`)

// alertFilter parses a $filter of conditions joined by "and". It rejects
// everything else that OData allows.
func (x *exchange) alertFilter(filter string) (wanted func(*Alert) bool, ok bool) {
	var conditions [][]string
	for text := range strings.SplitSeq(filter, " and ") {
		c := alertCondition.FindStringSubmatch(text)
		if filter != "" && (c == nil || x.options.NoAlertFilter) {
			x.reject(http.StatusBadRequest, "ODataError", fmt.Sprintf("Invalid filter clause '%s'.", text))
			return nil, false
		}
		if c != nil {
			conditions = append(conditions, c)
		}
	}
	return func(a *Alert) bool {
		for _, c := range conditions {
			value := map[string]string{"status": a.Status, "severity": a.Severity, "category": a.Category, "detectionSource": a.Source}[c[1]]
			if strings.EqualFold(value, c[3]) != (c[2] == "eq") {
				return false
			}
		}
		return true
	}, true
}

var alertText = strings.Repeat("A process on this machine communicated with a host that is known for command and control. ", 190)

// alert writes a row of /api/alerts: mostly 2 kB, some up to 18 kB. The evidence
// is empty, as without $expand.
func (p *page) alert(v View, a *Alert) {
	d := a.dice
	var m Machine
	v.machine(&m, v.first+d.below(max(v.count, 1)))
	length := 700 + d.below(600)
	if d.below(20) == 0 {
		length *= 13
	}
	created := max(0, v.at.Sub(v.fleet.start.Add(a.Created)))
	p.row()
	p.key("id")
	p.raw(`"da`)
	p.hex(d.next(), 16)
	p.raw(`_-`)
	p.hex(uint64(a.Index), 8)
	p.raw(`","incidentId":1126093,"investigationId":null`)
	if a.Owner == "" && d.below(4) == 0 {
		p.raw(`,"assignedTo":""`)
	} else {
		p.text("assignedTo", a.Owner)
	}
	p.text("severity", a.Severity)
	p.text("status", a.Status)
	p.raw(`,"classification":null,"determination":null,"investigationState":"Queued"`)
	p.text("detectionSource", a.Source)
	p.guid("detectorId", d.next(), 0)
	p.text("category", a.Category)
	p.raw(`,"threatFamilyName":null,"title":"Suspicious network connection","description":"`, alertText[:length], `"`)
	for _, name := range [...]string{"alertCreationTime", "firstEventTime", "lastEventTime", "lastUpdateTime"} {
		p.ago(name, v.at, created, ``)
	}
	p.id("machineId", &m)
	p.name(&m)
	p.text("rbacGroupName", m.Group)
	p.raw(`,"threatName":null,"mitreTechniques":["T1071"],"relatedUser":null,"loggedOnUsers":[],"comments":[],"evidence":[],"domains":[]}`)
}
