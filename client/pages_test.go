package client_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mde-exporter/mde_exporter/client"
)

func gzipped(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func deflated(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(body))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zlibbed(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestResponseIsReadInEveryEncoding(t *testing.T) {
	for _, test := range []struct {
		name   string
		body   string
		header []string
	}{
		{"plain", oneState, nil},
		{"packed", gzipped(t, oneState), []string{"Content-Encoding", "gzip"}},
		{"gzip in capitals", gzipped(t, oneState), []string{"Content-Encoding", " GZIP"}},
		{"x-gzip", gzipped(t, oneState), []string{"Content-Encoding", "x-gzip"}},
		{"raw deflate", deflated(t, oneState), []string{"Content-Encoding", "deflate"}},
		{"deflate with zlib header", zlibbed(t, oneState), []string{"Content-Encoding", "Deflate"}},
		{"identity encoding", oneState, []string{"Content-Encoding", "identity"}},
		{"with a byte order mark", "\xef\xbb\xbf" + oneState, nil},
		{"with space around", "\r\n \t" + oneState + "\n\n", nil},
		{"with the rows before everything else", `{"value":[{"build":14393}],"@odata.count":1,"@odata.nextLink":null,"unknown":{"a":[{}]}}`, nil},
		{"with an empty link", `{"@odata.nextLink":"","value":[{"build":14393}]}`, nil},
		{"names with escapes", `{"v\u0061lue":[{"bu\u0069ld":14393}]}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, test.body, test.header...))
				got, err := builds(t.Context(), t, api.client(t))
				if fmt.Sprint(got) != "[14393]" || err != nil {
					t.Errorf("builds %v, error %v", got, err)
				}
			})
		})
	}
}

func TestInvalidResponsesFailWithSpecificErrors(t *testing.T) {
	long := strings.Repeat("long", 2<<20)
	// A gzip file may consist of several, one after another.
	endless := gzipped(t, `{"value":[`) + strings.Repeat(gzipped(t, strings.Repeat(`{"note":"`+strings.Repeat(".", 100_000)+`"},`, 10)), 70)
	for _, test := range []struct {
		name   string
		body   string
		header []string
		text   string
	}{
		{"nothing", "", nil, "the response is empty"},
		{"a sign-in page", "<!DOCTYPE html><title>Sign in</title>", nil, "HTML page"},
		{"an HTML page by its type", "Sign in", []string{"Content-Type", "text/html; charset=utf-8"}, "HTML page"},
		{"an array", `[]`, nil, "unexpected [, want an object"},
		{"null", `null`, nil, "it is not a list"},
		{"an object without value", `{"@odata.context":""}`, nil, "it is not a list"},
		{"an error with 200", `{"error":{"code":"Busy"}}`, nil, "it is not a list"},
		{"value is null", `{"value":null}`, nil, "unexpected null, want an array"},
		{"value is an object", `{"value":{}}`, nil, "unexpected {, want an array"},
		{"duplicate value", `{"value":[],"value":[]}`, nil, "twice"},
		{"an error and rows", `{"value":[{"build":1}],"error":{"code":"Busy","message":"later","innererror":{"x":[1]}}}`, nil, "HTTP 200: Busy: later; the response is not what the API documents: the status is 200, but the response contains an error"},
		{"an error before rows", `{"error":{"code":"Busy"},"value":[{"build":1}]}`, nil, "Busy"},
		{"an error of OData before version 4", `{"odata.error":{"code":"Busy","message":{"lang":"en","value":"later"}},"value":[]}`, nil, "Busy"},
		{"an error that is a text", `{"value":[],"error":"busy"}`, nil, "busy"},
		{"an error that is true", `{"value":[],"error":true}`, nil, "contains an error"},
		{"an error that is empty", `{"value":[],"error":{}}`, nil, "contains an error"},
		{"the code of an error", `{"error":{"code":"Busy"}}`, nil, "HTTP 200: Busy"},
		{"a link that is an object", `{"value":[{"build":1}],"@odata.nextLink":{"href":"?x"}}`, nil, "unexpected {, want a link"},
		{"a link that is a number", `{"value":[{"build":1}],"@odata.nextLink":2}`, nil, "unexpected number, want a link"},
		{"a link that is a list", `{"@odata.nextLink":["?x"],"value":[{"build":1}]}`, nil, "unexpected [, want a link"},
		{"a link that is true", `{"@odata.nextLink":true,"value":[{"build":1}]}`, nil, "unexpected true, want a link"},
		{"a row that is null", `{"value":[{"build":1},null]}`, nil, "unexpected null, want an object"},
		{"too many elements", `{"value":[{"propertiesRequireAttention":[` + elements(10_001) + `]}]}`, nil, "more than 10000 elements"},
		{"too many elements in an ignored member", `{"value":[{"machineTags":[` + elements(10_001) + `]}]}`, nil, "more than 10000 elements"},
		{"too many elements nested in an ignored member", `{"value":[{"a":{"b":[{"c":[` + elements(10_001) + `]}]}}]}`, nil, "more than 10000 elements"},
		{"a text a byte too long", `{"value":[{"build":"` + strings.Repeat("b", 1<<20+1) + `"}]}`, nil, "longer than"},
		{"a text a byte too long in an ignored member", `{"value":[{"note":"` + strings.Repeat("b", 1<<20+1) + `"}]}`, nil, "longer than"},
		{"a text a byte too long nested in an ignored member", `{"value":[{"a":{"b":"` + strings.Repeat("b", 1<<20+1) + `"}}]}`, nil, "longer than"},
		{"nesting one level too deep", `{"value":[{"a":` + strings.Repeat(`[`, 62) + strings.Repeat(`]`, 62) + `}]}`, nil, "nested deeper"},
		{"truncated deflate", deflated(t, oneState)[:20], []string{"Content-Encoding", "deflate"}, "EOF"},
		{"deflate with a wrong checksum", zlibbed(t, oneState)[:len(zlibbed(t, oneState))-4] + "1234", []string{"Content-Encoding", "deflate"}, "checksum"},
		{"a row that is a text", `{"value":["a"]}`, nil, "unexpected string, want an object"},
		{"truncated row", `{"value":[{"build":`, nil, "unexpected EOF"},
		{"a second value", `{"value":[]}{}`, nil, "unexpected data after the JSON value"},
		{"trailing garbage", `{"value":[]}x`, nil, "invalid character"},
		{"not JSON", `{"value":[{"build":01}]}`, nil, "invalid character"},
		{"nesting that is too deep", `{"value":[{"a":` + strings.Repeat(`[`, 1000) + strings.Repeat(`]`, 1000) + `}]}`, nil, "nested deeper"},
		{"a text that is too long", `{"value":[{"build":"` + long + `"}]}`, nil, "longer than"},
		{"a text that is too long in an ignored member", `{"value":[{"note":"` + long + `"}]}`, nil, "longer than"},
		{"a name that is too long", `{"value":[{"` + long + `":1}]}`, nil, "longer than"},
		{"an entity with too many texts", `{"value":[{"propertiesRequireAttention":[` + strings.Repeat(`"`+strings.Repeat("p", 1<<20)+`",`, 20) + `""]}]}`, nil, "one entity is larger than"},
		{"an endless page", endless, []string{"Content-Encoding", "gzip"}, "larger than"},
		{"truncated gzip", gzipped(t, oneState)[:20], []string{"Content-Encoding", "gzip"}, "EOF"},
		{"gzip with a wrong checksum", gzipped(t, oneState)[:len(gzipped(t, oneState))-8] + "12345678", []string{"Content-Encoding", "gzip"}, "checksum"},
		{"gzip encoding without gzip body", oneState, []string{"Content-Encoding", "gzip"}, "gzip: invalid header"},
		{"deflate encoding without deflate body", "\xff\xff\xff", []string{"Content-Encoding", "deflate"}, "not what the API documents: flate: corrupt input"},
		{"unsupported content encoding", oneState, []string{"Content-Encoding", "br"}, `content encoding "br"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, respond(200, test.body, test.header...))
				_, err := builds(t.Context(), t, api.client(t))
				checkError(t, err, client.ReasonDecode, test.text)
				if len(err.Error()) > 600 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				if calls := api.requestsTo("states"); len(calls) != 1 {
					t.Errorf("%d calls, want 1: a retry cannot help", len(calls))
				}
			})
		})
	}
}

func elements(n int) string { return strings.Repeat(`"p",`, n-1) + `"p"` }

func TestResponseMayReachItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("b", 1<<20)
		api := newFakeAPI(t, respond(200, `{"value":[{"build":"`+text+`","note":"`+text+`","a":{"b":"`+text+`"},"c":`+
			strings.Repeat(`[`, 61)+strings.Repeat(`]`, 61)+`,"propertiesRequireAttention":[`+elements(10_000)+`],"machineTags":[`+elements(10_000)+`],"after":1}],"after":`+
			strings.Repeat(`[`, 63)+strings.Repeat(`]`, 63)+`}`))
		got, err := collect(t, api.client(t).SecurityStates(t.Context()), func(s *client.SecurityState) string {
			return fmt.Sprint(len(s.Build), " ", len(slices.Collect(s.Properties.All())))
		})
		if fmt.Sprint(got) != "[1048576 10000]" || err != nil {
			t.Errorf("state %v, error %v", got, err)
		}
	})
}

