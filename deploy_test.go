package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/config"
	"github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

// parse parses a command line like the program.
func parse(t *testing.T, where string, args []string) *flags {
	t.Helper()
	f, err := parseFlags(args, io.Discard, io.Discard)
	if err != nil {
		t.Fatalf("%s: the program rejects %q: %v", where, args, err)
	}
	return f
}

func TestExampleConfigurationsAreValid(t *testing.T) {
	for _, example := range []string{"deploy/compose/config/mde.yml", "deploy/packages/mde.yml"} {
		content, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "mde.yml")
		if err := os.WriteFile(filepath.Join(dir, "client-secret"), []byte("a secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		// Disabled collectors are commented out.
		all := regexp.MustCompile(`(?m)^#(  \w+: \{)`).ReplaceAll(content, []byte("$1"))
		for _, text := range [][]byte{content, all} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			f, err := parseFlags([]string{"--config.check", "--config.file=" + path}, &out, &out)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.run(t.Context(), &out, &out); err != nil {
				t.Errorf("%s: %v\n%s", example, err, &out)
			}
		}
		c, err := config.Load(path, config.Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		for name, collector := range c.Tenants[0].All() {
			if !collector.Common().Enabled {
				t.Errorf("%s does not show how to enable %s", example, name)
			}
		}
	}
}

func TestPackageContents(t *testing.T) {
	servertest.Find(t, "nfpm")
	built, target := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(built, "linux-amd64"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(built, "linux-amd64/mde_exporter"), []byte("the program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tools/packages", built, target).CombinedOutput(); err != nil {
		t.Fatalf("tools/packages: %v\n%s", err, out)
	}
	want := map[string]string{
		"/etc/mde_exporter":                               "drwxr-x--- root:mde_exporter",
		"/etc/mde_exporter/mde.yml":                       "-rw-r----- root:mde_exporter",
		"/usr/bin/mde_exporter":                           "-rwxr-xr-x root:root",
		"/usr/lib/systemd/system/mde_exporter.service":    "-rw-r--r-- root:root",
		"/usr/share/doc/mde-exporter/CHANGELOG.md":        "-rw-r--r-- root:root",
		"/usr/share/doc/mde-exporter/THIRD_PARTY_NOTICES": "-rw-r--r-- root:root",
		"/usr/share/doc/mde-exporter/copyright":           "-rw-r--r-- root:root",
	}
	for _, pattern := range []string{"alerts/*.yaml", "dashboards/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		for _, file := range files {
			want["/usr/share/mde_exporter/"+file] = "-rw-r--r-- root:root"
		}
	}
	for _, list := range []struct {
		program, pattern string
		args             []string
		line             *regexp.Regexp // mode, owner, group, path
	}{
		{"dpkg-deb", "*_amd64.deb", []string{"--contents"}, regexp.MustCompile(`(?m)^(\S{10}) (\w+)/(\w+) +\d+ \S+ \S+ \.(/.*?)/?$`)},
		{"rpm", "*.x86_64.rpm", []string{"-q", "-p", "--queryformat", `[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]`},
			regexp.MustCompile(`(?m)^(\S{10}) (\w+) (\w+) (/.*)$`)},
	} {
		t.Run(list.program, func(t *testing.T) {
			if _, err := exec.LookPath(list.program); err != nil {
				t.Skipf("%s is not installed: %v", list.program, err)
			}
			packages, err := filepath.Glob(filepath.Join(target, list.pattern))
			if err != nil || len(packages) != 1 {
				t.Fatalf("%s: %q, %v", list.pattern, packages, err)
			}
			out, err := exec.CommandContext(t.Context(), list.program, append(list.args, packages[0])...).Output()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, file := range list.line.FindAllStringSubmatch(string(out), -1) {
				// A deb also lists the parent directories.
				if file[1][0] != 'd' || file[4] == "/etc/mde_exporter" {
					got[file[4]] = file[1] + " " + file[2] + ":" + file[3]
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// The chart installs its own version. Helm reads no files outside the chart, so it has
// copies.
func TestChartVersion(t *testing.T) {
	released, err := os.ReadFile("VERSION")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := os.ReadFile("deploy/helm/mde-exporter/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"version", "appVersion"} {
		if line := key + ": " + string(bytes.TrimSpace(released)); !strings.Contains(string(chart), "\n"+line+"\n") {
			t.Errorf("Chart.yaml has no line %q: run make chart", line)
		}
	}
}

func TestSystemdUnitIsValidAndHardened(t *testing.T) {
	unit, err := os.ReadFile("deploy/systemd/mde_exporter.service")
	if err != nil {
		t.Fatal(err)
	}
	_, start, _ := strings.Cut(strings.ReplaceAll(string(unit), "\\\n", " "), "ExecStart=")
	start, _, _ = strings.Cut(start, "\n")
	command := strings.Fields(start)
	parse(t, "ExecStart", command[1:])

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skipf("systemd-analyze is not installed: %v", err)
	}
	// The program may not be installed on this machine.
	path := filepath.Join(t.TempDir(), "mde_exporter.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte("ExecStart="+command[0]), []byte("ExecStart=/bin/sh")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Accepted exposure: network access, and the host's root directory.
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=11", path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

func TestComposeServices(t *testing.T) {
	content, err := os.ReadFile("deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Command []string
			Ports   []string
			Volumes []string
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	parse(t, "compose.yaml", compose.Services["mde_exporter"].Command)
	for name, service := range compose.Services {
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is not limited to loopback", name, port)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, named := compose.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join("deploy/compose", source)); err != nil {
				t.Errorf("%s: volume %s: %v", name, volume, err)
			}
		}
	}
	for _, file := range []string{"prometheus/prometheus.yml", "grafana/provisioning/datasources/prometheus.yaml"} {
		content, err := os.ReadFile(filepath.Join("deploy/compose", file))
		if err != nil {
			t.Fatal(err)
		}
		targets := regexp.MustCompile(`([a-z_]+):\d{4,5}\b`).FindAllSubmatch(content, -1)
		if len(targets) == 0 {
			t.Errorf("%s: no targets", file)
		}
		for _, target := range targets {
			if _, ok := compose.Services[string(target[1])]; !ok && string(target[1]) != "localhost" {
				t.Errorf("%s: target %s is not a service", file, target[0])
			}
		}
	}
	dashboards, err := filepath.Glob("dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, dashboard := range dashboards {
		if !slices.ContainsFunc(compose.Services["grafana"].Volumes, func(v string) bool { return strings.HasPrefix(v, "../../"+dashboard+":") }) {
			t.Errorf("Grafana does not mount %s", dashboard)
		}
	}
}

func TestPrometheusAndAlertmanagerConfigurationsAreValid(t *testing.T) {
	dir := t.TempDir()
	for from, to := range map[string]string{
		"deploy/compose/prometheus/prometheus.yml":     "prometheus.yml",
		"deploy/compose/alertmanager/alertmanager.yml": "alertmanager.yml",
		"alerts/mde.yaml": "rules/mde.yaml",
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range [][]string{
		{"promtool", "check", "config", filepath.Join(dir, "prometheus.yml")},
		{"amtool", "check-config", filepath.Join(dir, "alertmanager.yml")},
	} {
		t.Run(command[0], func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is not installed: %v", command[0], err)
			}
			if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", command, err, out)
			}
		})
	}
}

// All builds must report the same build information.
func TestAllBuildsUseTheSameFlags(t *testing.T) {
	linked := func(file string) []string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(content), "$(STAMP)", "github.com/prometheus/common/version")
		found := regexp.MustCompile(`-X [\w./]+=|-trimpath|netgo, ?osusergo|-s -w`).FindAllString(text, -1)
		for i := range found {
			found[i] = strings.ReplaceAll(found[i], ", ", ",")
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	want := linked("Makefile")
	if len(want) != 6 {
		t.Errorf("Makefile: %q", want)
	}
	for _, file := range []string{"Dockerfile", ".promu.yml"} {
		if diff := cmp.Diff(want, linked(file)); diff != "" {
			t.Errorf("%s (-Makefile +%s):\n%s", file, file, diff)
		}
	}
}

func TestDeploymentPagesNameExistingFlags(t *testing.T) {
	exists := map[string]bool{"--help": true, "--version": true}
	for _, flag := range (&flags{}).application().Model().Flags {
		exists["--"+flag.Name] = true
	}
	for _, page := range []string{"docs/deployment.md", "docs/storage.md"} {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile(`--(config|storage|shard|total|pod|web|log|demo|watched|once|diagnose|login|graph|api)[a-z.-]*`).FindAllString(string(content), -1)
		if len(named) == 0 {
			t.Errorf("%s: no flags found", page)
		}
		for _, flag := range named {
			if !exists[strings.TrimRight(flag, ".")] {
				t.Errorf("%s: flag %s does not exist", page, flag)
			}
		}
	}
}

// Helm reads no files outside the chart, so the chart has copies.
func TestChartHasTheBundledFiles(t *testing.T) {
	read := func(dir fs.FS) map[string]string {
		entries, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		contents := map[string]string{}
		for _, entry := range entries {
			content, err := fs.ReadFile(dir, entry.Name())
			if err != nil {
				t.Fatal(err)
			}
			contents[entry.Name()] = string(content)
		}
		return contents
	}
	for name, bundled := range map[string]fs.FS{"alerts": alerts.Files, "dashboards": dashboards.Files} {
		if diff := cmp.Diff(read(bundled), read(os.DirFS("deploy/helm/mde-exporter/files/"+name))); diff != "" {
			t.Errorf("run make chart (-%s +chart):\n%s", name, diff)
		}
	}
}
