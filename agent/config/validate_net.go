package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/credagent/credagent/internal/loopback"
	"github.com/credagent/credagent/internal/transport"
)

var hostPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?$`) })

func (v *validator) listen(t text) string {
	if !t.set {
		return defaultListen
	}
	value, ok := v.optional("listen", t)
	if ok {
		v.hostPort("listen", t)
	}
	return value
}

// usualPort is the port in the examples.
func usualPort(path string) string {
	switch {
	case strings.HasPrefix(path, "identity_endpoint"):
		return "9466"
	case strings.HasPrefix(path, "auth_sidecar"):
		return "9467"
	}
	return "9465"
}

// isAddress reports whether the value at a path is host:port.
func isAddress(path string) bool {
	return slices.Contains([]string{"listen", "identity_endpoint.listen", "auth_sidecar.listen"}, path)
}

// addressFrom returns an address of this host from a text with only a port or only a host.
func addressFrom(text string) string {
	switch _, err := netip.ParseAddr(text); {
	case isNumber(text):
		return "127.0.0.1:" + text
	case text == "localhost" || err == nil:
		return net.JoinHostPort(text, "9465")
	}
	return "127.0.0.1:9465"
}

// hostPort checks host:port and returns the host.
func (v *validator) hostPort(path string, t text) string {
	host, port, err := net.SplitHostPort(t.value)
	if err != nil {
		usual := addressFrom(usualPort(path))
		if !t.fromEnv {
			usual = addressFrom(cmp.Or(t.value, usualPort(path)))
		}
		v.hinted(path, "an address such as "+usual, "%v is not host:port", t)
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 32); err != nil || n > 65535 {
		v.problem(path, "%v does not end in a port number from 0 to 65535", t)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostPattern().MatchString(host) {
		v.problem(path, "%v does not start with a host name or IP address", t)
	}
	return host
}

func (v *validator) socket(raw *rawSocket) *Socket {
	if raw == nil {
		return nil
	}
	s := &Socket{
		Path:  v.file("socket", "path", raw.Path),
		Mode:  v.mode("socket.mode", raw.Mode),
		Group: v.account("socket.group", raw.Group),
	}
	// sun_path of unix(7) holds 108 bytes with the final zero.
	if len(s.Path) > 107 {
		v.problem("socket.path", "longer than the 107 bytes that a unix socket's path may have")
	}
	v.writes("socket.path", s.Path)
	return s
}

func (v *validator) identity(raw *rawIdentityEndpoint) *IdentityEndpoint {
	const path = "identity_endpoint"
	if raw == nil {
		return nil
	}
	e := &IdentityEndpoint{HeaderFile: v.file(path, "header_file", raw.HeaderFile), TokenFor: map[string]string{}}
	v.writes(join(path, "header_file"), e.HeaderFile)

	e.Listen = v.loopbackListen(path, raw.Listen)
	if len(raw.TokenFor) == 0 {
		v.missing(path, "token_for")
	}
	for _, resource := range sortedKeys(raw.TokenFor) {
		if scoped, isScope := strings.CutSuffix(resource, "/.default"); isScope {
			v.add(join(join(path, "token_for"), resource), "SDKs ask for "+quote(scoped), quote(resource)+" is a scope, not a resource")
		}
		e.TokenFor[resource] = v.tokenName(join(path, "token_for"), resource, raw.TokenFor[resource])
	}
	return e
}

// loopbackListen returns the address in the listen key of a server for this host only.
func (v *validator) loopbackListen(path string, t text) string {
	listen, ok := v.required(path, "listen", t)
	if !ok {
		return ""
	}
	at := join(path, "listen")
	host := v.hostPort(at, t)
	if !v.silenced[at] && !loopback.IsHost(host) {
		v.hinted(at, "an address such as 127.0.0.1:"+usualPort(path), "%v is not a loopback address", t)
	}
	return listen
}

func (v *validator) sidecar(raw *rawAuthSidecar) *AuthSidecar {
	const path = "auth_sidecar"
	if raw == nil {
		return nil
	}
	s := &AuthSidecar{Listen: v.loopbackListen(path, raw.Listen), TokenFor: map[string]string{}}
	if len(raw.TokenFor) == 0 {
		v.missing(path, "token_for")
	}
	for _, api := range sortedKeys(raw.TokenFor) {
		at := join(join(path, "token_for"), api)
		s.TokenFor[api] = v.tokenName(join(path, "token_for"), api, raw.TokenFor[api])
		allow := v.raw.Tokens[s.TokenFor[api]].Allow
		if len(allow) > 0 && !slices.ContainsFunc(allow, func(p rawPrincipal) bool { return p.User.set }) {
			v.warn(at, "token %s allows groups only, but for a TCP connection the kernel reports only the user; list users too", quote(s.TokenFor[api]))
		}
	}
	return s
}

// separateListeners refuses two servers on one port.
func (v *validator) separateListeners(c *Config) {
	taken := map[string]string{c.Listen: "listen"}
	for _, next := range []struct{ path, address string }{
		{"identity_endpoint.listen", c.identityListen()}, {"auth_sidecar.listen", c.sidecarListen()},
	} {
		if next.address == "" || strings.HasSuffix(next.address, ":0") {
			continue
		}
		if first, both := taken[next.address]; both {
			v.problem(next.path, "the same address as %s", v.place(first))
			continue
		}
		taken[next.address] = next.path
	}
}

func (c *Config) identityListen() string {
	if c.Identity == nil {
		return ""
	}
	return c.Identity.Listen
}

func (c *Config) sidecarListen() string {
	if c.Sidecar == nil {
		return ""
	}
	return c.Sidecar.Listen
}

// endpoint checks a URL that credentials are sent to, and returns nil if it is invalid. Its messages do not show the
// value, which may contain a password.
func (v *validator) endpoint(path string, t text, insecure bool) *url.URL {
	value, ok := v.optional(path, t)
	if !ok {
		return nil
	}
	if v.unseen(path, value) {
		return nil
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || !isPort(u.Port()):
		v.hinted(path, "an address such as https://login.example.com/token", "not an absolute URL")
	case u.User != nil:
		v.hinted(path, secretHint, "a user or password in a URL")
	case strings.Contains(value, "#"):
		v.problem(path, "a URL with a fragment")
	case u.Scheme == "http" && !insecure && !loopback.IsHost(u.Hostname()):
		v.hinted(path, "use https; for a closed test network the file can say allow_insecure_http: true on the client", "a plain http URL: credentials would be sent in the clear")
	case u.Scheme != "https" && u.Scheme != "http":
		v.hinted(path, "use https", "a URL that is not https")
	default:
		return u
	}
	return nil
}

// unseen reports invisible characters in a URL: spaces, and characters picked up by copying.
func (v *validator) unseen(path, value string) bool {
	for _, r := range value {
		if !unicode.IsGraphic(r) || unicode.IsSpace(r) {
			v.hinted(path, "write it anew, without what came along when it was copied", "%s in a URL", charName(r))
			return true
		}
	}
	return false
}

func charName(r rune) string {
	if r == ' ' {
		return "a blank"
	}
	return fmt.Sprintf("%U, which nobody sees,", r)
}

func isPort(s string) bool {
	if s == "" {
		return true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func (v *validator) proxy(path string, t text) string {
	value, ok := v.optional(path, t)
	if !ok {
		return ""
	}
	scheme, rest, found := strings.Cut(value, "://")
	u, err := transport.ParseProxy(value)
	host := rest[strings.LastIndexByte(rest, '@')+1:] // a password may contain anything
	switch {
	case v.unseen(path, scheme+host):
	case !found:
		v.hinted(path, "an address such as http://proxy:3128", "not a proxy's URL")
	case !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, strings.ToLower(scheme)):
		v.problem(path, "a proxy's URL starts with http://, https://, socks5:// or socks5h://")
	case err != nil:
		v.hinted(path, "an address such as http://proxy:3128", "not a proxy's URL: %v", err)
	case strings.ContainsAny(strings.TrimSuffix(host, "/"), "/?#"):
		v.problem(path, "a proxy's URL ends after its host and port")
	case u.User != nil && !t.fromEnv:
		v.hinted(path, `take the whole URL from the environment: "${PROXY_URL}"`, "a user or password in this file")
	default:
		v.hide(t)
		if password, has := u.User.Password(); has {
			v.expanded = append(v.expanded, password)
		}
		return value
	}
	return ""
}
