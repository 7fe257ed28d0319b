//go:build linux

package kubetest_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/credagent/credagent/internal/devserver"
)

const (
	podTime      = 90 * time.Second // for a pod to be there, on a busy machine
	rotationTime = 3 * time.Minute  // for the kubelet to hand a changed Secret on
	promised     = 20 * time.Second // for credagent to prove a changed certificate
	longLife     = time.Hour        // of a token that is not refreshed during a test
)

// TestCluster tries the manifests in a cluster. Its parts follow each other, as there is one node.
func TestCluster(t *testing.T) {
	c := newCluster(t)
	for _, part := range []struct {
		name string
		try  func(*testing.T, *cluster)
	}{
		{"admission", tryAdmission},
		{"document", tryDocument},
		{"init container", tryInit},
		{"refused credential", tryRefused},
		{"sidecar", trySidecar},
		{"rotation", tryRotation},
		{"job", tryJob},
		{"workload identity", tryWorkloadIdentity},
		{"node", tryNode},
		{"time to start", tryTimeToStart},
	} {
		t.Run(part.name, func(t *testing.T) { part.try(t, c) })
	}
}

// stage is a namespace with what a directory's pods need, and the server that they ask.
type stage struct {
	*cluster
	namespace   string
	server      *devserver.Server
	certificate *x509.Certificate
	listen      int // the port of credagent's probes
}

// newStage makes a namespace. Its pods use the node's network, which Pod Security forbids in any but
// privileged ones; what the manifests themselves ask for is tried by tryAdmission.
func newStage(t *testing.T, c *cluster, namespace string, life time.Duration) *stage {
	t.Helper()
	s := &stage{cluster: c, namespace: namespace, listen: freePort(t)}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), space, metav1.CreateOptions{})
	must(t, err)
	c.serviceAccount(t, namespace, "default")
	s.server, err = devserver.New(devserver.Options{TTL: life})
	must(t, err)
	must(t, s.server.Start())
	t.Cleanup(func() { _ = s.server.Close() })
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyEC, 365*24*time.Hour)
	must(t, err)
	s.certificate = parsed
	s.server.SetClient(devserver.Client{ID: "app", Certificates: []*x509.Certificate{parsed}})
	s.secret(t, "credagent-certificate", map[string][]byte{"tls.crt": certificate, "tls.key": key})
	stateKey, err := exec.CommandContext(t.Context(), credagent(t), "keygen").Output()
	must(t, err)
	s.secret(t, "credagent-state-key", map[string][]byte{"state-key": stateKey})
	return s
}

func (s *stage) secret(t *testing.T, name string, data map[string][]byte) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
	_, err := s.client.CoreV1().Secrets(s.namespace).Create(t.Context(), secret, metav1.CreateOptions{})
	must(t, err)
}

// apply makes a directory's ConfigMap and service account, with the test's server in place of the
// example's, and returns a pod of its workload, changed as little as a node without a network wants.
func (s *stage) apply(t *testing.T, dir string) *corev1.Pod {
	t.Helper()
	for _, object := range objects(t, dir) {
		switch o := object.(type) {
		case *corev1.ConfigMap:
			text := strings.ReplaceAll(o.Data["credagent.yaml"], "https://login.example.com", s.server.URL())
			o.Namespace = s.namespace
			o.Data["credagent.yaml"] = strings.ReplaceAll(text, `":9465"`, fmt.Sprintf("127.0.0.1:%d", s.listen))
			_, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(t.Context(), o, metav1.CreateOptions{})
			must(t, err)
		case *corev1.ServiceAccount:
			_, err := s.client.CoreV1().ServiceAccounts(s.namespace).Create(t.Context(), o, metav1.CreateOptions{})
			must(t, err)
		}
	}
	template := workload(t, dir)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: dir, Labels: template.meta.Labels}, Spec: template.spec}
	p.Spec.NodeName, p.Spec.HostNetwork, p.Spec.DNSPolicy = nodeName, true, corev1.DNSDefault
	p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} // the node has no network, so it is not ready
	p.Spec.TerminationGracePeriodSeconds = new(int64(5))
	for i := range p.Spec.InitContainers {
		s.adapt(&p.Spec.InitContainers[i])
	}
	for i := range p.Spec.Containers {
		s.adapt(&p.Spec.Containers[i])
	}
	return p
}

func (s *stage) adapt(c *corev1.Container) {
	c.ImagePullPolicy = corev1.PullNever
	if c.Image = ourImage; c.Name == "app" || c.Name == "work" {
		c.Image = appImage
	}
	if c.Name == "app" {
		c.Args = []string{"app"}
	}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe != nil {
			probe.HTTPGet.Host, probe.HTTPGet.Port = "127.0.0.1", intstr.FromInt(s.listen)
		}
	}
	c.Ports = nil // of the node, with its network
}

func (s *stage) create(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	made, err := s.client.CoreV1().Pods(s.namespace).Create(t.Context(), p, metav1.CreateOptions{})
	must(t, err)
	return made
}

func (s *stage) pod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	p, err := s.client.CoreV1().Pods(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
	must(t, err)
	return p
}

