package certcred

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

// opensslKeys are how OpenSSL makes a key of each kind.
var opensslKeys = map[string]string{
	"rsa":     "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
	"pss":     "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048",
	"pss256":  "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha256 -pkeyopt rsa_pss_keygen_mgf1_md:sha256 -pkeyopt rsa_pss_keygen_saltlen:32",
	"pss512":  "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha512 -pkeyopt rsa_pss_keygen_mgf1_md:sha512 -pkeyopt rsa_pss_keygen_saltlen:64",
	"ec":      "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
	"ec384":   "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
	"ed25519": "genpkey -algorithm ED25519",
}

// workshop is a directory in which the real OpenSSL makes and inspects files: a key and a
// certificate of each kind that is wanted, KIND.key and KIND.pem, under an intermediate under a root.
type workshop struct{ dir string }

func newWorkshop(t *testing.T, kinds ...string) workshop {
	t.Helper()
	w := workshop{t.TempDir()}
	w.write(t, "password", fixturePassword+"\n")
	w.write(t, "same", fixturePassword+"\n") // OpenSSL takes the second line of one file for the second password
	w.write(t, "ca.ext", "basicConstraints=critical,CA:TRUE\n")
	w.openssl(t, opensslKeys["ec"]+" -out root.key")
	w.openssl(t, "req -x509 -key root.key -out root.pem -days 2 -subj /CN=root")
	w.openssl(t, opensslKeys["ec"]+" -out middle.key")
	w.openssl(t, "req -new -key middle.key -out middle.csr -subj /CN=middle")
	w.openssl(t, "x509 -req -in middle.csr -CA root.pem -CAkey root.key -set_serial 2 -days 2 -extfile ca.ext -out middle.pem")
	for _, kind := range kinds {
		w.openssl(t, opensslKeys[kind]+" -out "+kind+".key")
		w.openssl(t, "req -new -key "+kind+".key -out "+kind+".csr -subj /CN="+kind)
		w.openssl(t, "x509 -req -in "+kind+".csr -CA middle.pem -CAkey middle.key -set_serial 3 -days 1 -out "+kind+".pem")
	}
	w.write(t, "above.pem", w.read(t, "root.pem")+w.read(t, "middle.pem"))
	return w
}

func (w workshop) path(name string) string { return filepath.Join(w.dir, name) }

func (w workshop) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w workshop) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(w.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// openssl runs one command and returns what it says.
func (w workshop) openssl(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", strings.Fields(command)...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", command, err, out)
	}
	return string(out)
}

// config names a certificate's file, and the others that are given.
func (w workshop) config(certificate, key, password string) map[string]any {
	config := map[string]any{"certificate_file": w.path(certificate)}
	if key != "" {
		config["private_key_file"] = w.path(key)
	}
	if password != "" {
		config["password_file"] = w.path(password)
	}
	return config
}

// check loads a configuration, compares what it says of the certificate with what OpenSSL says,
// and has OpenSSL verify an assertion.
func (w workshop) check(t *testing.T, config map[string]any, kind string) {
	t.Helper()
	credential := credtest.Load(t, Provider{}, config)
	fingerprint := w.openssl(t, "x509 -noout -fingerprint -sha256 -in "+kind+".pem")
	_, fingerprint, _ = strings.Cut(strings.TrimSpace(fingerprint), "=")
	if want := "sha256:" + strings.ReplaceAll(fingerprint, ":", ""); credential.Identity != want {
		t.Errorf("the credential is %s, want %s", credential.Identity, want)
	}
	r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
	if err := credential.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	signed, encoded, _ := cutLast(r.Form.Get("client_assertion"), ".")
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	w.verify(t, kind, signed, signature)
}

func (w workshop) verify(t *testing.T, kind, signed string, signature []byte) {
	t.Helper()
	options := "-digest sha256"
	switch kind {
	case "rsa", "pss", "pss256":
		options += " -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:32"
	case "ec":
		signature = asSequence(t, signature)
	case "ec384":
		options, signature = "-digest sha384", asSequence(t, signature)
	case "ed25519":
		options = ""
	}
	w.write(t, "signed", signed)
	w.write(t, "signature", string(signature))
	w.write(t, "public.pem", w.openssl(t, "x509 -noout -pubkey -in "+kind+".pem"))
	w.openssl(t, "pkeyutl -verify -pubin -inkey public.pem -rawin -in signed -sigfile signature "+options)
}

