package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// object is what the tests look at in a Kubernetes manifest.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	// StringData is a Secret's.
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		Replicas             int
		Selector             yaml.Node
		Template             podTemplate
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
		Ports                []struct {
			TargetPort string `yaml:"targetPort"`
		}
	}
}

type podTemplate struct {
	Metadata struct{ Labels map[string]string }
	Spec     struct {
		AutomountServiceAccountToken *bool  `yaml:"automountServiceAccountToken"`
		ServiceAccountName           string `yaml:"serviceAccountName"`
		SecurityContext              struct {
			RunAsNonRoot bool `yaml:"runAsNonRoot"`
			RunAsUser    int  `yaml:"runAsUser"`
			FSGroup      int  `yaml:"fsGroup"`
		} `yaml:"securityContext"`
		Containers []container
		Volumes    []struct {
			Name      string
			ConfigMap struct{ Name string } `yaml:"configMap"`
			Secret    struct {
				SecretName string `yaml:"secretName"`
			}
			PersistentVolumeClaim struct {
				ClaimName string `yaml:"claimName"`
			} `yaml:"persistentVolumeClaim"`
		}
	}
}

type container struct {
	Args            []string
	Ports           []struct{ Name string }
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []volumeMount `yaml:"volumeMounts"`
}

type volumeMount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
}

func manifests(t *testing.T) map[string][]object {
	t.Helper()
	files, err := filepath.Glob("deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("manifests: %v, %v", files, err)
	}
	all := make(map[string][]object)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		for {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all[filepath.Base(file)] = append(all[filepath.Base(file)], o)
		}
	}
	return all
}

// parse reads a command line as the program does.
func parse(t *testing.T, where string, args []string) *flags {
	t.Helper()
	f, err := parseFlags(args, io.Discard, io.Discard)
	if err != nil {
		t.Fatalf("%s: the program does not take %q: %v", where, args, err)
	}
	return f
}

func TestKubernetesPodsRunWithNothingTheyDoNotNeed(t *testing.T) {
	pods := 0
	for file, objects := range manifests(t) {
		for _, o := range objects {
			if o.Metadata.Namespace != "monitoring" {
				t.Errorf("%s: %s is in namespace %q", file, o.Kind, o.Metadata.Namespace)
			}
			for _, c := range o.Spec.Template.Spec.Containers {
				pods++
				pod, secured := o.Spec.Template.Spec, c.SecurityContext
				if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken ||
					!pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.RunAsUser != 65534 || pod.SecurityContext.FSGroup != 65534 ||
					secured.AllowPrivilegeEscalation == nil || *secured.AllowPrivilegeEscalation ||
					!secured.ReadOnlyRootFilesystem || !slices.Equal(secured.Capabilities.Drop, []string{"ALL"}) {
					t.Errorf("%s: the pod has more rights than it needs: %+v %+v", file, pod.SecurityContext, secured)
				}
			}
		}
	}
	if pods != 3 {
		t.Errorf("%d pods looked at, want 3", pods)
	}
}

func TestKubernetesManifestsFitTogether(t *testing.T) {
	all := manifests(t)
	exists := make(map[string]bool)
	for _, objects := range all {
		for _, o := range objects {
			exists[o.Kind+"/"+o.Metadata.Name] = true
		}
	}
	for file, objects := range all {
		labels, ports := map[string]string{}, map[string]bool{}
		for _, o := range objects {
			pod := o.Spec.Template
			if len(pod.Spec.Containers) == 0 {
				continue
			}
			labels = pod.Metadata.Labels
			var refers []string
			if pod.Spec.ServiceAccountName != "" {
				refers = append(refers, "ServiceAccount/"+pod.Spec.ServiceAccountName)
			}
			volumes := map[string]bool{}
			for _, v := range pod.Spec.Volumes {
				volumes[v.Name] = true
				for kind, name := range map[string]string{
					"ConfigMap": v.ConfigMap.Name, "Secret": v.Secret.SecretName, "PersistentVolumeClaim": v.PersistentVolumeClaim.ClaimName,
				} {
					if name != "" {
						refers = append(refers, kind+"/"+name)
					}
				}
			}
			for _, v := range o.Spec.VolumeClaimTemplates {
				volumes[v.Metadata.Name] = true
			}
			for _, name := range refers {
				if !exists[name] {
					t.Errorf("%s refers to %s, which no manifest holds", file, name)
				}
			}
			c := pod.Spec.Containers[0]
			for _, p := range c.Ports {
				ports[p.Name] = true
			}
			mounted := func(path string) bool {
				return path == "" || slices.ContainsFunc(c.VolumeMounts, func(m volumeMount) bool {
					return volumes[m.Name] && strings.HasPrefix(path+"/", m.MountPath+"/")
				})
			}
			f := parse(t, file, podArgs(c, 0))
			if !mounted(f.configFile) || f.storagePath == "" || !mounted(f.storagePath) {
				t.Errorf("%s: --config.file=%s or --storage.path=%s is on no volume", file, f.configFile, f.storagePath)
			}
		}
		for _, o := range objects {
			if o.Kind != "Service" {
				continue
			}
			var selector map[string]string
			if err := o.Spec.Selector.Decode(&selector); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for k, v := range selector {
				if labels[k] != v {
					t.Errorf("%s: the service selects %s=%s, which no pod has", file, k, v)
				}
			}
			if len(o.Spec.Ports) != 1 || !ports[o.Spec.Ports[0].TargetPort] {
				t.Errorf("%s: the service's ports %v are not the pod's %v", file, o.Spec.Ports, ports)
			}
		}
	}
}

