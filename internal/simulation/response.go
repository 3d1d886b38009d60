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

// responseWriter sends a response, compressed if the client accepts it, truncated
// if a fault requires it.
type responseWriter struct {
	w    http.ResponseWriter
	r    *http.Request
	call *Call
	// truncate is the number of body bytes on the wire after which the connection
	// breaks. 0 means never. With hang the connection stays open instead.
	truncate int
	hang     bool
}

// start sends the status and the header.
func (a *responseWriter) start(status int) {
	a.call.Status = status
	a.w.WriteHeader(status)
}

func (a *responseWriter) Write(p []byte) (int, error) {
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

func (a *responseWriter) gzips() bool {
	return strings.Contains(a.r.Header.Get("Accept-Encoding"), "gzip")
}

var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // never fails: the level is valid
	return z
}}

// body sends a body that write writes.
func (a *responseWriter) body(status int, contentType string, write func(io.Writer)) {
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
	_ = z.Close() // the client may have disconnected
}

const jsonType = "application/json; odata.metadata=minimal; odata.streaming=true"

func (a *responseWriter) text(status int, contentType, text string) {
	a.body(status, contentType, func(w io.Writer) { _, _ = io.WriteString(w, text) })
}

func (a *responseWriter) json(status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // v consists of strings and numbers from this package
	}
	a.text(status, jsonType, string(text))
}

// reject responds with an error in the API's format.
func (x *exchange) reject(status int, code, message string) {
	x.response.json(status, map[string]any{"error": map[string]string{
		"code": code, "message": message, "target": correlationID(x.call.Number),
	}})
}

func (x *exchange) throttle(wait time.Duration) {
	x.response.w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	x.rejectStatus(http.StatusTooManyRequests)
}

// rejectStatus responds with the error that usually has this status.
func (x *exchange) rejectStatus(status int) {
	if x.api == Token {
		x.signInError(status)
		return
	}
	code := strings.ReplaceAll(http.StatusText(status), " ", "")
	if status == http.StatusNotFound {
		code = "ResourceNotFound"
	}
	x.reject(status, code, "The service responded with "+strconv.Itoa(status)+".")
}

func correlationID(n int) string {
	return string(appendGUID(nil, mix(uint64(n)), 1))
}

// page sends a page that write writes. With CachePages it sends the cached page
// of the key, if the key is not empty.
func (x *exchange) page(key string, write func(*page)) {
	render := func(w io.Writer) {
		piece := buffers.Get().(*[]byte)
		defer buffers.Put(piece)
		p := page{w: w, buf: (*piece)[:0]}
		write(&p)
		p.flush()
		*piece = p.buf
		x.call.Rows = p.rows
	}
	if !x.options.CachePages || key == "" {
		x.response.body(http.StatusOK, jsonType, render)
		return
	}
	zipped := x.response.gzips()
	cached := x.pages.get(pageKey{x.call.View.shape, key, zipped}, func() cachedPage {
		var b bytes.Buffer
		if zipped {
			z := compressors.Get().(*gzip.Writer)
			defer compressors.Put(z)
			z.Reset(&b)
			render(z)
			_ = z.Close() // a buffer never fails
		} else {
			render(&b)
		}
		return cachedPage{bytes.Clone(b.Bytes()), x.call.Rows}
	})
	x.call.Rows = cached.rows
	h := x.response.w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(cached.body)))
	if zipped {
		h.Set("Content-Encoding", "gzip")
	}
	x.response.start(http.StatusOK)
	_, _ = x.response.Write(cached.body) // the client may have disconnected
}

// pageCache caches the pages of one shape of the fleet.
type pageCache struct {
	mu    sync.Mutex
	shape *shape
	pages map[pageKey]cachedPage
}

type pageKey struct {
	shape  *shape
	target string
	zipped bool
}

type cachedPage struct {
	body []byte
	rows int
}

func (c *pageCache) get(key pageKey, render func() cachedPage) cachedPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shape != key.shape {
		c.shape, c.pages = key.shape, map[pageKey]cachedPage{}
	}
	cached, ok := c.pages[key]
	if !ok {
		cached = render()
		c.pages[key] = cached
	}
	return cached
}
