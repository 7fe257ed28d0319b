//go:build linux

package kubetest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/credagent/credagent/testkit/agentprocess"
)

const (
	nodeName    = "node"
	adminToken  = "admin" // of an API server that only this machine can reach
	issuer      = "https://kubernetes.default.svc"
	appImage    = "local.invalid/app:test"
	ourImage    = "local.invalid/credagent:test"
	startTime   = 2 * time.Minute // for a program to be there, on a busy machine
	lookEvery   = 50 * time.Millisecond
	stopTime    = 20 * time.Second
	runtimeName = "k8s.io" // containerd's namespace of the kubelet's containers
)

// cluster is Kubernetes on one node: etcd, API server, kubelet and containerd, all on loopback, all
// below one directory. There is no pod network, so pods use the node's, and no controller, so pods are
// made by the tests.
type cluster struct {
	dir      string
	programs string // where kubelet, kube-apiserver and kubectl are
	client   *kubernetes.Clientset
	url      string
	kubelet  *background
}

// newCluster starts a cluster. The test is skipped unless it was asked for, and fails where it was and cannot be.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("E2E") == "" {
		t.Skip("set E2E=1 (make e2e-k8s) to try the manifests in a cluster")
	}
	if os.Geteuid() != 0 {
		t.Fatal("a cluster is not tried: containers need root")
	}
	for program, pkg := range map[string]string{"containerd": "containerd", "ctr": "containerd", "runc": "runc", "etcd": "etcd-server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("a cluster is not tried: %s is missing (apt-get install %s)", program, pkg)
		}
	}
	if pods := otherPods(t); pods != "" {
		t.Fatalf("a cluster is not tried: another kubelet runs pods here (%s), which ours would end", pods)
	}
	c := &cluster{dir: shortDir(t), programs: kubernetesPrograms(t)}
	etcd := c.startEtcd(t)
	c.startAPIServer(t, etcd)
	c.startContainerd(t)
	c.importImages(t)
	c.startKubelet(t)
	return c
}

// otherPods returns the control group of a pod that runs on this machine: kubelets clean up what they
// do not know.
func otherPods(t *testing.T) string {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cgroup")
	must(t, err)
	for _, process := range processes {
		groups, err := os.ReadFile(process)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(groups)) {
			if strings.Contains(line, "/kubepods") {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// shortDir is for sockets, whose paths must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kube")
	must(t, err)
	t.Cleanup(func() { removeMounted(t, dir) })
	return dir
}

// removeMounted removes a directory with mounts in it.
func removeMounted(t *testing.T, dir string) {
	t.Helper()
	mounts := strings.Split(read(t, "/proc/self/mounts"), "\n")
	slices.Reverse(mounts)
	for _, line := range mounts {
		fields := strings.Fields(line)
		if len(fields) > 1 && (fields[1] == dir || strings.HasPrefix(fields[1], dir+"/")) {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("removing the cluster: %v", err)
	}
}

// kubernetesPrograms builds Kubernetes' programs where they are not there yet.
func kubernetesPrograms(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "./build-kubernetes.sh")
	cmd.Stderr = os.Stderr // it takes minutes, so it says what it does
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// background is a program that runs until the test ends.
type background struct {
	*exec.Cmd
	ended chan struct{}
}

// start starts a program with a log in the cluster's directory, which the test shows if it fails.
func (c *cluster) start(t *testing.T, program string, args ...string) *background {
	t.Helper()
	name := filepath.Base(program)
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.SysProcAttr = log, log, c.dir, &syscall.SysProcAttr{Setpgid: true}
	b := run(t, cmd)
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, tail(read(t, log.Name()), 40))
		}
	})
	return b
}

func run(t *testing.T, cmd *exec.Cmd) *background {
	t.Helper()
	b := &background{Cmd: cmd, ended: make(chan struct{})}
	must(t, b.Start())
	go func() {
		defer close(b.ended)
		_ = b.Wait()
	}()
	return b
}

