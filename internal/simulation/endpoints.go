package simulation

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxTop is the largest page of /api/machines and /api/deviceavinfo.
const maxTop = 10_000

// maxRows is the largest $skip.
const maxRows = 1<<31 - 1

// chain is one read of all preview pages. All its pages show the fleet at the
// time of the first one.
type chain struct {
	number int
	view   View
}

// maxChains is the number of concurrent chains. Older ones are dropped.
const maxChains = 64

// machineSecurityStates serves GET /testwdatppreview/machinesecuritystates.
func (x *exchange) machineSecurityStates() {
	chain, from, ok := x.chainOf(x.r.URL.Query().Get("$skiptoken"))
	if !ok {
		x.reject(http.StatusBadRequest, "BadRequest", "The continuation token is not valid.")
		return
	}
	x.call.View = chain.view
	rows := chain.view.states()
	order := sequence{rows.rows, !x.options.InOrder}
	next := ""
	if to := from + x.options.PageSize; to < order.length() {
		next = fmt.Sprintf("%s%s?$skiptoken=%x", x.origin(), x.r.URL.Path, fmt.Sprintf("%d-%d", chain.number, to))
	}
	x.list("/testwdatppreview/$metadata#MachineSecurityStates", rows.rows, next, func(p *page) {
		for from, to := range order.rowsOf(from, from+x.options.PageSize) {
			rows.write(p, from, to)
		}
	}, from)
}

// chainOf returns the chain of a continuation token, or a new one for an empty
// token.
func (x *exchange) chainOf(token string) (c *chain, from int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number := 0
	if token != "" && !strings.HasPrefix(token, endlessToken) {
		var text []byte
		_, err := fmt.Sscanf(token, "%x", &text)
		if n, _ := fmt.Sscanf(string(text), "%d-%d", &number, &from); err != nil || n != 2 || from < 0 || from > maxRows {
			return nil, 0, false
		}
		for _, c := range x.chains {
			if c.number == number {
				return c, from, true
			}
		}
		return nil, 0, false
	}
	c = &chain{number: x.chainCount + 1, view: x.now()}
	if x.options.CachePages && len(x.chains) > 0 && x.chains[len(x.chains)-1].view.shape == c.view.shape {
		return x.chains[len(x.chains)-1], 0, true // the cached pages contain its tokens
	}
	x.chainCount++
	if len(x.chains) == maxChains {
		x.chains = x.chains[1:]
	}
	x.chains = append(x.chains, c)
	return c, 0, true
}

// machines serves GET /api/machines. With $top the response has a nextLink only
// if Options.NextLinks is set; without $top the nextLinks never end.
func (x *exchange) machines() {
	x.pagedList("Machines", x.options.PageSize, View.machines)
}

// deviceAVInfo serves GET /api/deviceavinfo.
func (x *exchange) deviceAVInfo() { x.pagedList("DeviceAvInfo", 20, View.antivirus) }

// pagedList sends the page of a list that $top and $skip select. The default of
// $top is top.
func (x *exchange) pagedList(set string, top int, listOf func(View) list) {
	query, ok := x.paging(top)
	if !ok {
		return
	}
	x.call.View = x.Now()
	rows := listOf(x.call.View)
	order := sequence{rows.rows, !x.options.InOrder}
	next := ""
	if more := query.to() < order.length(); !query.hasTop && (more || x.api == Machines) || more && x.options.NextLinks {
		next = query.next(x)
	}
	x.list("/api/$metadata#"+set, -1, next, func(p *page) {
		// Each call rotates the rows of a page.
		turn := 0
		if n := min(query.to(), order.length()) - query.skip; n > 0 && order.repeats && !x.options.CachePages {
			turn = int(mix(uint64(x.call.Number)) % uint64(n))
		}
		for _, part := range [...][2]int{{query.skip + turn, query.to()}, {query.skip, query.skip + turn}} {
			for from, to := range order.rowsOf(part[0], part[1]) {
				rows.write(p, from, to)
			}
		}
	}, query.skip, query.top)
}

// domainMachines serves GET /api/domains/{domain}/machines.
func (x *exchange) domainMachines() {
	name, ok := x.domainName()
	if !ok {
		return
	}
	x.call.View = x.Now()
	view := x.call.View
	if _, known := view.domain(name); !known && x.options.UnknownDomain404 {
		x.reject(http.StatusNotFound, "ResourceNotFound", "Domain "+name+" was not found.")
		return
	}
	x.list("/api/$metadata#Machines", -1, "", func(p *page) {
		for m := range view.Contacted(name) {
			if p.machine(m, view.at); p.rows == DomainMachinesLimit {
				break
			}
		}
	}, name)
}

