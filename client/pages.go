package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"net/url"
)

const (
	// maxRepeatedPages is the maximum number of pages with the same ids as an earlier
	// page. Rows repeat when a fleet changes while it is read, but whole pages repeat only
	// if the links form a cycle.
	maxRepeatedPages = 50
	// maxLink is the maximum length of a link to the next page.
	maxLink = 32 << 10
)

// bounds are the limits of all pages of a list. More is an error.
type bounds struct {
	pages int
	rows  int
	bytes int64 // Unpacked.
}

var (
	// listBounds are the limits of a fleet: ten rows and 8 KiB for each of 2,000,000
	// machines. The quota does not allow more pages in three hours.
	listBounds = bounds{pages: 5_000, rows: 20_000_000, bytes: 16 << 30}
	// domainBounds are the limits of the machines of one domain. The API documents at most
	// DomainMachinesLimit machines in one page.
	domainBounds = bounds{pages: 4, rows: 20 * DomainMachinesLimit, bytes: maxPageBytes}
	// alertBounds are the limits of the alerts, whose ids are kept in memory while they
	// are counted.
	alertBounds = bounds{pages: 2_000, rows: 2_000_000, bytes: 16 << 30}
	// deviceGroupBounds are the limits of the device groups, which are one page.
	deviceGroupBounds = bounds{pages: 4, rows: 20_000, bytes: maxPageBytes}
)

// A list describes how to read all pages of a list.
type list struct {
	api     API
	service *service
	first   *url.URL
	// top is the number of rows of a full page if further pages are requested by $skip.
	// Zero if only links lead to them.
	top    int
	bounds bounds
}

// rows yields every row of a list, each decoded into the same entity. decode may be called
// with an incomplete row and then again from its start. The entity is complete once decode
// has iterated over all members without an error.
func rows[Entity any](ctx context.Context, c *Client, l list, decode func(*decoder, []byte, *Entity)) iter.Seq2[*Entity, error] {
	return func(yield func(*Entity, error) bool) {
		var entity Entity
		chain := chain{list: l, client: c, expected: c.lastRows(l.api), seen: make(map[[sha256.Size]byte]bool), contents: make(map[pageContent]bool)}
		err := chain.read(ctx, func(d *decoder, row []byte) { decode(d, row, &entity) }, func() bool { return yield(&entity, nil) })
		switch {
		case err == nil:
			c.rows.Store(l.api, chain.rows)
		case !errors.Is(err, errStopped):
			yield(nil, c.secrets.error(err))
		}
	}
}

// single returns the entity of an API that returns one. domain is ignored if the API's
// path does not contain one.
func single[Entity any](ctx context.Context, c *Client, api API, domain string, decode func(*decoder, []byte, *Entity)) (Entity, error) {
	var entity, none Entity
	row := api.row()
	response, err := c.get(ctx, api, c.address(row, domain, row.query))
	if err != nil {
		return none, c.secrets.error(err)
	}
	defer response.close()
	var d decoder
	d.open(response)
	decode(&d, d.read(), &entity)
	if d.finish(); d.err != nil {
		return none, c.secrets.error(d.problem(api))
	}
	return entity, nil
}

// lastRows returns the number of rows of the list when it was last read completely, or 0.
func (c *Client) lastRows(api API) int {
	rows, _ := c.rows.Load(api)
	n, _ := rows.(int)
	return n
}

// errStopped means that the consumer stopped the iteration.
var errStopped = errors.New("stopped")

// A chain reads the pages of a list.
type chain struct {
	list
	client  *Client
	decoder decoder
	// expected is the probable number of rows, 0 if unknown. It decides whether the next
	// page is requested before the current one is read.
	expected int

	// The fields below describe the pages read so far.
	pages    int
	rows     int
	bytes    int64
	linked   bool // A page had a link, so $skip is not used.
	full     bool // The last page was full.
	seen     map[[sha256.Size]byte]bool
	contents map[pageContent]bool
	repeated int
}

// pageContent identifies a page by its number of rows and the sum of their ids.
type pageContent struct {
	rows int
	ids  uint64
}

