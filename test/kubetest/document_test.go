package kubetest_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	kustomize "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const document = root + "/docs/kubernetes.md"

// blocks returns the document's fenced blocks of a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, document), -1) {
		all = append(all, match[1])
	}
	if len(all) == 0 {
		t.Fatalf("the document has no block of %s", language)
	}
	return all
}

// firstCells returns what stands as code in the first cells of the table with a heading.
func firstCells(t *testing.T, heading string) []string {
	t.Helper()
	_, table, found := strings.Cut(read(t, document), "\n| "+heading+" |")
	if !found {
		t.Fatalf("the document has no table of %s", heading)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var all []string
	for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		all = append(all, match[1])
	}
	slices.Sort(all)
	return all
}

func TestTablesOfTheDocument(t *testing.T) {
	if got, want := firstCells(t, "directory"), slices.Sorted(slices.Values(directories)); !slices.Equal(got, want) {
		t.Errorf("the document tells of the directories %v, but there are %v", got, want)
	}
	if got, want := firstCells(t, "alert"), slices.Sorted(maps.Keys(alerts(t))); !slices.Equal(got, want) {
		t.Errorf("the document tells of the alerts %v, but there are %v", got, want)
	}
	for name := range secrets {
		if !strings.Contains(read(t, document), "generic "+name) && !strings.Contains(read(t, document), "tls "+name) {
			t.Errorf("the document does not say how to make the Secret %s", name)
		}
	}
}

// layout copies the manifests to where the document's commands and its overlay expect them.
func layout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range directories {
		must(t, os.CopyFS(filepath.Join(dir, "deploy", "k8s", name), os.DirFS(filepath.Join(manifests, name))))
	}
	return dir
}

// TestOverlayOfTheDocument makes of the document's overlay what kubectl would: every image is replaced.
func TestOverlayOfTheDocument(t *testing.T) {
	overlay := blocks(t, "yml")[0]
	must(t, yaml.UnmarshalStrict([]byte(overlay), &kustomize.Kustomization{}))
	dir := filepath.Join(layout(t), "my-app")
	must(t, os.Mkdir(dir, 0o700))
	write(t, filepath.Join(dir, "kustomization.yaml"), overlay)
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	must(t, err)
	text, err := made.AsYaml()
	must(t, err)
	images := map[string]int{}
	for _, match := range regexp.MustCompile(`(?m)image: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		images[match[1]]++
	}
	want := map[string]int{"registry.example.com/credagent:1.0.0": 2, "registry.example.com/my-app:7": 1}
	if !maps.Equal(images, want) {
		t.Errorf("the overlay has the images %v, want %v", images, want)
	}
}

// TestCommandsNameWhatThereIs looks at the document's commands as far as that is possible without a
// cluster; in one, tryDocument runs them.
func TestCommandsNameWhatThereIs(t *testing.T) {
	dir, named := layout(t), 0
	for _, block := range blocks(t, "sh") {
		for _, match := range regexp.MustCompile(`deploy/k8s\S*`).FindAllString(block, -1) {
			named++
			if _, err := os.Stat(filepath.Join(dir, match)); err != nil {
				t.Errorf("a command names %s, which is not there", match)
			}
		}
	}
	if named < 5 {
		t.Errorf("the commands name %d manifests", named)
	}
}

// TestNodeDirectoryOfTheDocument compares the line for tmpfiles.d with the manifest.
func TestNodeDirectoryOfTheDocument(t *testing.T) {
	fields := strings.Fields(blocks(t, "ini")[0])
	p := workload(t, "node")
	at := slices.IndexFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil })
	if at < 0 || len(fields) != 5 {
		t.Fatalf("the line is %q, and the volumes are %v", fields, p.spec.Volumes)
	}
	if fields[1] != p.spec.Volumes[at].HostPath.Path || fields[3] != "65532" || *p.spec.SecurityContext.RunAsUser != 65532 {
		t.Errorf("the node makes %v, but the agent uses %+v as uid %d", fields, p.spec.Volumes[at].HostPath, *p.spec.SecurityContext.RunAsUser)
	}
}
