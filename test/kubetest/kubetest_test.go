// Package kubetest_test holds deploy/k8s to what docs/kubernetes.md says of it. Without a cluster:
// every manifest is decoded strictly, judged by Kubernetes' own Pod Security library and compared with
// the configuration it carries, and every alert is tried on made-up samples. With E2E=1 and as root:
// in a cluster of one node, real but for its image registry and pod network. It is a module of its
// own, so that credagent does not depend on Kubernetes; one caveat: it is tried with one version of it.
package kubetest_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/credagent/credagent/testkit/agentprocess"
)

const (
	root      = "../.."
	manifests = root + "/deploy/k8s"
)

// directories are what kubectl apply -k is given.
var directories = []string{"init", "sidecar", "job", "node", "workload-identity", "secret", "monitoring"}

func TestEveryDirectoryIsTested(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(manifests, "*", "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if dir := filepath.Base(filepath.Dir(name)); !slices.Contains(directories, dir) {
			t.Errorf("no test looks at %s", dir)
		}
	}
	if len(found) != len(directories) {
		t.Errorf("%d directories have a kustomization, want %d", len(found), len(directories))
	}
}

// render makes of a directory the YAML of each object, as kubectl kustomize does.
func render(t *testing.T, dir string) [][]byte {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(manifests, dir))
	if err != nil {
		t.Fatalf("rendering %s: %v", dir, err)
	}
	var all [][]byte
	for _, resource := range made.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	return all
}

// types are those of Kubernetes and of the Prometheus Operator.
func types(t *testing.T) *runtime.Scheme {
	t.Helper()
	types := runtime.NewScheme()
	if err := scheme.AddToScheme(types); err != nil {
		t.Fatal(err)
	}
	if err := monitoringv1.AddToScheme(types); err != nil {
		t.Fatal(err)
	}
	return types
}

// decode reads one object and refuses what its type does not have.
func decode(t *testing.T, text []byte) (runtime.Object, error) {
	t.Helper()
	object, _, err := serializer.NewCodecFactory(types(t), serializer.EnableStrict).UniversalDeserializer().Decode(text, nil, nil)
	return object, err
}

// objects are what a directory makes.
func objects(t *testing.T, dir string) []runtime.Object {
	t.Helper()
	var all []runtime.Object
	for _, text := range render(t, dir) {
		object, err := decode(t, text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", dir, err, text)
		}
		all = append(all, object)
	}
	return all
}

// find returns the directory's only object of a type.
func find[T runtime.Object](t *testing.T, dir string) T {
	t.Helper()
	var found []T
	for _, object := range objects(t, dir) {
		if typed, ok := object.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d objects of type %T, want one", dir, len(found), *new(T))
	}
	return found[0]
}

// pod is what a workload makes pods of.
type pod struct {
	kind string
	meta metav1.ObjectMeta
	spec corev1.PodSpec
}

func podOf(object runtime.Object) (pod, bool) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return pod{"Deployment", o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}, true
	case *appsv1.DaemonSet:
		return pod{"DaemonSet", o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}, true
	case *batchv1.Job:
		return pod{"Job", o.Spec.Template.ObjectMeta, o.Spec.Template.Spec}, true
	}
	return pod{}, false
}

// workload returns the directory's only workload.
func workload(t *testing.T, dir string) pod {
	t.Helper()
	var pods []pod
	for _, object := range objects(t, dir) {
		if p, ok := podOf(object); ok {
			pods = append(pods, p)
		}
	}
	if len(pods) != 1 {
		t.Fatalf("%s has %d workloads, want one", dir, len(pods))
	}
	return pods[0]
}

// workloads are the directories that run something.
func workloads() []string {
	return slices.DeleteFunc(slices.Clone(directories), func(dir string) bool { return dir == "monitoring" })
}

func (p pod) containers() []corev1.Container {
	return slices.Concat(p.spec.InitContainers, p.spec.Containers)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// binaries is where the programs are that tests build. It is set before any test runs.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "credagent-kubetest-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

var buildCredagent = sync.OnceValues(func() (string, error) { return agentprocess.Credagent(binaries) })

// credagent is the program, static as in its image.
func credagent(t *testing.T) string {
	t.Helper()
	path, err := buildCredagent()
	must(t, err)
	return path
}
