package certcred

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

const fixturePassword = "sesame-4711-open"

func TestOpenFindsEveryProblem(t *testing.T) {
	const known = ": unknown key; known are assertion_audience, assertion_lifetime, auth_method, certificate_file, key_id, password_file, private_key_file, send_x5c, signing_alg, thumbprint"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"least": {`{"certificate_file":"/c"}`, nil},
		"all": {`{"certificate_file":"/c","private_key_file":"/k","password_file":"/p","auth_method":"tls_client_auth","signing_alg":"ES384",
			"thumbprint":"none","key_id":"k","send_x5c":true,"assertion_audience":"issuer","assertion_lifetime":"1h"}`, nil},
		"nothing":       {`{}`, []string{"certificate_file: is needed"}},
		"relative":      {`{"certificate_file":"c","private_key_file":"k","password_file":"p"}`, []string{`certificate_file: "c" is not an absolute path`, `private_key_file: "k" is not an absolute path`, `password_file: "p" is not an absolute path`}},
		"too short":     {`{"certificate_file":"/c","assertion_lifetime":"59s"}`, []string{"assertion_lifetime: is not between 1m and 1h"}},
		"too long":      {`{"certificate_file":"/c","assertion_lifetime":"61m"}`, []string{"assertion_lifetime: is not between 1m and 1h"}},
		"symmetric alg": {`{"certificate_file":"/c","signing_alg":"HS256"}`, []string{"signing_alg: is none of PS256, RS256, ES256, ES384, EdDSA"}},
		"several at once": {`{"certificate_fiel":"/c","auth_method":"secret","thumbprint":"md5","send_x5c":"yes","assertion_lifetime":90,"signing_alg":"none"}`, []string{
			`assertion_lifetime: is not a duration such as "90s"`, "certificate_fiel" + known, "send_x5c: is not true or false", "certificate_file: is needed",
			"auth_method: is none of private_key_jwt, tls_client_auth, self_signed_tls_client_auth", "thumbprint: is none of sha256, sha1, none",
			"signing_alg: is none of PS256, RS256, ES256, ES384, EdDSA",
		}},
	} {
		t.Run(name, func(t *testing.T) { credtest.CheckProblems(t, Provider{}, tc.config, tc.want) })
	}
}

func TestFiles(t *testing.T) {
	for want, config := range map[string]map[string]any{
		"/c":       {"certificate_file": "/c"},
		"/d":       {"certificate_file": "/d", "private_key_file": "/d"},
		"/c /k":    {"certificate_file": "/c", "private_key_file": "/k"},
		"/c /k /p": {"certificate_file": "/c", "private_key_file": "/k", "password_file": "/p"},
	} {
		if got := strings.Join(credtest.Open(t, Provider{}, config).Files(), " "); got != want {
			t.Errorf("files %q, want %q", got, want)
		}
	}
}