// domainStats serves GET /api/domains/{domain}/stats.
func (x *exchange) domainStats() {
	name, ok := x.domainName()
	if !ok {
		return
	}
	if hours := x.r.URL.Query().Get("lookBackHours"); hours != "" {
		if n, err := strconv.Atoi(hours); err != nil || n < 1 || n > 720 {
			x.reject(http.StatusBadRequest, "InvalidInput", "lookBackHours is not between 1 and 720.")
			return
		}
	}
	x.call.View = x.Now()
	stats := map[string]any{
		"@odata.context": x.origin() + "/api/$metadata#microsoft.windowsDefenderATP.api.InOrgDomainStats",
		"host":           name,
		"orgFirstSeen":   nil,
		"orgLastSeen":    nil,
	}
	prevalence := x.call.View.prevalence(name)
	if x.options.StatsAsStrings {
		stats["orgPrevalence"] = strconv.Itoa(prevalence)
	} else {
		stats["organizationPrevalence"] = prevalence
	}
	if prevalence > 0 {
		d, _ := x.call.View.domain(name)
		at := x.call.View.at.UTC()
		stats["orgFirstSeen"] = at.Add(-cmp.Or(d.FirstSeen, 30*24*time.Hour)).Format(time.RFC3339)
		stats["orgLastSeen"] = at.Add(-d.LastSeen).Format(time.RFC3339)
	}
	x.response.json(http.StatusOK, stats)
}

var domainPattern = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// domainName returns the domain of the path. It rejects an invalid one.
func (x *exchange) domainName() (string, bool) {
	rest := strings.TrimPrefix(x.r.URL.Path, "/api/domains/")
	name, _, _ := strings.Cut(rest, "/")
	name = strings.ToLower(name)
	if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 || !domainPattern.MatchString(name) {
		x.reject(http.StatusBadRequest, "InvalidDomainName", "The domain name is not valid.")
		return "", false
	}
	return name, true
}

// paging contains the values of $top and $skip.
type paging struct {
	skip, top int
	hasTop    bool // $top was given
}

func (q paging) to() int { return q.skip + q.top }

func (q paging) next(x *exchange) string {
	query := x.r.URL.Query()
	query.Set("$skip", strconv.Itoa(q.to()))
	return x.origin() + x.r.URL.Path + "?" + strings.ReplaceAll(query.Encode(), "%24", "$")
}

// paging parses $top and $skip and rejects other OData query options.
func (x *exchange) paging(top int) (q paging, ok bool) {
	q.top = top
	for name, values := range x.r.URL.Query() {
		if !strings.HasPrefix(name, "$") || name == "$filter" && x.api == Alerts {
			continue
		}
		n, err := strconv.Atoi(values[0])
		message := ""
		switch {
		case name != "$top" && name != "$skip":
			message = fmt.Sprintf("The query option '%s' is not supported.", name)
		case err != nil || n < 0 || n > maxRows || n == 0 && name == "$top":
			message = fmt.Sprintf("Invalid value '%s' for %s query option found.", values[0], name)
		case name == "$skip":
			q.skip = n
		case n > maxTop:
			message = fmt.Sprintf("The limit of '%d' for Top query has been exceeded. The value from the incoming request is '%d'.", maxTop, n)
		default:
			q.top, q.hasTop = n, true
		}
		if message != "" {
			x.reject(http.StatusBadRequest, "ODataError", message)
			return q, false
		}
	}
	return q, true
}

const endlessToken = "endless"

// list sends a page of a list, with its count unless it is negative. A fault may
// replace the nextLink; such a page is not cached.
func (x *exchange) list(context string, count int, next string, rows func(*page), key ...any) {
	cached := fmt.Sprint(x.origin(), " ", context, " ", key)
	switch {
	case x.fault.NextLink != "":
		next, cached = x.fault.NextLink, ""
	case x.fault.Endless && x.api == MachineSecurityStates:
		next, cached = fmt.Sprintf("%s%s?$skiptoken=%s%d", x.origin(), x.r.URL.Path, endlessToken, x.call.Number), ""
	case x.fault.Endless:
		next, cached = fmt.Sprintf("%s%s?$skip=0&again=%d", x.origin(), x.r.URL.Path, x.call.Number), ""
	}
	x.page(cached, func(p *page) {
		p.raw(`{`)
		p.text("@odata.context", x.origin()+context)
		if count >= 0 {
			p.int("@odata.count", count)
		}
		if next != "" && !x.options.NextLinkLast {
			p.text("@odata.nextLink", next)
		}
		p.raw(`,"value":[`)
		rows(p)
		p.raw(`]`)
		if next != "" && x.options.NextLinkLast {
			p.text("@odata.nextLink", next)
		}
		p.raw(`}`)
	})
}
