package oauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/credagent/credagent/internal/loopback"
)

// Metadata is the part of an authorization server's metadata (RFC 8414, 2) that credagent uses.
type Metadata struct {
	Issuer               string   `json:"issuer"`
	TokenEndpoint        string   `json:"token_endpoint"`
	AuthMethodsSupported []string `json:"token_endpoint_auth_methods_supported"`
	MTLSAliases          struct {
		TokenEndpoint string `json:"token_endpoint"`
	} `json:"mtls_endpoint_aliases"` // RFC 8705, 5
}

// MetadataURLs returns the possible URLs of an issuer's metadata, in the order to try: OpenID Connect
// Discovery 1.0, 4, then RFC 8414, 3.1, which puts the issuer's path after the well-known part.
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

// IssuerError means that metadata belongs to another issuer. Retrying does not help.
type IssuerError struct{ Wanted, Found string }

// Error implements error.
func (e *IssuerError) Error() string {
	return fmt.Sprintf("reading the metadata of %q: it is for issuer %q; configure the issuer exactly as the server spells it, or token_url in its place", e.Wanted, e.Found)
}

// EndpointError means that metadata names no usable token endpoint. Retrying does not help.
type EndpointError struct{ Issuer, Why string }

// Error implements error.
func (e *EndpointError) Error() string {
	return fmt.Sprintf("reading the metadata of %q: token_endpoint %s", e.Issuer, e.Why)
}

// wireMetadata is the document as sent; unused fields may have any type.
type wireMetadata struct {
	Issuer        string          `json:"issuer"`
	TokenEndpoint string          `json:"token_endpoint"`
	AuthMethods   json.RawMessage `json:"token_endpoint_auth_methods_supported"`
	MTLSAliases   json.RawMessage `json:"mtls_endpoint_aliases"`
}

// ParseMetadata reads a metadata document and checks that it is the issuer's own (RFC 8414, 3.3; else
// its error is an [*IssuerError]) and that its endpoints are allowed.
func ParseMetadata(body []byte, issuer string, allowInsecureHTTP bool) (Metadata, error) {
	var wire wireMetadata
	body = bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark)
	if err := json.Unmarshal(body, &wire); err != nil {
		return Metadata{}, fmt.Errorf("reading the metadata of %q: %s", issuer, notJSON(body))
	}
	if wire.Issuer != issuer {
		return Metadata{}, &IssuerError{Wanted: issuer, Found: Printable(wire.Issuer)}
	}
	if err := checkEndpoint(wire.TokenEndpoint, issuer, allowInsecureHTTP); err != nil {
		return Metadata{}, &EndpointError{Issuer: issuer, Why: err.Error()}
	}
	metadata := Metadata{Issuer: wire.Issuer, TokenEndpoint: wire.TokenEndpoint}
	if json.Unmarshal(wire.AuthMethods, &metadata.AuthMethodsSupported) != nil {
		metadata.AuthMethodsSupported = nil
	}
	if json.Unmarshal(wire.MTLSAliases, &metadata.MTLSAliases) != nil || checkEndpoint(metadata.MTLSAliases.TokenEndpoint, issuer, allowInsecureHTTP) != nil {
		metadata.MTLSAliases.TokenEndpoint = ""
	}
	return metadata, nil
}

// IsMetadata reports whether a document is metadata at all, of whatever issuer: a web application
// answers to any address with its start page.
func IsMetadata(body []byte) bool {
	var wire wireMetadata
	return json.Unmarshal(bytes.TrimPrefix(bytes.TrimSpace(body), byteOrderMark), &wire) == nil && wire.Issuer+wire.TokenEndpoint != ""
}

// checkEndpoint checks that a credential may be sent there: to https, or to http if the configuration allows it or
// the issuer itself is http on loopback. An https issuer never leads to http, so that someone who can write an
// issuer's metadata cannot make the agent send the credential unencrypted to a program on this host.
func checkEndpoint(endpoint, issuer string, allowInsecureHTTP bool) error {
	parsed, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		return fmt.Errorf("is missing")
	case err != nil || parsed.Hostname() == "" || parsed.User != nil || parsed.Fragment != "":
		return fmt.Errorf("is not a usable URL")
	case parsed.Scheme == "https":
		return nil
	case parsed.Scheme == "http" && !isHTTPS(issuer) && (allowInsecureHTTP || loopback.IsHost(parsed.Hostname())):
		return nil
	}
	return fmt.Errorf("%q is not https", Printable(endpoint))
}

func isHTTPS(issuer string) bool {
	parsed, err := url.Parse(issuer)
	return err != nil || parsed.Scheme == "https"
}