// Every form of a pair that a tool writes loads, and the chain comes out in order.
func TestLoadForms(t *testing.T) {
	a := testAuthority()
	rsa, ec, ed := a.leaves["RSA"], a.leaves["P-256"], a.leaves["Ed25519"]
	modern, err := pkcs12.Modern.Encode(rsa.key, rsa.chain[0], rsa.chain[1:], "sesame")
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := pkcs12.LegacyDES.Encode(ec.key, ec.chain[0], ec.chain[1:], "sesame")
	if err != nil {
		t.Fatal(err)
	}
	password := credtest.File(t, "password", []byte("sesame\n"))
	ecKey := keyPEM(t, ec.key, "EC PRIVATE KEY")
	for name, tc := range map[string]struct {
		config map[string]any
		want   pair
	}{
		"PKCS#1":               {files(t, certPEM(rsa.chain...), keyPEM(t, rsa.key, "RSA PRIVATE KEY")), rsa},
		"PKCS#8, RSA":          {pairFiles(t, "RSA"), rsa},
		"PKCS#8, EC":           {pairFiles(t, "P-256"), ec},
		"PKCS#8, Ed25519":      {pairFiles(t, "Ed25519"), ed},
		"SEC 1":                {files(t, certPEM(ec.chain...), ecKey), ec},
		"SEC 1, parameters":    {files(t, certPEM(ec.chain...), joined([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), ecKey)), ec},
		"chain reversed":       {files(t, certPEM(a.root, a.intermediate, ec.chain[0]), ecKey), ec},
		"chain mixed":          {files(t, certPEM(a.intermediate, ec.chain[0], a.root), ecKey), ec},
		"no root":              {files(t, certPEM(a.intermediate, ec.chain[0]), ecKey), pair{ec.key, ec.chain[:2]}},
		"leaf alone":           {files(t, certPEM(ec.chain[0]), ecKey), pair{ec.key, ec.chain[:1]}},
		"a stranger goes last": {files(t, certPEM(ed.chain[0], ec.chain[0], a.intermediate), ecKey), pair{ec.key, []*x509.Certificate{ec.chain[0], a.intermediate, ed.chain[0]}}},
		"one file, key first":  {map[string]any{"certificate_file": credtest.File(t, "all", joined(ecKey, certPEM(ec.chain...)))}, ec},
		"one file, key last":   {map[string]any{"certificate_file": credtest.File(t, "all", joined(certPEM(a.root, a.intermediate, ec.chain[0]), ecKey))}, ec},
		"one file, key amid":   {map[string]any{"certificate_file": credtest.File(t, "all", joined([]byte("a remark\n"), certPEM(a.intermediate), ecKey, certPEM(ec.chain[0], a.root)))}, ec},
		"PKCS#12":              {map[string]any{"certificate_file": credtest.File(t, "p12", modern), "password_file": password}, rsa},
		"PKCS#12, old":         {map[string]any{"certificate_file": credtest.File(t, "p12", legacy), "password_file": password}, ec},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := credtest.Open(t, Provider{}, tc.config).(source).loadPair()
			if err != nil {
				t.Fatal(err)
			}
			checkPair(t, got, tc.want)
		})
	}
}

func checkPair(t *testing.T, got, want pair) {
	t.Helper()
	if !bytes.Equal(publicDER(t, got), publicDER(t, want)) {
		t.Error("the key is another one")
	}
	if len(got.chain) != len(want.chain) {
		t.Fatalf("%d certificates, want %d", len(got.chain), len(want.chain))
	}
	for i := range want.chain {
		if !got.chain[i].Equal(want.chain[i]) {
			t.Errorf("certificate %d is %s, want %s", i, got.chain[i].Subject, want.chain[i].Subject)
		}
	}
}

