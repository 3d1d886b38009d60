// Package chart renders the Helm chart with helm and checks the objects with the types
// of Kubernetes and the Prometheus Operator.
package chart

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/mde-exporter/mde_exporter/alerts"
	"github.com/mde-exporter/mde_exporter/dashboards"
	"github.com/mde-exporter/mde_exporter/internal/servertest"
)

const (
	directory = "../../deploy/helm/mde-exporter"
	release   = "mde-exporter"
	namespace = "security"
	// A helm built by go install reports support for Kubernetes 1.20.
	kubeVersion = "--kube-version=1.34.0"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// rendered holds the objects of the rendered chart by kind. Other kinds fail the test.
type rendered struct {
	text            []byte
	deployments     []*appsv1.Deployment
	statefulSets    []*appsv1.StatefulSet
	services        []*corev1.Service
	serviceAccounts []*corev1.ServiceAccount
	secrets         []*corev1.Secret
	configMaps      []*corev1.ConfigMap
	budgets         []*policyv1.PodDisruptionBudget
	policies        []*networkingv1.NetworkPolicy
	monitors        []*monitoringv1.ServiceMonitor
	rules           []*monitoringv1.PrometheusRule
}

// template renders the chart and decodes every object strictly: unknown and duplicate
// keys fail the test.
func template(t *testing.T, chart string, args ...string) *rendered {
	t.Helper()
	out, err := run(t, "helm", append([]string{"template", release, chart, "--namespace=" + namespace, kubeVersion}, args...)...)
	if err != nil {
		t.Fatalf("helm template %q: %v", args, err)
	}
	r := &rendered{text: out}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(out)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if meta.Kind == "" {
			continue // Only comments.
		}
		switch meta.APIVersion + " " + meta.Kind {
		case "apps/v1 Deployment":
			decode(t, document, &r.deployments)
		case "apps/v1 StatefulSet":
			decode(t, document, &r.statefulSets)
		case "v1 Service":
			decode(t, document, &r.services)
		case "v1 ServiceAccount":
			decode(t, document, &r.serviceAccounts)
		case "v1 Secret":
			decode(t, document, &r.secrets)
		case "v1 ConfigMap":
			decode(t, document, &r.configMaps)
		case "policy/v1 PodDisruptionBudget":
			decode(t, document, &r.budgets)
		case "networking.k8s.io/v1 NetworkPolicy":
			decode(t, document, &r.policies)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			decode(t, document, &r.monitors)
		case "monitoring.coreos.com/v1 PrometheusRule":
			decode(t, document, &r.rules)
		default:
			t.Errorf("no test for the chart's %s %s", meta.APIVersion, meta.Kind)
		}
		if meta.Namespace != namespace && !(meta.Kind == "ConfigMap" && slices.Contains(args, "--set=dashboards.namespace="+meta.Namespace)) {
			t.Errorf("%s %s is in namespace %q", meta.Kind, meta.Name, meta.Namespace)
		}
		if meta.Labels["app.kubernetes.io/instance"] != release {
			t.Errorf("%s %s lacks the release label", meta.Kind, meta.Name)
		}
	}
}

func decode[T any](t *testing.T, document []byte, to *[]*T) {
	t.Helper()
	object := new(T)
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Errorf("%v\n%s", err, document)
	}
	*to = append(*to, object)
}

// pod returns the pod template, the number of replicas and the claims of a StatefulSet.
func (r *rendered) pod(t *testing.T) (pod corev1.PodTemplateSpec, replicas int, claims []corev1.PersistentVolumeClaim) {
	t.Helper()
	switch {
	case len(r.deployments) == 1 && len(r.statefulSets) == 0:
		d := r.deployments[0].Spec
		if d.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			t.Errorf("Deployment strategy %q: two pods of one tenant would each spend the quota", d.Strategy.Type)
		}
		return d.Template, int(*d.Replicas), nil
	case len(r.deployments) == 0 && len(r.statefulSets) == 1:
		s := r.statefulSets[0].Spec
		return s.Template, int(*s.Replicas), s.VolumeClaimTemplates
	}
	t.Fatalf("%d Deployments and %d StatefulSets", len(r.deployments), len(r.statefulSets))
	return
}

// run runs a program and returns its standard output. The error contains its standard
// error.
func run(t *testing.T, program string, args ...string) ([]byte, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), servertest.Find(t, program), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%w\n%s%s", err, &stdout, &stderr)
	}
	return stdout.Bytes(), nil
}

// examples returns the example value files and a file with every value.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(directory + "/examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	return append(files, "testdata/everything.yaml")
}

// forEachExample runs the test with the values of each example.
func forEachExample(t *testing.T, test func(t *testing.T, r *rendered)) {
	for _, file := range examples(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			test(t, template(t, directory, "--values="+file))
		})
	}
}

