package certauth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

func TestNewPair(t *testing.T) {
	a := credtest.Shared()
	ec, ed := a.Leaves["P-256"], a.Leaves["Ed25519"]
	leaf, stranger := ec.Chain[0], ed.Chain[0]
	for name, tc := range map[string]struct {
		certificates, chain, others []*x509.Certificate
	}{
		"in order":             {ec.Chain, ec.Chain[:2], nil},
		"reversed":             {[]*x509.Certificate{a.Root, a.Intermediate, leaf}, ec.Chain[:2], nil},
		"mixed":                {[]*x509.Certificate{a.Intermediate, leaf, a.Root}, ec.Chain[:2], nil},
		"no root":              {[]*x509.Certificate{a.Intermediate, leaf}, ec.Chain[:2], nil},
		"leaf alone":           {ec.Chain[:1], ec.Chain[:1], nil},
		"twice":                {[]*x509.Certificate{leaf, a.Intermediate, leaf}, ec.Chain[:2], ec.Chain[:1]},
		"with a stranger":      {[]*x509.Certificate{stranger, leaf, a.Intermediate}, ec.Chain[:2], []*x509.Certificate{stranger}},
		"with a stranger root": {[]*x509.Certificate{credtest.Issue("other root", ed.Key, nil, ed.Key), leaf}, ec.Chain[:1], nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewPair(ec.Key, tc.certificates)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "chain", p.Chain, tc.chain)
			same(t, "others", p.Others, tc.others)
		})
	}
}

func same(t *testing.T, what string, got, want []*x509.Certificate) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d certificates in the %s, want %d", len(got), what, len(want))
	}
	for i := range want {
		if !got[i].Equal(want[i]) {
			t.Errorf("certificate %d of the %s is %s, want %s", i, what, got[i].Subject, want[i].Subject)
		}
	}
}

func TestSelfSignedIsItsOwnChain(t *testing.T) {
	key := credtest.Key("P-256")
	self := credtest.Issue("self", key, nil, key)
	p, err := NewPair(key, []*x509.Certificate{credtest.Shared().Root, self})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "chain", p.Chain, []*x509.Certificate{self})
	same(t, "others", p.Others, nil)
}

// A CA that has changed its key has two certificates of one name; only one certifies the leaf.
func TestChainFollowsKeysNotNames(t *testing.T) {
	rootKey := credtest.Key("P-256")
	ca := func(keyID string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte(keyID),
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		}
	}
	root := credtest.Issue("root", rootKey, nil, rootKey)
	oldKey, newKey := credtest.Key("P-256"), credtest.Key("P-256")
	oldCA, newCA := credtest.Sign(ca("old"), oldKey, root, rootKey), credtest.Sign(ca("new"), newKey, root, rootKey)
	key := credtest.Key("P-256")
	leaf := credtest.Issue("leaf", key, newCA, newKey)
	p, err := NewPair(key, []*x509.Certificate{oldCA, newCA, leaf})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "chain", p.Chain, []*x509.Certificate{leaf, newCA})
	same(t, "others", p.Others, []*x509.Certificate{oldCA})
	if sent := p.tlsCertificate().Certificate; len(sent) != 3 {
		t.Errorf("TLS sends %d certificates, want 3", len(sent))
	}
}

func TestNewPairRefuses(t *testing.T) {
	a := credtest.Shared()
	for name, tc := range map[string]struct {
		key  string
		with []*x509.Certificate
		want string
	}{
		"pair of two": {"P-256", a.Leaves["P-384"].Chain, "no certificate in it matches the private key; if they are being replaced, the other file is still to come"},
		"nothing":     {"P-256", nil, "no certificate in it matches the private key"},
		"weak":        {"RSA 1024", a.Leaves["RSA 1024"].Chain, "the RSA key has 1024 bits, which no server should accept; make a new one of 2048 bits at least"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewPair(a.Leaves[tc.key].Key, tc.with); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestCheckFindsEveryProblem(t *testing.T) {
	c := Config{AuthMethod: "secret", SigningAlg: "HS256", Thumbprint: "md5", AssertionLifetime: 1}
	want := `auth_method: is none of private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none
scope_in: is none of request, assertion
thumbprint: is none of sha256, sha1, none
signing_alg: is none of PS256, RS256, ES256, ES384, EdDSA
assertion_audience: is empty; it is token_endpoint, issuer, or the audience itself
assertion_lifetime: is not between 20s and 1h`
	if err := c.Check(); err == nil || err.Error() != want {
		t.Errorf("problems:\n%v\nwant:\n%s", err, want)
	}
	if err := Default().Check(); err != nil {
		t.Errorf("the default has problems: %v", err)
	}
}
