package gate

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

// hostWaits are waits that another command was asked for.
type hostWaits map[Key]time.Time

func (w hostWaits) Until(server, clientID string) (time.Time, error) {
	return w[Key{ClientID: clientID, Server: server}], nil
}

func (hostWaits) Extend(string, string, time.Time) error { return nil }

func (hostWaits) Turn(string, string) (done func(), taken bool) { return func() {}, true }

// newWaiting makes a client of one provider that goes by waits.
func newWaiting(waits hostWaits, cfg config.Client) (*Set, *Client) {
	log := slog.New(slog.DiscardHandler)
	gates := NewSet(Options{
		Waits: waits, Waiting: func() {}, Recovered: func([]*config.Client, time.Time) {}, Log: log,
		Roll: func(string) func() float64 { return func() float64 { return 0 } }, Metrics: metrics.New(prometheus.NewRegistry(), "test"),
	})
	return gates, gates.NewClient(&cfg, func(provider.Spec) provider.Provider { return granting{} }, nil)
}

// TestIssuerIsNotAskedWithinItsWait: another command was asked to wait when it read the metadata.
func TestIssuerIsNotAskedWithinItsWait(t *testing.T) {
	var asked atomic.Int32
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer issuer.Close()
	cfg := config.Client{Name: "client", Issuer: issuer.URL, AllowInsecureHTTP: true, ClientID: "id", RequestTimeout: time.Minute}
	gates, c := newWaiting(hostWaits{{ClientID: "id", Server: exchange.ServerOf(cfg)}: time.Now().Add(time.Hour)}, cfg)
	gates.Start(t.Context())
	defer gates.Stop()
	answers := make(chan exchange.Answer, 1)
	c.Gate().Enqueue(Request{
		Ctx: t.Context(), Client: c, Token: "a", Once: true,
		Form: func() url.Values { return url.Values{} },
		Sending: func(policy.Gate, time.Time) <-chan error {
			t.Error("a request is noted that is not to be sent")
			noted := make(chan error)
			close(noted)
			return noted
		},
		Reply: func(a exchange.Answer) { answers <- a },
	})
	if got := <-answers; got.Failure == nil || got.Failure.Class != policy.Throttled || !got.Failure.Local {
		t.Errorf("the answer is %+v", got.Failure)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestHeldRequestIsNotSentUnprepared: the wait that held it back may be over a moment later.
func TestHeldRequestIsNotSentUnprepared(t *testing.T) {
	_, c := newWaiting(nil, config.Client{Name: "client", TokenURL: "https://login.example.com/token", ClientID: "id", RequestTimeout: time.Minute})
	g, now := c.Gate(), time.Now()
	g.ctx = t.Context()
	g.underWay[c]++
	g.prepared(Request{Ctx: t.Context(), Client: c, Token: "a"}, now, found{key: g.key, waits: now, held: true})
	if len(g.state.Recent) != 0 || len(g.line.waiting) != 1 || g.total() != 0 {
		t.Errorf("%d sent, %d in line, %d under way", len(g.state.Recent), len(g.line.waiting), g.total())
	}
}

// slowDisk notes one request after another; it holds a value while it does.
type slowDisk chan struct{}

func (d slowDisk) note(policy.Gate, time.Time) <-chan error {
	noted := make(chan error, 1)
	go func() {
		d <- struct{}{}
		<-time.After(10 * time.Millisecond)
		<-d
		close(noted)
	}()
	return noted
}

// TestManyClientsDoNotOverwhelmTheDisk: of a thousand clients that are due at once every request is noted
// before it is sent, on a disk that takes longer for all of them than one waits.
func TestManyClientsDoNotOverwhelmTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 1_000
		gates := NewSet(Options{
			Waits: hostWaits{}, Waiting: func() {}, Recovered: func([]*config.Client, time.Time) {}, StrictNotes: true,
			Log: slog.New(slog.DiscardHandler), Roll: func(string) func() float64 { return func() float64 { return 0 } },
			Metrics: metrics.New(prometheus.NewRegistry(), "test"),
		})
		gates.Start(t.Context())
		defer gates.Stop()
		disk := make(slowDisk, 1)
		answers := make(chan exchange.Answer, clients)
		for i := range clients {
			c := gates.NewClient(&config.Client{
				Name: fmt.Sprint("client", i), TokenURL: "https://login.example.com/token", ClientID: fmt.Sprint("id", i), RequestTimeout: time.Minute,
			}, func(provider.Spec) provider.Provider { return granting{} }, nil)
			c.Gate().Enqueue(Request{
				Ctx: t.Context(), Client: c, Token: "a", Form: func() url.Values { return url.Values{} },
				Sending: disk.note, Reply: func(a exchange.Answer) { answers <- a },
			})
		}
		for range clients {
			if got := <-answers; got.Failure != nil {
				t.Fatalf("the answer is %+v", got.Failure)
			}
		}
	})
}
