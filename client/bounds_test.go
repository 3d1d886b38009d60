package client

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestListBoundsAreEnforced(t *testing.T) {
	const row = `{"id":"%d"}`
	for name, test := range map[string]struct {
		bounds bounds
		text   string
		rows   int
	}{
		"pages":             {bounds{pages: 3, rows: 100, bytes: 1 << 20}, "more than 3 pages", 3},
		"rows":              {bounds{pages: 100, rows: 7, bytes: 1 << 20}, "more than 7 rows", 7},
		"bytes":             {bounds{pages: 100, rows: 100, bytes: 1000}, "larger than 1000 bytes", 0},
		"all within bounds": {bounds{pages: 10, rows: 10, bytes: 1 << 20}, "", 10},
	} {
		for _, position := range []string{"before", "after"} {
			t.Run(name+", with links "+position+" the rows", func(t *testing.T) {
				page, calls := 0, 0
				c := fuzzClient(t, nil)
				c.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return fixedResponse("").RoundTrip(r)
					}
					calls++
					link := fmt.Sprintf(`"@odata.nextLink":"?$skiptoken=%d"`, page)
					if page++; page == 10 && test.text == "" {
						link = `"@odata.nextLink":null`
					}
					rows := fmt.Sprintf(`"value":[`+row+`]`, page)
					body := "{" + link + "," + rows + "}"
					if position == "after" {
						body = "{" + rows + "," + link + "}"
					}
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
				})
				l := list{api: Machines, service: c.api, first: &url.URL{Scheme: "https", Host: "far.example", Path: "/machines"}, bounds: test.bounds}
				read, failed := readRows(rows(t.Context(), c, l, decodeMachine))
				if test.text == "" {
					if failed != nil || read != test.rows {
						t.Errorf("%d rows, error %v", read, failed)
					}
					return
				}
				if failed == nil || ReasonOf(failed) != ReasonPagination || !strings.Contains(failed.Error(), test.text) {
					t.Errorf("error %v, want %q", failed, test.text)
				}
				if test.rows > 0 && read > test.rows {
					t.Errorf("%d rows were yielded before the error, want at most %d", read, test.rows)
				}
				if calls > test.bounds.pages {
					t.Errorf("%d calls", calls)
				}
			})
		}
	}
}

// readRows returns the number of rows and the error at their end.
func readRows[Entity any](rows iter.Seq2[*Entity, error]) (read int, failed error) {
	for _, err := range rows {
		if failed = err; err == nil {
			read++
		}
	}
	return read, failed
}

func TestListBoundsExceedRealFleets(t *testing.T) {
	const machines, bytesEach, rowsInPage = 2_000_000, 4 << 10, 10_000
	if b := listBounds; b.rows < 5*machines || b.bytes < machines*bytesEach || b.pages < 10*machines/rowsInPage {
		t.Errorf("%+v", b)
	}
	if b := domainBounds; b.rows < 10*DomainMachinesLimit || b.bytes < 500*DomainMachinesLimit {
		t.Errorf("%+v", b)
	}
}

func TestListMayHaveExactlyMaxBytes(t *testing.T) {
	const body = `{"value":[{"id":"a"}]}`
	for _, missing := range []int64{0, 1} {
		c := fuzzClient(t, []byte(body))
		l := list{api: Machines, service: c.api, first: c.api.url, bounds: bounds{pages: 1, rows: 1, bytes: int64(len(body)) - missing}}
		_, failed := readRows(rows(t.Context(), c, l, decodeMachine))
		if got := strings.Contains(fmt.Sprint(failed), "the list is larger than"); got != (missing > 0) {
			t.Errorf("%d bytes too many: error %v", missing, failed)
		}
	}
}

func TestNextPageIsPrefetchedWhenLikely(t *testing.T) {
	for name, test := range map[string]struct {
		expected int
		calls    []int // Calls made when each row is counted. A page has one row.
	}{
		"number of rows known, up to the bound of the pages": {100, []int{2, 3, 3, 3}},
		"number of rows unknown, after a full page":          {0, []int{1, 3, 3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fuzzClient(t, nil)
				calls := 0
				c.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return fixedResponse("").RoundTrip(r)
					}
					calls++
					body := fmt.Sprintf(`{"value":[{"id":"%d"}]}`, calls)
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
				})
				c.rows.Store(Machines, test.expected)
				l := list{api: Machines, service: c.api, first: c.api.url, top: 1, bounds: bounds{pages: 3, rows: 100, bytes: 1 << 20}}
				var got []int
				var failed error
				for _, failed = range rows(t.Context(), c, l, decodeMachine) {
					synctest.Wait() // Wait until the next page was requested, if it is prefetched.
					got = append(got, calls)
				}
				if !slices.Equal(got, test.calls) || !strings.Contains(fmt.Sprint(failed), "more than 3 pages") {
					t.Errorf("calls %v, want %v, error %v", got, test.calls, failed)
				}
			})
		})
	}
}

func TestPageMayHave64MiB(t *testing.T) {
	const body = `{"value":[{"id":"a"}]}`
	c := fuzzClient(t, nil)
	c.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			return fixedResponse("").RoundTrip(r)
		}
		page := io.MultiReader(strings.NewReader(body), io.LimitReader(endlessSpaces{}, 64<<20-int64(len(body))))
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(page), Request: r}, nil
	})
	if read, failed := readRows(c.SecurityStates(t.Context())); read != 1 || failed != nil {
		t.Errorf("%d rows, error %v", read, failed)
	}
}

// endlessSpaces is an endless reader of spaces.
type endlessSpaces struct{}

func (endlessSpaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
