package doctor

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
)

// clockServer answers with a Date that is off, and counts what it is asked.
func clockServer(t *testing.T, off time.Duration, header map[string]string) (server *httptest.Server, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodHead || r.ContentLength > 0 || r.URL.Path != "/" {
			t.Errorf("the server was sent %s %s with %d bytes", r.Method, r.URL, r.ContentLength)
		}
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		for name, value := range header {
			w.Header().Set(name, value)
		}
		if header["Date"] == "none" {
			w.Header()["Date"] = nil
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	t.Cleanup(server.Close)
	return server, asked
}

func clientOf(url string) config.Client {
	return config.Client{Name: "app", TokenURL: url + "/token", RequestTimeout: 10 * time.Second}
}

func TestClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		off    time.Duration
		header map[string]string
		want   []want
	}{
		"right":            {0, nil, nil},
		"nearly":           {-50 * time.Second, nil, nil},
		"behind":           {2 * time.Minute, nil, []want{{Warning, "behind that of http://127.0.0.1", "refuses", "set-ntp"}}},
		"ahead":            {-2 * time.Minute, nil, []want{{Warning, "ahead of that of http://127.0.0.1", "", ""}}},
		"far behind":       {time.Hour, nil, []want{{Problem, "behind", "", ""}}},
		"far ahead":        {-6 * time.Minute, nil, []want{{Problem, "ahead of", "", ""}}},
		"from a cache":     {-time.Hour, map[string]string{"Age": "3600"}, nil},
		"a cache of words": {-time.Hour, map[string]string{"Age": "old"}, []want{{Problem, "ahead of", "", ""}}},
		"no Date":          {0, map[string]string{"Date": "none"}, []want{{Note, "could not be compared", "", ""}}},
		"no Date that is":  {0, map[string]string{"Date": "noon"}, []want{{Note, "could not be compared", "", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			server, asked := clockServer(t, tc.off, tc.header)
			e := newExam(config.Config{Clients: []config.Client{clientOf(server.URL)}})
			check(t, e.clocks(t.Context()), tc.want...)
			if n := asked.Load(); n != 1 {
				t.Errorf("the server was asked %d times, want once", n)
			}
		})
	}
}

func TestServerOutOfReach(t *testing.T) {
	check(t, newExam(config.Config{Clients: []config.Client{clientOf("http://127.0.0.1:1")}}).clocks(t.Context()),
		want{Warning, "127.0.0.1:1 could not be reached", "no new token", "network, proxy and ca_file"})

	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	c := clientOf(server.URL)
	check(t, newExam(config.Config{Clients: []config.Client{c}}).clocks(t.Context()), want{Warning, "certificate signed by unknown authority", "", "ca_file"})

	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c.CAFile = write(t, filepath.Join(t.TempDir(), "ca.pem"), string(root), 0o644)
	check(t, newExam(config.Config{Clients: []config.Client{c}}).clocks(t.Context()))
	c.CAFile += ".no"
	check(t, newExam(config.Config{Clients: []config.Client{c}}).clocks(t.Context()), want{Warning, "reading ca_file", "", ""})
}

// TestServerThatWantsToBeLeftAlone: what it asked for holds for this too.
func TestServerThatWantsToBeLeftAlone(t *testing.T) {
	server, asked := clockServer(t, time.Hour, nil)
	e := newExam(config.Config{Clients: []config.Client{clientOf(server.URL)}})
	until := e.now.Add(time.Minute)
	e.running = &status.Status{Clients: []status.Client{{Name: "app", Gate: status.Gate{BlockedUntil: &until}}}}
	check(t, e.clocks(t.Context()), want{Note, "wants to be left alone", "", ""})
	if asked.Load() != 0 {
		t.Error("the server was asked nevertheless")
	}
	over := e.now.Add(-time.Minute)
	e.running.Clients[0].Gate.BlockedUntil = &over
	check(t, e.clocks(t.Context()), want{Problem, "behind", "", ""})
}

// TestOneRequestToAServer: clients that share a server share its answer.
func TestOneRequestToAServer(t *testing.T) {
	host, asked := clockServer(t, time.Hour, nil)
	one, other, issuer := clientOf(host.URL), clientOf(host.URL), clientOf("")
	other.Name, other.TokenURL = "other", host.URL+"/elsewhere"
	issuer.Name, issuer.TokenURL, issuer.Issuer = "issuer", "", host.URL+"/issuer"
	found := newExam(config.Config{Clients: []config.Client{one, other, issuer}}).clocks(t.Context())
	check(t, found, want{Problem, "behind that of " + host.URL, "", ""})
	if len(found[0].About) != 3 || asked.Load() != 1 {
		t.Errorf("it is about %q, and the server was asked %d times", found[0].About, asked.Load())
	}
}

func TestServerOf(t *testing.T) {
	for want, c := range map[string]config.Client{
		"https://login.example.com":     {TokenURL: "https://login.example.com/token?x=y"},
		"https://login.example.com:444": {Issuer: "https://login.example.com:444/a/"},
		"https://login.microsoftonline.com": {
			Entra: &config.Entra{Tenant: "contoso.com", Authority: "https://login.microsoftonline.com"},
		},
	} {
		if got := serverOf(c).at; got != want {
			t.Errorf("it is asked at %s, want %s", got, want)
		}
	}
}
