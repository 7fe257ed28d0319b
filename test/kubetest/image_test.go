package kubetest_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// descriptor points at a blob of an OCI image.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// image is an OCI image archive in the making: of one layer, with one static program and nothing else,
// which is what an image FROM scratch is.
type image struct {
	blobs map[string][]byte
}

// writeImage writes an image archive that containerd imports.
func writeImage(t *testing.T, archive, reference, program string) {
	t.Helper()
	binary, err := os.ReadFile(program)
	must(t, err)
	layer := tarOf(t, map[string][]byte{"program": binary}, 0o755)
	i := image{blobs: map[string][]byte{}}
	filesystem := i.add("application/vnd.oci.image.layer.v1.tar", layer)
	config := i.add("application/vnd.oci.image.config.v1+json", encode(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"User": "65532:65532", "Entrypoint": []string{"/program"}, "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{filesystem.Digest}},
	}))
	manifest := i.add(ociManifest, encode(t, map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": []descriptor{filesystem},
	}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": reference}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encode(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}),
	}
	for digest, blob := range i.blobs {
		files["blobs/sha256/"+digest] = blob
	}
	must(t, os.WriteFile(archive, tarOf(t, files, 0o644), 0o600))
}

func (i image) add(mediaType string, blob []byte) descriptor {
	digest := fmt.Sprintf("%x", sha256.Sum256(blob))
	i.blobs[digest] = blob
	return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(blob)}
}

func tarOf(t *testing.T, files map[string][]byte, mode int64) []byte {
	t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for name, content := range files {
		must(t, writer.WriteHeader(&tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeReg, Size: int64(len(content))}))
		_, err := writer.Write(content)
		must(t, err)
	}
	must(t, writer.Close())
	return archive.Bytes()
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	must(t, err)
	return data
}