// read reads the pages one after another. It calls decode with each row, and then count,
// which returns false to stop.
func (ch *chain) read(ctx context.Context, decode func(d *decoder, row []byte), count func() bool) error {
	ch.visit(ch.first)
	page := ch.request(ctx, ch.first)
	for page != nil {
		next, err := ch.readPage(ctx, page, decode, count)
		page.close()
		if err != nil {
			return err
		}
		page = next
	}
	return nil
}

// readPage reads one page and returns the next page, which is already requested, or nil
// after the last one. It requests the next page as soon as its URL is known, so that the
// service prepares it while this one is counted. At most one page is requested ahead.
func (ch *chain) readPage(ctx context.Context, p *pageCall, decode func(d *decoder, row []byte), count func() bool) (next *pageCall, err error) {
	defer func() {
		if err != nil {
			next.close()
			next = nil
		}
	}()
	<-p.done
	response, err := p.response, p.err
	if IsNotFound(err) && p.url != ch.first {
		return nil, ch.paginationError("%w", err) // The list exists, but a page of it is missing.
	}
	if err != nil {
		return nil, err
	}
	ch.pages++
	d := &ch.decoder
	d.open(response)
	var link *url.URL
	hasRows := false
	content := pageContent{}
	for d.begin('{'); d.more('{'); {
		switch name := d.name(); name {
		case "@odata.nextLink":
			text := d.link(d.read())
			if d.err != nil || text == "" {
				continue
			}
			if link, err = ch.follow(p.url, text); err != nil {
				return next, err
			}
			if !hasRows && next == nil {
				next = ch.request(ctx, link)
			}
		case "value":
			if hasRows {
				d.fail("value occurs twice")
				continue
			}
			hasRows = true
			if next == nil && ch.expectsAnotherPage() && ch.pages < ch.bounds.pages {
				next = ch.request(ctx, ch.skip(ch.rows+ch.top))
			}
			for d.begin('['); d.more('['); {
				if d.peek() != '{' {
					d.mismatch(d.read(), "an object")
					continue
				}
				if content.rows++; ch.rows+content.rows > ch.bounds.rows {
					return next, ch.paginationError("the list has more than %d rows", ch.bounds.rows)
				}
				ids := d.ids
				d.entity(func(row []byte) {
					d.ids = ids
					decode(d, row)
				})
				if d.err == nil && !count() {
					return next, errStopped
				}
			}
		default:
			d.readError(name, d.read())
		}
	}
	if !hasRows {
		d.fail(`it is not a list: it has no member "value"`)
	}
	d.finish()
	if d.err != nil {
		return next, d.problem(ch.api)
	}
	if ch.bytes += d.input.read; ch.bytes > ch.bounds.bytes {
		return next, ch.paginationError("the list is larger than %d bytes", ch.bounds.bytes)
	}
	content.ids = d.ids
	if err := ch.checkRepeated(content); err != nil {
		return next, err
	}
	return ch.nextPage(ctx, content.rows, link, next)
}

// link reads the link to the next page. An empty string or null means that there is none.
// Other types are errors, because the list may be incomplete.
func (d *decoder) link(value []byte) string {
	switch value[0] {
	case '"':
		return string(d.text(value))
	case 'n':
	default:
		d.mismatch(value, "a link")
	}
	return ""
}

// nextPage returns the page after the one that was read, or nil after the last one. rows
// and link are those of the page that was read, requested is the page requested ahead.
func (ch *chain) nextPage(ctx context.Context, rows int, link *url.URL, requested *pageCall) (*pageCall, error) {
	ch.rows += rows
	ch.full = rows >= ch.top
	after := link
	if link != nil {
		ch.linked = true
	} else if ch.top > 0 && ch.full && !ch.linked {
		after = ch.skip(ch.rows)
	}
	switch {
	case after == nil:
		requested.close()
		return nil, nil
	case ch.pages == ch.bounds.pages:
		return requested, ch.tooManyPages()
	case requested != nil && requested.url.String() == after.String():
		return requested, nil
	default:
		requested.close()
		return ch.request(ctx, after), nil
	}
}

