// Package setup implements `credagent init`: it turns a few answers into a plan of directories, files and a
// configuration, and the plan into files.
//
// Planning is pure: the same answers give the same plan, on any machine. Carrying it out never overwrites a file, and
// is undone if it is interrupted. One caveat: the steps at the authorization server are explained, not done.
package setup

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/config"
)

// The kinds of credentials that init knows.
const (
	Certificate = "certificate"
	Secret      = "secret"
	Assertion   = "assertion"
)

// Server is a kind of authorization server: what init asks and writes for it.
type Server struct {
	Name  string
	Title string

	credentials []string // the kinds of credential that it accepts, best first
	tenant      string   // what --tenant means; "" if it has none
	fromTenant  string   // the issuer of a tenant, with %s; "" for Entra, which has its own key
	issuer      string   // what --issuer means
	endpoint    string   // the token endpoint's path below --issuer, if there is no metadata
	scope       string   // the default scope; "" if there is none
	scopeHelp   string
	audience    string   // what --audience means; "" if init does not ask for it
	asResource  bool     // the audience is sent as resource
	signing     []string // more keys of certcred's configuration
	keyID       bool     // the server finds an assertion's key by its kid
	comment     string   // a line of the configuration about the token
	lifetime    string   // default_lifetime; "" if the server sends expires_in
	keyFile     bool     // its secret is the key file of a service account, which signs assertions as grants
	fixed       string   // the issuer of the only server; --issuer names another one
}

var both = []string{Certificate, Secret}

// Servers returns all servers, in the order in which they are offered.
func Servers() []Server {
	return []Server{
		{Name: "entra", Title: "Microsoft Entra ID", credentials: []string{Certificate, Secret, Assertion},
			tenant: "the tenant's id or one of its domains, such as contoso.onmicrosoft.com", issuer: "the authority of another cloud or of credagent devserver; the public cloud needs none",
			scope: "https://graph.microsoft.com/.default", scopeHelp: "the API's identifier with /.default behind it"},
		{Name: "keycloak", Title: "Keycloak", credentials: []string{Certificate, Secret, Assertion},
			issuer: "the realm's issuer, such as https://sso.example.com/realms/shop", scopeHelp: "a client scope; none is fine",
			signing: []string{"signing_alg: RS256 # what Keycloak takes from a certificate"}},
		{Name: "okta", Title: "Okta", credentials: both,
			tenant: "the Okta domain, such as acme.okta.com, for its authorization server default", fromTenant: "https://%s/oauth2/default",
			issuer: "the authorization server's issuer URI", scopeHelp: "a scope of the authorization server", signing: []string{"signing_alg: RS256", "thumbprint: none # the key is registered without a certificate"}, keyID: true},
		{Name: "auth0", Title: "Auth0", credentials: both,
			tenant: "the Auth0 domain, such as acme.eu.auth0.com", fromTenant: "https://%s/", issuer: "the tenant's or the custom domain's URL, with a slash at its end",
			audience: "the API's identifier", scopeHelp: "a permission of the API; none is fine",
			signing: []string{"signing_alg: RS256", "assertion_audience: ISSUER", "assertion_lifetime: 1m # Auth0 takes five at most"}},
		{Name: "cognito", Title: "Amazon Cognito", credentials: []string{Secret},
			issuer: "the user pool's domain, such as https://acme.auth.eu-west-1.amazoncognito.com", endpoint: "/oauth2/token", scopeHelp: "a custom scope, such as orders/read"},
		{Name: "salesforce", Title: "Salesforce", credentials: []string{Secret},
			tenant: "the My Domain host, such as acme.my.salesforce.com", fromTenant: "https://%s", issuer: "the My Domain URL", endpoint: "/services/oauth2/token", scopeHelp: "none: the app's own scopes are granted",
			comment: "Salesforce does not say how long a token lives. No session ends sooner than this.", lifetime: "15m"},
		{Name: "ping", Title: "PingOne", credentials: both,
			tenant: "the environment's id", fromTenant: "https://auth.pingone.com/%s/as", issuer: "the issuer; another region has another host", scopeHelp: "a scope of one custom resource; none is fine",
			signing: []string{"signing_alg: RS256", "thumbprint: none # the key is registered without a certificate"}, keyID: true},
		{Name: "adfs", Title: "AD FS", credentials: both,
			tenant: "the federation service's host, such as adfs.example.com", fromTenant: "https://%s/adfs", issuer: "the federation service's issuer, which ends in /adfs", endpoint: "/oauth2/token",
			audience: "the Web API's identifier", asResource: true, scopeHelp: "none is fine",
			signing: []string{"signing_alg: RS256", "thumbprint: sha1 # AD FS finds the certificate by x5t"}},
		{Name: "google", Title: "Google Cloud", credentials: []string{Secret}, keyFile: true, fixed: "https://oauth2.googleapis.com",
			issuer: "credagent devserver's URL; Google itself needs none", endpoint: "/token",
			scope: "https://www.googleapis.com/auth/cloud-platform", scopeHelp: "the API's scope"},
		{Name: "generic", Title: "any other server", credentials: []string{Secret, Certificate, Assertion},
			issuer: "the issuer, or the token endpoint's own URL", scopeHelp: "what the API asks for"},
	}
}

