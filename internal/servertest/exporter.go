package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// built is the directory of what build built, "" where that is nothing.
var built string

// Main is a TestMain for packages that build the exporter: it removes what was
// built.
func Main(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// Build builds the exporter once for all tests of a package, with the race
// detector where the tests have it, and returns its path: with the versions of
// the main module, whichever module the tests are in. The package's TestMain is
// Main. The test is skipped as Slow does.
func Build(t testing.TB) string {
	t.Helper()
	Slow(t)
	program, err := build()
	if err != nil {
		t.Fatalf("build the exporter: %v", err)
	}
	return program
}

var build = sync.OnceValues(func() (program string, err error) {
	if built, err = os.MkdirTemp("", "mde_exporter-test-"); err != nil {
		return "", err
	}
	program = filepath.Join(built, "mde_exporter")
	const module = "github.com/mde-exporter/mde_exporter"
	args := []string{"build", "-o", program}
	if info, _ := debug.ReadBuildInfo(); slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	root, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(context.Background(), "go", append(args, module)...) //nolint:gosec // A constant command.
	command.Dir = strings.TrimSpace(string(root))
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return program, nil
})

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