// expectsAnotherPage reports whether the next page should be requested by $skip before
// this one is read. If the number of rows is unknown, a full page suggests another one: at
// most the last call is then superfluous.
func (ch *chain) expectsAnotherPage() bool {
	switch {
	case ch.top == 0 || ch.linked:
		return false
	case ch.expected > 0:
		return ch.expected > ch.rows+ch.top
	default:
		return ch.full
	}
}

// skip returns the URL of the page after the first n rows.
func (ch *chain) skip(n int) *url.URL {
	u := *ch.first
	u.RawQuery += fmt.Sprintf("&$skip=%d", n)
	return &u
}

// follow returns the URL of a link to the next page. It must have the origin of the
// service and not have been read before.
func (ch *chain) follow(base *url.URL, link string) (*url.URL, error) {
	if ch.pages == ch.bounds.pages {
		return nil, ch.tooManyPages()
	}
	next, err := resolveLink(base, link)
	if err != nil {
		return nil, ch.paginationError("%w", err)
	}
	if !sameOrigin(next, ch.service.url) {
		return nil, ch.paginationError("a link leads from %s to %s", origin(ch.service.url), origin(next))
	}
	next.Host = ch.service.url.Host // It may differ in case or in the default port.
	if !ch.visit(next) {
		return nil, ch.paginationError("a link leads to a page that was already read")
	}
	return next, nil
}

// resolveLink resolves a link relative to the page that contains it. Its error does not
// contain the link, whose query may contain tokens.
func resolveLink(base *url.URL, link string) (*url.URL, error) {
	if len(link) > maxLink {
		return nil, fmt.Errorf("a link is longer than %d bytes", maxLink)
	}
	next, err := base.Parse(link)
	if err != nil {
		return nil, errors.New("a link is not a URL")
	}
	if next.User != nil {
		return nil, errors.New("a link contains user information")
	}
	if next.Host == "" {
		return nil, fmt.Errorf("a link has no host, its scheme is %q", next.Scheme)
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// visit records a URL and reports whether it is new.
func (ch *chain) visit(u *url.URL) bool {
	sum := sha256.Sum256([]byte(u.String()))
	if ch.seen[sum] {
		return false
	}
	ch.seen[sum] = true
	return true
}

// checkRepeated returns an error if the same pages repeat under new URLs. Pages whose rows
// have no ids are not compared; only the bounds of the list limit them.
func (ch *chain) checkRepeated(content pageContent) error {
	if content.rows > 0 && content.ids == 0 {
		return nil
	}
	if ch.contents[content] {
		if ch.repeated++; ch.repeated > maxRepeatedPages {
			return ch.paginationError("the same pages repeat without end")
		}
	}
	ch.contents[content] = true
	return nil
}

func (ch *chain) tooManyPages() error {
	return ch.paginationError("the list has more than %d pages", ch.bounds.pages)
}

// paginationError returns an error of the list as a whole.
func (ch *chain) paginationError(format string, args ...any) error {
	return &Error{API: ch.api, Reason: ReasonPagination, Message: "the chain of pages is broken", Err: fmt.Errorf(format, args...)}
}

// A pageCall is the call for one page. response and err are set when done is closed.
type pageCall struct {
	url      *url.URL
	cancel   context.CancelFunc
	done     chan struct{}
	response *apiResponse
	err      error
}

func (ch *chain) request(ctx context.Context, u *url.URL) *pageCall {
	ctx, cancel := context.WithCancel(ctx)
	p := &pageCall{url: u, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.response, p.err = ch.client.get(ctx, ch.api, u)
	}()
	return p
}

// close cancels the call, whether it was read or not, and waits for its goroutine. A nil
// pageCall is already closed.
func (p *pageCall) close() {
	if p == nil {
		return
	}
	select {
	case <-p.done:
	default:
		p.cancel()
		<-p.done
	}
	if p.response != nil {
		p.response.close()
	}
	p.cancel()
}
