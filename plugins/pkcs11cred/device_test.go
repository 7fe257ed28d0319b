package pkcs11cred

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

func TestOpenFindsEveryProblem(t *testing.T) {
	const known = ": unknown key; known are assertion_audience, assertion_lifetime, auth_method, certificate_file, certificate_label, environment, key_id, key_label, key_object_id, module, pin_file, pin_guard_dir, scope_in, send_client_id, send_x5c, serial, signing_alg, slot, thumbprint, token_label"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"least": {`{"module":"/m"}`, nil},
		"all": {`{"module":"/m","environment":{"A":"b"},"token_label":"t","serial":"1","slot":0,"key_label":"k","key_object_id":"0x0a:0B","certificate_file":"/c","pin_file":"/p","pin_guard_dir":"/g",
			"auth_method":"tls_client_auth","signing_alg":"ES384","thumbprint":"none","key_id":"k","send_x5c":true,"assertion_audience":"issuer","assertion_lifetime":"1h"}`, nil},
		"nothing":  {`{}`, []string{"module: is needed: the path of the token's PKCS#11 library"}},
		"relative": {`{"module":"m","certificate_file":"c","pin_file":"p","pin_guard_dir":"g"}`, []string{"module: is not an absolute path", "certificate_file: is not an absolute path", "pin_file: is not an absolute path", "pin_guard_dir: is not an absolute path"}},
		"several at once": {`{"modul":"/m","slot":"1","key_object_id":"0g","environment":{"A=":"b"},"thumbprint":"md5","certificate_file":"/c","certificate_label":"l"}`, []string{
			"modul" + known, "slot: is not of the right type", "module: is needed: the path of the token's PKCS#11 library",
			"only one of certificate_file and certificate_label is possible", "key_object_id: is not hexadecimal",
			"environment: holds a name that no environment variable can have", "thumbprint: is none of sha256, sha1, none",
		}},
	} {
		t.Run(name, func(t *testing.T) { credtest.CheckProblems(t, New(), tc.config, tc.want) })
	}
}

func TestFiles(t *testing.T) {
	for want, config := range map[string]map[string]any{
		"":      {"module": "/m"},
		"/p":    {"module": "/m", "pin_file": "/p"},
		"/c /p": {"module": "/m", "pin_file": "/p", "certificate_file": "/c"},
	} {
		if got := strings.Join(credtest.Open(t, New(), config).Files(), " "); got != want {
			t.Errorf("files %q, want %q", got, want)
		}
	}
}

