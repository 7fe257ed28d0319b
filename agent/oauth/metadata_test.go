package oauth_test

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/oauth"
)

func TestMetadataURLs(t *testing.T) {
	const oidc, rfc8414 = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
	tests := []struct {
		name, issuer string
		want         []string
	}{
		{"a host", "https://h", []string{"https://h" + oidc, "https://h" + rfc8414}},
		{"a trailing slash", "https://h/", []string{"https://h" + oidc, "https://h" + rfc8414}},
		{"a port", "https://h:8443", []string{"https://h:8443" + oidc, "https://h:8443" + rfc8414}},
		{"a path", "https://h/tenant", []string{"https://h/tenant" + oidc, "https://h" + rfc8414 + "/tenant"}},
		{"a path and a trailing slash", "https://h/a/b/", []string{"https://h/a/b" + oidc, "https://h" + rfc8414 + "/a/b"}},
		{"an escaped path", "https://h/a%2Fb%20c", []string{"https://h/a%2Fb%20c" + oidc, "https://h" + rfc8414 + "/a%2Fb%20c"}},
		{"not a URL", "https://h\x7f", []string{"https://h\x7f" + oidc}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := oauth.MetadataURLs(test.issuer); !slices.Equal(got, test.want) {
				t.Errorf("MetadataURLs = %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseMetadata(t *testing.T) {
	body := `{"issuer":"https://h/t","token_endpoint":"https://h/t/token","jwks_uri":7,
		"token_endpoint_auth_methods_supported":["private_key_jwt","tls_client_auth"],
		"mtls_endpoint_aliases":{"token_endpoint":"https://mtls.h/t/token"}}`
	got, err := oauth.ParseMetadata([]byte(body), "https://h/t", false)
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != "https://h/t" || got.TokenEndpoint != "https://h/t/token" || got.MTLSAliases.TokenEndpoint != "https://mtls.h/t/token" {
		t.Errorf("metadata %+v", got)
	}
	if want := []string{"private_key_jwt", "tls_client_auth"}; !slices.Equal(got.AuthMethodsSupported, want) {
		t.Errorf("methods %q, want %q", got.AuthMethodsSupported, want)
	}
}

func TestParseMetadataRefuses(t *testing.T) {
	const reading = `reading the metadata of "https://h": `
	tests := []struct{ name, body, want string }{
		{"nothing", ``, "it is empty"},
		{"a web page", `<html>`, "it looks like a web page"},
		{"words", `hello`, "it is not a JSON object"},
		{"cut off", `{"issuer":"https://h"`, "its JSON is broken or its fields are of the wrong type"},
		{"a field of the wrong type", `{"issuer":"https://h","token_endpoint":7}`, "its JSON is broken or its fields are of the wrong type"},
		{"no issuer", `{}`, `it is for issuer ""; configure the issuer exactly as the server spells it, or token_url in its place`},
		{"null", `null`, `it is for issuer ""; configure the issuer exactly as the server spells it, or token_url in its place`},
		{"another issuer", `{"issuer":"https://evil"}`, `it is for issuer "https://evil"; configure the issuer exactly as the server spells it, or token_url in its place`},
		{"a slash too many", `{"issuer":"https://h/"}`, `it is for issuer "https://h/"; configure the issuer exactly as the server spells it, or token_url in its place`},
		{"another case", `{"issuer":"https://H"}`, `it is for issuer "https://H"; configure the issuer exactly as the server spells it, or token_url in its place`},
		{"no token endpoint", `{"issuer":"https://h"}`, "token_endpoint is missing"},
		{"a token endpoint that is null", `{"issuer":"https://h","token_endpoint":null}`, "token_endpoint is missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := oauth.ParseMetadata([]byte(test.body), "https://h", false)
			if err == nil || err.Error() != reading+test.want {
				t.Errorf("error %v, want %q", err, reading+test.want)
			}
			if got.Issuer != "" || got.TokenEndpoint != "" {
				t.Errorf("there is metadata beside the error: %+v", got)
			}
		})
	}
}

func TestParseMetadataChecksEndpoints(t *testing.T) {
	const usable, unusable, notHTTPS = "", "is not a usable URL", "is not https"
	tests := []struct {
		name, endpoint string
		strict, lax    string // the error without and with allow_insecure_http
	}{
		{"https", "https://h/token", usable, usable},
		{"https with a query", "https://h/token?p=1", usable, usable},
		{"https in capitals", "HTTPS://h/token", usable, usable},
		{"http", "http://h/token", notHTTPS, usable},
		{"http to an address", "http://10.0.0.1/token", notHTTPS, usable},
		{"http to loopback", "http://127.0.0.1:8080/token", usable, usable},
		{"http to another loopback address", "http://127.9.9.9/token", usable, usable},
		{"http to loopback, IPv6", "http://[::1]:8080/token", usable, usable},
		{"http to localhost", "http://localhost:8080/token", usable, usable},
		{"http to a name that begins like it", "http://localhost.h/token", notHTTPS, usable},
		{"http to a name that begins like an address", "http://127.0.0.1.h/token", notHTTPS, usable},
		{"a user in front of it", "http://127.0.0.1@h/token", unusable, unusable},
		{"a password", "https://u:p@h/token", unusable, unusable},
		{"another scheme", "file:///token", unusable, unusable},
		{"another scheme with a host", "ftp://h/token", notHTTPS, notHTTPS},
		{"no scheme", "h/token", unusable, unusable},
		{"no host", "https:///token", unusable, unusable},
		{"a port without a host", "https://:443/token", unusable, unusable},
		{"a fragment", "https://h/token#f", unusable, unusable},
		{"a control character", "https://h/\\u0000", unusable, unusable},
		{"a space in the host", "https://h h/token", unusable, unusable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := []byte(`{"issuer":"http://h","token_endpoint":"` + test.endpoint + `","mtls_endpoint_aliases":{"token_endpoint":"` + test.endpoint + `"}}`)
			for insecure, want := range map[bool]string{false: test.strict, true: test.lax} {
				if _, err := oauth.ParseMetadata(body, "http://h", insecure); !says(err, want) {
					t.Errorf("allow_insecure_http %v: error %v, want %q", insecure, err, want)
				}
			}
		})
	}
}

func says(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), "token_endpoint ") && strings.HasSuffix(err.Error(), want)
}

