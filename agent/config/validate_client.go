package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const defaultCloud = "public"

// clouds is the authority of each cloud that Entra ID runs in; the sovereign ones are known by country and by
// operator.
var clouds = map[string]string{
	defaultCloud: "https://login.microsoftonline.com",
	"usgov":      "https://login.microsoftonline.us",
	"china":      "https://login.partner.microsoftonline.cn",
	"france":     "https://login.sovcloud-identity.fr",
	"bleu":       "https://login.sovcloud-identity.fr",
	"germany":    "https://login.sovcloud-identity.de",
	"delos":      "https://login.sovcloud-identity.de",
	"singapore":  "https://login.sovcloud-identity.sg",
	"govsg":      "https://login.sovcloud-identity.sg",
}

var tenantPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`) })

func (v *validator) clients() []Client {
	if len(v.raw.Clients) == 0 {
		v.missing("", "clients")
		return nil
	}
	var clients []Client
	for _, name := range sortedKeys(v.raw.Clients) {
		path := join("clients", name)
		v.checkName(path, name)
		if v.mapped(path) {
			clients = append(clients, v.client(path, name, v.raw.Clients[name]))
		}
	}
	return clients
}

// mapped reports whether the mapping at path could be read; if not, its keys must not be reported as missing.
func (v *validator) mapped(path string) bool { return !v.silenced[path] }

func (v *validator) client(path, name string, raw rawClient) Client {
	c := Client{
		Name:              name,
		ClientID:          v.clientID(path, raw.ClientID),
		CAFile:            v.absolute(join(path, "ca_file"), raw.CAFile),
		Proxy:             v.proxy(join(path, "proxy"), raw.Proxy),
		AllowInsecureHTTP: raw.AllowInsecureHTTP,
		RequestTimeout: v.duration(join(path, "request_timeout"), raw.RequestTimeout,
			limits{time.Second, 2 * time.Minute, defaultRequestTimeout}),
	}
	v.origin(path, raw, &c)
	if raw.Credential == nil {
		v.missing(path, "credential")
	} else {
		c.Credential = v.credential(join(path, "credential"), *raw.Credential)
	}
	if raw.FallbackCredential != nil {
		fallback := v.credential(join(path, "fallback_credential"), *raw.FallbackCredential)
		c.FallbackCredential = &fallback
	}
	return c
}

// origin sets the source of the client's tokens.
func (v *validator) origin(path string, raw rawClient, c *Client) {
	given := 0
	for _, is := range []bool{raw.Entra != nil, raw.Issuer.given(), raw.TokenURL.given()} {
		if is {
			given++
		}
	}
	silenced := func(key string) bool { return v.silenced[join(path, key)] }
	if given != 1 && !slices.ContainsFunc([]string{"entra", "issuer", "token_url"}, silenced) {
		v.add(path, "", fmt.Sprintf("want exactly one of entra, issuer and token_url, found %d", given))
	}
	c.Entra = v.entra(join(path, "entra"), raw.Entra, raw.AllowInsecureHTTP)
	if u := v.endpoint(join(path, "token_url"), raw.TokenURL, raw.AllowInsecureHTTP); u != nil {
		c.TokenURL = raw.TokenURL.value
	}
	if u := v.endpoint(join(path, "issuer"), raw.Issuer, raw.AllowInsecureHTTP); u != nil {
		c.Issuer = raw.Issuer.value
		// RFC 8414, section 2.
		if u.RawQuery != "" || u.ForceQuery {
			v.problem(join(path, "issuer"), "an issuer has no query")
		}
		if _, _, found := strings.Cut(u.Path, "/.well-known/"); found {
			v.hinted(join(path, "issuer"), "leave off what begins with /.well-known/; it is found from the issuer", "the address of the metadata, not the issuer")
		}
	}
}

func (t text) given() bool { return t.set && (t.invalid || t.value != "") }

func (v *validator) entra(path string, raw *rawEntra, insecure bool) *Entra {
	if raw == nil || !v.mapped(path) {
		return nil
	}
	e := &Entra{}
	tenant, ok := v.required(path, "tenant", raw.Tenant)
	switch {
	case !ok:
	case slices.Contains([]string{"common", "organizations", "consumers"}, strings.ToLower(tenant)):
		v.hinted(join(path, "tenant"), "name the tenant by its id or one of its domains", "%v is not a tenant: client credentials belong to one", raw.Tenant)
	case !tenantPattern().MatchString(tenant):
		v.problem(join(path, "tenant"), "%v is not a tenant's id or domain name", raw.Tenant)
	}
	e.Tenant = tenant
	if raw.Cloud.given() && raw.Authority.given() {
		v.problem(path, "want at most one of cloud and authority")
	}
	e.Authority = oneOf(v, join(path, "cloud"), raw.Cloud, choice[string]{clouds, defaultCloud})
	if u := v.endpoint(join(path, "authority"), raw.Authority, insecure); u != nil {
		e.Authority = v.authority(join(path, "authority"), u)
	}
	return e
}

func (v *validator) authority(path string, u *url.URL) string {
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery {
		v.hinted(path, "the tenant has a key of its own", "an authority ends after its host")
	}
	return u.Scheme + "://" + u.Host
}

// clientID checks RFC 6749, appendix A.1: visible ASCII and spaces.
func (v *validator) clientID(path string, t text) string {
	id, ok := v.required(path, "client_id", t)
	if !ok {
		return ""
	}
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	if strings.ContainsFunc(id, odd) || strings.TrimSpace(id) != id {
		v.problem(join(path, "client_id"), "%v has characters that a client_id cannot have", t)
	}
	return id
}

func (v *validator) credential(path string, raw rawCredential) Credential {
	c := Credential{Config: raw.Config.json(), Path: path}
	if !v.mapped(path) {
		return c
	}
	provider, ok := v.required(path, "provider", raw.Provider)
	if ok {
		v.providerName(join(path, "provider"), provider)
	}
	c.Provider = provider
	return c
}

func (v *validator) unusedClients() {
	for _, name := range sortedKeys(v.raw.Clients) {
		if !v.used[name] {
			v.warn(join("clients", name), "no token uses this client")
		}
	}
}
