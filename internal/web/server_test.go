package web

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts in-memory connections. Their deadlines follow the fake
// time of a synctest bubble.
type pipeListener struct{ connections chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	c, open := <-l.connections
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// serve runs a server on in-memory connections. It returns a function that opens
// one.
func serve(t *testing.T) (dial func() net.Conn) {
	t.Helper()
	server, err := NewServer(testOptions())
	if err != nil {
		t.Fatal(err)
	}
	listener := pipeListener{make(chan net.Conn)}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		close(listener.connections)
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		listener.connections <- theirs
		return ours
	}
}

func TestSlowClientsAreDisconnected(t *testing.T) {
	tests := []struct {
		name string
		send string
		want time.Duration // maximum duration of the connection
	}{
		{"no header", "", readHeaderTimeout},
		{"an incomplete header", "GET /metrics HTTP/1.1\r\nHost: exporter\r\n", readHeaderTimeout},
		{"no body", "POST /-/reload HTTP/1.1\r\nHost: exporter\r\nContent-Length: 10\r\n\r\n", readTimeout},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connection := serve(t)()
				start := time.Now()
				if _, err := io.WriteString(connection, test.send); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, connection); err != nil {
					t.Fatal(err)
				}
				if lasted := time.Since(start); lasted > test.want {
					t.Errorf("the connection lasted %s, want at most %s", lasted, test.want)
				}
			})
		})
	}
}

func TestConnectionIsReusedAcrossScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connection := serve(t)()
		reader := bufio.NewReader(connection)
		for range 3 {
			if _, err := io.WriteString(connection, "GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
			if err := response.Body.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestLargeHeaderIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connection := serve(t)()
		go func() {
			// The server stops reading, so an error is expected.
			_, _ = io.WriteString(connection, "GET /metrics HTTP/1.1\r\nHost: exporter\r\nX: "+strings.Repeat("x", 2*maxHeaderBytes)+"\r\n\r\n")
		}()
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %s", response.Status)
		}
		if _, err := io.Copy(io.Discard, connection); err != nil {
			t.Fatal(err)
		}
	})
}
