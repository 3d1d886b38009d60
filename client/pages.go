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
	// maxRepeatedPages bounds how many pages of a chain may hold just what an
	// earlier one held. Rows repeat where a fleet changes while it is read; whole
	// pages do so again and again only where a chain leads in circles.
	maxRepeatedPages = 50
	// maxLink bounds the length of a link to the next page.
	maxLink = 32 << 10
)

// bounds are those of a whole chain of pages: more fails it.
type bounds struct {
	pages int
	rows  int
	bytes int64 // Unpacked.
}

var (
	// listBounds are those of a fleet: ten rows and 8 KiB for each of 2,000,000
	// machines. The quota carries no more pages in three hours.
	listBounds = bounds{pages: 5_000, rows: 20_000_000, bytes: 16 << 30}
	// domainBounds are those of the machines of one domain, which are documented to
	// be DomainMachinesLimit at most and to come in one page.
	domainBounds = bounds{pages: 4, rows: 20 * DomainMachinesLimit, bytes: maxPageBytes}
	// alertBounds are those of the alerts, whose ids are in memory while they are
	// counted.
	alertBounds = bounds{pages: 2_000, rows: 2_000_000, bytes: 16 << 30}
	// deviceGroupBounds are those of the device groups, which come in one page.
	deviceGroupBounds = bounds{pages: 4, rows: 20_000, bytes: maxPageBytes}
)

// A list is what comes in pages: where it begins and how it continues.
type list struct {
	api     API
	service *service
	first   *url.URL
	// top is how many rows a full page has, where further pages are asked for by
	// $skip. Zero where only links lead on.
	top    int
	bounds bounds
}

// rows yields every row of a list, each decoded into the same entity. decode may get a
// row of which the end is missing, and then gets it again: what it sets is right once it
// has walked through the row's members without an error.
func rows[Entity any](ctx context.Context, c *Client, l list, decode func(*decoder, []byte, *Entity)) iter.Seq2[*Entity, error] {
	return func(yield func(*Entity, error) bool) {
		var entity Entity
		chain := chain{list: l, client: c, expected: c.lastRows(l.api), seen: make(map[[sha256.Size]byte]bool), contents: make(map[content]bool)}
		err := chain.read(ctx, func(d *decoder, row []byte) { decode(d, row, &entity) }, func() bool { return yield(&entity, nil) })
		switch {
		case err == nil:
			c.rows.Store(l.api, chain.rows)
		case !errors.Is(err, errStopped):
			yield(nil, c.secrets.error(err))
		}
	}
}

// single reads the entity of an API that returns one. A domain is needed where the
// path of the API has one.
func single[Entity any](ctx context.Context, c *Client, api API, domain string, decode func(*decoder, []byte, *Entity)) (Entity, error) {
	var entity, none Entity
	row := api.row()
	answer, err := c.get(ctx, api, c.address(row, domain, row.query))
	if err != nil {
		return none, c.secrets.error(err)
	}
	defer answer.close()
	var d decoder
	d.open(answer)
	decode(&d, d.read(), &entity)
	if d.finish(); d.err != nil {
		return none, c.secrets.error(d.problem(api))
	}
	return entity, nil
}

// lastRows is how many rows a list had that was read to its end last, or 0.
func (c *Client) lastRows(api API) int {
	rows, _ := c.rows.Load(api)
	n, _ := rows.(int)
	return n
}

// errStopped means that the consumer wants no more.
var errStopped = errors.New("stopped")

// A chain is the pages of a list while they are read.
type chain struct {
	list
	client  *Client
	decoder decoder
	// expected is how many rows there probably are, 0 where nobody knows. It
	// decides whether a page is requested before the one before it was read.
	expected int

	pages    int // Begun, like all below of the chain so far.
	rows     int
	bytes    int64
	linked   bool // A link came: the pages are the service's to number, not ours.
	full     bool // The last page was full.
	seen     map[[sha256.Size]byte]bool
	contents map[content]bool
	repeated int
}

// content distinguishes pages by what they hold, in any order.
type content struct {
	rows int
	ids  uint64
}