func TestHelmLint(t *testing.T) {
	t.Parallel()
	for _, file := range examples(t) {
		if _, err := run(t, "helm", "lint", "--strict", directory, kubeVersion, "--values="+file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestKubernetesAcceptsAllObjects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range examples(t) {
		// kubectl-validate does not have the operator's types. template decodes them
		// strictly.
		out := template(t, directory, "--values="+file).text
		objects := slices.DeleteFunc(strings.Split(string(out), "\n---\n"), func(object string) bool {
			return strings.Contains(object, "\napiVersion: monitoring.coreos.com/")
		})
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(strings.Join(objects, "\n---\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(t, "kubectl-validate", dir); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPodsMeetTheRestrictedPodSecurityStandard(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	forEachExample(t, func(t *testing.T, r *rendered) {
		pod, _, _ := r.pod(t)
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(
			psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
		if !result.Allowed {
			t.Error(result.ForbiddenDetail())
		}
		container := pod.Spec.Containers[0]
		if root := container.SecurityContext.ReadOnlyRootFilesystem; root == nil || !*root {
			t.Error("root file system is writable")
		}
		if user, group := pod.Spec.SecurityContext.RunAsUser, pod.Spec.SecurityContext.FSGroup; *user != 65534 || *group != 65534 {
			t.Errorf("user %d, volume group %d, want 65534 as in the image", *user, *group)
		}
		if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
			t.Error("pod has a Kubernetes API token")
		}
		if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
			t.Errorf("resources %v", container.Resources)
		}
		if container.LivenessProbe == nil || container.ReadinessProbe == nil {
			t.Error("missing probe")
		}
	})
}

func TestObjectReferences(t *testing.T) {
	t.Parallel()
	forEachExample(t, func(t *testing.T, r *rendered) {
		pod, replicas, claims := r.pod(t)
		podLabels := labels.Set(pod.Labels)

		volumes := map[string]bool{}
		for _, v := range pod.Spec.Volumes {
			volumes[v.Name] = true
		}
		for _, c := range claims {
			volumes[c.Name] = true
		}
		mounts := map[string]bool{}
		for _, m := range pod.Spec.Containers[0].VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("mount %s: volume %s does not exist", m.MountPath, m.Name)
			}
			mounts[m.Name] = true
		}
		if !maps.Equal(volumes, mounts) {
			t.Errorf("volumes %v, mounts %v", volumes, mounts)
		}

		service := r.services[0]
		if !labels.SelectorFromSet(service.Spec.Selector).Matches(podLabels) {
			t.Errorf("Service selects %v, pod has labels %v", service.Spec.Selector, podLabels)
		}
		if set := r.statefulSets; len(set) == 1 && (set[0].Spec.ServiceName != service.Name || service.Spec.ClusterIP != corev1.ClusterIPNone) {
			t.Errorf("service %q of the StatefulSet is not the headless %q", set[0].Spec.ServiceName, service.Name)
		}
		for _, p := range r.policies {
			if !matches(t, &p.Spec.PodSelector, podLabels) {
				t.Errorf("NetworkPolicy selects %v", p.Spec.PodSelector)
			}
		}
		if want := min(replicas-1, 1); len(r.budgets) != want {
			t.Errorf("%d PodDisruptionBudgets for %d replicas", len(r.budgets), replicas)
		}
		for _, b := range r.budgets {
			if !matches(t, b.Spec.Selector, podLabels) {
				t.Errorf("PodDisruptionBudget selects %v", b.Spec.Selector)
			}
		}
		for _, m := range r.monitors {
			if !matches(t, &m.Spec.Selector, service.Labels) {
				t.Errorf("ServiceMonitor selects %v, Service has labels %v", m.Spec.Selector, service.Labels)
			}
			if len(m.Spec.Endpoints) != 1 || m.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name || !m.Spec.Endpoints[0].HonorLabels {
				t.Errorf("ServiceMonitor endpoints %+v", m.Spec.Endpoints)
			}
			if service.Labels[m.Spec.JobLabel] == "" {
				t.Errorf("Service lacks the job label %s", m.Spec.JobLabel)
			}
		}
		if scraped := pod.Annotations["prometheus.io/scrape"] == "true"; scraped == (len(r.monitors) > 0) {
			t.Errorf("annotations %v and %d ServiceMonitors, want only one of both", pod.Annotations, len(r.monitors))
		}
		for _, a := range r.serviceAccounts {
			if a.Name != pod.Spec.ServiceAccountName {
				t.Errorf("pod uses ServiceAccount %s, chart creates %s", pod.Spec.ServiceAccountName, a.Name)
			}
			id := a.Annotations["azure.workload.identity/client-id"]
			if used := pod.Labels["azure.workload.identity/use"] == "true"; used != (id != "") {
				t.Errorf("workload identity: label %v, client id %q", used, id)
			}
		}
	})
}

