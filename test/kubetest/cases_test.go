//go:build linux

package kubetest_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/credagent/credagent/internal/devserver"
)

// tryAdmission has the API server judge every manifest as it is: its types, strictly, and, in a
// namespace that enforces the profile restricted, its pods.
func tryAdmission(t *testing.T, c *cluster) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "restricted", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}}
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), space, metav1.CreateOptions{})
	must(t, err)
	c.serviceAccount(t, space.Name, "default")
	for _, dir := range workloads() {
		for _, text := range render(t, dir) {
			object, err := decode(t, text)
			must(t, err)
			kind := object.GetObjectKind().GroupVersionKind()
			if err := c.dryRun(t, space.Name, kind, text); err != nil {
				t.Errorf("%s: the API server refuses the %s: %v", dir, kind.Kind, err)
			}
		}
		template := workload(t, dir)
		template.spec.ServiceAccountName, template.spec.PriorityClassName = "", "" // they are not there in a dry run
		err := c.dryRun(t, space.Name, schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, encode(t, &corev1.Pod{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: dir}, Spec: podSpec(template),
		}))
		switch {
		case dir == "node" && (err == nil || !strings.Contains(err.Error(), "hostPath") || strings.Contains(err.Error(), "must set")):
			t.Errorf("node: a directory of the node is all that a restricted namespace may mind, but: %v", err)
		case dir != "node" && err != nil:
			t.Errorf("%s: Pod Security refuses the pod: %v", dir, err)
		}
	}
}

func podSpec(p pod) corev1.PodSpec {
	spec := p.spec
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return spec
}

// dryRun asks the API server what it would say of an object.
func (c *cluster) dryRun(t *testing.T, namespace string, kind schema.GroupVersionKind, object []byte) error {
	t.Helper()
	path := "/api/v1"
	if kind.Group != "" {
		path = "/apis/" + kind.Group + "/" + kind.Version
	}
	if kind.Kind != "Namespace" {
		path += "/namespaces/" + namespace
	}
	plural := strings.ToLower(kind.Kind) + "s"
	plural = strings.Replace(plural, "policys", "policies", 1)
	contentType := "application/yaml"
	if json.Valid(object) {
		contentType = "application/json"
	}
	object = regexp.MustCompile(`(?m)^  namespace: .*\n`).ReplaceAll(object, nil)
	return c.client.RESTClient().Post().AbsPath(path, plural).Param("dryRun", "All").Param("fieldValidation", "Strict").
		SetHeader("Content-Type", contentType).Body(object).Do(t.Context()).Error()
}

func tryInit(t *testing.T, c *cluster) {
	s := newStage(t, c, "init", longLife)
	p := s.run(t, s.apply(t, "init"))
	start := s.started(t, p, "app")
	if len(start.Bad) > 0 {
		t.Errorf("the application starts without its token: %v", start.Bad)
	}
	if done := status(t, p, "credagent-once").State.Terminated; done == nil || done.ExitCode != 0 {
		t.Errorf("the init container is in the state %+v", done)
	}
	s.wantRequests(t, "issued")
	s.delete(t, p.Name)
}

// tryRefused registers another certificate: the rollout must fail visibly, and without a storm.
func tryRefused(t *testing.T, c *cluster) {
	s := newStage(t, c, "refused", longLife)
	_, _, other, err := devserver.NewCertificate("app", devserver.KeyEC, time.Hour)
	must(t, err)
	s.server.SetClient(devserver.Client{ID: "app", Certificates: []*x509.Certificate{other}})
	p := s.apply(t, "sidecar")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	s.create(t, p)
	t.Cleanup(func() { s.explain(t, p.Name) })
	until(t, "the pod to fail", podTime, func() bool { return s.pod(t, p.Name).Status.Phase == corev1.PodFailed })
	if done := status(t, s.pod(t, p.Name), "credagent-once").State.Terminated; done == nil || done.ExitCode != 77 {
		t.Errorf("the init container ends in the state %+v, want the status 77", done)
	}
	s.wantRequests(t, "invalid_client")
	s.delete(t, p.Name)
}

