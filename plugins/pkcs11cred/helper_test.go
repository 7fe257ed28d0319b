package pkcs11cred

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

const (
	pin   = "canary-pin-4711"
	soPIN = "canary-so-pin-08"
)

// softHSM is where the library may be.
var softHSM = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
}

// keys are made on the token, each with its object id and its label, which is its name.
var keys = map[string]struct{ id, kind string }{
	"rsa":     {"01", "rsa:2048"},
	"ec":      {"02", "EC:prime256v1"},
	"ec384":   {"03", "EC:secp384r1"},
	"ed25519": {"04", "EC:edwards25519"},
}

// hsm is a SoftHSM with one token, "hsm", and keys that were made on it.
type hsm struct {
	module, dir, conf string
}

func newHSM(t *testing.T, names ...string) *hsm {
	t.Helper()
	h := &hsm{dir: t.TempDir()}
	for _, path := range softHSM {
		if _, err := os.Stat(path); err == nil && h.module == "" {
			h.module = path
		}
	}
	if h.module == "" {
		t.Fatal("SoftHSM is missing: apt-get install softhsm2 opensc")
	}
	h.conf = filepath.Join(h.dir, "softhsm2.conf")
	write(t, h.conf, "directories.tokendir = "+h.tokens(t)+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	h.addToken(t, "hsm")
	for _, name := range names {
		h.addKey(t, name, keys[name].id, keys[name].kind)
	}
	write(t, h.path("pin"), pin+"\n")
	return h
}

func (h *hsm) path(name string) string { return filepath.Join(h.dir, name) }

func (h *hsm) tokens(t *testing.T) string {
	t.Helper()
	dir := h.path("tokens")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (h *hsm) addToken(t *testing.T, label string) {
	t.Helper()
	h.run(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", soPIN)
}

func (h *hsm) addKey(t *testing.T, label, id, kind string) {
	t.Helper()
	h.tool(t, "--keypairgen", "--key-type", kind, "--label", label, "--id", id)
}

// tool runs OpenSC's pkcs11-tool, logged in.
func (h *hsm) tool(t *testing.T, args ...string) string {
	t.Helper()
	return h.run(t, "pkcs11-tool", append([]string{"--module", h.module, "--token-label", "hsm", "--login", "--pin", pin}, args...)...)
}

func (h *hsm) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.conf)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// config is for a key of the token, with changes; nil takes a key of the configuration away.
func (h *hsm) config(key string, changes map[string]any) map[string]any {
	config := map[string]any{
		"module": h.module, "environment": map[string]any{"SOFTHSM2_CONF": h.conf},
		"token_label": "hsm", "key_label": key, "pin_file": h.path("pin"), "pin_guard_dir": h.dir,
	}
	for name, value := range changes {
		config[name] = value
		if value == nil {
			delete(config, name)
		}
	}
	return config
}

// provider makes a provider that leaves the library at the test's end as if it had its process to
// itself. What it asks of the library is counted.
func (h *hsm) provider(t *testing.T) (*Provider, *spy) {
	t.Helper()
	s := &spy{}
	p := New()
	p.load = func(path string) (library, error) {
		loaded, err := loadLibrary(path)
		s.library = loaded
		return s, err
	}
	t.Cleanup(func() {
		p.close()
		if s.library != nil {
			_ = s.library.Finalize()
		}
	})
	return p, s
}

// spy counts what is asked of a library, and changes what it says of the token.
type spy struct {
	library
	logins, sessions, signatures int
	flags                        uint
	failing                      []error // what the next logins say instead
}

func (s *spy) Login(session pkcs11.SessionHandle, user uint, pin string) error {
	s.logins++
	if len(s.failing) > 0 {
		err := s.failing[0]
		s.failing = s.failing[1:]
		return err
	}
	return s.library.Login(session, user, pin)
}

func (s *spy) OpenSession(slot, flags uint) (pkcs11.SessionHandle, error) {
	s.sessions++
	return s.library.OpenSession(slot, flags)
}

func (s *spy) Sign(session pkcs11.SessionHandle, input []byte) ([]byte, error) {
	s.signatures++
	return s.library.Sign(session, input)
}

func (s *spy) GetTokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	info, err := s.library.GetTokenInfo(slot)
	info.Flags |= s.flags
	return info, err
}

// public reads a public key from the token.
func (h *hsm) public(t *testing.T, p *Provider, key string) crypto.PublicKey {
	t.Helper()
	var public crypto.PublicKey
	s := credtest.Open(t, p, h.config(key, nil)).(source)
	err := p.use(t.Context(), s, func(d *device) error {
		objects, err := d.find([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, key),
		}, 1)
		if err != nil || len(objects) != 1 {
			return fmt.Errorf("%d public keys, %w", len(objects), err)
		}
		public, err = readPublic(d, objects[0], key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func readPublic(d *device, object pkcs11.ObjectHandle, key string) (crypto.PublicKey, error) {
	if key == "rsa" {
		modulus, err := d.attribute(object, pkcs11.CKA_MODULUS)
		return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}, err
	}
	encoded, err := d.attribute(object, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	var point []byte
	if _, err := asn1.Unmarshal(encoded, &point); err != nil {
		return nil, err
	}
	switch key {
	case "ed25519":
		return ed25519.PublicKey(point), nil
	case "ec384":
		return ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// certify makes a certificate of a key on the token, signed with that very key, which lasts so long.
func (h *hsm) certify(t *testing.T, p *Provider, key string, life time.Duration) *x509.Certificate {
	t.Helper()
	k := signer{source: credtest.Open(t, p, h.config(key, nil)).(source), public: h.public(t, p, key)}
	return credtest.Sign(template("self "+key, life), k, nil, k)
}

func template(name string, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: serial(),
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life).Truncate(time.Second),
	}
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err)
	}
	return n
}

// store writes a certificate onto the token.
func (h *hsm) store(t *testing.T, c *x509.Certificate, label, id string) {
	t.Helper()
	file := h.path("certificate-" + hex.EncodeToString(c.SerialNumber.Bytes()))
	write(t, file, string(c.Raw))
	h.tool(t, "--write-object", file, "--type", "cert", "--label", label, "--id", id)
}

// file writes certificates to a file.
func (h *hsm) file(t *testing.T, certificates ...*x509.Certificate) string {
	t.Helper()
	return credtest.File(t, "certificates.pem", credtest.CertificatesPEM(certificates...))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fails checks that a credential does not load, why, and that no PIN is shown.
func fails(t *testing.T, p plugins.Provider, config map[string]any, want string) {
	t.Helper()
	credtest.CheckFails(t, credtest.Open(t, p, config), want, []byte(pin), []byte(soPIN), []byte(wrongPIN))
}