// Nothing leads from https to http: neither loopback nor allow_insecure_http.
func TestHTTPSIssuersNeverLeadToHTTP(t *testing.T) {
	for _, endpoint := range []string{"http://127.0.0.1:1/token", "http://localhost/token", "http://[::1]/token", "http://h/token"} {
		for _, issuer := range []string{"https://h", "HTTPS://h", "https://127.0.0.1", "https://localhost:8443"} {
			body := []byte(`{"issuer":"` + issuer + `","token_endpoint":"` + endpoint + `"}`)
			alias := []byte(`{"issuer":"` + issuer + `","token_endpoint":"https://h/","mtls_endpoint_aliases":{"token_endpoint":"` + endpoint + `"}}`)
			for _, insecure := range []bool{false, true} {
				if _, err := oauth.ParseMetadata(body, issuer, insecure); !says(err, "is not https") {
					t.Errorf("%s to %s: error %v", issuer, endpoint, err)
				}
				if got, err := oauth.ParseMetadata(alias, issuer, insecure); err != nil || got.MTLSAliases.TokenEndpoint != "" {
					t.Errorf("%s to the alias %s: %+v, %v", issuer, endpoint, got, err)
				}
			}
		}
	}
}

func TestParseMetadataNeedsLittle(t *testing.T) {
	tests := []struct{ name, body string }{
		{"a byte order mark", "\xef\xbb\xbf" + `{"issuer":"https://h","token_endpoint":"https://h/t"}`},
		{"methods that are a string", `{"issuer":"https://h","token_endpoint":"https://h/t","token_endpoint_auth_methods_supported":"client_secret_basic"}`},
		{"aliases that are a list", `{"issuer":"https://h","token_endpoint":"https://h/t","mtls_endpoint_aliases":[]}`},
		{"an alias that is a number", `{"issuer":"https://h","token_endpoint":"https://h/t","mtls_endpoint_aliases":{"token_endpoint":7}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := oauth.ParseMetadata([]byte(test.body), "https://h", false)
			if err != nil || got.TokenEndpoint != "https://h/t" || got.MTLSAliases.TokenEndpoint != "" || len(got.AuthMethodsSupported) > 0 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzMetadata(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, issuer string) {
		metadata, err := oauth.ParseMetadata(body, issuer, false)
		if err == nil {
			if metadata.Issuer != issuer {
				t.Errorf("issuer %q, want %q", metadata.Issuer, issuer)
			}
			checkEndpoint(t, metadata.TokenEndpoint)
			if strings.HasPrefix(issuer, "https:") && !strings.HasPrefix(strings.ToLower(metadata.TokenEndpoint), "https:") {
				t.Errorf("from %q to %q", issuer, metadata.TokenEndpoint)
			}
			if alias := metadata.MTLSAliases.TokenEndpoint; alias != "" {
				checkEndpoint(t, alias)
			}
		} else if !strings.HasPrefix(err.Error(), "reading the metadata of ") || len(err.Error()) > 4*(len(issuer)+700) {
			t.Errorf("error %v", err)
		}
		checkMetadataURLs(t, issuer)
	})
}

// checkEndpoint holds that a secret may be sent there.
func checkEndpoint(t *testing.T, endpoint string) {
	t.Helper()
	parsed, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ip := net.ParseIP(parsed.Hostname())
	loopback := parsed.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if parsed.Scheme != "https" && !loopback || parsed.Hostname() == "" || parsed.User != nil {
		t.Errorf("endpoint %q", endpoint)
	}
}

// checkMetadataURLs holds that an issuer's metadata is asked of the issuer's host alone.
func checkMetadataURLs(t *testing.T, issuer string) {
	t.Helper()
	parsed, err := url.Parse(issuer)
	if err != nil || parsed.Scheme != "https" || parsed.Host == "" || strings.ContainsAny(issuer, "?#") {
		return
	}
	for _, at := range oauth.MetadataURLs(issuer) {
		metadata, err := url.Parse(at)
		if err != nil || metadata.Host != parsed.Host || metadata.Scheme != "https" || !strings.Contains(metadata.EscapedPath(), "/.well-known/") {
			t.Errorf("the metadata of %q would be asked of %q: %v", issuer, at, err)
		}
	}
}
