//go:build linux

package deploy_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// maxImage is how large an image may be, compressed, in bytes.
const maxImage = 20_000_000

// image is a built image of this machine's architecture.
type image struct {
	t       *testing.T
	name    string
	archive string
}

func newImage(t *testing.T) image {
	t.Helper()
	needE2E(t)
	for _, tool := range []string{"buildah", "podman", "runc"} { // crun refuses some mixtures of cgroups
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install podman buildah runc", tool)
		}
	}
	const version = "0.0.1-test"
	dir := t.TempDir()
	for _, script := range [][]string{{deployed + "/release.sh", "packages"}, {deployed + "/image.sh"}} {
		cmd := exec.CommandContext(t.Context(), script[0], append(script[1:], dir, runtime.GOARCH)...)
		cmd.Env = append(os.Environ(), "RELEASE_VERSION="+version)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("running %v: %v\n%s", script, err, out)
		}
	}
	i := image{t, "localhost/credagent:" + version, filepath.Join(dir, "credagent_"+version+"_image.tar")}
	id := strings.TrimSpace(i.podman("image", "inspect", "--format={{.Id}}", i.name))
	t.Cleanup(func() {
		i.t = t
		i.podman("manifest", "rm", i.name)
		i.podman("image", "rm", id)
	})
	return i
}

func (i image) podman(args ...string) string {
	i.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("podman", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		i.t.Fatalf("running podman %q: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// run starts a container that has no privilege and can write to nothing but what options give it.
func (i image) run(options []string, command ...string) string {
	i.t.Helper()
	args := []string{"--runtime=runc", "run", "--rm", "--pull=never", "--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
		"--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"} // the defaults may be above what this machine may give
	return i.podman(slices.Concat(args, options, []string{i.name}, command)...)
}

func TestImage(t *testing.T) {
	i := newImage(t)
	t.Run("is small, labelled and not root", i.testMetadata)
	t.Run("holds nothing but credagent", i.testContent)
	t.Run("gets a token", i.testOnce)
}

func (i image) testMetadata(t *testing.T) {
	i.t = t
	if info, err := os.Stat(i.archive); err != nil || info.Size() > maxImage {
		t.Errorf("the image has %d bytes, want at most %d: %v", info.Size(), maxImage, err)
	} else {
		t.Logf("the image has %.1f MB compressed", float64(info.Size())/1e6)
	}
	if out := i.run(nil, "version"); !strings.HasPrefix(out, "credagent ") {
		t.Errorf("version says %q", out)
	}
	var config []struct {
		Config struct{ User string }
		Labels map[string]string
	}
	if err := json.Unmarshal([]byte(i.podman("image", "inspect", i.name)), &config); err != nil {
		t.Fatal(err)
	}
	head, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	labels := config[0].Labels
	if labels["org.opencontainers.image.version"] != "0.0.1-test" || labels["org.opencontainers.image.revision"] != strings.TrimSpace(string(head)) {
		t.Errorf("the labels are %v", labels)
	}
	if user := config[0].Config.User; user != "65532:65532" {
		t.Errorf("the user is %q", user)
	}
}

func (i image) testContent(t *testing.T) {
	i.t = t
	container := strings.TrimSpace(i.podman("create", "--pull=never", i.name))
	defer i.podman("rm", container)
	at := filepath.Join(i.t.TempDir(), "roots")
	i.podman("cp", container+":/etc/ssl/certs/ca-certificates.crt", at)
	count := 0
	for rest := []byte(read(i.t, at)); ; count++ {
		var next *pem.Block
		if next, rest = pem.Decode(rest); next == nil {
			break
		}
	}
	if count < 50 {
		i.t.Errorf("the image has %d trusted roots", count)
	}
	list, err := exec.Command("sh", "-c", `podman export "$1" | tar --list`, "sh", container).Output()
	if err != nil {
		i.t.Fatal(err)
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		known := regexp.MustCompile(`^(usr/bin/credagent|usr/share/doc/credagent/(LICENSE|THIRD-PARTY)|etc/ssl/certs/ca-certificates.crt)$`)
		// Directories, and what every runtime mounts upon.
		mounted := regexp.MustCompile(`^(.*/|dev.*|proc.*|sys.*|run.*|etc/(hosts|hostname|resolv.conf|mtab))$`)
		if !known.MatchString(name) && !mounted.MatchString(name) {
			i.t.Errorf("the image has %s", name)
		}
	}
}

// testOnce gets a token with the image, as an init container would.
func (i image) testOnce(t *testing.T) {
	i.t = t
	server, err := devserver.New(devserver.Options{TTL: calm, Clients: []devserver.Client{{ID: "payments", Secret: secret.New(canary)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	dir, sinks := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "payments.secret"), canary, 0o644)
	write(t, filepath.Join(dir, "credagent.yaml"), `listen: ""
clients:
  payments: { token_url: "`+server.TokenURL()+`", client_id: payments, credential: { provider: secretcred, config: { secret_file: /etc/credagent/payments.secret } } }
tokens:
  orders: { client: payments, scopes: [orders.read] }
sinks:
  - { type: file, token: orders, path: /run/credagent/orders.token }
`, 0o644)
	if err := os.Chown(sinks, 65532, 65532); err != nil {
		t.Fatalf("the directory of the sinks cannot be given to the image's user: %v", err)
	}
	i.run([]string{"--volume=" + dir + ":/etc/credagent:ro", "--volume=" + sinks + ":/run/credagent"}, "once", "--timeout=30s")
	if token := read(t, filepath.Join(sinks, "orders.token")); !server.Valid(token) {
		t.Errorf("the sink holds no valid token but %d bytes", len(token))
	}
	if got := len(server.Requests()); got != 1 {
		t.Errorf("the server has seen %d requests, want one", got)
	}
}

// TestDockerfile checks for what an image must not have, without building it.
func TestDockerfile(t *testing.T) {
	text := strings.ReplaceAll(read(t, deployed+"/image/Dockerfile"), "\\\n", "")
	seen := map[string][]string{}
	for line := range strings.Lines(text) {
		if word, rest, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" && word != "#" {
			seen[word] = append(seen[word], rest)
		}
	}
	for word := range seen {
		if !slices.Contains([]string{"FROM", "ARG", "LABEL", "COPY", "USER", "ENTRYPOINT", "CMD"}, word) {
			t.Errorf("%s makes the image depend on more than its context", word)
		}
	}
	for word, want := range map[string]string{"FROM": "scratch", "USER": "65532:65532", "ENTRYPOINT": `["/usr/bin/credagent"]`, "CMD": `["run"]`} {
		if !slices.Equal(seen[word], []string{want}) {
			t.Errorf("%s is %q, want %q", word, seen[word], want)
		}
	}
	for _, files := range seen["COPY"] {
		if !strings.HasPrefix(files, "--chmod=0") {
			t.Errorf("COPY %s takes the modes from where it is built", files)
		}
	}
	for _, label := range []string{"title", "description", "source", "licenses", "version", "revision"} {
		if !strings.Contains(strings.Join(seen["LABEL"], " "), "org.opencontainers.image."+label+"=") {
			t.Errorf("there is no label %s", label)
		}
	}
}