// delete ends a pod and waits until it is gone. What its containers wrote stays.
func (s *stage) delete(t *testing.T, name string) {
	t.Helper()
	for _, log := range s.logs(t, s.pod(t, name), "*") {
		kept := filepath.Join(s.dir, "kept", strings.TrimPrefix(log, s.dir))
		must(t, os.MkdirAll(filepath.Dir(kept), 0o700))
		must(t, os.Link(log, kept)) // the kubelet removes the other name
	}
	must(t, s.client.CoreV1().Pods(s.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}))
	until(t, "the end of the pod", podTime, func() bool {
		_, err := s.client.CoreV1().Pods(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err != nil
	})
}

// run makes a pod and waits until it is ready.
func (s *stage) run(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	s.create(t, p)
	t.Cleanup(func() { s.explain(t, p.Name) })
	until(t, "the pod to be ready", podTime, func() bool { return ready(s.pod(t, p.Name)) })
	return s.pod(t, p.Name)
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// explain shows how a pod's containers are and what they wrote, when the test has failed.
func (s *stage) explain(t *testing.T, name string) {
	if !t.Failed() {
		return
	}
	if p, err := s.client.CoreV1().Pods(s.namespace).Get(context.WithoutCancel(t.Context()), name, metav1.GetOptions{}); err == nil {
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			t.Logf("%s is in the state %s", c.Name, encode(t, c.State))
		}
	}
	logs, _ := filepath.Glob(filepath.Join(s.dir, "logs", "pods", s.namespace+"_"+name+"_*", "*", "*.log"))
	for _, log := range logs {
		t.Logf("%s:\n%s", log, tail(read(t, log), 30))
	}
}

// status returns what the kubelet says of a container.
func status(t *testing.T, p *corev1.Pod, container string) corev1.ContainerStatus {
	t.Helper()
	all := slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
	at := slices.IndexFunc(all, func(s corev1.ContainerStatus) bool { return s.Name == container })
	if at < 0 {
		t.Fatalf("the pod has no status of a container %s: %+v", container, all)
	}
	return all[at]
}

// line is one line that a container wrote, with the time of containerd.
type line struct {
	at   time.Time
	text string
}

// logs returns the files with what a container wrote, one for each of its lives.
func (s *stage) logs(t *testing.T, p *corev1.Pod, container string) []string {
	t.Helper()
	pattern := filepath.Join("logs", "pods", fmt.Sprintf("%s_%s_%s", s.namespace, p.Name, p.UID), container, "*.log")
	for _, dir := range []string{"kept", "."} {
		files, err := filepath.Glob(filepath.Join(s.dir, dir, pattern))
		must(t, err)
		if len(files) > 0 {
			return files
		}
	}
	return nil
}

// lines returns what a container wrote in all its lives.
func (s *stage) lines(t *testing.T, p *corev1.Pod, container string) []line {
	t.Helper()
	var all []line
	for _, file := range s.logs(t, p, container) {
		scanner := bufio.NewScanner(strings.NewReader(read(t, file)))
		for scanner.Scan() {
			fields := strings.SplitN(scanner.Text(), " ", 4) // time, stream, whether whole, text
			at, err := time.Parse(time.RFC3339Nano, fields[0])
			must(t, err)
			all = append(all, line{at, fields[3]})
		}
	}
	return all
}

// report is what the application says of what it saw: see testdata/app.
type report struct {
	Event  string
	At     time.Time
	UID    int
	Groups []int
	Root   string
	Files  string
	Token  string
	Reads  int
	Bad    []string
	Tokens int
	Status int
}

// reports returns the application's reports of one event.
func (s *stage) reports(t *testing.T, p *corev1.Pod, container, event string) []report {
	t.Helper()
	var all []report
	for _, l := range s.lines(t, p, container) {
		var r report
		if err := json.Unmarshal([]byte(l.text), &r); err != nil {
			t.Errorf("the application says %q", l.text)
		}
		if r.Event == event {
			all = append(all, r)
		}
	}
	return all
}

// started returns the application's report of its start, which it makes soon after.
func (s *stage) started(t *testing.T, p *corev1.Pod, container string) report {
	t.Helper()
	until(t, "the application's report", podTime, func() bool { return len(s.reports(t, p, container, "started")) > 0 })
	return s.reports(t, p, container, "started")[0]
}

// pid returns the process of a running container.
func (s *stage) pid(t *testing.T, p *corev1.Pod, container string) int {
	t.Helper()
	_, id, _ := strings.Cut(status(t, p, container).ContainerID, "://")
	tasks, err := s.ctrOutput(t, "tasks", "list")
	must(t, err)
	for row := range strings.Lines(tasks) {
		if fields := strings.Fields(row); len(fields) == 3 && fields[0] == id {
			pid, err := strconv.Atoi(fields[1])
			must(t, err)
			return pid
		}
	}
	t.Fatalf("containerd runs no container %s:\n%s", id, tasks)
	return 0
}

// volume is where a pod's volume is on the node.
func (s *stage) volume(p *corev1.Pod, plugin, name string) string {
	return filepath.Join(s.dir, "kubelet", "pods", string(p.UID), "volumes", "kubernetes.io~"+plugin, name)
}

// wantRequests compares the outcomes of the requests that the server saw.
func (s *stage) wantRequests(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, request := range s.server.Requests() {
		got = append(got, request.Outcome)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the server saw the requests %q, want %q", got, want)
	}
	if n := s.server.RetryAfterViolations(); n != 0 {
		t.Errorf("%d requests came before the server allowed them", n)
	}
}