// read reads the pages one after another. decode reads a row; count takes it and
// reports whether more are wanted.
func (ch *chain) read(ctx context.Context, decode func(d *decoder, row []byte), count func() bool) error {
	ch.visit(ch.first)
	page := ch.ask(ctx, ch.first)
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

// readPage reads one page and returns the next, which is asked for already, or
// nil after the last. The next page is asked for as early as its address is
// known, so that the service prepares it while this one is counted; never more
// than that one.
func (ch *chain) readPage(ctx context.Context, p *pageCall, decode func(d *decoder, row []byte), count func() bool) (next *pageCall, err error) {
	defer func() {
		if err != nil {
			next.close()
			next = nil
		}
	}()
	<-p.done
	answer, err := p.answer, p.err
	if IsNotFound(err) && p.url != ch.first {
		return nil, ch.astray("%w", err) // The list exists: a part of it is missing.
	}
	if err != nil {
		return nil, err
	}
	ch.pages++
	d := &ch.decoder
	d.open(answer)
	var link *url.URL
	hasRows := false
	held := content{}
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
				next = ch.ask(ctx, link)
			}
		case "value":
			if hasRows {
				d.fail("value occurs twice")
				continue
			}
			hasRows = true
			if next == nil && ch.anotherLikely() && ch.pages < ch.bounds.pages {
				next = ch.ask(ctx, ch.skip(ch.rows+ch.top))
			}
			for d.begin('['); d.more('['); {
				if d.next() != '{' {
					d.mismatch(d.read(), "an object")
					continue
				}
				if held.rows++; ch.rows+held.rows > ch.bounds.rows {
					return next, ch.astray("it has more than %d rows", ch.bounds.rows)
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
		d.fail("it has no value: this is no list")
	}
	d.finish()
	if d.err != nil {
		return next, d.problem(ch.api)
	}
	if ch.bytes += d.input.read; ch.bytes > ch.bounds.bytes {
		return next, ch.astray("its pages have more than %d bytes in all", ch.bounds.bytes)
	}
	held.ids = d.ids
	if err := ch.notice(held); err != nil {
		return next, err
	}
	return ch.settle(ctx, held.rows, link, next)
}

// link reads the link to a next page: a string, empty or null where there is none.
// Whatever else stands there, nobody knows whether the list has ended.
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

// settle decides which page comes next, now that this one is read.
func (ch *chain) settle(ctx context.Context, rows int, link *url.URL, asked *pageCall) (*pageCall, error) {
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
		asked.close()
		return nil, nil
	case ch.pages == ch.bounds.pages:
		return asked, ch.tooManyPages()
	case asked != nil && asked.url.String() == after.String():
		return asked, nil
	default:
		asked.close()
		return ch.ask(ctx, after), nil
	}
}

// anotherLikely reports whether a page numbered by us should be asked for before
// this one is read. Where nobody knows how many rows there are, one full page
// suggests another: at most one call, the last, is then made in vain.
func (ch *chain) anotherLikely() bool {
	switch {
	case ch.top == 0 || ch.linked:
		return false
	case ch.expected > 0:
		return ch.expected > ch.rows+ch.top
	default:
		return ch.full
	}
}

// skip is the address of the page that begins after n rows.
func (ch *chain) skip(n int) *url.URL {
	u := *ch.first
	u.RawQuery += fmt.Sprintf("&$skip=%d", n)
	return &u
}

// follow checks a link to the next page: it must lead to a page of the same
// service that was not read before.
func (ch *chain) follow(base *url.URL, link string) (*url.URL, error) {
	if ch.pages == ch.bounds.pages {
		return nil, ch.tooManyPages()
	}
	next, err := resolveLink(base, link)
	if err != nil {
		return nil, ch.astray("%w", err)
	}
	if !sameOrigin(next, ch.service.url) {
		return nil, ch.astray("it leaves %s for %s", origin(ch.service.url), origin(next))
	}
	next.Host = ch.service.url.Host // Which it is already, in whatever spelling.
	if !ch.visit(next) {
		return nil, ch.astray("a link leads back to a page that was read already")
	}
	return next, nil
}

// resolveLink reads the link to a next page as a browser would. Its error does
// not repeat the link, which holds tokens of the service's.
func resolveLink(base *url.URL, link string) (*url.URL, error) {
	if len(link) > maxLink {
		return nil, fmt.Errorf("a link is longer than %d bytes", maxLink)
	}
	next, err := base.Parse(link)
	if err != nil {
		return nil, errors.New("a link is no URL")
	}
	if next.User != nil {
		return nil, errors.New("a link holds user information")
	}
	if next.Host == "" {
		return nil, fmt.Errorf("a link has no host, its scheme is %q", next.Scheme)
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// visit remembers an address, and reports whether it is new to the chain.
func (ch *chain) visit(u *url.URL) bool {
	sum := sha256.Sum256([]byte(u.String()))
	if ch.seen[sum] {
		return false
	}
	ch.seen[sum] = true
	return true
}

// notice reports whether the chain leads in circles under ever new addresses. Rows
// without ids cannot be distinguished: the bounds of the list are their only bounds.
func (ch *chain) notice(held content) error {
	if held.rows > 0 && held.ids == 0 {
		return nil
	}
	if ch.contents[held] {
		if ch.repeated++; ch.repeated > maxRepeatedPages {
			return ch.astray("it repeats the same pages without end")
		}
	}
	ch.contents[held] = true
	return nil
}

func (ch *chain) tooManyPages() error {
	return ch.astray("it has more than %d pages", ch.bounds.pages)
}

// astray is the error of a chain that leads nowhere.
func (ch *chain) astray(format string, args ...any) error {
	return &Error{API: ch.api, Reason: ReasonPagination, Message: "the chain of pages is broken", Err: fmt.Errorf(format, args...)}
}

// A pageCall is a page that was asked for; its answer may not be there yet.
type pageCall struct {
	url    *url.URL
	cancel context.CancelFunc
	done   chan struct{}
	answer *answer
	err    error
}

func (ch *chain) ask(ctx context.Context, u *url.URL) *pageCall {
	ctx, cancel := context.WithCancel(ctx)
	p := &pageCall{url: u, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.answer, p.err = ch.client.get(ctx, ch.api, u)
	}()
	return p
}

// close ends the call of a page, read or not, and waits until nothing of it is
// left. A nil page is closed.
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
	if p.answer != nil {
		p.answer.close()
	}
	p.cancel()
}
