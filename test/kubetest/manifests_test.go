package kubetest_test

import (
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func TestManifestsDecodeStrictly(t *testing.T) {
	for _, dir := range directories {
		t.Run(dir, func(t *testing.T) {
			if len(objects(t, dir)) < 2 {
				t.Error("it makes next to nothing")
			}
		})
	}
}

// violations are what Pod Security's profile restricted has against a pod.
func violations(t *testing.T, p pod) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(t, err)
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	var all []string
	for _, result := range evaluator.EvaluatePod(restricted, &p.meta, &p.spec) {
		if !result.Allowed {
			all = append(all, result.ForbiddenReason)
		}
	}
	return all
}

func TestPodSecurityIsRestricted(t *testing.T) {
	// Only a directory of the node can be shared by pods, and only privileged namespaces allow one.
	tolerated := map[string][]string{"node": {"restricted volume types"}}
	for _, dir := range workloads() {
		t.Run(dir, func(t *testing.T) {
			got := violations(t, workload(t, dir))
			slices.Sort(got)
			if !slices.Equal(got, tolerated[dir]) {
				t.Errorf("Pod Security is violated by %q, want by %q", got, tolerated[dir])
			}
		})
	}
}

// TestTheChecksCatch breaks a manifest in ways that the checks above must see.
func TestTheChecksCatch(t *testing.T) {
	text, err := yaml.Marshal(workloadObject(t, "sidecar"))
	must(t, err)
	for name, tc := range map[string]struct{ old, new string }{
		"a key that does not exist": {"automountServiceAccountToken:", "automountServiceAccountTokens:"},
		"a key that stands twice":   {"      enableServiceLinks: false\n", "      enableServiceLinks: false\n      enableServiceLinks: false\n"},
		"the node's network":        {"      enableServiceLinks: false\n", "      hostNetwork: true\n"},
		"root":                      {"runAsNonRoot: true", "runAsNonRoot: false"},
		"a capability":              {"- ALL", "- KILL"},
		"a probe's host":            {"path: /livez", "path: /livez\n            host: 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := strings.ReplaceAll(string(text), tc.old, tc.new)
			if broken == string(text) {
				t.Fatalf("there is no %q to replace in\n%s", tc.old, text)
			}
			object, err := decode(t, []byte(broken))
			if err != nil {
				return
			}
			if p, _ := podOf(object); len(violations(t, p)) == 0 {
				t.Error("nobody minds")
			}
		})
	}
}

func workloadObject(t *testing.T, dir string) runtime.Object {
	t.Helper()
	all := objects(t, dir)
	at := slices.IndexFunc(all, func(o runtime.Object) bool { _, ok := podOf(o); return ok })
	if at < 0 {
		t.Fatalf("%s has no workload", dir)
	}
	return all[at]
}

// TestContainersAreLockedIn asks for more than Pod Security does.
func TestContainersAreLockedIn(t *testing.T) {
	for _, dir := range workloads() {
		p := workload(t, dir)
		if mount := p.spec.AutomountServiceAccountToken; dir != "secret" && (mount == nil || *mount) {
			t.Errorf("%s: the pod gets a service-account token, which nothing in it uses", dir)
		}
		for _, c := range p.containers() {
			s := c.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				t.Errorf("%s: %s may write to its root file system", dir, c.Name)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: %s has no requests or no memory limit", dir, c.Name)
			}
			if len(c.Env) > 0 {
				t.Errorf("%s: %s has environment variables, where no secret may be and nothing else is needed", dir, c.Name)
			}
		}
	}
}

// secrets are those that a person makes, as docs/kubernetes.md says, with their keys.
var secrets = map[string][]string{
	"credagent-certificate": {"tls.crt", "tls.key"},
	"credagent-state-key":   {"state-key"},
}

func TestReferencesLeadSomewhere(t *testing.T) {
	for _, dir := range workloads() {
		t.Run(dir, func(t *testing.T) {
			p, made := workload(t, dir), names(t, dir)
			for _, v := range p.spec.Volumes {
				if v.ConfigMap != nil && !slices.Contains(made, "ConfigMap/"+v.ConfigMap.Name) {
					t.Errorf("volume %s: the ConfigMap %q is not made", v.Name, v.ConfigMap.Name)
				}
				if v.Secret != nil && secrets[v.Secret.SecretName] == nil {
					t.Errorf("volume %s: nobody is told to make the Secret %q", v.Name, v.Secret.SecretName)
				}
			}
			if account := p.spec.ServiceAccountName; account != "" && !slices.Contains(made, "ServiceAccount/"+account) {
				t.Errorf("the ServiceAccount %q is not made", account)
			}
			for _, c := range p.containers() {
				checkReferences(t, p, c)
			}
		})
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for _, object := range objects(t, dir) {
		meta, ok := object.(metav1.Object)
		if !ok {
			t.Fatalf("%T has no name", object)
		}
		all = append(all, object.GetObjectKind().GroupVersionKind().Kind+"/"+meta.GetName())
	}
	return all
}

func checkReferences(t *testing.T, p pod, c corev1.Container) {
	t.Helper()
	for _, mount := range c.VolumeMounts {
		if !slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
			t.Errorf("%s mounts the volume %q, which is not there", c.Name, mount.Name)
		}
		if mount.SubPath != "" || mount.SubPathExpr != "" {
			t.Errorf("%s mounts a part of %q: a file that is replaced would stay the old one", c.Name, mount.Name)
		}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			continue
		}
		name := probe.HTTPGet.Port.String()
		if !slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.Name == name }) {
			t.Errorf("%s is probed at the port %q, which it does not have", c.Name, name)
		}
	}
}

