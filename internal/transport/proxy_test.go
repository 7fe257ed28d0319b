package transport_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/transport"
)

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]struct{ host, user, password string }{
		"http://proxy:3128":                  {host: "proxy:3128"},
		"proxy:3128":                         {host: "proxy:3128"},
		" proxy\n":                           {host: "proxy"},
		"HTTPS://proxy/":                     {host: "proxy"},
		"socks5://[::1]:1080":                {host: "[::1]:1080"},
		"http://user@proxy":                  {host: "proxy", user: "user"},
		"http://user:p%40ss@proxy:1":         {"proxy:1", "user", "p@ss"},
		"http://user:pa#ss@proxy:1":          {"proxy:1", "user", "pa#ss"},
		"http://user:pa/ss?x@proxy:1/":       {"proxy:1", "user", "pa/ss?x"},
		"http://user:p@ss:word@proxy:1":      {"proxy:1", "user", "p@ss:word"},
		"user:12#34@proxy:1":                 {"proxy:1", "user", "12#34"},
		`http://dom\user:pa[]{}"ss@proxy:81`: {"proxy:81", `dom\user`, `pa[]{}"ss`},
	} {
		got, err := transport.ParseProxy(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		password, _ := got.User.Password()
		if got.Host != want.host || got.User.Username() != want.user || password != want.password {
			t.Errorf("%q: host %q, user %q, password %q", text, got.Host, got.User.Username(), password)
		}
	}
	for _, text := range []string{
		"", "http://", "http://canary:p%ss@proxy", "http://ca%nary@proxy", "http://canary@", "ftp://canary", "socks4://canary:1",
		"http://canary:port", "http://canary:99999", "http://canary:0", "http://[canary", "http://can ary:1", `"http://canary:1"`, "http:/canary",
	} {
		if got, err := transport.ParseProxy(text); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// A variable that cannot be read is an error of each request that it is about, and of no other.
func TestUnreadableVariables(t *testing.T) {
	for name, tc := range map[string]struct {
		variable, other, noProxy, at string
		fine                         bool
	}{
		"http":               {variable: "HTTP_PROXY", at: "http://192.0.2.9/token"},
		"https":              {variable: "HTTPS_PROXY", at: "https://192.0.2.9/token"},
		"in small letters":   {variable: "https_proxy", at: "https://192.0.2.9/token"},
		"small before large": {variable: "http_proxy", other: "HTTP_PROXY", at: "http://192.0.2.9/token"},
		"loopback":           {variable: "HTTP_PROXY", at: "http://127.0.0.1:1/token", fine: true},
		"excepted":           {variable: "HTTPS_PROXY", noProxy: "192.0.2.0/24", at: "https://192.0.2.9/token", fine: true},
		"for the other":      {variable: "HTTPS_PROXY", at: "http://192.0.2.9/token", fine: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
				t.Setenv(name, "")
			}
			t.Setenv(tc.variable, "http://user:canary%zz@127.0.0.1:1")
			if tc.other != "" {
				t.Setenv(tc.other, "http://127.0.0.1:1")
			}
			t.Setenv("NO_PROXY", tc.noProxy)
			made, err := transport.New(nil, "")
			if err != nil {
				t.Fatal(err)
			}
			via, err := made.Proxy(httptest.NewRequest(http.MethodPost, tc.at, nil))
			var about *transport.ProxyError
			if tc.fine {
				if err != nil || via != nil {
					t.Errorf("by %v, %v", via, err)
				}
			} else if !errors.As(err, &about) || !about.Setting || !strings.Contains(err.Error(), "variable "+tc.variable+" ") || strings.Contains(err.Error(), "canary") {
				t.Errorf("by %v, %v", via, err)
			}
		})
	}
}

func TestProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("https_proxy", "")
	t.Setenv("HTTPS_PROXY", "user:pa#ss/word@192.0.2.1:3128")
	made, err := transport.New(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	via, err := made.Proxy(httptest.NewRequest(http.MethodPost, "https://192.0.2.9/token", nil))
	if err != nil || via.Host != "192.0.2.1:3128" {
		t.Fatalf("by %v, %v", via, err)
	}
	if password, _ := via.User.Password(); password != "pa#ss/word" {
		t.Errorf("password %q", password)
	}
}

// What a proxy answers in the server's place says so, with its host and what to do.
func TestProxyRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		offers []string
		user   string
		want   []string
	}{
		"wants authentication": {407, []string{`Basic realm="x"`}, "", []string{"407 Proxy Authentication Required", "put the user and password"}},
		"wrong password":       {407, []string{"Negotiate", "basic"}, "user:canary@", []string{"does not accept the user and password"}},
		"NTLM only":            {407, []string{"NTLM", "Negotiate"}, "", []string{"cntlm"}},
		"forbidden":            {403, nil, "", []string{"403 Forbidden", "ask who runs it to let this host through"}},
		"method not allowed":   {405, nil, "", []string{"405 Method Not Allowed"}},
		"too many":             {429, nil, "", []string{"429 Too Many Requests"}},
		"bad gateway":          {502, nil, "", []string{"502 Bad Gateway", "it could not reach the server itself"}},
		"unavailable":          {503, nil, "user:canary@", []string{"503 Service Unavailable"}},
		"a redirect":           {302, nil, "", []string{"302 Found"}},
		"no content":           {204, nil, "", []string{"204 No Content"}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for _, offer := range tc.offers {
					w.Header().Add("Proxy-Authenticate", offer)
				}
				w.WriteHeader(tc.status)
			}))
			t.Cleanup(proxy.Close)
			made, err := transport.New(nil, strings.Replace(proxy.URL, "//", "//"+tc.user, 1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(made.CloseIdleConnections)
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://192.0.2.9/token", nil)
			response, err := made.RoundTrip(request)
			if err == nil {
				response.Body.Close()
				t.Fatal("it answered")
			}
			at, _ := url.Parse(proxy.URL)
			text := transport.Explain(err)
			for _, want := range append(tc.want, fmt.Sprintf("the proxy %q refused", at.Host)) {
				if !strings.Contains(text, want) {
					t.Errorf("error %q does not say %q", text, want)
				}
			}
			if strings.Contains(text, "canary") {
				t.Errorf("error %q", text)
			}
		})
	}
}

func TestProxyIsNotThere(t *testing.T) {
	made, err := transport.New(nil, "http://user:canary@127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://192.0.2.9/token", nil)
	response, err := made.RoundTrip(request)
	if err == nil {
		response.Body.Close()
		t.Fatal("it answered")
	}
	if text := transport.Explain(err); !strings.HasPrefix(text, "connecting to the proxy: dial tcp 127.0.0.1:1") || strings.Contains(text, "canary") {
		t.Errorf("error %q", text)
	}
}

// Whatever a proxy's URL is, it is read with a host, or refused without being shown.
func FuzzParseProxy(f *testing.F) {
	for _, seed := range []string{"", "http://user:p%ss@proxy", "user:pa#ss/word@proxy:3128", "socks5://[::1]:1", "http://[", "https://@:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		proxy, err := transport.ParseProxy(text)
		if err == nil && (proxy.Hostname() == "" || proxy.Scheme == "") {
			t.Errorf("%q became %q", text, proxy)
		}
		if err != nil && len(text) > 90 && strings.Contains(err.Error(), text) {
			t.Errorf("error %q", err)
		}
	})
}
