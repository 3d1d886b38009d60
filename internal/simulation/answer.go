package simulation

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// answerWriter sends an answer: compressed where the client asks for it, cut
// short where a fault says so.
type answerWriter struct {
	w    http.ResponseWriter
	r    *http.Request
	call *Call
	// truncate is after how many bytes of the body, as they leave, the answer
	// breaks off; 0 means never. With hang the connection stays open then.
	truncate int
	hang     bool
}

// start sends the header.
func (a *answerWriter) start(status int) {
	a.call.Status = status
	a.w.WriteHeader(status)
}

func (a *answerWriter) Write(p []byte) (int, error) {
	if a.truncate == 0 {
		return a.w.Write(p)
	}
	if len(p) < a.truncate {
		a.truncate -= len(p)
		return a.w.Write(p)
	}
	_, _ = a.w.Write(p[:a.truncate])
	_ = http.NewResponseController(a.w).Flush()
	if a.hang {
		<-a.r.Context().Done()
	}
	a.call.Broken = true
	panic(http.ErrAbortHandler)
}

func (a *answerWriter) gzips() bool {
	return strings.Contains(a.r.Header.Get("Accept-Encoding"), "gzip")
}

var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is valid
	return z
}}

// body sends a body that write writes.
func (a *answerWriter) body(status int, contentType string, write func(io.Writer)) {
	h := a.w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Vary", "Accept-Encoding")
	if !a.gzips() {
		a.start(status)
		write(a)
		return
	}
	h.Set("Content-Encoding", "gzip")
	a.start(status)
	z := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	z.Reset(a)
	write(z)
	_ = z.Close() // the client may have gone
}

const jsonType = "application/json; odata.metadata=minimal; odata.streaming=true"

func (a *answerWriter) text(status int, contentType, text string) {
	a.body(status, contentType, func(w io.Writer) { _, _ = io.WriteString(w, text) })
}

func (a *answerWriter) json(status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // v is made of strings and numbers by this package
	}
	a.text(status, jsonType, string(text))
}

// refuse answers with an error as the API spells it.
func (x *exchange) refuse(status int, code, message string) {
	x.answer.json(status, map[string]any{"error": map[string]string{
		"code": code, "message": message, "target": correlationID(x.call.Number),
	}})
}

func (x *exchange) throttle(wait time.Duration) {
	x.answer.w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	x.refuseStatus(http.StatusTooManyRequests)
}

// refuseStatus answers with the error that usually comes with a status.
func (x *exchange) refuseStatus(status int) {
	if x.api == Token {
		x.signInError(status)
		return
	}
	code := strings.ReplaceAll(http.StatusText(status), " ", "")
	if status == http.StatusNotFound {
		code = "ResourceNotFound"
	}
	x.refuse(status, code, "The service answers with "+strconv.Itoa(status)+".")
}

func correlationID(n int) string {
	return string(appendGUID(nil, mix(uint64(n)), 1))
}

// page sends a page that write writes: from the cache, where pages are kept
// and key names one.
func (x *exchange) page(key string, write func(*page)) {
	render := func(w io.Writer) {
		piece := pieces.Get().(*[]byte)
		defer pieces.Put(piece)
		p := page{w: w, buf: (*piece)[:0]}
		write(&p)
		p.send()
		*piece = p.buf
		x.call.Rows = p.rows
	}
	if !x.options.CachePages || key == "" {
		x.answer.body(http.StatusOK, jsonType, render)
		return
	}
	zipped := x.answer.gzips()
	kept := x.pages.get(pageKey{x.call.View.shape, key, zipped}, func() keptPage {
		var b bytes.Buffer
		if zipped {
			z := compressors.Get().(*gzip.Writer)
			defer compressors.Put(z)
			z.Reset(&b)
			render(z)
			_ = z.Close() // a buffer does not fail
		} else {
			render(&b)
		}
		return keptPage{bytes.Clone(b.Bytes()), x.call.Rows}
	})
	x.call.Rows = kept.rows
	h := x.answer.w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(kept.body)))
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	x.answer.start(http.StatusOK)
	_, _ = x.answer.Write(kept.body) // the client may have gone
}

// pageCache keeps the pages of one shape of the fleet.
type pageCache struct {
	mu    sync.Mutex
	shape *shape
	pages map[pageKey]keptPage
}

type pageKey struct {
	shape  *shape
	target string
	zipped bool
}

type keptPage struct {
	body []byte
	rows int
}

func (c *pageCache) get(key pageKey, render func() keptPage) keptPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shape != key.shape {
		c.shape, c.pages = key.shape, map[pageKey]keptPage{}
	}
	kept, ok := c.pages[key]
	if !ok {
		kept = render()
		c.pages[key] = kept
	}
	return kept
}