func matches(t *testing.T, selector *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(set)
}

// The program must accept each pod's arguments and find every file of its configuration
// where the pod mounts it.
func TestProgramAcceptsArgumentsAndConfiguration(t *testing.T) {
	t.Parallel()
	forEachExample(t, func(t *testing.T, r *rendered) {
		pod, replicas, _ := r.pod(t)
		root := t.TempDir()
		mount(t, root, r, pod)
		for n := range replicas {
			args := arguments(pod, root, n)
			if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--config.file=") }) {
				continue // The demo has no configuration.
			}
			if result := servertest.Run(t, nil, append(args, "--config.check")...); result.Code != 0 {
				t.Errorf("%q: %s%s", args, result.Stdout, result.Stderr)
			}
			want := fmt.Sprintf("--pod-name=%s-%d", release, n)
			if replicas > 1 && (!slices.Contains(args, want) || !slices.Contains(args, fmt.Sprintf("--total-shards=%d", replicas))) {
				t.Errorf("pod %d of %d: arguments %q", n, replicas, args)
			}
		}
	})
}

// arguments returns the arguments of the n-th pod, with paths below root.
func arguments(pod corev1.PodTemplateSpec, root string, n int) []string {
	var args []string
	for _, arg := range pod.Spec.Containers[0].Args {
		arg = strings.ReplaceAll(arg, "$(POD_NAME)", fmt.Sprintf("%s-%d", release, n))
		args = append(args, strings.Replace(arg, "=/", "="+root+"/", 1))
	}
	return args
}

