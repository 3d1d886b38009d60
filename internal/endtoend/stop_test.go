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

// hangingFile creates a file whose readers block forever, as on a network file
// system without its server.
func hangingFile(t *testing.T, path string) string {
	t.Helper()
	_ = os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stopsWithin sends SIGTERM and checks duration and exit code.
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

func TestSIGTERMStopsDespiteHangingCalls(t *testing.T) {
	t.Parallel()
	sim := newSimulatedTenant(t, simulation.Options{Machines: 10})
	const limit = 12 * time.Second
	withSecretFile := func(file string) string {
		return strings.Replace(sim.section("contoso", ""), "client_secret: "+sim.ClientSecret(), "client_secret_file: "+file, 1)
	}

	for _, mode := range []string{"--once", "--diagnose"} {
		t.Run("a hanging API, "+mode, func(t *testing.T) {
			t.Parallel()
			hanging := newSimulatedTenant(t, simulation.Options{Machines: 10})
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
		"a refresh that a reload stops": func(t *testing.T, file string) {
			write(t, file, "tenants:"+sim.section("other", ""))
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
					t.Errorf("during a hanging reload %s: status %d", path, a.status)
				}
			}
			stopsWithin(t, p, limit, 0)
		})
	}
}
