package assertion

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

// signature is what every token of these tests holds, and no error may show.
const signature = "Y2FuYXJ5LXNpZ25hdHVyZQ"

// signed is a JWT as somebody else would have signed it.
func signed(alg, claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode(fmt.Appendf(nil, `{"alg":%q}`, alg)) + "." + encode([]byte(claims)) + "." + signature
}

// token is a JWT that ends after so long.
func token(left time.Duration) string {
	return signed("RS256", fmt.Sprintf(`{"sub":"workload","exp":%d}`, time.Now().Add(left).Unix()))
}

// platform is what hands out tokens, of some kind, and what it was asked.
type platform struct {
	*httptest.Server
	asked []*http.Request
	// handle answers in place of the platform.
	handle http.HandlerFunc
}

// newPlatform serves what a kind of source asks.
func newPlatform(t *testing.T, handle http.HandlerFunc) *platform {
	t.Helper()
	p := unstarted(t, handle)
	p.Start()
	return p
}

// newSecurePlatform is one that is asked by TLS.
func newSecurePlatform(t *testing.T, handle http.HandlerFunc) *platform {
	t.Helper()
	p := unstarted(t, handle)
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	return p
}

func unstarted(t *testing.T, handle http.HandlerFunc) *platform {
	p := &platform{handle: handle}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked := r.Clone(t.Context())
		asked.Body = io.NopCloser(bytes.NewReader(body))
		p.asked = append(p.asked, asked)
		p.handle(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// variables is a host whose environment holds these.
func variables(all map[string]string) host {
	return host{getenv: func(name string) string { return all[name] }}
}

// answering answers with a status and a body.
func answering(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// opened opens a configuration that must be sound.
func opened(t *testing.T, h host, config string) Source {
	t.Helper()
	source, err := configured(t, config).openOn(h)
	if err != nil {
		t.Fatalf("opening %s: %v", config, err)
	}
	return source
}

func configured(t *testing.T, config string) Config {
	t.Helper()
	var c Config
	if err := plugins.DecodeConfig(json.RawMessage(config), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// fails asks a source that must fail, checks that nothing secret shows, and returns its error.
func fails(t *testing.T, s Source, want string, secrets ...string) error {
	t.Helper()
	jwt, err := s.JWT(t.Context())
	if err == nil {
		t.Fatalf("it handed out %+v", jwt)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	for _, secret := range append(secrets, signature, "canary-") {
		credtest.CheckHidden(t, err.Error(), []byte(secret))
	}
	return err
}