func (b *background) stop() {
	_ = b.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(stopTime):
		_ = b.Process.Kill()
		<-b.ended
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// until waits for something, and fails the test when it does not come.
func until(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited %s in vain for %s", limit, what)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (c *cluster) startEtcd(t *testing.T) (url string) {
	t.Helper()
	url = fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	c.start(t, "etcd", "--data-dir", filepath.Join(c.dir, "etcd"),
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	return url
}

func (c *cluster) startAPIServer(t *testing.T, etcd string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	signing, tokens := filepath.Join(c.dir, "signing.key"), filepath.Join(c.dir, "tokens.csv")
	write(t, signing, string(pem.EncodeToMemory(block)))
	write(t, tokens, adminToken+",admin,admin,system:masters\n")
	port := freePort(t)
	c.url = fmt.Sprintf("https://127.0.0.1:%d", port)
	c.start(t, filepath.Join(c.programs, "kube-apiserver"), "--etcd-servers="+etcd,
		fmt.Sprintf("--secure-port=%d", port), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--external-hostname=localhost", "--cert-dir="+filepath.Join(c.dir, "certificates"),
		"--service-account-issuer="+issuer, "--service-account-key-file="+signing, "--service-account-signing-key-file="+signing,
		"--service-cluster-ip-range=10.0.0.0/24", "--token-auth-file="+tokens, "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=PodSecurity", "--endpoint-reconciler-type=none")
	// The server makes its certificate by itself, so there is none to trust beforehand.
	c.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: c.url, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1,
	})
	must(t, err)
	until(t, "the API server", startTime, func() bool {
		body, err := c.client.RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		return err == nil && string(body) == "ok"
	})
	until(t, "the namespace default", startTime, func() bool {
		_, err := c.client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	c.serviceAccount(t, "default", "default")
	write(t, c.kubeconfig(), fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{ name: test, cluster: { server: %q, insecure-skip-tls-verify: true } }]
users: [{ name: admin, user: { token: %s } }]
contexts: [{ name: test, context: { cluster: test, user: admin } }]
current-context: test
`, c.url, adminToken))
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// serviceAccount makes a service account, which no controller does here.
func (c *cluster) serviceAccount(t *testing.T, namespace, name string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := c.client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{})
	must(t, err)
}

// fill copies a file of testdata/cluster into the cluster's directory.
func (c *cluster) fill(t *testing.T, name string, more ...string) (path string) {
	t.Helper()
	path = filepath.Join(c.dir, name)
	replace := strings.NewReplacer(append([]string{"DIR", c.dir}, more...)...)
	write(t, path, replace.Replace(read(t, filepath.Join("testdata", "cluster", name))))
	return path
}

func (c *cluster) startContainerd(t *testing.T) {
	t.Helper()
	c.start(t, "containerd", "--config", c.fill(t, "containerd.toml"))
	until(t, "containerd", startTime, func() bool { return c.ctr(t, "version") == nil })
}

// ctr runs containerd's own client.
func (c *cluster) ctr(t *testing.T, args ...string) error {
	_, err := c.ctrOutput(t, args...)
	return err
}

func (c *cluster) ctrOutput(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--address", filepath.Join(c.dir, "containerd.sock"), "--namespace", runtimeName}, args...)
	cmd := exec.CommandContext(t.Context(), "ctr", args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ctr %v: %w: %s", args, err, &problems)
	}
	return string(out), err
}

func (c *cluster) importImages(t *testing.T) {
	t.Helper()
	app := filepath.Join(binaries, "app")
	must(t, agentprocess.Build("test", "./kubetest/testdata/app", app))
	for reference, program := range map[string]string{appImage: app, ourImage: credagent(t)} {
		archive := filepath.Join(t.TempDir(), "image.tar")
		writeImage(t, archive, reference, program)
		must(t, c.ctr(t, "images", "import", archive))
	}
}

func (c *cluster) startKubelet(t *testing.T) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(c.dir, "kubelet"), 0o700))
	c.fill(t, "kubelet.yaml", "PORT", fmt.Sprint(freePort(t)))
	c.kubelet = c.start(t, filepath.Join(c.programs, "kubelet"), "--config="+filepath.Join(c.dir, "kubelet.yaml"), "--root-dir="+filepath.Join(c.dir, "kubelet"),
		"--cert-dir="+filepath.Join(c.dir, "kubelet-certificates"), "--hostname-override="+nodeName, "--kubeconfig="+c.kubeconfig())
	until(t, "the node", startTime, func() bool {
		_, err := c.client.CoreV1().Nodes().Get(t.Context(), nodeName, metav1.GetOptions{})
		return err == nil
	})
	t.Cleanup(func() { c.kubelet.stop() })
	t.Cleanup(func() { c.removePods(t) })
}

// restartKubelet ends the kubelet and starts it again, until the whole cluster ends.
func (c *cluster) restartKubelet(t *testing.T) {
	t.Helper()
	c.kubelet.stop()
	again := exec.Command(c.kubelet.Path, c.kubelet.Args[1:]...)
	log, err := os.OpenFile(filepath.Join(c.dir, "kubelet.log"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer log.Close()
	again.Stdout, again.Stderr, again.Dir, again.SysProcAttr = log, log, c.dir, &syscall.SysProcAttr{Setpgid: true}
	c.kubelet = run(t, again)
}

// removePods lets the kubelet end every pod while it is still there.
func (c *cluster) removePods(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopTime)
	defer cancel()
	pods := c.client.CoreV1().Pods(metav1.NamespaceAll)
	all, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Errorf("listing pods: %v", err)
		return
	}
	for _, p := range all.Items {
		_ = c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{})
	}
	for len(all.Items) > 0 && err == nil {
		all, err = pods.List(ctx, metav1.ListOptions{})
	}
	if err != nil {
		t.Errorf("waiting for the pods' end: %v", err)
	}
}