// linkedPages responds with this number of pages, one after the other. Each has one row
// and, except for the last, a link to the next page.
func linkedPages(pages int, row func(page int) string) http.HandlerFunc {
	page := 0
	return func(w http.ResponseWriter, r *http.Request) {
		link := ""
		if page++; page < pages {
			link = fmt.Sprintf(`"@odata.nextLink":"?$skiptoken=%d",`, page)
		}
		respond(200, `{`+link+`"value":[`+row(page)+`]}`)(w, r)
	}
}

func TestDomainMachinesHaveFewPages(t *testing.T) {
	for pages, wantRows := range map[int]int{1: 1, 4: 4, 5: 0, 100: 0} {
		synctest.Test(t, func(t *testing.T) {
			api := newFakeAPI(t, linkedPages(pages, func(page int) string { return fmt.Sprintf(`{"id":"%d"}`, page) }))
			rows, err := collect(t, api.client(t).DomainMachines(t.Context(), "evil.example"), func(*client.Machine) int { return 0 })
			if wantRows == 0 {
				checkError(t, err, client.ReasonPagination, "more than 4 pages")
			} else if len(rows) != wantRows || err != nil {
				t.Errorf("%d rows of %d pages, error %v", len(rows), pages, err)
			}
			if calls := api.requestsTo("domains"); len(calls) > 4 {
				t.Errorf("%d calls for one domain", len(calls))
			}
		})
	}
}

func TestDomainMachinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, `{"value":[`+strings.Repeat(`{},`, 10_000)+`{}]}`))
		rows, err := collect(t, api.client(t).DomainMachines(t.Context(), "evil.example"), func(*client.Machine) int { return 0 })
		checkError(t, err, client.ReasonPagination, "more than 10000 rows")
		if len(rows) != 10_000 {
			t.Errorf("%d rows were yielded before the error", len(rows))
		}
	})
}

func TestNextLinkMustLeadToNewPageOfSameOrigin(t *testing.T) {
	const self = "http://127.0.0.1:2/testwdatppreview/machinesecuritystates"
	for _, test := range []struct {
		name   string
		link   string
		follow bool
		text   string
	}{
		{"absolute", self + "?$skiptoken=2", true, ""},
		{"with a fragment", self + "?$skiptoken=2#f", true, ""},
		{"in capitals", "HTTP://127.0.0.1:2/testwdatppreview/machinesecuritystates?$skiptoken=2", true, ""},
		{"only a query", "?$skiptoken=2", true, ""},
		{"a path", "/testwdatppreview/machinesecuritystates?$skiptoken=2", true, ""},
		{"to a page that was read", self, false, "already read"},
		{"to a page that was read, by its fragment", self + "#again", false, "already read"},
		{"to another host", "http://evil.example/testwdatppreview/machinesecuritystates?secret", false, "http://evil.example:80"},
		{"to another port", "http://127.0.0.1:3/testwdatppreview?secret", false, "http://127.0.0.1:3"},
		{"to another scheme", "https://127.0.0.1:2/testwdatppreview?secret", false, "https://127.0.0.1:2"},
		{"without a scheme", "//evil.example/secret", false, "evil.example"},
		{"with user information", "http://127.0.0.1:2@evil.example/secret", false, "user information"},
		{"with user information of the same host", "http://secret@127.0.0.1:2/", false, "user information"},
		{"with backslashes", `http:\\\\evil.example\\secret`, false, "no host"},
		{"to a file", "file:///etc/secret", false, `scheme is "file"`},
		{"of an opaque kind", "mailto:secret", false, `scheme is "mailto"`},
		{"that is not a URL", "http://[secret", false, "not a URL"},
		{"that is too long", "?" + strings.Repeat("secret", 10_000), false, "longer than"},
	} {
		for _, position := range []string{"before", "after"} {
			t.Run(test.name+" "+position+" the rows", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					link := `"@odata.nextLink":` + strconv.Quote(strings.ReplaceAll(test.link, `\\`, `\`))
					first := map[string]string{
						"before": `{` + link + `,"value":[{"build":1}]}`,
						"after":  `{"value":[{"build":1}],` + link + `}`,
					}[position]
					api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
						if r.URL.RawQuery == "" {
							respond(200, first)(w, r)
							return
						}
						respond(200, `{"value":[{"build":2}]}`)(w, r)
					})
					got, err := builds(t.Context(), t, api.client(t))
					if test.follow {
						if fmt.Sprint(got) != "[1 2]" || err != nil {
							t.Errorf("builds %v, error %v", got, err)
						}
						return
					}
					checkError(t, err, client.ReasonPagination, test.text)
					if strings.Contains(err.Error(), "secret") {
						t.Errorf("error %q repeats the link", err)
					}
					if calls := api.requestsTo("states"); len(calls) != 1 {
						t.Errorf("%d calls, want 1", len(calls))
					}
				})
			})
		}
	}
}

func TestEndlessPagesFail(t *testing.T) {
	for _, test := range []struct {
		name string
		row  func(page int) string
		text string
	}{
		{"of the same rows", func(int) string { return `{"id":"a"}` }, "the same pages repeat"},
		{"of no rows", func(int) string { return `` }, "the same pages repeat"},
		{"with new rows forever", func(page int) string { return `{"id":"` + strconv.Itoa(page) + `"}` }, "more than 5000 pages"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := 0
				api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
					page++
					respond(200, fmt.Sprintf(`{"@odata.nextLink":"?$skiptoken=%d","value":[%s]}`, page, test.row(page)))(w, r)
				})
				o := api.options(t)
				o.Quota = client.Limits{CallsPerMinute: 1e6, CallsPerHour: 1e6}
				_, err := builds(t.Context(), t, newClient(t, o))
				checkError(t, err, client.ReasonPagination, test.text)
			})
		})
	}
}

// fleet returns a handler for /api/machines: pages by $top and $skip, without links.
func fleet(t *testing.T, machines int, serverTime time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(serverTime)
		q := r.URL.Query()
		top, _ := strconv.Atoi(q.Get("$top"))
		skip, _ := strconv.Atoi(q.Get("$skip"))
		if top != 10_000 {
			t.Errorf("$top is %d", top)
		}
		var b bytes.Buffer
		b.WriteString(`{"value":[`)
		for i := skip; i < min(skip+top, machines); i++ {
			if i > skip {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"id":"%040x"}`, i)
		}
		b.WriteString(`]}`)
		_, _ = w.Write(b.Bytes())
	}
}

// newFleetClient returns a client that has read a fleet of that many machines, and its
// fakeAPI, which uses the handler from now on.
func newFleetClient(t *testing.T, machines int, handler http.HandlerFunc) (*fakeAPI, *client.Client) {
	t.Helper()
	api := newFakeAPI(t, fleet(t, machines, 0))
	c := api.client(t)
	if machines > 0 {
		for _, err := range c.Machines(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	synctest.Wait() // No call of the old handler is in progress.
	api.handler = handler
	return api, c
}

func TestMachinesAreReadUntilShortPage(t *testing.T) {
	for _, test := range []struct {
		name     string
		machines int
		expected int
		calls    int
	}{
		{"a fleet of one page", 3, 0, 1},
		{"no machines", 0, 0, 1},
		{"a full page", 10_000, 0, 3}, // One call more than needed: a full page suggests another one.
		{"a full page as expected", 10_000, 10_000, 2},
		{"two pages", 10_001, 0, 3}, // The same here.
		{"two pages as expected", 10_001, 10_001, 2},
		{"a fleet that grew", 20_001, 5_000, 3},
		{"a fleet that shrank", 5, 10_001, 2},
		{"a full page that shrank", 5, 10_000, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, c := newFleetClient(t, test.expected, fleet(t, test.machines, 0))
				before := len(api.requestsTo("api/machines"))
				ids, err := collect(t, c.Machines(t.Context()), func(m *client.Machine) client.MachineID {
					synctest.Wait() // Wait until the next page was requested, if it is prefetched.
					return m.ID
				})
				if err != nil {
					t.Fatal(err)
				}
				distinct := make(map[client.MachineID]bool)
				for _, id := range ids {
					distinct[id] = true
				}
				if len(ids) != test.machines || len(distinct) != test.machines {
					t.Errorf("%d rows, %d distinct, want %d", len(ids), len(distinct), test.machines)
				}
				if calls := api.requestsTo("api/machines")[before:]; len(calls) > test.calls {
					t.Errorf("%d calls, want at most %d", len(calls), test.calls)
				}
			})
		})
	}
}

func TestNextLinkOfMachinesIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newFleetClient(t, 50_000, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("$skiptoken") {
				respond(200, `{"value":[{"id":"b"}]}`)(w, r)
				return
			}
			respond(200, `{"value":[{"id":"a"}],"@odata.nextLink":"http://127.0.0.1:3/api/machines?$skiptoken=x"}`)(w, r)
		})
		got, err := collect(t, c.Machines(t.Context()), func(m *client.Machine) string { return string(m.RawID) })
		if fmt.Sprint(got) != "[a b]" || err != nil {
			t.Errorf("machines %v, error %v", got, err)
		}
	})
}

