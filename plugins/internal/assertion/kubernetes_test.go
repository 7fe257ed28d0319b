package assertion

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

// podToken is the token by which the pod of these tests asks.
func podToken() string {
	return signed("RS256", `{"sub":"system:serviceaccount:shop:payments","kubernetes.io":{"namespace":"shop","pod":{"name":"web-0","uid":"4711"},"serviceaccount":{"name":"payments","uid":"0815"}}}`)
}

// pod is a host as the kubelet makes it, whose API server is the platform.
func pod(t *testing.T, p *platform) host {
	t.Helper()
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	h := variables(map[string]string{kubernetesHost: at.Hostname(), kubernetesPort: at.Port()})
	h.account = t.TempDir()
	put(t, h, "token", podToken())
	put(t, h, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	return h
}

func put(t *testing.T, h host, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.account, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKubernetes(t *testing.T) {
	kind := servedKinds()["kubernetes"]
	p := newSecurePlatform(t, kind.good(token(time.Hour)))
	h := pod(t, p)
	source := opened(t, h, kind.config)
	if _, err := source.JWT(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := p.asked[0]
	if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/shop/serviceaccounts/payments/token" || r.Header.Get("Authorization") != "Bearer "+podToken() {
		t.Errorf("it was asked %s %s, %v", r.Method, r.URL, r.Header)
	}
	const want = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["https://login.example.com"],"expirationSeconds":600,"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"web-0","uid":"4711"}}}`
	if body, _ := io.ReadAll(r.Body); string(body) != want {
		t.Errorf("it was asked for %s", body)
	}
	// The kubelet replaces the token, and may replace the roots.
	put(t, h, "token", signed("RS256", `{"sub":"system:serviceaccount:shop:other"}`)+"\n")
	if _, err := source.JWT(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = p.asked[1]
	body, _ := io.ReadAll(r.Body)
	var asked struct{ Spec map[string]any }
	if err := json.Unmarshal(body, &asked); err != nil || asked.Spec["boundObjectRef"] != nil || r.URL.Path != "/api/v1/namespaces/shop/serviceaccounts/other/token" {
		t.Errorf("it was asked %s for %s", r.URL, body)
	}
}

func TestKubernetesElsewhere(t *testing.T) {
	kind := servedKinds()["kubernetes"]
	p := newSecurePlatform(t, kind.good(token(time.Hour)))
	key := credtest.Key("P-256")
	otherRoot := credtest.CertificatesPEM(credtest.Issue("other", key, nil, key))
	for name, tc := range map[string]struct {
		spoil func(h *host)
		want  string
	}{
		"no pod":         {func(h *host) { h.getenv = variables(nil).getenv }, "this is no pod"},
		"no account":     {func(h *host) { h.account = filepath.Join(h.account, "no") }, "the pod's own token"},
		"no token":       {func(h *host) { put(t, *h, "token", "") }, "it is empty"},
		"no JWT":         {func(h *host) { put(t, *h, "token", "canary-token") }, "it is not a signed JWT"},
		"no claims":      {func(h *host) { put(t, *h, "token", signed("RS256", "canary-claims")) }, "it is not a signed JWT"},
		"another's":      {func(h *host) { put(t, *h, "token", signed("RS256", `{"sub":"canary-user"}`)) }, "its subject names none"},
		"half a subject": {func(h *host) { put(t, *h, "token", signed("RS256", `{"sub":"system:serviceaccount:shop:"}`)) }, "its subject names none"},
		"no roots":       {func(h *host) { put(t, *h, "ca.crt", "canary-roots") }, "certificate"},
		"other roots":    {func(h *host) { put(t, *h, "ca.crt", string(otherRoot)) }, "certificate"},
		"link-local": {func(h *host) {
			h.getenv = variables(map[string]string{kubernetesHost: "169.254.169.254", kubernetesPort: "443"}).getenv
		}, "link-local"},
	} {
		t.Run(name, func(t *testing.T) {
			h := pod(t, p)
			tc.spoil(&h)
			fails(t, opened(t, h, kind.config), tc.want, podToken())
		})
	}
	if len(p.asked) != 0 {
		t.Errorf("it was asked %d times", len(p.asked))
	}
}

func TestKubernetesAnswers(t *testing.T) {
	kind := servedKinds()["kubernetes"]
	for name, tc := range map[string]struct{ answer, want string }{
		"another audience": {`{"spec":{"audiences":["https://elsewhere.example"]},"status":{"token":"` + token(time.Hour) + `"}}`, "for another audience"},
		"expired":          {`{"status":{"token":"` + token(time.Hour) + `","expirationTimestamp":"2001-02-03T04:05:06Z"}}`, "expired at 2001-02-03T04:05:06Z"},
		"no date":          {`{"status":{"token":"` + token(time.Hour) + `","expirationTimestamp":"canary-date"}}`, "not the JSON"},
		"no status":        {`{}`, "an empty token"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSecurePlatform(t, answering(201, tc.answer))
			fails(t, opened(t, pod(t, p), kind.config), tc.want)
		})
	}
}