func TestNetworkPoliciesSelectThePods(t *testing.T) {
	for _, dir := range []string{"sidecar", "job", "node", "workload-identity", "secret"} {
		policy, p := find[*networkingv1.NetworkPolicy](t, dir), workload(t, dir)
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		must(t, err)
		if !selector.Matches(labels.Set(p.meta.Labels)) {
			t.Errorf("%s: the NetworkPolicy %s does not select the pods", dir, policy.Name)
		}
	}
}

// configured returns the ConfigMap's credagent.yaml of a directory.
func configured(t *testing.T, dir string) string {
	t.Helper()
	text, ok := find[*corev1.ConfigMap](t, dir).Data["credagent.yaml"]
	if !ok {
		t.Fatalf("%s: the ConfigMap has no credagent.yaml", dir)
	}
	return text
}

func TestConfigurationsAreValid(t *testing.T) {
	for _, dir := range workloads() {
		t.Run(dir, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, file, configured(t, dir))
			if out, err := exec.CommandContext(t.Context(), credagent(t), "validate", "-c", file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestConfigurationsUseWhatIsMounted looks for each path of a configuration in the volumes of the
// containers that run credagent: files to read where there is a file, files to write where there is
// memory.
func TestConfigurationsUseWhatIsMounted(t *testing.T) {
	reads := regexp.MustCompile(`(?m)^\s*\w+_file: (\S+)$`)
	writes := regexp.MustCompile(`(?m)^\s*(?:path|dir): (\S+)$`)
	for _, dir := range workloads() {
		t.Run(dir, func(t *testing.T) {
			p, text := workload(t, dir), configured(t, dir)
			for _, c := range p.containers() {
				if c.Image != "credagent" {
					continue
				}
				for _, match := range append(reads.FindAllStringSubmatch(text, -1), []string{"", "/etc/credagent/credagent.yaml"}) {
					checkReadable(t, p, c, match[1])
				}
				for _, match := range writes.FindAllStringSubmatch(text, -1) {
					checkWritable(t, p, c, match[1])
				}
			}
		})
	}
}

// mounted returns the mount and the volume that a path is in.
func mounted(t *testing.T, p pod, c corev1.Container, file string) (corev1.VolumeMount, corev1.Volume) {
	t.Helper()
	for _, mount := range c.VolumeMounts {
		if !strings.HasPrefix(file, mount.MountPath+"/") {
			continue
		}
		at := slices.IndexFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if at >= 0 {
			return mount, p.spec.Volumes[at]
		}
	}
	t.Errorf("%s: nothing is mounted where %s is to be", c.Name, file)
	return corev1.VolumeMount{}, corev1.Volume{}
}

func checkReadable(t *testing.T, p pod, c corev1.Container, file string) {
	t.Helper()
	mount, volume := mounted(t, p, c, file)
	key := path.Base(file)
	switch {
	case !mount.ReadOnly:
		t.Errorf("%s may write to %s", c.Name, mount.MountPath)
	case volume.Secret != nil && !slices.Contains(secrets[volume.Secret.SecretName], key):
		t.Errorf("%s: the Secret %s has no %s", c.Name, volume.Secret.SecretName, key)
	case volume.Secret != nil && (volume.Secret.DefaultMode == nil || *volume.Secret.DefaultMode != 0o440):
		t.Errorf("%s: others may read %s", c.Name, file)
	case volume.Projected != nil && volume.Projected.Sources[0].ServiceAccountToken.Path != key:
		t.Errorf("%s: no %s is projected", c.Name, key)
	}
}

func checkWritable(t *testing.T, p pod, c corev1.Container, file string) {
	t.Helper()
	mount, volume := mounted(t, p, c, file)
	if mount.ReadOnly {
		t.Errorf("%s cannot write %s", c.Name, file)
	}
	if volume.HostPath == nil && (volume.EmptyDir == nil || volume.EmptyDir.Medium != corev1.StorageMediumMemory) {
		t.Errorf("%s writes %s to a disk", c.Name, file)
	}
	if volume.EmptyDir != nil && path.Dir(file) == mount.MountPath && !strings.HasSuffix(file, "/state") {
		t.Errorf("%s: %s is in the volume itself, where everybody may write", c.Name, file)
	}
}
