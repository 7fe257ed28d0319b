package devserver

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The ways in which a client may authenticate, as discovery and the request log name them.
const (
	methodBasic     = "client_secret_basic"
	methodPost      = "client_secret_post"
	methodJWT       = "private_key_jwt"
	methodFederated = "federated_jwt"
	methodTLS       = "self_signed_tls_client_auth"
	methodNone      = "none"
)

// The grants, as grant_type names them.
const (
	grantClientCredentials = "client_credentials"
	grantJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523, 2.1
	grantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693, 2.1
)

const (
	formType      = "application/x-www-form-urlencoded"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	spiffeType    = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe" // draft-ietf-oauth-spiffe-client-auth
	maxBody       = 256 << 10
)

// secretParameters never reach the request log.
var secretParameters = []string{
	"client_secret", "client_assertion", "assertion", "password", "code", "code_verifier",
	"refresh_token", "subject_token", "actor_token",
}

// loggedHeaders are the request headers that reach the request log.
var loggedHeaders = []string{
	"Accept", "Content-Type", "User-Agent", "Client-Request-Id", "Return-Client-Request-Id",
	"X-Client-Sku", "X-Client-Ver",
}

// tokenRequest is one request to a token endpoint, parsed but not verified.
type tokenRequest struct {
	arrival arrival
	at      endpoint
	header  http.Header
	form    url.Values
	basic   basicCredential
	peer    *x509.Certificate // shown in the TLS handshake; nil for none
	methods []string          // the methods that it authenticates with
	client  string            // the client_id that it claims
	keyID   string            // the key that it proved to have
	subject string            // whom the token is for; "" is the client itself

	scopeClaim *string  // the scope in the assertion that is the grant; nil for none
	refused    *refusal // why it is not a token request at all
}

type basicCredential struct {
	present bool
	valid   bool
	id      string
	secret  string
}

func receive(r *http.Request, at endpoint) *tokenRequest {
	q := &tokenRequest{at: at, header: r.Header, basic: readBasic(r)}
	q.form, q.refused = readForm(r)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		q.peer = r.TLS.PeerCertificates[0]
	}
	q.methods = q.presentMethods()
	q.client = q.claimedClient()
	return q
}

func readForm(r *http.Request) (url.Values, *refusal) {
	if r.Method != http.MethodPost {
		return nil, &refusal{status: http.StatusMethodNotAllowed, code: "invalid_request", description: "the token endpoint takes POST only"}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != formType {
		return nil, invalidRequest("the content type must be " + formType)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, invalidRequest(fmt.Sprintf("the body is longer than %d bytes or broke off", maxBody))
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is not form-urlencoded")
	}
	// A parameter without a value counts as omitted (RFC 6749, 3.2).
	maps.DeleteFunc(form, func(_ string, values []string) bool { return len(values) == 1 && values[0] == "" })
	return form, checkParameters(form, r.URL.Query())
}

func checkParameters(form, query url.Values) *refusal {
	for _, name := range slices.Sorted(maps.Keys(form)) {
		// Only resource (RFC 8707, 2) and audience may be repeated (RFC 6749, 3.2).
		if len(form[name]) > 1 && name != "resource" && name != "audience" {
			return invalidRequest(fmt.Sprintf("the parameter '%s' stands more than once", name))
		}
	}
	for _, name := range secretParameters {
		if query.Has(name) {
			return invalidRequest(fmt.Sprintf("the parameter '%s' must not stand in the URL", name))
		}
	}
	return nil
}

// readBasic reads the Authorization header; both parts are form-urlencoded (RFC 6749, 2.3.1).
func readBasic(r *http.Request) basicCredential {
	if r.Header.Get("Authorization") == "" {
		return basicCredential{}
	}
	user, password, ok := r.BasicAuth()
	id, idErr := url.QueryUnescape(user)
	key, keyErr := url.QueryUnescape(password)
	if !ok || idErr != nil || keyErr != nil {
		return basicCredential{present: true}
	}
	return basicCredential{present: true, valid: true, id: id, secret: key}
}

func (q *tokenRequest) presentMethods() []string {
	var methods []string
	if q.basic.present {
		methods = append(methods, methodBasic)
	}
	if q.form.Has("client_secret") {
		methods = append(methods, methodPost)
	}
	if q.form.Has("client_assertion") || q.form.Has("client_assertion_type") {
		methods = append(methods, methodJWT)
	}
	if len(methods) == 0 && q.peer != nil {
		methods = append(methods, methodTLS) // with another method a certificate does not count (RFC 8705, 3)
	}
	return methods
}

func (q *tokenRequest) claimedClient() string {
	if q.basic.valid {
		return q.basic.id
	}
	if q.form.Has("client_id") {
		return q.form.Get("client_id")
	}
	if q.form.Get("grant_type") == grantJWTBearer && !q.form.Has("client_assertion") {
		parsed, err := parseAssertion(q.form.Get("assertion"))
		if err != nil {
			return ""
		}
		return parsed.claims.Issuer // client_id is left out (RFC 7521, 4.1)
	}
	if q.form.Get("grant_type") == grantTokenExchange && len(q.methods) == 0 {
		return q.form.Get("audience") // Google's security token service, which has no clients
	}
	// With an assertion client_id may be left out (RFC 7521, 4.2).
	parsed, err := parseAssertion(q.form.Get("client_assertion"))
	if err != nil {
		return ""
	}
	return parsed.claims.Subject
}

// entry returns the request's log entry, without its answer.
func (q *tokenRequest) entry() Request {
	form := maps.Clone(q.form)
	for _, name := range secretParameters {
		form.Del(name)
	}
	header := http.Header{}
	for _, name := range loggedHeaders {
		if values := q.header.Values(name); len(values) > 0 {
			header[name] = slices.Clone(values)
		}
	}
	method := methodNone
	if len(q.methods) > 0 {
		method = strings.Join(q.methods, "+")
	}
	return Request{
		At:         q.arrival.at,
		Path:       q.at.path,
		Client:     q.client,
		AuthMethod: method,
		KeyID:      q.keyID,
		Scope:      q.form.Get("scope"),
		Form:       form,
		Header:     header,
	}
}
