package servertest

import (
	"os"
	"os/exec"
	"path/filepath"
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
// detector where the tests have it, and returns its path. The package's TestMain
// is Main.
func Build(t testing.TB) string {
	t.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "mde_exporter-test-"); build.err != nil { //nolint:usetesting // It outlives the test that is first.
			return
		}
		build.program = filepath.Join(build.dir, "mde_exporter")
		args := []string{"build", "-o", build.program}
		if raceEnabled {
			args = append(args, "-race")
		}
		//nolint:gosec // A constant command.
		build.output, build.err = exec.CommandContext(t.Context(), "go", append(args, "github.com/mde-exporter/mde_exporter")...).CombinedOutput()
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