// mount writes the files of the pod's volumes below root. Secrets that the chart does
// not create have the content of the examples' comments.
func mount(t *testing.T, root string, r *rendered, pod corev1.PodTemplateSpec) {
	t.Helper()
	contents := map[string]map[string][]byte{
		"defender":   {"contoso": []byte("a secret"), "fabrikam": []byte("a secret")},
		"mde-config": {"mde.yml": []byte("tenants: [{azuread: {managed_identity: {}}, name: contoso}]\n")},
		"mde-web":    {"web.yml": nil},
	}
	server := httptest.NewTLSServer(nil)
	server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	contents["defender-certificate"] = map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
	for _, s := range r.secrets {
		contents[s.Name] = s.Data
	}
	paths := map[string]string{}
	for _, m := range pod.Spec.Containers[0].VolumeMounts {
		paths[m.Name] = filepath.Join(root, m.MountPath)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret == nil {
			continue
		}
		files, ok := contents[v.Secret.SecretName]
		if !ok {
			t.Fatalf("unknown Secret %s", v.Secret.SecretName)
		}
		if err := os.MkdirAll(paths[v.Name], 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			content = bytes.ReplaceAll(content, []byte(" /etc/"), []byte(" "+root+"/etc/"))
			if pod.Labels["azure.workload.identity/use"] == "true" { // The webhook mounts the token.
				content = regexp.MustCompile(`(?m)^( +)client_id:`).ReplaceAll(content, []byte("${1}token_file_path: "+root+"/token\n${1}client_id:"))
				if err := os.WriteFile(root+"/token", []byte("a token"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(paths[v.Name], name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestScrapeDemo(t *testing.T) {
	t.Parallel()
	pod, _, _ := template(t, directory, "--values="+directory+"/examples/demo.yaml").pod(t)
	address := servertest.FreeAddress(t)
	var args []string
	for _, arg := range arguments(pod, t.TempDir(), 0) {
		if flag, _, _ := strings.Cut(arg, "="); flag == "--web.listen-address" {
			arg = flag + "=" + address
		}
		args = append(args, arg)
	}
	container := pod.Spec.Containers[0]
	server := servertest.Start(t, address, container.ReadinessProbe.HTTPGet.Path, servertest.Build(t), args...)
	get(t, server.URL()+container.LivenessProbe.HTTPGet.Path)
	if metrics := get(t, server.URL()+"/metrics"); !strings.Contains(metrics, "\nmde_machines{") {
		t.Errorf("no machines among the metrics:\n%s", metrics)
	}
}

// get returns the body of a response with status 200.
func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

func TestRulesAndDashboardsMatchTheBundledFiles(t *testing.T) {
	t.Parallel()
	r := template(t, directory, "--set=demo=true,prometheusRule.enabled=true,dashboards.enabled=true", "--set=dashboards.namespace=grafana")

	wantRules, gotRules := map[string]monitoringv1.PrometheusRuleSpec{}, map[string]monitoringv1.PrometheusRuleSpec{}
	for name, content := range bundled(t, alerts.Files.ReadDir, alerts.Files.ReadFile) {
		var spec monitoringv1.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(content, &spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantRules[release+"-"+strings.TrimSuffix(name, ".yaml")] = spec
	}
	for _, rule := range r.rules {
		gotRules[rule.Name] = rule.Spec
	}
	if diff := cmp.Diff(wantRules, gotRules); diff != "" {
		t.Errorf("rules (-alerts +chart), run make chart:\n%s", diff)
	}

	wantDashboards, gotDashboards := map[string]string{}, map[string]string{}
	for name, content := range bundled(t, dashboards.Files.ReadDir, dashboards.Files.ReadFile) {
		wantDashboards[name] = string(content)
	}
	for _, m := range r.configMaps {
		if m.Labels["grafana_dashboard"] != "1" {
			t.Errorf("ConfigMap %s has labels %v", m.Name, m.Labels)
		}
		maps.Copy(gotDashboards, m.Data)
	}
	if diff := cmp.Diff(wantDashboards, gotDashboards); diff != "" {
		t.Errorf("dashboards (-dashboards +chart), run make chart:\n%s", diff)
	}
}

// bundled returns the files that the program serves.
func bundled(t *testing.T, list func(string) ([]os.DirEntry, error), read func(string) ([]byte, error)) map[string][]byte {
	t.Helper()
	entries, err := list(".")
	if err != nil || len(entries) == 0 {
		t.Fatalf("%v, %v", entries, err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if files[entry.Name()], err = read(entry.Name()); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestPackagedChart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := run(t, "helm", "package", directory, "--destination="+dir); err != nil {
		t.Fatal(err)
	}
	packages, err := filepath.Glob(dir + "/mde-exporter-*.tgz")
	if err != nil || len(packages) != 1 {
		t.Fatalf("packages: %q, %v", packages, err)
	}
	want := template(t, directory, "--values=testdata/everything.yaml").text
	got := template(t, packages[0], "--values=testdata/everything.yaml").text
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-directory +package):\n%s", diff)
	}
}

func TestEgressProxyIsTheOnlyEgress(t *testing.T) {
	t.Parallel()
	for file, toInternet := range map[string]bool{"egress-proxy": false, "tls": true} {
		r := template(t, directory, "--values="+directory+"/examples/"+file+".yaml")
		found := regexp.MustCompile(`cidr: (0\.0\.0\.0|::)/0`).Match(r.text)
		if len(r.policies) != 1 || found != toInternet {
			t.Errorf("%s: %d policies, all addresses allowed: %v, want %v", file, len(r.policies), found, toInternet)
		}
	}
}

func TestValueTypesAreKept(t *testing.T) {
	t.Parallel()
	r := template(t, directory, "--values=testdata/everything.yaml")
	var got, want struct {
		Global struct {
			SecurityStates struct {
				MaxMachines int64 `json:"max_machines"`
			} `json:"security_states"`
		}
		Tenants []struct{ Name string }
	}
	if err := yaml.Unmarshal(r.secrets[0].Data["mde.yml"], &got); err != nil {
		t.Fatal(err)
	}
	want.Global.SecurityStates.MaxMachines = 3000000
	want.Tenants = append(want.Tenants, struct{ Name string }{"007"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mde.yml (-want +got):\n%s\n%s", diff, r.secrets[0].Data["mde.yml"])
	}
}

func TestInvalidValuesAreRejected(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, set, want string }{
		{"nothing to export", "", "set config, existingConfigSecret or demo"},
		{"two configurations", "config.tenants[0].name=a,existingConfigSecret=b", "config and existingConfigSecret are both set"},
		{"files without a configuration", "demo=true,files.a=b", "files are only mounted together with config"},
		{"shards of a Deployment", "demo=true,shards=2", "shards needs kind: StatefulSet"},
		{"no shard", "demo=true,shards=0", "shards"},
		{"an unknown value", "demo=true,replicas=2", "replicas"},
		{"an unknown value below another", "demo=true,serviceMonitor.enable=true", "enable"},
		{"an unknown kind", "demo=true,kind=DaemonSet", "kind"},
		{"workload identity without an app", "demo=true,workloadIdentity.enabled=true", "clientId"},
		{"a file that is the configuration", "demo=true,files.mde\\.yml=b", "mde.yml"},
		{"a file in a directory", "demo=true,files.watched/a=b", "watched/a"},
		{"an invalid digest", "demo=true,image.digest=sha256:12", "digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, "helm", "template", release, directory, kubeVersion, "--set="+test.set)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("--set=%s: error %v, want %q", test.set, err, test.want)
			}
		})
	}
}
