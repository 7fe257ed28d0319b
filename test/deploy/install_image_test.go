//go:build linux

package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// testImage makes the image beside the rest of the release, as make release does, and unpacks it. TestImage
// runs one as a container.
func (r released) testImage(t *testing.T) {
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("buildah is missing: apt-get install buildah")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be relied on to build an image")
	}
	name := "credagent_" + r.version + "_image.tar"
	t.Cleanup(func() {
		if out, err := exec.Command("buildah", "manifest", "rm", "localhost/credagent:"+r.version).CombinedOutput(); err != nil {
			t.Errorf("removing the image: %v\n%s", err, out)
		}
	})
	script := filepath.Join(filepath.Dir(r.dir), "deploy/image.sh")
	output(t, r.dir, script, r.dir, runtime.GOARCH)
	once := read(t, r.path(name))
	output(t, r.dir, script, r.dir, runtime.GOARCH)
	if read(t, r.path(name)) != once {
		t.Error("two images of one release differ")
	}
	output(t, r.dir, filepath.Join(filepath.Dir(script), "release.sh"), "sums", r.dir)
	if !strings.Contains(read(t, r.path("SHA256SUMS")), "  "+name+"\n") {
		t.Error("the image has no checksum")
	}
	layout, content := t.TempDir(), t.TempDir()
	output(t, layout, "tar", "--extract", "--file", r.path(name))
	if version := unpackImage(t, layout, content); version != r.version {
		t.Errorf("its label says %q, want %s", version, r.version)
	}
	if out := output(t, content, filepath.Join(content, "usr/bin/credagent"), "version"); !strings.HasPrefix(out, "credagent "+r.version+" (commit ") {
		t.Errorf("version says %q, want %s", out, r.version)
	}
}

// unpackImage unpacks the layers of an OCI layout into a directory, and returns the version that
// its configuration has as a label.
func unpackImage(t *testing.T, layout, dir string) (version string) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(layout, "blobs/sha256/*"))
	if err != nil || len(blobs) < 3 {
		t.Fatalf("the image has %d blobs: %v", len(blobs), err)
	}
	for _, blob := range blobs {
		text := read(t, blob)
		if !strings.HasPrefix(text, "{") {
			output(t, dir, "tar", "--extract", "--gzip", "--file", blob)
			continue
		}
		var config struct {
			Config struct{ Labels map[string]string }
		}
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			t.Fatalf("%s: %v", blob, err)
		}
		if label := config.Config.Labels["org.opencontainers.image.version"]; label != "" {
			version = label
		}
	}
	return version
}