// asSequence makes of a JWS's signature (RFC 7518, 3.4) the one that OpenSSL knows.
func asSequence(t *testing.T, signature []byte) []byte {
	t.Helper()
	half := len(signature) / 2
	der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// What OpenSSL writes is read: every kind of key in every form.
func TestOpenSSLKeys(t *testing.T) {
	w := newWorkshop(t, "rsa", "pss", "pss256", "ec", "ec384", "ed25519")
	for name, tc := range map[string]struct{ kind, write string }{
		"RSA":                           {"rsa", "pkey -in rsa.key -out key"},
		"RSA, PKCS#1":                   {"rsa", "pkey -traditional -in rsa.key -out key"},
		"RSA for PSS only":              {"pss", "pkey -in pss.key -out key"},
		"RSA for PSS, SHA-256 only":     {"pss256", "pkey -in pss256.key -out key"},
		"P-256":                         {"ec", "pkey -in ec.key -out key"},
		"P-256, SEC 1":                  {"ec", "pkey -traditional -in ec.key -out key"},
		"P-384, SEC 1":                  {"ec384", "pkey -traditional -in ec384.key -out key"},
		"Ed25519":                       {"ed25519", "pkey -in ed25519.key -out key"},
		"PKCS#8, the default":           {"rsa", "pkcs8 -topk8 -in rsa.key -out key -passout file:password"},
		"PKCS#8, AES-128, SHA-1":        {"ec", "pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA1 -in ec.key -out key -passout file:password"},
		"PKCS#8, AES-192, SHA-224":      {"ec", "pkcs8 -topk8 -v2 aes-192-cbc -v2prf hmacWithSHA224 -in ec.key -out key -passout file:password"},
		"PKCS#8, AES-256, SHA-384":      {"ec384", "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA384 -in ec384.key -out key -passout file:password"},
		"PKCS#8, AES-256, SHA-512":      {"ed25519", "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512 -in ed25519.key -out key -passout file:password"},
		"PKCS#8, many rounds":           {"ec", "pkcs8 -topk8 -v2 aes-256-cbc -iter 200000 -in ec.key -out key -passout file:password"},
		"PKCS#8, triple DES":            {"rsa", "pkcs8 -topk8 -v2 des3 -in rsa.key -out key -passout file:password"},
		"PKCS#8, scrypt":                {"rsa", "pkcs8 -topk8 -scrypt -in rsa.key -out key -passout file:password"},
		"PKCS#8, scrypt, other":         {"ec", "pkcs8 -topk8 -scrypt -scrypt_N 8192 -scrypt_r 4 -scrypt_p 2 -in ec.key -out key -passout file:password"},
		"PKCS#8, PSS":                   {"pss", "pkcs8 -topk8 -v2 aes-256-cbc -in pss.key -out key -passout file:password"},
		"encrypted PKCS#1, AES-256":     {"rsa", "pkey -traditional -aes256 -in rsa.key -out key -passout file:password"},
		"encrypted PKCS#1, triple DES":  {"rsa", "pkey -traditional -des3 -in rsa.key -out key -passout file:password"},
		"encrypted SEC 1, AES-128":      {"ec", "pkey -traditional -aes128 -in ec.key -out key -passout file:password"},
		"encrypted SEC 1, AES-192, 384": {"ec384", "pkey -traditional -aes192 -in ec384.key -out key -passout file:password"},
	} {
		t.Run(name, func(t *testing.T) {
			w.openssl(t, tc.write)
			password := ""
			if strings.Contains(tc.write, "file:password") {
				password = "password"
			}
			w.write(t, "certificates", w.read(t, "above.pem")+w.read(t, tc.kind+".pem"))
			w.check(t, w.config("certificates", "key", password), tc.kind)
			w.write(t, "all", w.read(t, "above.pem")+w.read(t, "key")+w.read(t, tc.kind+".pem"))
			w.check(t, w.config("all", "", password), tc.kind)
		})
	}
}

func TestOpenSSLPKCS12(t *testing.T) {
	w := newWorkshop(t, "rsa", "ec", "ec384", "ed25519")
	for name, tc := range map[string]struct{ kind, options, password string }{
		"the default":           {"rsa", "-passout file:password", "password"},
		"P-384":                 {"ec384", "-passout file:password", "password"},
		"Ed25519":               {"ed25519", "-passout file:password", "password"},
		"named":                 {"rsa", "-name payments -caname root -passout file:password", "password"},
		"AES-128, SHA-512":      {"ec", "-keypbe AES-128-CBC -certpbe AES-128-CBC -macalg sha512 -passout file:password", "password"},
		"old":                   {"rsa", "-legacy -passout file:password", "password"},
		"old, RC2-128":          {"ec", "-legacy -certpbe PBE-SHA1-RC2-128 -passout file:password", "password"},
		"old, triple DES":       {"ec", "-legacy -descert -passout file:password", "password"},
		"empty password":        {"rsa", "-passout pass:", ""},
		"old, empty password":   {"rsa", "-legacy -passout pass:", ""},
		"checked, in the clear": {"rsa", "-keypbe NONE -certpbe NONE -passout file:password", "password"},
		"in the clear":          {"rsa", "-keypbe NONE -certpbe NONE -nomac -passout pass:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.openssl(t, fmt.Sprintf("pkcs12 -export -inkey %[1]s.key -in %[1]s.pem -certfile above.pem -out bundle %[2]s", tc.kind, tc.options))
			config := w.config("bundle", "", tc.password)
			w.check(t, config, tc.kind)
			pair, err := credtest.Open(t, Provider{}, config).(source).loadPair()
			if err != nil || len(pair.Chain) != 2 || pair.Chain[1].Subject.CommonName != "middle" {
				t.Errorf("pair %v, %v", pair, err)
			}
			if tc.password == "" {
				return
			}
			w.write(t, "wrong", "not-the-one-0815")
			credtest.CheckFails(t, credtest.Open(t, Provider{}, w.config("bundle", "", "wrong")), "the password in password_file does not open it", []byte(fixturePassword))
			credtest.CheckFails(t, credtest.Open(t, Provider{}, w.config("bundle", "", "")), "name the file with its password in password_file")
		})
	}
}

