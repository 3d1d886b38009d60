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

// buildDir is the directory of the built exporter, "" before the build.
var buildDir string

// Main is the TestMain of packages that call Build. It removes the built
// exporter.
func Main(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

// Build builds the exporter once for all tests of a package and returns its path.
// It uses the race detector if the tests do, and the main module's dependency
// versions from any module. The package's TestMain must be Main. It skips the
// test like Slow.
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
	if buildDir, err = os.MkdirTemp("", "mde_exporter-test-"); err != nil {
		return "", err
	}
	program = filepath.Join(buildDir, "mde_exporter")
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

// Exporter builds and starts the exporter with the arguments on a free address,
// and waits until it serves requests. Its first refresh may still be running.
func Exporter(t testing.TB, args ...string) *Process {
	t.Helper()
	address := FreeAddress(t)
	return Start(t, address, "/-/healthy", Build(t), append(args, "--web.listen-address="+address)...)
}

// Result is the exit code and the output of a run.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run builds the exporter and runs it until it exits. environment contains its
// only AZURE_ variables, as NAME=value.
func Run(t testing.TB, environment []string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, Build(t), args...) //nolint:gosec // Tests choose the arguments.
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