// The server takes 200 ms for a page and the consumer 150 ms. The total is
// the time of the server only if pages are prefetched.
func TestNextPageIsPrefetched(t *testing.T) {
	const pages, serverTime, countTime = 20, 200 * time.Millisecond, 150 * time.Millisecond
	for _, test := range []struct {
		name     string
		expected int
		handler  func(t *testing.T) http.HandlerFunc
		read     func(c *client.Client, ctx context.Context, row func()) error
	}{
		{
			"by links", 0,
			func(*testing.T) http.HandlerFunc {
				next := linkedPages(pages, func(int) string { return `{"id":"a"}` })
				return func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(serverTime)
					next(w, r)
				}
			},
			func(c *client.Client, ctx context.Context, row func()) error {
				for _, err := range c.SecurityStates(ctx) {
					if err != nil {
						return err
					}
					row()
				}
				return nil
			},
		},
		{
			"by number", (pages-1)*10_000 + 1,
			func(t *testing.T) http.HandlerFunc { return fleet(t, (pages-1)*10_000+1, serverTime) },
			func(c *client.Client, ctx context.Context, row func()) error {
				n := 0
				for _, err := range c.Machines(ctx) {
					if err != nil {
						return err
					}
					if n%10_000 == 0 {
						row()
					}
					n++
				}
				return nil
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, c := newFleetClient(t, test.expected, test.handler(t))
				before := len(api.requestsTo("/machine"))
				start := time.Now()
				if err := test.read(c, t.Context(), func() { time.Sleep(countTime) }); err != nil {
					t.Fatal(err)
				}
				if took, want := time.Since(start), pages*serverTime+countTime; took > want {
					t.Errorf("took %v, want %v", took, want)
				}
				calls := api.requestsTo("/machine")[before:]
				if len(calls) != pages {
					t.Errorf("%d calls, want %d", len(calls), pages)
				}
			})
		})
	}
}