// A file that is not read comes with the command that makes one of it that is.
func TestAdviceHelps(t *testing.T) {
	w := newWorkshop(t, "rsa", "pss", "ec")
	advice := regexp.MustCompile(`with: openssl (.* -in OLD -out NEW)$`)
	for name, tc := range map[string]struct {
		write    string
		old, key string // "" for the certificate alone
		kind     string
		more     string // what OpenSSL would ask for
	}{
		"old PKCS#8":     {"pkcs8 -topk8 -v1 PBE-SHA1-3DES -in rsa.key -out old -passout file:password", "rsa.pem", "old", "rsa", "-passin file:password -passout file:same"},
		"explicit curve": {"pkey -in ec.key -ec_param_enc explicit -out old", "ec.pem", "old", "ec", ""},
		"PKCS#7":         {"crl2pkcs7 -nocrl -certfile ec.pem -out old", "old", "ec.key", "ec", ""},
		"PKCS#7, DER":    {"crl2pkcs7 -nocrl -certfile ec.pem -outform DER -out old", "old", "ec.key", "ec", ""},
		"PKCS#12, PSS":   {"pkcs12 -export -inkey pss.key -in pss.pem -out old -passout file:password", "old", "", "pss", "-passin file:password -passout file:same"},
	} {
		t.Run(name, func(t *testing.T) {
			w.openssl(t, tc.write)
			config := w.config(tc.old, tc.key, "password")
			_, err := credtest.Open(t, Provider{}, config).Load(t.Context())
			if err == nil {
				t.Fatal("it is read as it is")
			}
			command := advice.FindStringSubmatch(err.Error())
			if command == nil {
				t.Fatalf("error %q names no command", err)
			}
			w.openssl(t, strings.NewReplacer("OLD", "old", "NEW", "new").Replace(command[1])+" "+tc.more)
			mended := maps.Clone(config)
			for key, path := range config {
				if path == w.path("old") {
					mended[key] = w.path("new")
				}
			}
			w.check(t, mended, tc.kind)
		})
	}
}