func trySidecar(t *testing.T, c *cluster) {
	s := newStage(t, c, "sidecar", longLife)
	p := s.run(t, s.apply(t, "sidecar"))
	start := s.started(t, p, "app")
	if len(start.Bad) > 0 {
		t.Errorf("the application starts without its token: %v", start.Bad)
	}
	s.wantRequests(t, "issued") // by the init container, for the sidecar too
	checkOrder(t, s, p, start)
	checkConfinement(t, s, p, start)
	checkMemory(t, s, p)

	killSidecar(t, s, p, 1)
	s.wantRequests(t, "issued") // the sidecar remembered it
	// A new kubelet sets the volumes up again; their directories must stay as credagent wants them.
	s.restartKubelet(t)
	killSidecar(t, s, p, 2)
	s.wantRequests(t, "issued")
	if n := status(t, s.pod(t, p.Name), "app").RestartCount; n != 0 {
		t.Errorf("the application was started again %d times with it", n)
	}
	checkEnd(t, s, p)

	again := s.run(t, s.reapply(t, "sidecar"))
	if second := s.started(t, again, "app"); len(second.Bad) > 0 || second.Token == start.Token {
		t.Errorf("a new pod starts with another pod's token, or none: %+v", second)
	}
	s.wantRequests(t, "issued", "issued")
	s.delete(t, again.Name)
}

// killSidecar kills the sidecar's process and waits until it is back, for the restarts-th time.
func killSidecar(t *testing.T, s *stage, p *corev1.Pod, restarts int32) {
	t.Helper()
	must(t, syscall.Kill(s.pid(t, s.pod(t, p.Name), "credagent"), syscall.SIGKILL))
	until(t, "the sidecar to be started again", podTime, func() bool {
		now := s.pod(t, p.Name)
		again := status(t, now, "credagent")
		return again.RestartCount == restarts && again.Ready && ready(now)
	})
}

// reapply is apply for a directory whose ConfigMap is there already.
func (s *stage) reapply(t *testing.T, dir string) *corev1.Pod {
	t.Helper()
	must(t, s.client.CoreV1().ConfigMaps(s.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	return s.apply(t, dir)
}

// checkOrder compares when the containers of a pod were there.
func checkOrder(t *testing.T, s *stage, p *corev1.Pod, start report) {
	t.Helper()
	once, sidecar := status(t, p, "credagent-once").State.Terminated, status(t, p, "credagent").State.Running
	if once == nil || once.ExitCode != 0 || sidecar == nil || sidecar.StartedAt.Time.Before(once.FinishedAt.Time) {
		t.Fatalf("the init container is in the state %+v, the sidecar in %+v", once, sidecar)
	}
	at := slices.IndexFunc(s.lines(t, p, "credagent"), func(l line) bool { return strings.Contains(l.text, `"ready: every token`) })
	if at < 0 {
		t.Fatal("the sidecar does not say that it is ready")
	}
	if ready := s.lines(t, p, "credagent")[at].at; start.At.Before(ready) {
		t.Errorf("the application started at %s, before the sidecar was ready at %s", start.At, ready)
	}
}

// checkConfinement looks at what the containers may do, from inside and from the kernel's side.
func checkConfinement(t *testing.T, s *stage, p *corev1.Pod, start report) {
	t.Helper()
	if start.UID != 65532 || !strings.Contains(start.Root, "read-only file system") {
		t.Errorf("the application has the uid %d, and writing to its root: %s", start.UID, start.Root)
	}
	if !strings.Contains(start.Files, "-rw-r----- /run/credagent/tokens/api.header\n") {
		t.Errorf("the application sees the files\n%s", start.Files)
	}
	var statfs syscall.Statfs_t
	must(t, syscall.Statfs(s.volume(p, "empty-dir", "tokens"), &statfs))
	if statfs.Type != 0x01021994 {
		t.Errorf("the tokens are on a file system of the type %#x, not in memory", statfs.Type)
	}
	kernel := read(t, fmt.Sprintf("/proc/%d/status", s.pid(t, p, "credagent")))
	for _, want := range []string{"Uid:\t65532\t65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(kernel, want) {
			t.Errorf("the kernel does not say %q of the sidecar:\n%s", want, kernel)
		}
	}
}

// checkMemory compares the most memory that the sidecar had with its limit, which the manifest promises
// to be twice as much at least.
func checkMemory(t *testing.T, s *stage, p *corev1.Pod) {
	t.Helper()
	pid := s.pid(t, p, "credagent")
	match := regexp.MustCompile(`(?m)^\d+:memory:(.*)$`).FindStringSubmatch(read(t, fmt.Sprintf("/proc/%d/cgroup", pid)))
	file := ""
	if match != nil {
		file = filepath.Join("/sys/fs/cgroup/memory", match[1], "memory.max_usage_in_bytes")
	}
	if _, err := os.Stat(file); err != nil {
		t.Logf("the kernel does not say how much memory the sidecar had: %v", err)
		return
	}
	most, err := strconv.Atoi(strings.TrimSpace(read(t, file)))
	must(t, err)
	t.Logf("the sidecar had at most %.1f MiB", float64(most)/(1<<20))
	at := slices.IndexFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "credagent" })
	if limit := p.Spec.InitContainers[at].Resources.Limits.Memory().Value(); int64(most) > limit/2 {
		t.Errorf("the sidecar had %d bytes, more than half of its limit, %d", most, limit)
	}
}

