// Package servertest starts the servers of end-to-end tests: the built exporter,
// a real Prometheus, a real Alertmanager and a webhook. Each is a process on a
// loopback port, with its files in the test's directory, and ends with the test.
//
// Tests that need them are skipped unless the environment variable
// MDE_TEST_SERVERS is "required", as in make test. Then a server that is not on
// PATH is a failure.
package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// timeout is the maximum time for a server to start or stop. It is long, for busy
// machines.
const timeout = time.Minute

// Slow skips a slow test, or one that starts servers, unless Required.
func Slow(t testing.TB) {
	t.Helper()
	if !Required() {
		t.Skip("slow or needs servers: run it with make gotest, or with MDE_TEST_SERVERS=required")
	}
}

// Find returns the path of the first of these programs on PATH. It skips the test
// like Slow.
func Find(t testing.TB, programs ...string) string {
	t.Helper()
	Slow(t)
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	t.Fatalf("needs %s on PATH; make test installs it", strings.Join(programs, " or "))
	return ""
}

// Required reports whether tests that need servers must run.
func Required() bool { return os.Getenv("MDE_TEST_SERVERS") == "required" }

// FreeAddress returns an unused loopback address.
func FreeAddress(t testing.TB) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// Process is a started server.
type Process struct {
	// Address is the host and port on which it listens.
	Address string

	cmd    *exec.Cmd
	output string // Path of the output file.
	exited chan struct{}
	stop   context.CancelFunc
}

// Start runs the program and waits until the path ready returns 200. The end
// of the test stops it. A failed test logs its output.
func Start(t testing.TB, address, ready, program string, args ...string) *Process {
	t.Helper()
	p := Launch(t, address, program, args...)
	p.Await(t, "ready", func() error {
		_, err := get(p.URL() + ready)
		return err
	})
	return p
}

// Launch is Start without waiting.
func Launch(t testing.TB, address, program string, args ...string) *Process {
	t.Helper()
	// The test's context ends before its cleanup, which stops the server.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // Tests choose the program.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = timeout
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := errors.Join(cmd.Start(), output.Close()); err != nil {
		t.Fatal(err)
	}
	p := &Process{Address: address, cmd: cmd, output: output.Name(), exited: make(chan struct{}), stop: stop}
	go func() {
		_ = cmd.Wait() // Tests check ExitCode.
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s printed:\n%s", program, p.Output())
		}
	})
	return p
}

// Await waits until condition returns nil. It fails the test like Eventually, and
// immediately if the server has ended.
func (p *Process) Await(t testing.TB, what string, condition func() error) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s: %s", filepath.Base(p.cmd.Path), what), func() error {
		select {
		case <-p.exited:
			t.Fatalf("%s ended:\n%s", p.cmd.Path, p.Output())
		default:
		}
		return condition()
	})
}

// ExitCode waits until the server has ended and returns its exit code, or -1 if a
// signal ended it. After the timeout it kills the server and fails the test.
func (p *Process) ExitCode(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(timeout):
		p.Kill()
		t.Fatalf("%s did not end within %v", p.cmd.Path, timeout)
	}
	return p.cmd.ProcessState.ExitCode()
}

// URL returns the server's base URL, without a trailing slash.
func (p *Process) URL() string { return "http://" + p.Address }

// Stop sends SIGTERM and waits for the end of the server. It kills a server that
// does not end.
func (p *Process) Stop() {
	p.stop()
	<-p.exited
}

// Kill kills the server, like a crash.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Signal sends a signal, such as SIGHUP.
func (p *Process) Signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Output returns the output so far.
func (p *Process) Output() string {
	output, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(output)
}

// Eventually waits until condition returns nil. After two minutes it fails the
// test with the last error.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	var err error
	for start := time.Now(); time.Since(start) < 2*timeout; time.Sleep(100 * time.Millisecond) {
		if err = condition(); err == nil {
			t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, 2*timeout, err)
}

// get returns the body of a response with status 200.
func get(url string) ([]byte, error) {
	client := http.Client{Timeout: timeout}
	response, err := client.Get(url) //nolint:noctx // The timeout ends it.
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, response.Status, body)
	}
	return body, err
}
