package oauth

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Metadata is what credagent uses of an authorization server's metadata (RFC 8414, 2).
type Metadata struct {
	Issuer               string   `json:"issuer"`
	TokenEndpoint        string   `json:"token_endpoint"`
	AuthMethodsSupported []string `json:"token_endpoint_auth_methods_supported"`
	MTLSAliases          struct {
		TokenEndpoint string `json:"token_endpoint"`
	} `json:"mtls_endpoint_aliases"` // RFC 8705, 5
}

// MetadataURLs returns where an issuer's metadata may be, in the order to ask: OpenID Connect
// Discovery 1.0, 4, then RFC 8414, 3.1, which puts the issuer's path behind the well-known part.
func MetadataURLs(issuer string) []string {
	trimmed := strings.TrimSuffix(issuer, "/")
	urls := []string{trimmed + "/.well-known/openid-configuration"}
	if parsed, err := url.Parse(trimmed); err == nil {
		const wellKnown = "/.well-known/oauth-authorization-server"
		parsed.RawPath = wellKnown + parsed.EscapedPath()
		parsed.Path = wellKnown + parsed.Path
		urls = append(urls, parsed.String())
	}
	return urls
}

// ParseMetadata reads a metadata document and checks that it is the issuer's own (RFC 8414, 3.3)
// and that its endpoints may be used.
func ParseMetadata(body []byte, issuer string, allowInsecureHTTP bool) (Metadata, error) {
	var metadata Metadata
	if err := json.Unmarshal(body, &metadata); err != nil {
		return Metadata{}, fmt.Errorf("reading the metadata of %q: %s", issuer, notJSON(body))
	}
	if metadata.Issuer != issuer {
		return Metadata{}, fmt.Errorf("reading the metadata of %q: it is for issuer %q; configure the issuer exactly as the server spells it", issuer, Printable(metadata.Issuer))
	}
	if err := checkEndpoint(metadata.TokenEndpoint, allowInsecureHTTP); err != nil {
		return Metadata{}, fmt.Errorf("reading the metadata of %q: token_endpoint %w", issuer, err)
	}
	if alias := metadata.MTLSAliases.TokenEndpoint; alias != "" && checkEndpoint(alias, allowInsecureHTTP) != nil {
		metadata.MTLSAliases.TokenEndpoint = ""
	}
	return metadata, nil
}

func checkEndpoint(endpoint string, allowInsecureHTTP bool) error {
	parsed, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		return fmt.Errorf("is missing")
	case err != nil || parsed.Hostname() == "" || parsed.User != nil || parsed.Fragment != "":
		return fmt.Errorf("is not a usable URL")
	case parsed.Scheme == "https":
		return nil
	case parsed.Scheme == "http" && (allowInsecureHTTP || isLoopback(parsed.Hostname())):
		return nil
	}
	return fmt.Errorf("%q is not https", Printable(endpoint))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