func publicDER(t *testing.T, p pair) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The files in testdata were written by OpenSSL.
func TestLoadEncrypted(t *testing.T) {
	const (
		noPassword = "name the file with its password in password_file"
		unknown    = "the private key is encrypted in an unknown way or damaged; write it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc"
	)
	for name, tc := range map[string]struct {
		key      string // of testdata; "" for the certificate's own file
		bundle   string
		password string // "" for none
		want     string
	}{
		"AES-128, SHA-1":              {key: "key-aes128-sha1.pem", password: fixturePassword},
		"AES-192, SHA-384":            {key: "key-aes192-sha384.pem", password: fixturePassword},
		"AES-256, SHA-256":            {key: "key-aes256-sha256.pem", password: fixturePassword},
		"AES-256, SHA-512":            {key: "key-aes256-sha512.pem", password: fixturePassword},
		"no password":                 {key: "key-aes256-sha256.pem", want: noPassword},
		"wrong password":              {key: "key-aes256-sha256.pem", password: "not-the-one-0815", want: "the password in password_file does not open the private key, or the key is damaged"},
		"3DES":                        {key: "key-3des.pem", password: fixturePassword, want: unknown},
		"scrypt":                      {key: "key-scrypt.pem", password: fixturePassword, want: unknown},
		"encrypted PEM":               {key: "key-legacy.pem", password: fixturePassword, want: unknown},
		"PKCS#12":                     {bundle: "bundle.p12", password: fixturePassword},
		"PKCS#12, empty password":     {bundle: "bundle-nopassword.p12"},
		"PKCS#12, no password":        {bundle: "bundle.p12", want: noPassword},
		"PKCS#12, wrong password":     {bundle: "bundle.p12", password: "not-the-one-0815", want: "the password in password_file does not open it"},
		"PKCS#12 and a key":           {bundle: "bundle.p12", key: "key-legacy.pem", password: fixturePassword, want: "it is PKCS#12, which holds the private key too; leave private_key_file out"},
		"neither PEM nor PKCS#12":     {bundle: "certificate.der", want: "it is neither PEM nor a sound PKCS#12 file with a certificate and its private key"},
		"a password that is not BMP ": {bundle: "bundle.p12", password: "\U0001f600", want: "it is neither PEM nor a sound PKCS#12 file"},
	} {
		t.Run(name, func(t *testing.T) {
			config := map[string]any{"certificate_file": fixture(t, "certificate.pem")}
			if tc.bundle != "" {
				config["certificate_file"] = fixture(t, tc.bundle)
			}
			if tc.key != "" {
				config["private_key_file"] = fixture(t, tc.key)
			}
			if tc.password != "" {
				config["password_file"] = credtest.File(t, "password", []byte(tc.password+"\n"))
			}
			if tc.want == "" {
				if !strings.HasPrefix(credtest.Load(t, Provider{}, config).Identity, "sha256:") {
					t.Error("the credential has no thumbprint")
				}
				return
			}
			credtest.CheckFails(t, credtest.Open(t, Provider{}, config), tc.want, []byte(fixturePassword), []byte(tc.password))
		})
	}
}

