package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// ProxyError is a failure of the proxy; nothing has reached the server behind it. It never contains the proxy's
// password.
type ProxyError struct {
	Message string
	Setting bool // the configured proxy is unusable; nothing was sent at all
}

// Error implements error.
func (e *ProxyError) Error() string { return e.Message }

// unreadable replaces an unreadable proxy, to find out whether a request would use it.
const unreadable = "http://unreadable.invalid"

// fromEnvironment chooses the proxy as net/http does, except that an unreadable variable is an error for every
// request that it applies to, and not a direct connection.
func fromEnvironment() func(*http.Request) (*url.URL, error) {
	environment := httpproxy.FromEnvironment()
	plain, errPlain := readVariable(&environment.HTTPProxy, "http_proxy", "HTTP_PROXY")
	secure, errSecure := readVariable(&environment.HTTPSProxy, "https_proxy", "HTTPS_PROXY")
	choose := environment.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) {
		chosen, err := choose(r.URL)
		switch {
		case err != nil || chosen == nil:
			return nil, err
		case r.URL.Scheme == "https":
			return secure, errSecure
		}
		return plain, errPlain
	}
}

// readVariable reads a proxy and replaces its value with one for the choice.
func readVariable(value *string, names ...string) (*url.URL, error) {
	if *value == "" {
		return nil, nil
	}
	proxy, err := ParseProxy(*value)
	*value = unreadable
	if err != nil {
		set := slices.IndexFunc(names, func(name string) bool { return os.Getenv(name) != "" })
		return nil, &ProxyError{Message: fmt.Sprintf("the environment variable %s is not a proxy that can be used: %v", names[max(set, 0)], err), Setting: true}
	}
	return proxy, nil
}

// ParseProxy reads a proxy's URL, [SCHEME://][USER[:PASSWORD]@]HOST[:PORT]. Its password may contain any character
// literally, except that a percent sign begins an escape. Its errors show nothing of the URL.
func ParseProxy(text string) (*url.URL, error) {
	scheme, rest, found := strings.Cut(strings.TrimSpace(text), "://")
	if !found {
		scheme, rest = "http", strings.TrimSpace(text)
	}
	scheme = strings.ToLower(scheme)
	if !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, scheme) {
		return nil, errors.New("its scheme is none of http, https, socks5, socks5h")
	}
	var user *url.Userinfo
	// Use the last one: a host contains none, and a path, which could, is meaningless in a proxy's URL.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		var err error
		if user, err = parseUser(rest[:at]); err != nil {
			return nil, err
		}
		rest = rest[at+1:]
	}
	parsed, err := url.Parse(scheme + "://" + rest)
	if err != nil || parsed.Hostname() == "" || strings.HasSuffix(parsed.Host, ":") || strings.ContainsAny(parsed.Hostname(), " \"'<>\\") {
		return nil, errors.New("it holds no HOST:PORT; it is written http://USER:PASSWORD@HOST:PORT")
	}
	if port := parsed.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errors.New("its port is not one of 1 to 65535")
		}
	}
	return &url.URL{Scheme: scheme, User: user, Host: parsed.Host}, nil
}

func parseUser(text string) (*url.Userinfo, error) {
	name, password, hasPassword := strings.Cut(text, ":")
	name, errName := url.PathUnescape(name)
	password, errPassword := url.PathUnescape(password)
	if errName != nil || errPassword != nil {
		return nil, errors.New("a % in its user or password begins no escape; write the sign itself as %25")
	}
	if !hasPassword {
		return url.User(name), nil
	}
	return url.UserPassword(name, password), nil
}

// refusedConnect returns the error for a proxy's refusal of CONNECT.
func refusedConnect(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return ProxyRefusal(proxy, answer)
}

// ProxyRefusal returns the error for a proxy's own answer.
func ProxyRefusal(proxy *url.URL, answer *http.Response) *ProxyError {
	what := fmt.Sprintf("the proxy %q refused the connection to the server: %d %s", proxy.Host, answer.StatusCode, http.StatusText(answer.StatusCode))
	switch {
	case answer.StatusCode == http.StatusProxyAuthRequired && proxy.User == nil:
		what += "; put the user and password that it wants into its URL, http://USER:PASSWORD@HOST:PORT"
	case answer.StatusCode == http.StatusProxyAuthRequired:
		what += "; it does not accept the user and password in its URL"
	case answer.StatusCode >= http.StatusInternalServerError:
		what += "; it could not reach the server itself: ask who runs it"
	default:
		what += "; ask who runs it to let this host through to the server"
	}
	if answer.StatusCode == http.StatusProxyAuthRequired && !offersBasic(answer.Header) {
		what += ". It offers no Basic authentication, the only one that credagent speaks; for NTLM or Kerberos put a local proxy such as cntlm or px between them"
	}
	return &ProxyError{Message: what}
}

// offersBasic reports whether a proxy offers Basic authentication, or names no method.
func offersBasic(header http.Header) bool {
	offers := header.Values("Proxy-Authenticate")
	return len(offers) == 0 || slices.ContainsFunc(offers, func(offer string) bool {
		return strings.Contains(strings.ToLower(" "+offer), " basic")
	})
}
