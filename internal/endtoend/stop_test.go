//go:build unix

package endtoend

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mde-exporter/mde_exporter/internal/servertest"
	"github.com/mde-exporter/mde_exporter/internal/simulation"
)

// hangingFile makes a file that whoever opens it for reading waits for without
// end, as on a network file system whose server is gone.
func hangingFile(t *testing.T, path string) string {
	t.Helper()
	_ = os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stopsWithin asks a process to stop and expects it to end in time with the code.
func stopsWithin(t *testing.T, p *servertest.Process, limit time.Duration, code int) {
	t.Helper()
	start := time.Now()
	p.Signal(t, syscall.SIGTERM)
	if got := p.ExitCode(t); got != code {
		t.Errorf("exit code %d, want %d\n%s", got, code, p.Output())
	}
	if took := time.Since(start); took > limit {
		t.Errorf("it took %v to stop, want at most %v", took, limit)
	}
}

func TestSIGTERMWinsWhateverHangs(t *testing.T) {
	t.Parallel()
	far := newFarEnd(t, simulation.Options{Machines: 10})
	const limit = 12 * time.Second
	withSecretFile := func(file string) string {
		return strings.Replace(far.section("contoso", ""), "client_secret: "+far.ClientSecret(), "client_secret_file: "+file, 1)
	}

	for _, mode := range []string{"--once", "--diagnose"} {
		t.Run("a far end that hangs, "+mode, func(t *testing.T) {
			t.Parallel()
			hanging := newFarEnd(t, simulation.Options{Machines: 10})
			hanging.Fail(simulation.Every, simulation.Fault{Hang: true})
			p := servertest.Launch(t, "", servertest.Build(t), mode, "--config.file="+configuration(t, hanging.section("contoso", "")))
			p.Await(t, "a call hangs", func() error {
				if hanging.Count(simulation.Every, 0) == 0 {
					return errors.New("no call yet")
				}
				return nil
			})
			stopsWithin(t, p, limit, 1)
		})
	}
	for name, hang := range map[string]func(t *testing.T, file string){
		"the configuration file of a reload": func(t *testing.T, file string) { hangingFile(t, file) },
		"the refresh that a reload ends": func(t *testing.T, file string) {
			write(t, file, "tenants:"+far.section("other", ""))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := hangingFile(t, filepath.Join(t.TempDir(), "secret"))
			file := configuration(t, withSecretFile(secret))
			p := servertest.Exporter(t, "--config.file="+file, "--web.enable-lifecycle")
			hang(t, file)
			for range 20 {
				p.Signal(t, syscall.SIGHUP)
			}
			time.Sleep(time.Second)
			for _, path := range []string{"/", "/metrics", "/config", "/-/healthy"} {
				if a := get(t, p, path); a.status != http.StatusOK {
					t.Errorf("while a reload hangs %s answers %d", path, a.status)
				}
			}
			stopsWithin(t, p, limit, 0)
		})
	}
}
