package chaos

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// program is an exporter process.
type program struct {
	testing.TB
	binary string
	args   []string
	client *http.Client

	cmd *exec.Cmd
	url string // Empty while it is not running.
	// ended is closed when the process has ended and its log is read.
	ended chan struct{}
	code  int // -1 if a signal ended it.

	mu  sync.Mutex
	log strings.Builder
}

// build builds the program into a temporary directory and returns its path.
func build(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "mde_exporter")
	args := []string{"build", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "github.com/mde-exporter/mde_exporter")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return binary
}

// newProgram returns a program that is not yet started. The end of the test kills
// it.
func newProgram(t testing.TB, binary string, args ...string) *program {
	t.Helper()
	p := &program{TB: t, binary: binary, client: &http.Client{Timeout: time.Minute}}
	p.args = append([]string{"--web.listen-address=127.0.0.1:0"}, args...)
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if p.cmd != nil {
			_ = p.cmd.Process.Kill() // It may have ended.
			<-p.ended
		}
	})
	return p
}

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// launch starts the process. It returns a channel that receives the address once
// the process listens.
func (p *program) launch() <-chan string {
	p.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(p.Context()), p.binary, p.args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		p.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	address, ended := make(chan string, 1), make(chan struct{})
	p.cmd, p.ended, p.url = cmd, ended, ""
	go func() {
		defer close(ended)
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.log.WriteString(line)
			p.mu.Unlock()
			if m := listening.FindStringSubmatch(line); m != nil {
				address <- m[1]
			}
			if err != nil {
				break
			}
		}
		_ = cmd.Wait() // ProcessState contains the result.
		p.code = cmd.ProcessState.ExitCode()
	}()
	return address
}

// start starts the process and waits until it listens.
func (p *program) start() {
	p.Helper()
	address := p.launch()
	select {
	case a := <-address:
		p.url = "http://" + a
	case <-p.ended:
		p.Fatalf("the program ended with exit code %d\n%s", p.code, p.logged())
	case <-time.After(time.Minute):
		p.Fatalf("the program does not listen\n%s", p.logged())
	}
}

// signal sends a signal and returns the exit code once the process has ended.
func (p *program) signal(s syscall.Signal) int {
	p.Helper()
	p.client.CloseIdleConnections()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.Fatalf("the program does not end after %s\n%s", s, p.logged())
	}
	p.url = ""
	return p.code
}

func (p *program) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// request returns the status and the body of a response.
func (p *program) request(method, path, accept string) (int, string) {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), method, p.url+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	response, err := p.client.Do(r)
	if err != nil {
		p.Fatalf("%s %s: %v", method, path, err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		p.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, string(body)
}

// scrape returns the exposition. It fails the test if it is invalid.
func (p *program) scrape() exposition {
	p.Helper()
	status, body := p.request(http.MethodGet, "/metrics", "text/plain;version=0.0.4")
	if status != http.StatusOK {
		p.Fatalf("scrape: status %d: %.500s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	parsed, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		p.Fatalf("a scrape cannot be parsed: %v", err)
	}
	families := make([]*dto.MetricFamily, 0, len(parsed))
	for _, f := range parsed {
		families = append(families, f)
	}
	return newExposition(families)
}