// checkEnd deletes a pod: the sidecar stays until the application is gone, which never saw a bad file.
func checkEnd(t *testing.T, s *stage, p *corev1.Pod) {
	t.Helper()
	s.delete(t, p.Name)
	ends := s.reports(t, p, "app", "stopped")
	if len(ends) != 1 || ends[0].Reads == 0 || len(ends[0].Bad) > 0 || ends[0].Tokens != 1 {
		t.Fatalf("the application ends with the report %+v", ends)
	}
	lines := s.lines(t, p, "credagent")
	if last := lines[len(lines)-1]; !strings.Contains(last.text, "agent stopped") || last.at.Before(ends[0].At) {
		t.Errorf("the sidecar stopped at %s (%q), the application at %s", last.at, last.text, ends[0].At)
	}
}

// tryRotation replaces the Secret. The kubelet swaps the directory of the volume; credagent proves the
// new certificate while the old token is still good.
func tryRotation(t *testing.T, c *cluster) {
	s := newStage(t, c, "rotation", longLife)
	p := s.apply(t, "sidecar")
	p.Spec.Containers = append(p.Spec.Containers, withSubPath(p.Spec.Containers[0]))
	p = s.run(t, p)
	s.started(t, p, "app")
	s.started(t, p, "subpath")
	certificate, key, parsed, err := devserver.NewCertificate("app", devserver.KeyEC, 365*24*time.Hour)
	must(t, err)
	s.server.SetClient(devserver.Client{ID: "app", Certificates: []*x509.Certificate{s.certificate, parsed}})
	before := s.server.Requests()
	mounted := filepath.Join(s.volume(p, "secret", "certificate"), "..data")
	old, err := os.Readlink(mounted)
	must(t, err)
	secret, err := s.client.CoreV1().Secrets(s.namespace).Get(t.Context(), "credagent-certificate", metav1.GetOptions{})
	must(t, err)
	secret.Data = map[string][]byte{"tls.crt": certificate, "tls.key": key}
	replaced := time.Now()
	_, err = s.client.CoreV1().Secrets(s.namespace).Update(t.Context(), secret, metav1.UpdateOptions{})
	must(t, err)
	until(t, "the kubelet's swap", rotationTime, func() bool {
		now, err := os.Readlink(mounted)
		return err == nil && now != old
	})
	swapped := time.Now()
	until(t, "the proof of the new certificate", promised, func() bool { return len(s.server.Requests()) > len(before) })
	proof := s.server.Requests()[len(before)]
	t.Logf("swapped %.1f s after the Secret was replaced, proved %.1f s after that", swapped.Sub(replaced).Seconds(), proof.At.Sub(swapped).Seconds())
	if proof.Outcome != "issued" || proof.KeyID == before[0].KeyID {
		t.Errorf("the new certificate was proved by %+v", proof)
	}
	until(t, "the application to see the new token", promised, func() bool { return len(s.reports(t, p, "app", "token")) == 2 })
	checkMemory(t, s, p)
	s.delete(t, p.Name)
	for container, tokens := range map[string]int{"app": 2, "subpath": 1} {
		end := s.reports(t, p, container, "stopped")
		if len(end) != 1 || len(end[0].Bad) > 0 || end[0].Tokens != tokens {
			t.Errorf("%s ends with the report %+v, want %d tokens seen", container, end, tokens)
		}
	}
	s.wantRequests(t, "issued", "issued")
}