// A leaked goroutine fails the test, because synctest waits for all goroutines.
func TestStoppedIterationLeavesNoGoroutine(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"while the next page is prepared", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				<-r.Context().Done()
				return
			}
			respond(200, `{"@odata.nextLink":"?$skiptoken=2","value":[{},{}]}`)(w, r)
		}},
		{"after the next page arrived", func(w http.ResponseWriter, r *http.Request) {
			respond(200, fmt.Sprintf(`{"@odata.nextLink":"?$skiptoken=%d","value":[{},{}]}`, len(r.URL.RawQuery)))(w, r)
		}},
		{"within a body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"value":[{},{}`))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := newFakeAPI(t, test.handler)
				for _, err := range api.client(t).SecurityStates(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					break
				}
			})
		})
	}
}

func TestSequenceCanBeIteratedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI(t, respond(200, oneState))
		states := api.client(t).SecurityStates(t.Context())
		for range 2 {
			rows := 0
			for _, err := range states {
				if err != nil {
					t.Fatal(err)
				}
				rows++
			}
			if rows != 1 {
				t.Errorf("%d rows", rows)
			}
		}
	})
}

func TestNextLinkMayHave32KiB(t *testing.T) {
	for _, extra := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			api := newFakeAPI(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "" {
					respond(200, `{"@odata.nextLink":"?`+strings.Repeat("t", 32<<10-1+extra)+`","value":[{"build":1}]}`)(w, r)
					return
				}
				respond(200, `{"value":[{"build":2}]}`)(w, r)
			})
			got, err := builds(t.Context(), t, api.client(t))
			if extra > 0 {
				checkError(t, err, client.ReasonPagination, "longer than 32768 bytes")
			} else if len(got) != 2 || err != nil {
				t.Errorf("builds %v, error %v", got, err)
			}
		})
	}
}

func TestPageMayRepeat50Times(t *testing.T) {
	for _, pages := range []int{51, 52} {
		synctest.Test(t, func(t *testing.T) {
			api := newFakeAPI(t, linkedPages(pages, func(int) string { return `{"id":"a","build":1}` }))
			got, err := builds(t.Context(), t, api.client(t))
			if pages == 52 {
				checkError(t, err, client.ReasonPagination, "the same pages repeat")
			} else if len(got) != pages || err != nil {
				t.Errorf("%d of %d rows, error %v", len(got), pages, err)
			}
		})
	}
}
