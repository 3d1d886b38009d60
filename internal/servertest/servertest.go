// Package servertest starts the servers of end-to-end tests: the built
// exporter, a real Prometheus, a real Alertmanager and a webhook to which that
// delivers. Each is a process of its own on a loopback port, with its files in
// the test's directory, and ends with the test.
//
// Tests that need them are skipped, and say so, unless the environment variable
// MDE_TEST_SERVERS is "required", as in make test. There a server that is not on
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

// patience is how long a server may take to start or to stop. It is long, for
// machines that do much else; nobody waits longer than it takes.
const patience = time.Minute

// Slow skips the test unless the tests that take long are asked for, with those
// that start servers.
func Slow(t testing.TB) {
	t.Helper()
	if !Required() {
		t.Skip("takes long or starts servers: make gotest runs it, or go test with MDE_TEST_SERVERS=required")
	}
}

// Find returns the path of the first of the programs that is on PATH. The test is
// skipped as Slow does.
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

// Required reports whether the tests that need servers run.
func Required() bool { return os.Getenv("MDE_TEST_SERVERS") == "required" }

// FreeAddress returns a loopback address on which nothing listens.
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

// Process is a server that was started.
type Process struct {
	// Address is where it listens, host and port.
	Address string

	cmd    *exec.Cmd
	output string // The path of a file.
	exited chan struct{}
	stop   context.CancelFunc
}

// Start runs the program and waits until the path answers 200 at the address.
// The test's end stops it; what it printed is in the log of a test that failed.
func Start(t testing.TB, address, ready, program string, args ...string) *Process {
	t.Helper()
	p := Launch(t, address, program, args...)
	p.Await(t, "it answers", func() error {
		_, err := get(p.URL() + ready)
		return err
	})
	return p
}

// Launch runs the program as Start does, and does not wait for it.
func Launch(t testing.TB, address, program string, args ...string) *Process {
	t.Helper()
	// The test's own context ends before its cleanup, which stops the server.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // Which programs are run is what tests are about.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
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
		_ = cmd.Wait() // Whether it ended well is the business of those who ended it.
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

// Await waits until the condition of a server that runs is nil; it fails the
// test as Eventually does, and at once where the server has ended.
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

// ExitCode waits until the server has ended and returns its exit code, -1 where
// a signal ended it. One that does not end is killed.
func (p *Process) ExitCode(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.Kill()
		t.Fatalf("%s did not end within %v", p.cmd.Path, patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// URL is the root of what the server serves, without a slash at its end.
func (p *Process) URL() string { return "http://" + p.Address }

// Stop asks the server to end and waits for it. One that does not end is killed.
func (p *Process) Stop() {
	p.stop()
	<-p.exited
}

// Kill ends the server at once, as a crash would.
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

// Output is what the server printed so far.
func (p *Process) Output() string {
	output, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(output)
}

// Eventually waits until the condition is nil, and fails the test with its last
// error after two minutes.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	var err error
	for start := time.Now(); time.Since(start) < 2*patience; time.Sleep(100 * time.Millisecond) {
		if err = condition(); err == nil {
			t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, 2*patience, err)
}

// get returns the body of an answer with status 200.
func get(url string) ([]byte, error) {
	client := http.Client{Timeout: patience}
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