// withSubPath is an application that mounts the file alone, which is the mistake that the document warns
// of: it never sees another token.
func withSubPath(app corev1.Container) corev1.Container {
	app.Name = "subpath"
	app.VolumeMounts = []corev1.VolumeMount{{
		Name: "tokens", MountPath: "/run/credagent/tokens/api.header", SubPath: "tokens/api.header", ReadOnly: true,
	}}
	return app
}

// tryJob runs a job that wants to see three tokens: the sidecar keeps them coming, and ends with it.
func tryJob(t *testing.T, c *cluster) {
	s := newStage(t, c, "job", 12*time.Second)
	p := s.apply(t, "job")
	s.create(t, p)
	t.Cleanup(func() { s.explain(t, p.Name) })
	until(t, "the job to be done", podTime, func() bool { return s.pod(t, p.Name).Status.Phase == corev1.PodSucceeded })
	p = s.pod(t, p.Name)
	end := s.reports(t, p, "work", "stopped")
	if len(end) != 1 || len(end[0].Bad) > 0 || end[0].Tokens < 3 {
		t.Errorf("the job ends with the report %+v", end)
	}
	if sidecar := status(t, p, "credagent").State.Terminated; sidecar == nil || sidecar.ExitCode != 0 {
		t.Errorf("the sidecar ends in the state %+v", sidecar)
	}
	s.delete(t, p.Name)
}

// tryWorkloadIdentity authenticates with the pod's service-account token. The server believes the keys
// that the API server publishes, and nothing else.
func tryWorkloadIdentity(t *testing.T, c *cluster) {
	s := newStage(t, c, "identity", longLife)
	published, err := c.client.RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(t.Context())
	must(t, err)
	var keys jose.JSONWebKeySet
	must(t, json.Unmarshal(published, &keys))
	if len(keys.Keys) != 1 {
		t.Fatalf("the API server publishes %d keys, want one", len(keys.Keys))
	}
	s.server.SetClient(devserver.Client{ID: "app", AssertionIssuers: []devserver.AssertionIssuer{{
		Issuer: issuer, Subject: "system:serviceaccount:identity:app", Audience: "api://credagent", Key: keys.Keys[0].Key,
	}}})
	must(t, s.client.CoreV1().Secrets(s.namespace).Delete(t.Context(), "credagent-certificate", metav1.DeleteOptions{}))
	p := s.run(t, s.apply(t, "workload-identity"))
	if start := s.started(t, p, "app"); len(start.Bad) > 0 {
		t.Errorf("the application starts without its token: %v", start.Bad)
	}
	s.wantRequests(t, "issued")
	if method := s.server.Requests()[0].AuthMethod; method != "federated_jwt" {
		t.Errorf("the client authenticated by %s", method)
	}
	s.delete(t, p.Name)
}

// tryNode runs the agent of a node and asks it over its socket, as users that may and that may not.
func tryNode(t *testing.T, c *cluster) {
	s := newStage(t, c, "node", longLife)
	dir := filepath.Join(c.dir, "run-credagent")
	must(t, os.Mkdir(dir, 0o755)) // as the line for tmpfiles.d makes it
	must(t, os.Chown(dir, 65532, 65532))
	agent := s.apply(t, "node")
	for i := range agent.Spec.Volumes {
		if at := agent.Spec.Volumes[i].HostPath; at != nil {
			at.Path = dir
		}
	}
	s.run(t, agent)
	for name, tc := range map[string]struct {
		user   int64
		groups []int64
		status int // 0 for no connection at all
	}{
		"allowed":          {10001, []int64{65532}, 200},
		"another-user":     {10002, []int64{65532}, 403},
		"not-in-the-group": {10001, nil, 0},
	} {
		client := s.create(t, asking(name, dir, tc.user, tc.groups))
		t.Cleanup(func() { s.explain(t, name) })
		until(t, name+" to be done", podTime, func() bool { return s.pod(t, name).Status.Phase == corev1.PodSucceeded })
		answers := s.reports(t, client, "ask", "answered")
		if len(answers) != 1 || answers[0].Status != tc.status {
			t.Errorf("%s gets the answer %+v, want the status %d", name, answers, tc.status)
		}
	}
	s.wantRequests(t, "issued")
	s.delete(t, agent.Name)
}