// podArgs are the arguments of a pod, with the name that its n-th pod has.
func podArgs(c container, n int) []string {
	var args []string
	for _, arg := range c.Args {
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAME)", "mde-exporter-"+string(rune('0'+n))))
	}
	return args
}

func TestTheStatefulSetHasAPodForEveryShard(t *testing.T) {
	set := manifests(t)["statefulset.yaml"][0]
	if set.Kind != "StatefulSet" || set.Spec.Replicas < 2 {
		t.Fatalf("%s with %d replicas", set.Kind, set.Spec.Replicas)
	}
	for n := range set.Spec.Replicas {
		f := parse(t, "statefulset.yaml", podArgs(set.Spec.Template.Spec.Containers[0], n))
		if f.shard != n || f.totalShards != set.Spec.Replicas {
			t.Errorf("pod %d of %d is shard %d of %d", n, set.Spec.Replicas, f.shard, f.totalShards)
		}
	}
}

func TestTheConfigurationsToCopyAreValid(t *testing.T) {
	all := manifests(t)
	configMap, secret := all["configmap.yaml"][0], all["secret.example.yaml"][0]
	compose, err := os.ReadFile("deploy/compose/config/mde.yml")
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"configmap.yaml": configMap.Data,
		"compose":        {"mde.yml": string(compose)},
	} {
		dir := t.TempDir()
		for file, content := range files {
			content = strings.ReplaceAll(content, "/etc/mde_exporter_secrets", dir)
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for file, content := range map[string]string{"contoso": secret.StringData["contoso"], "client-secret": "a secret"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		f, err := parseFlags([]string{"--config.check", "--config.file=" + filepath.Join(dir, "mde.yml")}, &out, &out)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.run(t.Context(), &out, &out); err != nil {
			t.Errorf("%s: %v\n%s", name, err, &out)
		}
	}
}

func TestTheSystemdUnitIsCleanAndHardened(t *testing.T) {
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
	// The program need not be installed where the unit is checked.
	path := filepath.Join(t.TempDir(), "mde_exporter.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte("ExecStart="+command[0]), []byte("ExecStart=/bin/sh")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// What is left: the network it lives from, and the host's root directory.
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=11", path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

func TestTheComposeServicesFindEachOther(t *testing.T) {
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
				t.Errorf("%s: port %s is open to everyone", name, port)
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
			t.Errorf("%s names no service", file)
		}
		for _, target := range targets {
			if _, ok := compose.Services[string(target[1])]; !ok && string(target[1]) != "localhost" {
				t.Errorf("%s names %s, which is no service", file, target[0])
			}
		}
	}
	dashboards, err := filepath.Glob("dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, dashboard := range dashboards {
		if !slices.ContainsFunc(compose.Services["grafana"].Volumes, func(v string) bool { return strings.HasPrefix(v, "../../"+dashboard+":") }) {
			t.Errorf("Grafana is not given %s", dashboard)
		}
	}
}

func TestPrometheusAndAlertmanagerTakeTheirConfigurations(t *testing.T) {
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

// Whoever builds the program, it says the same of itself.
func TestEveryWayToBuildTheProgramUsesTheSameFlags(t *testing.T) {
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
		t.Errorf("the Makefile has %q", want)
	}
	for _, file := range []string{"Dockerfile", ".promu.yml"} {
		if diff := cmp.Diff(want, linked(file)); diff != "" {
			t.Errorf("%s (-Makefile +%s):\n%s", file, file, diff)
		}
	}
}

func TestTheDeploymentPagesNameOnlyFlagsThatExist(t *testing.T) {
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
			t.Errorf("%s names no flag", page)
		}
		for _, flag := range named {
			if !exists[strings.TrimRight(flag, ".")] {
				t.Errorf("%s names %s, which does not exist", page, flag)
			}
		}
	}
}