func TestToken(t *testing.T) {
	h := newHSM(t, "ec")
	h.addToken(t, "other")
	p, _ := h.provider(t)
	leaf := h.file(t, h.certify(t, p, "ec", time.Hour))
	var info pkcs11.TokenInfo
	s := credtest.Open(t, p, h.config("ec", nil)).(source)
	err := p.use(t.Context(), s, func(d *device) (err error) {
		info, err = d.library.GetTokenInfo(d.slot)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slot := p.device.slot
	for name, tc := range map[string]struct {
		by   map[string]any
		want string // "" where the token is found
	}{
		"by label":            {map[string]any{"token_label": "hsm"}, ""},
		"by serial":           {map[string]any{"serial": info.SerialNumber}, ""},
		"by slot":             {map[string]any{"slot": slot}, ""},
		"by all":              {map[string]any{"token_label": "hsm", "serial": info.SerialNumber, "slot": slot}, ""},
		"by nothing":          {nil, `2 tokens are meant by token_label, serial and slot, want one; present are: "`},
		"none of that label":  {map[string]any{"token_label": "none"}, `0 tokens are meant by token_label, serial and slot, want one; present are: "`},
		"none of that serial": {map[string]any{"serial": "none"}, "0 tokens are meant"},
		"none in that slot":   {map[string]any{"slot": slot + 1}, "0 tokens are meant"},
		"another's slot":      {map[string]any{"token_label": "other", "slot": slot}, "0 tokens are meant"},
	} {
		t.Run(name, func(t *testing.T) {
			config := h.config("ec", map[string]any{"token_label": nil, "certificate_file": leaf})
			for key, value := range tc.by {
				config[key] = value
			}
			if tc.want == "" {
				credtest.Load(t, p, config)
				return
			}
			fails(t, p, config, tc.want)
			fails(t, p, config, fmt.Sprintf(`"hsm" (serial %q, slot %d)`, info.SerialNumber, slot))
		})
	}
}

func TestModule(t *testing.T) {
	h := newHSM(t)
	for want, module := range map[string]string{
		"no such file or directory": h.path("none.so"),
		"it cannot be loaded; check that it is a PKCS#11 library for this machine": credtest.File(t, "module.so", []byte("no library")),
	} {
		p, _ := h.provider(t)
		config := h.config("ec", map[string]any{"module": module})
		fails(t, p, config, want)
		fails(t, p, config, fmt.Sprintf("using PKCS#11 module %q: ", module))
	}
}

func TestKey(t *testing.T) {
	h := newHSM(t, "ec", "ec384")
	h.addKey(t, "twin", "0a", "EC:prime256v1")
	h.addKey(t, "twin", "0b", "EC:prime256v1")
	p, _ := h.provider(t)
	leaf := h.file(t, h.certify(t, p, "ec", time.Hour))
	const none, several = "no private key on the token is what key_label and key_object_id mean", "more than one private key on the token is what key_label and key_object_id mean"
	for name, tc := range map[string]struct {
		by   map[string]any
		want string
	}{
		"by label":            {map[string]any{"key_label": "ec"}, ""},
		"by id":               {map[string]any{"key_object_id": "02"}, ""},
		"by id with 0x":       {map[string]any{"key_object_id": "0x02"}, ""},
		"by both":             {map[string]any{"key_label": "ec", "key_object_id": "02"}, ""},
		"none of that label":  {map[string]any{"key_label": "none"}, none},
		"none of that id":     {map[string]any{"key_object_id": "ff"}, none},
		"another's id":        {map[string]any{"key_label": "ec", "key_object_id": "03"}, none},
		"by nothing":          {nil, several},
		"twins":               {map[string]any{"key_label": "twin"}, several},
		"one of the twins":    {map[string]any{"key_label": "twin", "key_object_id": "0a"}, "is the key's"},
		"another certificate": {map[string]any{"key_label": "ec384"}, "is the key's; if it is being replaced, the rest is still to come"},
	} {
		t.Run(name, func(t *testing.T) {
			config := h.config("", map[string]any{"key_label": nil, "certificate_file": leaf})
			for key, value := range tc.by {
				config[key] = value
			}
			if tc.want == "" {
				credtest.Load(t, p, config)
				return
			}
			fails(t, p, config, tc.want)
		})
	}
}

// A certificate on the token is found by its key; of several, the one that lasts longest or the one
// whose label is configured.
func TestCertificateOnTheToken(t *testing.T) {
	h := newHSM(t, "ec", "rsa")
	p, _ := h.provider(t)
	config := h.config("ec", nil)
	fails(t, p, config, "of 0 certificates on the token none is the key's; write it there with pkcs11-tool --write-object")
	old, renewed := h.certify(t, p, "ec", time.Hour), h.certify(t, p, "ec", 2*time.Hour)
	other := h.certify(t, p, "rsa", 3*time.Hour)
	p.close()
	h.store(t, other, "other", "01")
	for _, step := range []struct {
		stored *x509.Certificate
		label  string
	}{{old, "old"}, {renewed, "renewed"}} {
		h.store(t, step.stored, step.label, "02")
		next, _ := h.provider(t)
		if got := identity(step.stored); credtest.Load(t, next, config).Identity != got {
			t.Errorf("with the %s certificate on the token the credential is not %s", step.label, got)
		}
		next.close()
	}
	labelled := h.config("ec", map[string]any{"certificate_label": "old"})
	next, _ := h.provider(t)
	if credtest.Load(t, next, labelled).Identity != identity(old) {
		t.Error("the label does not decide")
	}
	fails(t, next, h.config("ec", map[string]any{"certificate_label": "other"}), `of 1 certificates on the token with the label "other" none is the key's`)
}

func identity(c *x509.Certificate) string { return fmt.Sprintf("sha256:%X", sha256.Sum256(c.Raw)) }

// Only what certifies the key's own certificate is shown to a server, and not what else is there.
func TestChainOnTheToken(t *testing.T) {
	h := newHSM(t, "ec", "rsa")
	p, _ := h.provider(t)
	a := credtest.Shared()
	leaf := credtest.Sign(template("leaf", time.Hour), signer{public: h.public(t, p, "ec")}, a.Intermediate, a.IntermediateKey)
	stranger := credtest.Sign(template("stranger", time.Hour), signer{public: h.public(t, p, "rsa")}, a.Intermediate, a.IntermediateKey)
	p.close()
	for i, c := range []*x509.Certificate{a.Root, stranger, a.Intermediate, leaf} {
		h.store(t, c, fmt.Sprint("certificate ", i), "10")
	}
	next, _ := h.provider(t)
	credential := credtest.Load(t, next, h.config("ec", map[string]any{"auth_method": "tls_client_auth"}))
	r := &plugins.Request{Form: url.Values{}, Header: http.Header{}}
	if err := credential.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	got := r.TLSCertificate.Certificate
	if len(got) != 2 || string(got[0]) != string(leaf.Raw) || string(got[1]) != string(a.Intermediate.Raw) {
		t.Errorf("%d certificates are shown, want the leaf's and the intermediate's", len(got))
	}
}

// One session and one login serve all requests, and one proof each certificate.
func TestOneSession(t *testing.T) {
	h := newHSM(t, "ec")
	p, spy := h.provider(t)
	config := h.config("ec", map[string]any{"certificate_file": h.file(t, h.certify(t, p, "ec", time.Hour))})
	before := *spy
	for range 20 {
		credtest.Load(t, p, config)
	}
	if spy.sessions != before.sessions || spy.logins != before.logins || spy.signatures != before.signatures+1 {
		t.Errorf("20 loads took %d sessions, %d logins and %d signatures", spy.sessions-before.sessions, spy.logins-before.logins, spy.signatures-before.signatures)
	}
	if spy.sessions != 1 || spy.logins != 1 {
		t.Errorf("%d sessions, %d logins in all", spy.sessions, spy.logins)
	}
}

// Whatever ends a session, such as a token that is taken out and put back, the next request opens
// another one; so does a signature in the middle of a request.
func TestSessionIsOpenedAgain(t *testing.T) {
	h := newHSM(t, "ec")
	p, spy := h.provider(t)
	config := h.config("ec", map[string]any{"certificate_file": h.file(t, h.certify(t, p, "ec", time.Hour))})
	for name, end := range map[string]func(){
		"the session was closed": func() { _ = spy.library.CloseSession(p.device.session) },
		"all sessions were closed": func() {
			_ = spy.library.(*pkcs11.Ctx).CloseAllSessions(p.device.slot)
		},
		"logged out":                func() { _ = spy.library.(*pkcs11.Ctx).Logout(p.device.session) },
		"the library was finalized": func() { _ = spy.library.Finalize() },
	} {
		t.Run(name, func(t *testing.T) {
			credential := credtest.Load(t, p, config)
			end()
			credtest.Load(t, p, config)
			end()
			r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
			if err := credential.Authenticate(r); err != nil || !r.Form.Has("client_assertion") {
				t.Errorf("the old credential does not sign: %v", err)
			}
		})
	}
}

// Another process may be writing to the token; a moment later it is whole.
func TestTokenIsWaitedFor(t *testing.T) {
	h := newHSM(t, "ec")
	p, spy := h.provider(t)
	leaf := h.file(t, h.certify(t, p, "ec", time.Hour))
	p.close()
	config := h.config("ec", map[string]any{"certificate_file": leaf})
	const notWhole = pkcs11.Error(pkcs11.CKR_USER_PIN_NOT_INITIALIZED)
	spy.failing = []error{notWhole, notWhole}
	credtest.Load(t, p, config)
	p.close()
	spy.logins, spy.failing = 0, []error{notWhole, notWhole, notWhole, notWhole, notWhole, notWhole}
	fails(t, p, config, "CKR_USER_PIN_NOT_INITIALIZED")
	if spy.logins != attempts {
		t.Errorf("%d logins, want %d", spy.logins, attempts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spy.logins = 0
	if _, err := credtest.Open(t, p, config).Load(ctx); err == nil || spy.logins != 2 {
		t.Errorf("without time to wait: %v after %d logins", err, spy.logins)
	}
}

func TestTokenTakenOut(t *testing.T) {
	h := newHSM(t, "ec")
	p, _ := h.provider(t)
	config := h.config("ec", map[string]any{"certificate_file": h.file(t, h.certify(t, p, "ec", time.Hour))})
	credential := credtest.Load(t, p, config)
	move := func(from, to string) {
		if err := os.Rename(h.path(from), h.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	move("tokens", "away")
	h.tokens(t)
	r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
	if err := credential.Authenticate(r); err == nil || !strings.Contains(err.Error(), "0 tokens are meant by token_label, serial and slot, want one; present are: none") {
		t.Errorf("signing without the token: %v", err)
	}
	fails(t, p, config, "present are: none")
	if err := os.Remove(h.path("tokens")); err != nil {
		t.Fatal(err)
	}
	move("away", "tokens")
	credtest.Load(t, p, config)
	if err := credential.Authenticate(r); err != nil {
		t.Errorf("signing with the token back: %v", err)
	}
}

// A key that was replaced by one of the same label is not mistaken for the old one.
func TestKeyReplaced(t *testing.T) {
	h := newHSM(t, "ec")
	p, _ := h.provider(t)
	config := h.config("ec", map[string]any{"certificate_file": h.file(t, h.certify(t, p, "ec", time.Hour))})
	credential := credtest.Load(t, p, config)
	p.close()
	for _, kind := range []string{"privkey", "pubkey"} {
		h.tool(t, "--delete-object", "--type", kind, "--label", "ec")
	}
	h.addKey(t, "ec", "02", "EC:prime256v1")
	r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
	if err := credential.Authenticate(r); err == nil || !strings.Contains(err.Error(), "does not verify with the certificate; was the key replaced?") {
		t.Errorf("signing with the new key for the old certificate: %v", err)
	}
	fails(t, p, config, "is the key's; if it is being replaced")
	config["certificate_file"] = h.file(t, h.certify(t, p, "ec", time.Hour))
	credtest.Load(t, p, config)
}