// fixture is the absolute path of a file in testdata; the certificate alone also comes as DER.
func fixture(t *testing.T, name string) string {
	t.Helper()
	if name == "certificate.der" {
		data, err := os.ReadFile(filepath.Join("testdata", "certificate.pem"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		return credtest.File(t, name, block.Bytes)
	}
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFails(t *testing.T) {
	a := testAuthority()
	ec, weak, odd := a.leaves["P-256"], a.leaves["RSA 1024"], a.leaves["P-521"]
	key, chain := keyPEM(t, ec.key, "PRIVATE KEY"), certPEM(ec.chain...)
	damage := func(text []byte) []byte {
		block, _ := pem.Decode(text)
		block.Bytes = block.Bytes[:len(block.Bytes)-9]
		return pem.EncodeToMemory(block)
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, tc := range map[string]struct {
		config map[string]any
		want   string
	}{
		"no certificate file": {map[string]any{"certificate_file": none}, fmt.Sprintf("reading certificate_file %q: no such file or directory", none)},
		"no key file":         {with(files(t, chain, key), "private_key_file", none), fmt.Sprintf("reading private_key_file %q: no such file or directory", none)},
		"no password file":    {with(files(t, chain, key), "password_file", none), fmt.Sprintf("reading password_file %q: no such file or directory", none)},
		"empty certificate":   {files(t, nil, key), "it is empty"},
		"empty key":           {files(t, chain, nil), "it is empty"},
		"empty password":      {with(files(t, chain, key), "password_file", credtest.File(t, "p", []byte("\n"))), "it is empty"},
		"too large":           {files(t, bytes.Repeat(chain, 1000), key), "larger than 1 MiB"},
		"certificate no PEM":  {files(t, []byte("certificate"), key), "it holds no PEM certificate"},
		"key no PEM":          {files(t, chain, []byte("canary-key-canary")), "it holds no PEM private key"},
		"key in other file":   {map[string]any{"certificate_file": credtest.File(t, "c", chain)}, "it holds no PEM private key"},
		"files swapped":       {files(t, key, chain), "it holds no PEM certificate"},
		"certificate damaged": {files(t, joined(certPEM(a.root), damage(chain)), key), "certificate 2 is damaged"},
		"key damaged":         {files(t, chain, damage(key)), "the private key is damaged or of an unknown kind"},
		"key cut":             {files(t, chain, key[:len(key)/2]), "it holds no PEM private key"},
		"other kind of key":   {files(t, chain, bytes.ReplaceAll(key, []byte("PRIVATE"), []byte("EC PRIVATE"))), "the private key is damaged or of an unknown kind"},
		"pair of two":         {files(t, certPEM(a.leaves["P-384"].chain...), key), "no certificate in it matches the private key; if they are being replaced, the other file is still to come"},
		"weak key":            {files(t, certPEM(weak.chain...), keyPEM(t, weak.key, "PRIVATE KEY")), "fewer than 2048 bits"},
		"odd curve":           {files(t, certPEM(odd.chain...), keyPEM(t, odd.key, "PRIVATE KEY")), "the key's curve is neither P-256 nor P-384"},
		"RS256 with EC":       {with(files(t, chain, key), "signing_alg", "RS256"), "signing_alg RS256 does not fit the key, which can do [ES256]"},
		"ES384 with P-256":    {with(files(t, chain, key), "signing_alg", "ES384"), "signing_alg ES384 does not fit the key, which can do [ES256]"},
		"ES256 with RSA":      {with(pairFiles(t, "RSA"), "signing_alg", "ES256"), "signing_alg ES256 does not fit the key, which can do [PS256 RS256]"},
		"PS256 with Ed25519":  {with(pairFiles(t, "Ed25519"), "signing_alg", "PS256"), "signing_alg PS256 does not fit the key, which can do [EdDSA]"},
	} {
		t.Run(name, func(t *testing.T) {
			body := bytes.SplitN(key, []byte("\n"), 2)[1]
			credtest.CheckFails(t, credtest.Open(t, Provider{}, tc.config), tc.want, body[:bytes.IndexByte(body, '-')], []byte("canary-key-canary"))
		})
	}
}

// Whatever the files hold, what loads is a key with its own certificate first, and what does not
// load is not shown.
func FuzzParsePair(f *testing.F) {
	for _, name := range []string{"certificate.pem", "key-aes128-sha1.pem", "key-aes256-sha256.pem", "key-3des.pem", "key-legacy.pem", "bundle.p12", "bundle-nopassword.p12"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data, fixturePassword)
		f.Add([]byte{}, data, "")
	}
	f.Fuzz(func(t *testing.T, certificates, key []byte, password string) {
		if tooCostly(certificates) || tooCostly(key) {
			return
		}
		signer, chain, err := parseBoth(certificates, key, secret.New(password))
		if err == nil {
			chain, err = leafFirst(signer, chain)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "certificate") {
				credtest.CheckHidden(t, err.Error(), key)
			}
			return
		}
		if !bytes.Equal(publicDER(t, pair{key: signer}), chain[0].RawSubjectPublicKeyInfo) {
			t.Error("the first certificate is not the key's")
		}
	})
}

// parseBoth is [source.parse] without files.
func parseBoth(certificates, key []byte, password secret.Value) (crypto.Signer, []*x509.Certificate, error) {
	if isPKCS12(certificates) {
		return parsePKCS12(certificates, password)
	}
	chain, err := parseCertificates(certificates)
	if err != nil {
		return nil, nil, err
	}
	signer, err := parsePrivateKey(key, password)
	return signer, chain, err
}

// tooCostly spares the fuzzer the work that a number of iterations may ask for: an ASN.1 integer
// of three bytes or more in an encrypted file.
func tooCostly(data []byte) bool {
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "ENCRYPTED PRIVATE KEY" {
			return false
		}
		data = block.Bytes
	}
	return bytes.Contains(data, []byte{0x02, 0x03}) || bytes.Contains(data, []byte{0x02, 0x04})
}
