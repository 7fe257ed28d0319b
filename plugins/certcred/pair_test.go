package certcred

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

const fixturePassword = "sesame-4711-open"

func TestOpenFindsEveryProblem(t *testing.T) {
	const known = ": unknown key; known are assertion_audience, assertion_lifetime, auth_method, certificate_file, google_key_file, key_id, password_env, password_file, private_key_file, scope_in, secret_env, secret_file, send_client_id, send_x5c, signing_alg, source, subject_token, thumbprint"
	const noKey = "certificate_file: is needed; or source, or google_key_file, or private_key_file for a key that is registered without a certificate"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"least": {`{"certificate_file":"/c"}`, nil},
		"all": {`{"certificate_file":"/c","private_key_file":"/k","password_file":"/p","auth_method":"tls_client_auth","signing_alg":"ES384",
			"thumbprint":"none","key_id":"k","send_x5c":true,"assertion_audience":"issuer","assertion_lifetime":"1h"}`, nil},
		"nothing":                   {`{}`, []string{noKey}},
		"relative":                  {`{"certificate_file":"c","private_key_file":"k","password_file":"p"}`, []string{"certificate_file: is not an absolute path", "private_key_file: is not an absolute path", "password_file: is not an absolute path"}},
		"too short":                 {`{"certificate_file":"/c","assertion_lifetime":"19s"}`, []string{"assertion_lifetime: is not between 20s and 1h"}},
		"too long":                  {`{"certificate_file":"/c","assertion_lifetime":"61m"}`, []string{"assertion_lifetime: is not between 20s and 1h"}},
		"key alone":                 {`{"private_key_file":"/k","key_id":"1","auth_method":"none"}`, nil},
		"key alone, by certificate": {`{"private_key_file":"/k","thumbprint":"sha1","send_x5c":true}`, []string{"thumbprint: is a certificate's, and there is none; name the key by key_id", "send_x5c: sends a certificate, and there is none; name the key by key_id"}},
		"key alone, TLS":            {`{"private_key_file":"/k","auth_method":"tls_client_auth"}`, []string{"certificate_file: is needed with auth_method tls_client_auth"}},
		"Google":                    {`{"google_key_file":"/g"}`, nil},
		"Google, with what it has":  {`{"google_key_file":"/g","certificate_file":"/c","private_key_file":"/k","key_id":"1","assertion_lifetime":"1h"}`, []string{"certificate_file: is not for google_key_file, which holds the key and needs no certificate", "private_key_file: is not for google_key_file, which holds the key and needs no certificate", "key_id: is not for google_key_file, which holds the key and needs no certificate", "assertion_lifetime: is longer than the 59m that Google takes"}},
		"secret beside the grant":   {`{"private_key_file":"/k","auth_method":"client_secret_post","secret_file":"/s"}`, nil},
		"no secret":                 {`{"private_key_file":"/k","auth_method":"client_secret_post"}`, []string{"secret_file: or secret_env is needed, exactly one of the two, with auth_method client_secret_post"}},
		"two secrets":               {`{"private_key_file":"/k","auth_method":"client_secret_basic","secret_file":"/s","secret_env":"S"}`, []string{"secret_file: or secret_env is needed, exactly one of the two, with auth_method client_secret_basic"}},
		"secret without its method": {`{"private_key_file":"/k","secret_file":"/s"}`, []string{"secret_file: and secret_env are for auth_method client_secret_basic and client_secret_post"}},
		"client_id beside a method": {`{"private_key_file":"/k","send_client_id":true}`, []string{"send_client_id: is for auth_method none: every other method sends it as it needs"}},
		"scope nowhere":             {`{"private_key_file":"/k","scope_in":"header"}`, []string{"scope_in: is none of request, assertion"}},
		"symmetric alg":             {`{"certificate_file":"/c","signing_alg":"HS256"}`, []string{"signing_alg: is none of PS256, RS256, ES256, ES384, EdDSA"}},
		"several at once": {`{"certificate_fiel":"/c","auth_method":"secret","thumbprint":"md5","send_x5c":"yes","assertion_lifetime":90,"signing_alg":"none"}`, []string{
			`assertion_lifetime: is not a duration such as "90s"`, "certificate_fiel" + known, "send_x5c: is not true or false", noKey,
			"auth_method: is none of private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none, client_secret_basic, client_secret_post", "thumbprint: is none of sha256, sha1, none",
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

// Every form of a pair loads, and the chain comes out in order, without its root.
func TestLoadForms(t *testing.T) {
	a := credtest.Shared()
	rsa, ec, ed := a.Leaves["RSA"], a.Leaves["P-256"], a.Leaves["Ed25519"]
	modern, err := pkcs12.Modern.Encode(rsa.Key, rsa.Chain[0], rsa.Chain[1:], "sesame")
	if err != nil {
		t.Fatal(err)
	}
	password := credtest.File(t, "password", []byte("sesame\n"))
	ecKey := keyPEM(t, ec.Key, "EC PRIVATE KEY")
	one := func(parts ...[]byte) map[string]any {
		return map[string]any{"certificate_file": credtest.File(t, "all", joined(parts...))}
	}
	for name, tc := range map[string]struct {
		config map[string]any
		want   credtest.Leaf
	}{
		"PKCS#1":                     {files(t, certPEM(rsa.Chain...), keyPEM(t, rsa.Key, "RSA PRIVATE KEY")), rsa},
		"PKCS#8, RSA":                {pairFiles(t, "RSA"), rsa},
		"PKCS#8, EC":                 {pairFiles(t, "P-256"), ec},
		"PKCS#8, Ed25519":            {pairFiles(t, "Ed25519"), ed},
		"SEC 1":                      {files(t, certPEM(ec.Chain...), ecKey), ec},
		"SEC 1, parameters":          {files(t, certPEM(ec.Chain...), joined([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), ecKey)), ec},
		"chain reversed":             {files(t, certPEM(a.Root, a.Intermediate, ec.Chain[0]), ecKey), ec},
		"byte order mark":            {files(t, joined([]byte("\ufeff"), certPEM(ec.Chain...)), joined([]byte("\ufeff"), ecKey)), ec},
		"Windows line breaks":        {files(t, crlf(certPEM(ec.Chain...)), crlf(ecKey)), ec},
		"one file, key first":        {one(ecKey, certPEM(ec.Chain...)), ec},
		"one file, key last":         {one(certPEM(a.Root, a.Intermediate, ec.Chain[0]), ecKey), ec},
		"one file, key amid":         {one([]byte("a remark\n"), certPEM(a.Intermediate), ecKey, certPEM(ec.Chain[0], a.Root)), ec},
		"PKCS#12":                    {map[string]any{"certificate_file": credtest.File(t, "p12", modern), "password_file": password}, rsa},
		"PKCS#12, base64":            {map[string]any{"certificate_file": credtest.File(t, "p12", []byte(base64.StdEncoding.EncodeToString(modern))), "password_file": password}, rsa},
		"PKCS#12, no password":       {passwordless(t, rsa, ""), rsa},
		"PKCS#12, an empty line":     {passwordless(t, rsa, "\n"), rsa},
		"two keys, the other first":  {one(keyPEM(t, rsa.Key, "PRIVATE KEY"), ecKey, certPEM(ec.Chain...)), ec},
		"two keys, the other last":   {one(certPEM(ec.Chain...), ecKey, keyPEM(t, rsa.Key, "PRIVATE KEY")), ec},
		"two keys in their own file": {files(t, certPEM(ec.Chain...), joined(keyPEM(t, ed.Key, "PRIVATE KEY"), ecKey)), ec},
		"two keys, one damaged":      {one([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), ecKey, certPEM(ec.Chain...)), ec},
		"key's name wrong":           {files(t, certPEM(ec.Chain...), bytes.ReplaceAll(keyPEM(t, ec.Key, "PRIVATE KEY"), []byte("PRIVATE"), []byte("EC PRIVATE"))), ec},
		"RSA's name wrong":           {files(t, certPEM(rsa.Chain...), bytes.ReplaceAll(keyPEM(t, rsa.Key, "RSA PRIVATE KEY"), []byte("RSA PRIVATE"), []byte("PRIVATE"))), rsa},
		"DER, PKCS#8":                {files(t, derChain(ec), derOf(keyPEM(t, ec.Key, "PRIVATE KEY"))), ec},
		"DER, PKCS#1":                {files(t, derChain(rsa), derOf(keyPEM(t, rsa.Key, "RSA PRIVATE KEY"))), rsa},
		"DER, SEC 1":                 {files(t, derChain(ec), derOf(ecKey)), ec},
		"DER, base64":                {files(t, []byte(base64.StdEncoding.EncodeToString(derChain(ec))), []byte(base64.StdEncoding.EncodeToString(derOf(ecKey)))), ec},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := credtest.Open(t, Provider{}, tc.config).(source).loadPair()
			if err != nil {
				t.Fatal(err)
			}
			if !certauth.Certifies(tc.want.Chain[0], got.Key.Public()) {
				t.Error("the key is another one")
			}
			if len(got.Chain) != 2 || !got.Chain[0].Equal(tc.want.Chain[0]) || !got.Chain[1].Equal(a.Intermediate) {
				t.Errorf("chain %v", got.Chain)
			}
		})
	}
}

func derChain(leaf credtest.Leaf) []byte {
	var der []byte
	for _, c := range leaf.Chain {
		der = append(der, c.Raw...)
	}
	return der
}

func crlf(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")) }

// passwordless is PKCS#12 that anybody can open, beside a file for its password.
func passwordless(t *testing.T, leaf credtest.Leaf, password string) map[string]any {
	t.Helper()
	bundle, err := pkcs12.Modern.Encode(leaf.Key, leaf.Chain[0], leaf.Chain[1:], "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"certificate_file": credtest.File(t, "p12", bundle), "password_file": credtest.File(t, "password", []byte(password))}
}

// The files in testdata were written by OpenSSL.
func TestLoadEncrypted(t *testing.T) {
	const (
		noPassword = "name the file with its password in password_file"
		wrong      = "the password in password_file does not open the private key, or the key is damaged"
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
		"wrong password":              {key: "key-aes256-sha256.pem", password: "not-the-one-0815", want: wrong},
		"3DES":                        {key: "key-3des.pem", password: fixturePassword},
		"scrypt":                      {key: "key-scrypt.pem", password: fixturePassword},
		"encrypted PEM":               {key: "key-legacy.pem", password: fixturePassword},
		"3DES, wrong password":        {key: "key-3des.pem", password: "not-the-one-0815", want: wrong},
		"scrypt, wrong password":      {key: "key-scrypt.pem", password: "not-the-one-0815", want: wrong},
		"encrypted PEM, wrong":        {key: "key-legacy.pem", password: "not-the-one-0815", want: wrong},
		"encrypted PEM, no password":  {key: "key-legacy.pem", want: noPassword},
		"PKCS#12":                     {bundle: "bundle.p12", password: fixturePassword},
		"PKCS#12, empty password":     {bundle: "bundle-nopassword.p12"},
		"PKCS#12, no password":        {bundle: "bundle.p12", want: noPassword},
		"PKCS#12, wrong password":     {bundle: "bundle.p12", password: "not-the-one-0815", want: "the password in password_file does not open it"},
		"PKCS#12 and a key":           {bundle: "bundle.p12", key: "key-legacy.pem", password: fixturePassword, want: "it is PKCS#12, which holds the private key too; leave private_key_file out"},
		"a DER certificate":           {bundle: "certificate.der", want: "it holds no PEM private key; name the file that does in private_key_file"},
		"a password that is not BMP ": {bundle: "bundle.p12", password: "\U0001f600", want: "it is neither PEM nor a PKCS#12 file that credagent can read"},
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
	a := credtest.Shared()
	ec, weak, odd := a.Leaves["P-256"], a.Leaves["RSA 1024"], a.Leaves["P-521"]
	key, chain := keyPEM(t, ec.Key, "PRIVATE KEY"), certPEM(ec.Chain...)
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
		"a request":           {files(t, pemOf("CERTIFICATE REQUEST"), key), "it holds no PEM certificate but a request for one; have a CA sign it"},
		"PKCS#7":              {files(t, pemOf("PKCS7"), key), "write it anew with: openssl pkcs7 -print_certs -in OLD -out NEW"},
		"PKCS#7 in DER":       {files(t, append([]byte{0x30, 11, 6, 9}, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2), key), "write it anew with: openssl pkcs7 -inform DER -print_certs -in OLD -out NEW"},
		"trusted certificate": {files(t, pemOf("TRUSTED CERTIFICATE"), key), "certificate 1 is damaged"},
		"public key":          {files(t, pemOf("PUBLIC KEY"), key), "but a public key; name the file with the certificate that was issued for it"},
		"SSH public key":      {files(t, []byte("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ me@here\n"), key), "but an SSH public key"},
		"web page":            {files(t, []byte("\r\n<!DOCTYPE html><title>Sign in</title>"), key), "but HTML or XML"},
		"JWK":                 {files(t, chain, []byte(`{"kty":"EC","d":"canary-key-canary"}`)), "but JSON, such as a JWK"},
		"PuTTY key":           {files(t, chain, []byte("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n")), "puttygen OLD -O private-openssh -o NEW"},
		"Java keystore":       {files(t, append([]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"), make([]byte, 40)...), key), "keytool -importkeystore -srckeystore OLD -destkeystore NEW -deststoretype pkcs12"},
		"dashes":              {files(t, bytes.ReplaceAll(chain, []byte("-----"), []byte("——")), key), "with five hyphens on each side"},
		"PKCS#12 as key":      {files(t, chain, []byte{0x30, 3, 2, 1, 3}), "if it is PKCS#12, which holds both, name it in certificate_file"},
		"OpenSSH key":         {files(t, chain, pemOf("OPENSSH PRIVATE KEY")), "ssh-keygen -p -m PKCS8 -f FILE"},
		"no real PKCS#12":     {map[string]any{"certificate_file": credtest.File(t, "c", []byte{0x30, 3, 2, 1, 3})}, "if it is PKCS#12, write it as PEM with: openssl pkcs12 -in OLD -out NEW"},
		"key no PEM":          {files(t, chain, []byte("canary-key-canary")), "it holds no PEM private key; name the file that does in private_key_file"},
		"key in other file":   {map[string]any{"certificate_file": credtest.File(t, "c", chain)}, "it holds no PEM private key; name the file that does in private_key_file"},
		"files swapped":       {files(t, key, chain), "it holds no PEM certificate but a private key"},
		"key alone, DER":      {map[string]any{"certificate_file": credtest.File(t, "c", derOf(key))}, "it holds no PEM certificate but a private key"},
		"certificate damaged": {files(t, joined(certPEM(a.Root), damage(chain)), key), "certificate 2 is damaged"},
		"key damaged":         {files(t, chain, damage(key)), "the private key is damaged or of an unknown kind"},
		"key cut":             {files(t, chain, key[:len(key)/2]), "it holds no PEM private key, as it is cut off"},
		"pair of two":         {files(t, certPEM(a.Leaves["P-384"].Chain...), key), "no certificate in it matches the private key; if they are being replaced, the other file is still to come"},
		"weak key":            {files(t, certPEM(weak.Chain...), keyPEM(t, weak.Key, "PRIVATE KEY")), "the RSA key has 1024 bits"},
		"odd curve":           {files(t, certPEM(odd.Chain...), keyPEM(t, odd.Key, "PRIVATE KEY")), "the key's curve is P-521"},
		"RS256 with EC":       {with(files(t, chain, key), "signing_alg", "RS256"), "signing_alg RS256 does not fit the key, which can do [ES256]"},
	} {
		t.Run(name, func(t *testing.T) {
			body := bytes.SplitN(key, []byte("\n"), 2)[1]
			credtest.CheckFails(t, credtest.Open(t, Provider{}, tc.config), tc.want, body[:bytes.IndexByte(body, '-')], []byte("canary-key-canary"))
		})
	}
}

func pemOf(kind string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("canary-key-canary")})
}

func derOf(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}

// Whatever the files hold, what loads is a key with its own certificate first, and what does not
// load is not shown.
func FuzzParsePair(f *testing.F) {
	for _, name := range []string{"certificate.pem", "key-aes128-sha1.pem", "key-aes256-sha256.pem", "key-3des.pem", "key-scrypt.pem", "key-legacy.pem", "bundle.p12", "bundle-nopassword.p12"} {
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
		var pair certauth.Pair
		if err == nil {
			pair, err = certauth.NewPair(signer, chain)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "certificate") {
				credtest.CheckHidden(t, err.Error(), key)
			}
			return
		}
		if !certauth.Certifies(pair.Chain[0], signer.Public()) {
			t.Error("the first certificate is not the key's")
		}
	})
}

// parseBoth is [source.parse] without files.
func parseBoth(certificates, key []byte, password secret.Value) (crypto.Signer, []*x509.Certificate, error) {
	content := keyfile.Read(certificates)
	if content.DER != nil {
		return parsePKCS12(content.DER, password)
	}
	chain, err := content.Certificates()
	if err != nil {
		return nil, nil, err
	}
	signer, err := parsePrivateKey(keyfile.Read(key), password, nil)
	return signer, chain, err
}

// tooCostly spares the fuzzer the work that a number of iterations may ask for: an ASN.1 integer
// of three bytes or more in an encrypted file.
func tooCostly(data []byte) bool {
	content := keyfile.Read(data)
	encrypted := [][]byte{content.DER}
	for _, block := range content.Blocks {
		if block.Type == "ENCRYPTED PRIVATE KEY" {
			encrypted = append(encrypted, block.Bytes)
		}
	}
	return slices.ContainsFunc(encrypted, func(der []byte) bool {
		return bytes.Contains(der, []byte{0x02, 0x03}) || bytes.Contains(der, []byte{0x02, 0x04})
	})
}