// Find returns the server with a name.
func Find(name string) (Server, error) {
	for _, s := range Servers() {
		if s.Name == name {
			return s, nil
		}
	}
	err := fmt.Errorf("there is no server %q: give one of %s", name, strings.Join(Names(), ", "))
	return Server{}, config.Suggest(err, name, Names())
}

// Names returns the names of all servers.
func Names() []string {
	var names []string
	for _, s := range Servers() {
		names = append(names, s.Name)
	}
	return names
}

func (s Server) takes(credential string) error {
	if slices.Contains(s.credentials, credential) {
		return nil
	}
	return config.Suggest(fmt.Errorf("%s takes no %q: give one of %s", s.Title, credential, strings.Join(s.credentials, ", ")), credential, s.credentials)
}

var (
	guidPattern   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	domainPattern = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$`)
	realmPattern  = regexp.MustCompile(`/realms/[^/]+/?$`)
)

// checkTenant refuses what cannot be an Entra tenant.
func (s Server) checkTenant(tenant string) error {
	if s.Name != "entra" || tenant == "" || guidPattern.MatchString(tenant) || domainPattern.MatchString(tenant) {
		return nil
	}
	return fmt.Errorf("--tenant %q is not %s", tenant, s.tenant)
}

// checkClientID refuses what cannot be an Entra client ID, such as the app's display name.
func (s Server) checkClientID(id string) error {
	if s.Name != "entra" || id == "" || guidPattern.MatchString(id) {
		return nil
	}
	return fmt.Errorf("--client-id %q is not an Application (client) ID, such as 6731de76-14a6-49ae-97bc-6eba6914391e", id)
}

// checkRealm refuses what cannot be a Keycloak issuer, such as the server's own address.
func (s Server) checkRealm(issuer string) error {
	if s.Name != "keycloak" || issuer == "" || realmPattern.MatchString(issuer) {
		return nil
	}
	return fmt.Errorf("--issuer %q is not a realm's: it ends in /realms/ and the realm's name", issuer)
}

// checkScope refuses lists of scopes in another syntax.
func checkScope(scope string) error {
	if strings.ContainsAny(scope, ",;") {
		return fmt.Errorf("--scope %q has a comma or semicolon: put spaces between scopes", scope)
	}
	return nil
}

// origin is the source of a client's tokens; exactly one field is set.
type origin struct{ tenant, authority, issuer, tokenURL string }

// origin works out the source of tokens from the answers.
func (s Server) origin(a Answers) (origin, error) {
	issuer := cmp.Or(a.Issuer, s.fixed)
	if s.fromTenant != "" && issuer == "" {
		if strings.ContainsAny(a.Tenant, "/ ?#") {
			return origin{}, fmt.Errorf("--tenant %q is not %s", a.Tenant, s.tenant)
		}
		issuer = fmt.Sprintf(s.fromTenant, a.Tenant)
	}
	if issuer != "" {
		if err := checkURL(issuer); err != nil {
			return origin{}, err
		}
	}
	base := strings.TrimSuffix(issuer, "/")
	switch {
	case s.Name == "entra":
		return origin{tenant: a.Tenant, authority: base}, nil
	case s.endpoint != "" && strings.HasSuffix(base, s.endpoint):
		return origin{tokenURL: base}, nil
	case s.endpoint != "":
		return origin{tokenURL: base + s.endpoint}, nil
	case s.Name == "generic" && strings.HasSuffix(base, "/token"):
		return origin{tokenURL: issuer}, nil
	case s.Name == "auth0":
		return origin{issuer: base + "/"}, nil
	}
	return origin{issuer: issuer}, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("--issuer %q is not a URL such as https://login.example.com", text)
	}
	address := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || address != nil && address.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return fmt.Errorf("--issuer %q is not https", text)
	}
	return nil
}