// asking is a pod that asks the node's agent for the token.
func asking(name, dir string, user int64, groups []int64) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: nodeName, HostNetwork: true, RestartPolicy: corev1.RestartPolicyNever,
		AutomountServiceAccountToken: new(false),
		Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		SecurityContext:              &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user, SupplementalGroups: groups},
		Volumes: []corev1.Volume{{Name: "run", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: dir},
		}}},
		Containers: []corev1.Container{{
			Name: "ask", Image: appImage, ImagePullPolicy: corev1.PullNever, Args: []string{"ask"},
			VolumeMounts: []corev1.VolumeMount{{Name: "run", MountPath: "/run/credagent", ReadOnly: true}},
		}},
	}}
}

const startsMeasured = 5

// tryTimeToStart measures from the making of a pod to the start of its application.
func tryTimeToStart(t *testing.T, c *cluster) {
	s := newStage(t, c, "start", longLife)
	took := map[string]time.Duration{}
	for _, kind := range []string{"without credagent", "init container", "sidecar"} {
		dir := "init"
		if kind == "sidecar" {
			dir = "sidecar"
		}
		var all []time.Duration
		for range startsMeasured {
			p := s.reapply(t, dir)
			if kind == "without credagent" {
				p.Spec.InitContainers, p.Spec.Containers[0].Args = nil, []string{"bare"}
			}
			begin := time.Now()
			p = s.run(t, p)
			all = append(all, s.started(t, p, "app").At.Sub(begin))
			s.delete(t, p.Name)
		}
		slices.Sort(all)
		took[kind] = all[len(all)/2]
		t.Logf("%s: from %.2f s to %.2f s, median %.2f s", kind, all[0].Seconds(), all[len(all)-1].Seconds(), took[kind].Seconds())
	}
	if more := took["sidecar"] - took["without credagent"]; more > podTime/3 {
		t.Errorf("the sidecar puts the application's start off by %s", more)
	}
}

// tryDocument runs the commands of docs/kubernetes.md, in a namespace that enforces the profile
// restricted, and wants no word of warning.
func tryDocument(t *testing.T, c *cluster) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "document", Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
	}}}
	_, err := c.client.CoreV1().Namespaces().Create(t.Context(), space, metav1.CreateOptions{})
	must(t, err)
	dir := layout(t)
	config := filepath.Join(dir, "kubeconfig")
	write(t, config, strings.Replace(read(t, c.kubeconfig()), "user: admin }", "user: admin, namespace: document }", 1))
	path := strings.Join([]string{c.programs, filepath.Dir(credagent(t)), os.Getenv("PATH")}, ":")
	for _, block := range blocks(t, "sh") {
		cmd := exec.CommandContext(t.Context(), "sh", "-exc", block)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + path, "HOME=" + dir, "KUBECONFIG=" + config}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "Warning: would violate") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	deployment, err := c.client.AppsV1().Deployments(space.Name).Get(t.Context(), "app", metav1.GetOptions{})
	must(t, err)
	if len(deployment.Spec.Template.Spec.InitContainers) != 2 {
		t.Errorf("the commands have made a Deployment with %d init containers, want two", len(deployment.Spec.Template.Spec.InitContainers))
	}
	for name, keys := range secrets {
		secret, err := c.client.CoreV1().Secrets(space.Name).Get(t.Context(), name, metav1.GetOptions{})
		must(t, err)
		for _, key := range keys {
			if len(secret.Data[key]) == 0 {
				t.Errorf("the commands have made the Secret %s without %s", name, key)
			}
		}
	}
}
