package oauth

import (
	"net"
	"net/url"
	"strings"
)

// CanonicalEndpoint returns the canonical spelling of a token endpoint (RFC 3986, 6.2.2 and 6.2.3): scheme and host
// in lower case, no default port, no fragment, escapes only where they are needed. The tenant in an Entra endpoint is
// in lower case too, because Entra is not case-sensitive about it. So two endpoints that are the same to the server
// compare equal. A text that is not a URL is returned unchanged.
func CanonicalEndpoint(endpoint string) string {
	u, err := url.Parse(strings.TrimSpace(endpoint))
	if err != nil || u.Scheme == "" || strings.Trim(u.Hostname(), ".") == "" {
		return endpoint
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = canonicalHost(u)
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery == "" {
		u.ForceQuery = false
	}
	u.RawPath = "" // drop unnecessary escapes
	if u.Path == "" {
		u.Path = "/"
	}
	u.Path = canonicalTenant(u.Path)
	return u.String()
}

func canonicalHost(u *url.URL) string {
	host, port := strings.ToLower(strings.TrimRight(u.Hostname(), ".")), u.Port()
	if port == "" || port == defaultPort(u.Scheme) {
		if strings.Contains(host, ":") { // IPv6
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// canonicalTenant converts the tenant of a path such as /TENANT/oauth2/v2.0/token to lower case.
func canonicalTenant(path string) string {
	tenant, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || !strings.HasPrefix(path, "/") {
		return path
	}
	switch lower := strings.ToLower(rest); lower {
	case "oauth2/v2.0/token", "oauth2/token":
		return "/" + strings.ToLower(tenant) + "/" + lower
	}
	return path
}
