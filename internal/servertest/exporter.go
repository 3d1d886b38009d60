package servertest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var build struct {
	once    sync.Once
	dir     string
	program string
	err     error
	output  []byte
}

// Main is a TestMain for packages that build the exporter: it removes what was
// built.
func Main(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(build.dir) // "" where nothing was built
	os.Exit(code)
}

// Build builds the exporter once for all tests of a package, with the race
// detector where the tests have it, and returns its path: with the versions of
// the main module, whichever module the tests are in. The package's TestMain is
// Main.
func Build(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "mde_exporter-test-"); build.err != nil { //nolint:usetesting // It outlives the test that is first.
			return
		}
		const module = "github.com/mde-exporter/mde_exporter"
		root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if build.err = err; err != nil {
			return
		}
		build.program = filepath.Join(build.dir, "mde_exporter")
		args := []string{"build", "-C", strings.TrimSpace(string(root)), "-o", build.program}
		if raceEnabled {
			args = append(args, "-race")
		}
		//nolint:gosec // A constant command.
		build.output, build.err = exec.CommandContext(t.Context(), "go", append(args, module)...).CombinedOutput()
	})
	if build.err != nil {
		t.Fatalf("build the exporter: %v\n%s", build.err, build.output)
	}
	return build.program
}

// Exporter builds and starts the exporter with the arguments, on an address of
// its own, and waits until it answers; its first refresh may be under way.
func Exporter(t testing.TB, args ...string) *Process {
	t.Helper()
	address := FreeAddress(t)
	return Start(t, address, "/-/healthy", Build(t), append(args, "--web.listen-address="+address)...)
}

// Result is how a run of the exporter ended and what it printed.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run builds the exporter and runs it to its end. Of the environment's tenant it
// sees the given variables alone, NAME=value.
func Run(t testing.TB, environment []string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, Build(t), args...) //nolint:gosec // Which arguments it takes is what tests are about.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AZURE_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, environment...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended || ctx.Err() != nil {
		t.Fatalf("mde_exporter %q: %v\n%s", args, err, &stderr)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