// What OpenSSL reads without being told what it is, is read here too.
func TestOpenSSLsOtherForms(t *testing.T) {
	w := newWorkshop(t, "ec")
	for name, tc := range map[string]struct{ write, certificate, key string }{
		"key in DER":            {"pkey -in ec.key -outform DER -out old", "ec.pem", "old"},
		"key of the old kind":   {"pkey -in ec.key -traditional -outform DER -out old", "ec.pem", "old"},
		"certificate in DER":    {"x509 -in ec.pem -outform DER -out old", "old", "ec.key"},
		"trusted":               {"x509 -in ec.pem -trustout -out old", "old", "ec.key"},
		"trusted for a purpose": {"x509 -in ec.pem -addtrust clientAuth -setalias mine -trustout -out old", "old", "ec.key"},
		"with its text":         {"x509 -in ec.pem -text -out old", "old", "ec.key"},
	} {
		t.Run(name, func(t *testing.T) {
			w.openssl(t, tc.write)
			w.check(t, w.config(tc.certificate, tc.key, ""), "ec")
		})
	}
}

// The command that is given for a Java keystore makes of it what is read.
func TestJavaKeystoreAdviceHelps(t *testing.T) {
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		t.Skip("no keytool here")
	}
	w := newWorkshop(t, "rsa")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), keytool, args...).CombinedOutput(); err != nil {
			t.Fatalf("keytool %v: %v\n%s", args, err, out)
		}
	}
	passwords := []string{"-srcstorepass", fixturePassword, "-deststorepass", fixturePassword, "-noprompt"}
	run("-genkeypair", "-keystore", w.path("old"), "-storetype", "JKS", "-storepass", fixturePassword, "-keypass", fixturePassword,
		"-alias", "app", "-keyalg", "RSA", "-keysize", "2048", "-dname", "CN=app")
	_, err = credtest.Open(t, Provider{}, w.config("old", "", "password")).Load(t.Context())
	if err == nil {
		t.Fatal("it is read as it is")
	}
	command := regexp.MustCompile(`with: keytool (.*)$`).FindStringSubmatch(err.Error())
	if command == nil {
		t.Fatalf("error %q names no command", err)
	}
	run(append(strings.Fields(strings.NewReplacer("OLD", w.path("old"), "NEW", w.path("new")).Replace(command[1])), passwords...)...)
	if _, err := credtest.Open(t, Provider{}, w.config("new", "", "password")).Load(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a certificate's restrictions forbid is said before a server sees it.
func TestRestrictedKeys(t *testing.T) {
	w := newWorkshop(t, "pss", "pss512")
	pss := func() map[string]any { return w.config("pss.pem", "pss.key", "") }
	for want, config := range map[string]map[string]any{
		"the key is restricted to an RSA-PSS other than that of PS256":       w.config("pss512.pem", "pss512.key", ""),
		"signing_alg RS256 does not fit the key, which can do [PS256]":       with(pss(), "signing_alg", "RS256"),
		"which credagent's TLS does not know; use auth_method private_key_j": with(pss(), "auth_method", "tls_client_auth"),
	} {
		credtest.CheckFails(t, credtest.Open(t, Provider{}, config), want)
	}
}

// Whether a certificate is in its time is for the server to say; the agent is told.
func TestCertificateOutOfTime(t *testing.T) {
	for name, from := range map[string]time.Duration{"expired": -48 * time.Hour, "not yet valid": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			leaf := credtest.Shared().Leaves["P-256"]
			template := &x509.Certificate{NotBefore: time.Now().Add(from).Truncate(time.Second), NotAfter: time.Now().Add(from + time.Hour).Truncate(time.Second)}
			certificate := credtest.Sign(template, leaf.Key, nil, leaf.Key)
			credential := credtest.Load(t, Provider{}, files(t, certPEM(certificate), keyPEM(t, leaf.Key, "PRIVATE KEY")))
			if !credential.NotBefore.Equal(template.NotBefore) || !credential.NotAfter.Equal(template.NotAfter) {
				t.Errorf("the agent is told of %s to %s, want %s to %s", credential.NotBefore, credential.NotAfter, template.NotBefore, template.NotAfter)
			}
			r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
			if err := credential.Authenticate(r); err != nil || !r.Form.Has("client_assertion") {
				t.Errorf("the request is not authenticated: %v", err)
			}
		})
	}
}
