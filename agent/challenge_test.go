package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/token"
)

// newerThan is a claims request for a token that is newer than an instant.
func newerThan(second int) string {
	return fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, second)
}

// www is the WWW-Authenticate value that asks for claims.
func www(claims string) string {
	return `Bearer realm="", error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
}

// withCapability is what a request asks for that answers challenges with these claims.
func withCapability(claims string) string { return oauth.MergeClaims(oauth.ClientCapability, claims) }

// challenged is a fixture of one token "a" with cae: true, and the server behind it.
type challenged struct {
	*fixture

	mu     sync.Mutex
	took   time.Duration // guarded by mu, as is all that follows: how long an answer takes
	answer func(n int, claims string) provider.Reply
	sent   []time.Time
	claims []string // of each request
}

func newChallenged(answer func(n int, claims string) provider.Reply) *challenged {
	c := &challenged{answer: answer}
	f := newFixture(nil, "a")
	cfg := *f.agent.parts.config()
	cfg.Tokens[0].CAE = true
	f.make(&cfg, c.exchange)
	c.fixture = f
	return c
}

func (c *challenged) exchange(_ context.Context, r provider.Request) (provider.Reply, error) {
	c.mu.Lock()
	c.sent, c.claims = append(c.sent, time.Now()), append(c.claims, r.Form.Get("claims"))
	reply, took := c.answer(len(c.sent), r.Form.Get("claims")), c.took
	c.mu.Unlock()
	pass(took)
	return reply, nil
}

// slow makes every answer take so long.
func (c *challenged) slow(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = took
}

func (c *challenged) requests() (claims []string, sent []time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.claims), slices.Clone(c.sent)
}

// wantClaims compares what the requests so far asked for.
func (c *challenged) wantClaims(t *testing.T, want ...string) {
	t.Helper()
	if got, _ := c.requests(); !slices.Equal(got, want) {
		t.Errorf("the requests ask for\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// hand hands in a challenge.
func (c *challenged) hand(t *testing.T, claims, tokenSHA256 string) {
	t.Helper()
	if err := c.agent.Challenge(t.Context(), "a", www(claims), tokenSHA256); err != nil {
		t.Errorf("challenge: %v", err)
	}
}

// report hands in a challenge, and lets the agent do what it does about it at once.
func (c *challenged) report(t *testing.T, claims, tokenSHA256 string) {
	t.Helper()
	c.hand(t, claims, tokenSHA256)
	synctest.Wait()
}

// digestOf is how a challenge names a token.
func digestOf(t token.Token) string {
	sum := sha256.Sum256([]byte(t.AccessToken.Reveal()))
	return hex.EncodeToString(sum[:])
}

// held is the SHA-256 of the token in the sink.
func (c *challenged) held() string { return digestOf(c.sinks["a"].held("a")) }

// outcomes is what the metrics say became of challenges.
func (c *challenged) outcomes(t *testing.T) map[string]float64 {
	t.Helper()
	var text bytes.Buffer
	if err := c.agent.WriteMetrics(&text); err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, found := range regexp.MustCompile(`(?m)^credagent_claims_challenges_total\{outcome="(\w+)",token="a"\} (\d+)$`).FindAllStringSubmatch(text.String(), -1) {
		n, err := strconv.ParseFloat(found[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		counts[found[1]] = n
	}
	return counts
}

func (c *challenged) wantOutcomes(t *testing.T, accepted, duplicate, invalid float64) {
	t.Helper()
	want := map[string]float64{"accepted": accepted, "duplicate": duplicate, "invalid": invalid}
	if got := c.outcomes(t); !maps.Equal(got, want) {
		t.Errorf("challenges by outcome: %v, want %v", got, want)
	}
}

func lasting(life time.Duration) func(int, string) provider.Reply {
	return func(n int, _ string) provider.Reply { return granted(fmt.Sprintf("token-%d", n), life) }
}

func TestOneRequestAnswersEveryReport(t *testing.T) {
	tests := []struct {
		name   string
		sha256 func(held string) string
	}{
		{"that names the token", func(held string) string { return held }},
		{"that names it in capitals", strings.ToUpper},
		{"that does not", func(string) string { return "" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChallenged(lasting(time.Hour))
				defer c.run(t.Context())()
				pass(time.Minute)
				c.wantOutcomes(t, 0, 0, 0)
				c.slow(time.Second)
				const workloads = 100
				rejected := test.sha256(c.held())
				began := time.Now()
				var reports sync.WaitGroup
				for range workloads {
					reports.Go(func() { c.hand(t, newerThan(1), rejected) })
				}
				reports.Wait()
				pass(time.Second / 2) // under way
				c.report(t, newerThan(1), rejected)
				pass(time.Second) // answered
				c.report(t, newerThan(1), rejected)
				pass(10 * time.Minute)
				c.wantClaims(t, oauth.ClientCapability, withCapability(newerThan(1)))
				c.wantOutcomes(t, 1, workloads+1, 0)
				if _, sent := c.requests(); !sent[1].Equal(began) {
					t.Errorf("the request was sent %v after the challenge", sent[1].Sub(began))
				}
				if got := c.sinks["a"].held("a").AccessToken.Reveal(); got != "token-2" {
					t.Errorf("the sink holds %s", got)
				}
			})
		})
	}
}

func TestChallengeThatIsNotValidChangesNothing(t *testing.T) {
	right := www(newerThan(1))
	tests := []struct{ name, token, value, sha256, want string }{
		{"no challenge", "a", "Basic", "", `claims challenge for token "a" refused: it holds no Bearer challenge`},
		{"no claims", "a", `Bearer error="insufficient_claims"`, "", `claims challenge for token "a" refused: its Bearer challenge has no claims`},
		{"no JSON", "a", www("{"), "", `claims challenge for token "a" refused: its claims are not a JSON object`},
		{"too long", "a", right + strings.Repeat(" ", 64<<10), "", `claims challenge for token "a" refused: it is longer than 32 KiB`},
		{"half a digest", "a", right, "abcd", `claims challenge for token "a" refused: token_sha256 is not the SHA-256 of a token in hexadecimal`},
		{"a digest of other letters", "a", right, strings.Repeat("x", 64), `claims challenge for token "a" refused: token_sha256 is not the SHA-256 of a token in hexadecimal`},
		{"a token without cae", "b", right, "", `claims challenge for token "b" refused: the token is configured without cae: true`},
		{"no such token", "c", right, "", `token "c": no such token`},
	}
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		cfg := *f.agent.parts.config()
		cfg.Tokens[0].CAE = true
		f = remade(f, s, &cfg)
		defer f.run(t.Context())()
		pass(time.Minute)
		for _, test := range tests {
			err := f.agent.Challenge(t.Context(), test.token, test.value, test.sha256)
			var refused *ChallengeError
			if err == nil || err.Error() != test.want || errors.As(err, &refused) == errors.Is(err, ErrUnknownToken) {
				t.Errorf("%s: %v of type %T, want %s", test.name, err, err, test.want)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.agent.Challenge(ended, "a", right, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("after its context ended: %v", err)
		}
		pass(10 * time.Minute)
		if got := len(s.requests()); got != 2 {
			t.Errorf("%d requests, want the first of each token alone", got)
		}
		c := challenged{fixture: f}
		c.wantOutcomes(t, 0, 0, 6)
	})
}

func TestChallengeWaitsForRetryAfter(t *testing.T) {
	throttle := func(n int, _ string) provider.Reply {
		if n == 2 {
			return refusal(http.StatusTooManyRequests, "", "100")
		}
		return granted(fmt.Sprintf("token-%d", n), time.Hour)
	}
	tests := []struct {
		name   string
		before time.Duration // the challenge comes so long before the refresh that is throttled, or after it
		second string        // what that refresh asks for
	}{
		{"of a refresh by schedule", -10 * time.Second, oauth.ClientCapability},
		{"of its own request", time.Minute, withCapability(newerThan(1))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChallenged(throttle)
				defer c.run(t.Context())()
				synctest.Wait()
				pass(time.Until(*c.agent.Status().Tokens[0].RefreshAt) - test.before)
				for range 10 {
					c.report(t, newerThan(1), c.held())
				}
				pass(5 * time.Minute)
				c.wantClaims(t, oauth.ClientCapability, test.second, withCapability(newerThan(1)))
				if _, sent := c.requests(); sent[2].Sub(sent[1]) < 100*time.Second || sent[2].Sub(sent[1]) > 110*time.Second {
					t.Errorf("the request was sent %v after the throttled one", sent[2].Sub(sent[1]))
				}
				if c.agent.Status().Tokens[0].ChallengePending {
					t.Error("the challenge is not answered")
				}
			})
		})
	}
}

func TestChallengeIsRetriedLikeAnyRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(func(n int, _ string) provider.Reply {
			if n == 2 || n == 3 {
				return refusal(http.StatusServiceUnavailable, "", "")
			}
			return granted(fmt.Sprintf("token-%d", n), time.Hour)
		})
		defer c.run(t.Context())()
		pass(time.Minute)
		rejected := c.held()
		for range 60 {
			c.report(t, newerThan(1), rejected)
			pass(time.Second)
		}
		want := withCapability(newerThan(1))
		c.wantClaims(t, oauth.ClientCapability, want, want, want)
		_, sent := c.requests()
		if first, second := sent[2].Sub(sent[1]), sent[3].Sub(sent[2]); first < 5*time.Second || second < 10*time.Second {
			t.Errorf("retried after %v and %v, want 5 and 10 seconds at least", first, second)
		}
	})
}

func TestStormOfChallengesKeepsTheCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		defer c.run(t.Context())()
		pass(time.Minute)
		const reports = 3000
		for i := range reports {
			c.report(t, newerThan(i), []string{"", c.held()}[i%2])
			pass(100 * time.Millisecond)
		}
		pass(2 * time.Minute)
		claims, sent := c.requests()
		for i := policy.MaxInWindow; i < len(sent); i++ {
			if within := sent[i].Sub(sent[i-policy.MaxInWindow]); within < policy.Window {
				t.Fatalf("%d requests within %v", policy.MaxInWindow+1, within)
			}
		}
		if got, want := claims[len(claims)-1], withCapability(newerThan(reports-1)); got != want {
			t.Errorf("the last request asks for %s, want %s", got, want)
		}
		if len(sent) < 5*policy.MaxInWindow {
			t.Errorf("%d requests for %d challenges in five minutes", len(sent), reports)
		}
	})
}

func TestClaimsThatAreTooManyTogetherAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		defer c.run(t.Context())()
		pass(time.Minute)
		c.slow(10 * time.Second)
		c.report(t, newerThan(1), "")
		long := func(name string) string { return fmt.Sprintf(`{%q:%q}`, name, strings.Repeat("x", 9<<10)) }
		for _, name := range []string{"a", "b", "c"} {
			c.report(t, long(name), "")
		}
		pass(time.Minute)
		c.wantClaims(t, oauth.ClientCapability, withCapability(newerThan(1)), withCapability(long("c")))
	})
}

func TestChallengeOfAnOlderTokenIsAnsweredAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		defer c.run(t.Context())()
		pass(time.Minute)
		old := c.held()
		pass(time.Hour) // it was refreshed by schedule
		before, _ := c.requests()
		c.report(t, newerThan(1), old)
		c.report(t, newerThan(2), digestOf(token.Token{AccessToken: foreign}))
		pass(time.Minute)
		if after, _ := c.requests(); len(after) != len(before) {
			t.Errorf("%d requests, want %d", len(after), len(before))
		}
		c.wantOutcomes(t, 0, 2, 0)
		c.report(t, newerThan(1), c.held())
		pass(time.Minute)
		if after, _ := c.requests(); len(after) != len(before)+1 {
			t.Errorf("%d requests after the token itself was rejected, want %d", len(after), len(before)+1)
		}
	})
}

func TestChallengeDuringARequest(t *testing.T) {
	both := withCapability(newerThan(2))
	tests := []struct {
		name   string
		first  string // challenge whose request is under way; "" for a refresh by schedule
		second string // challenge that comes meanwhile
		want   []string
	}{
		{"by schedule", "", newerThan(1), []string{oauth.ClientCapability, withCapability(newerThan(1))}},
		{"for the same challenge", newerThan(1), newerThan(1), []string{withCapability(newerThan(1))}},
		{"for another challenge", newerThan(1), newerThan(2), []string{withCapability(newerThan(1)), both}},
		{"for more than this challenge", `{"a":1,"b":2}`, `{"b":2}`, []string{withCapability(`{"a":1,"b":2}`)}},
		{"for less than this challenge", `{"b":2}`, `{"a":1}`, []string{withCapability(`{"b":2}`), withCapability(`{"a":1,"b":2}`)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChallenged(lasting(time.Hour))
				defer c.run(t.Context())()
				synctest.Wait()
				rejected := c.held()
				c.slow(4 * time.Second)
				if test.first == "" {
					pass(time.Until(*c.agent.Status().Tokens[0].RefreshAt))
				} else {
					c.report(t, test.first, rejected)
				}
				pass(2 * time.Second)
				for range 10 {
					c.report(t, test.second, rejected)
				}
				pass(time.Minute)
				c.wantClaims(t, append([]string{oauth.ClientCapability}, test.want...)...)
			})
		})
	}
}

func TestClaimsAreForgottenOnceATokenHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		defer c.run(t.Context())()
		pass(time.Minute)
		c.report(t, newerThan(1), c.held())
		pass(40 * time.Minute) // until it is refreshed by schedule
		c.wantClaims(t, oauth.ClientCapability, withCapability(newerThan(1)), oauth.ClientCapability)
		c.report(t, newerThan(1), "")
		pass(time.Minute)
		c.wantClaims(t, oauth.ClientCapability, withCapability(newerThan(1)), oauth.ClientCapability, withCapability(newerThan(1)))
	})
}

// TestClaimsThatAreRefusedDoNotHoldUpTheRefresh has a resource server ask for what the authorization
// server never grants.
func TestClaimsThatAreRefusedDoNotHoldUpTheRefresh(t *testing.T) {
	for _, code := range []string{"invalid_request", "access_denied"} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newChallenged(func(n int, claims string) provider.Reply {
					if strings.Contains(claims, "nbf") {
						return refusal(http.StatusBadRequest, code, "")
					}
					return granted(fmt.Sprintf("token-%d", n), time.Hour)
				})
				defer c.run(t.Context())()
				synctest.Wait()
				first, began := c.held(), time.Now()
				for c.held() == first && time.Since(began) < time.Hour {
					c.report(t, newerThan(1), first)
					pass(time.Second)
				}
				claims, sent := c.requests()
				if last := claims[len(claims)-1]; last != oauth.ClientCapability {
					t.Errorf("the request that brought a token asks for %s", last)
				}
				since := sent[len(sent)-1].Sub(sent[0])
				if since < 27*time.Minute || since > 30*time.Minute+policy.MaxProbe || len(sent) > 12 {
					t.Errorf("refreshed after %v and %d requests", since, len(sent))
				}
				for _, asked := range claims[1 : len(claims)-1] {
					if asked != withCapability(newerThan(1)) {
						t.Errorf("a request before it was due asks for %s", asked)
					}
				}
				pass(time.Minute)
				if s := c.agent.Status().Tokens[0]; s.ChallengePending || !s.Valid {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func TestLongLivedTokenIsRefreshedAsTheServerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life, refreshIn = 28 * time.Hour, 14 * time.Hour
		c := newChallenged(func(n int, _ string) provider.Reply {
			reply := granted("", 0)
			reply.Body = fmt.Appendf(nil, `{"access_token":"token-%d","token_type":"Bearer","expires_in":%d,"refresh_in":%d}`,
				n, int(life.Seconds()), int(refreshIn.Seconds()))
			return reply
		})
		defer c.run(t.Context())()
		synctest.Wait()
		began := time.Now()
		if got := c.sinks["a"].held("a").Expiry.Sub(began); got != life {
			t.Errorf("it lives for %v, want %v", got, life)
		}
		pass(time.Hour)
		c.report(t, newerThan(1), c.held())
		pass(20 * time.Hour)
		_, sent := c.requests()
		if len(sent) != 3 || sent[1].Sub(began) != time.Hour {
			t.Fatalf("requests at %v, want one for the challenge and one by schedule", sent)
		}
		if after := sent[2].Sub(sent[1]); after > refreshIn || after < refreshIn*9/10 {
			t.Errorf("refreshed %v after it was issued, want up to a tenth before %v", after, refreshIn)
		}
	})
}

func TestReloadKeepsAChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(func(n int, _ string) provider.Reply {
			if n == 2 {
				return refusal(http.StatusTooManyRequests, "", "600")
			}
			return granted(fmt.Sprintf("token-%d", n), time.Hour)
		})
		defer c.run(t.Context())()
		pass(time.Minute)
		c.report(t, newerThan(1), c.held())
		pass(time.Minute)
		if err := c.agent.Reload(t.Context(), c.changed(otherCredential)); err != nil {
			t.Fatal(err)
		}
		c.report(t, newerThan(1), c.held())
		pass(15 * time.Minute)
		want := withCapability(newerThan(1))
		c.wantClaims(t, oauth.ClientCapability, want, want)
		c.wantOutcomes(t, 1, 1, 0)
		without := c.changed(func(cfg *config.Config) { cfg.Tokens[0].CAE = false })
		if err := c.agent.Reload(t.Context(), without); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		c.wantClaims(t, oauth.ClientCapability, want, want, "")
		if got := c.outcomes(t); len(got) != 0 {
			t.Errorf("challenges by outcome, of a token without cae: %v", got)
		}
	})
}

func TestConfiguredClaimsGoWithEveryRequest(t *testing.T) {
	const configured = `{ "access_token": { "acrs": { "essential": true } } }`
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		c.make(c.changed(func(cfg *config.Config) { cfg.Tokens[0].Claims = configured }), c.exchange)
		defer c.run(t.Context())()
		pass(time.Minute)
		c.report(t, `{"access_token":{"acrs":{"value":"c1"}}}`, c.held())
		without := c.changed(func(cfg *config.Config) { cfg.Tokens[0].CAE = false })
		if err := c.agent.Reload(t.Context(), without); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		c.wantClaims(t,
			`{"access_token":{"acrs":{"essential":true},"xms_cc":{"values":["cp1"]}}}`,
			`{"access_token":{"acrs":{"essential":true,"value":"c1"},"xms_cc":{"values":["cp1"]}}}`,
			configured)
	})
}

// restart is a new process of the same configuration and memory. It returns what ends it.
func (c *challenged) restart(t *testing.T) (stop func()) {
	c.make(c.changed(same), c.exchange)
	return c.run(t.Context())
}

func TestChallengeSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(func(n int, _ string) provider.Reply {
			if n == 2 {
				return refusal(http.StatusTooManyRequests, "", "600")
			}
			return granted(fmt.Sprintf("token-%d", n), time.Hour)
		})
		c.memory = newMemory()
		stop := c.restart(t)
		synctest.Wait()
		pass(time.Until(*c.agent.Status().Tokens[0].RefreshAt) + time.Second)
		c.report(t, newerThan(1), c.held()) // while the server wants no request
		stop()
		pass(time.Minute)
		stop = c.restart(t)
		c.report(t, newerThan(1), c.held())
		c.wantOutcomes(t, 0, 1, 0)
		pass(11 * time.Minute)
		stop()
		want := []string{oauth.ClientCapability, oauth.ClientCapability, withCapability(newerThan(1))}
		c.wantClaims(t, want...)
		defer c.restart(t)()
		c.report(t, newerThan(1), "")
		c.wantOutcomes(t, 0, 1, 0)
		pass(10 * time.Minute)
		c.wantClaims(t, want...)
		c.report(t, newerThan(1), c.held())
		c.wantClaims(t, append(want, withCapability(newerThan(1)))...)
	})
}

func TestChallengeShowsInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChallenged(lasting(time.Hour))
		defer c.run(t.Context())()
		pass(time.Minute)
		if s := c.agent.Status().Tokens[0]; !s.CAE || s.LastChallengeAt != nil || s.ChallengePending {
			t.Errorf("before: %+v", s)
		}
		c.slow(time.Second)
		at := time.Now().Round(0)
		c.report(t, newerThan(1), "")
		s := c.agent.Status().Tokens[0]
		if !s.ChallengePending || !s.LastChallengeAt.Equal(at) || s.LastChallengeOutcome != "accepted" || !s.RefreshAt.Equal(at) {
			t.Errorf("while it waits: %+v", s)
		}
		pass(time.Minute)
		if err := c.agent.Challenge(t.Context(), "a", "", ""); err == nil {
			t.Error("an empty challenge is no error")
		}
		text, err := json.Marshal(c.agent.Status().Tokens[0])
		if err != nil || !strings.Contains(string(text), `"last_challenge_outcome":"invalid"`) || strings.Contains(string(text), "pending") {
			t.Errorf("after: %s, %v", text, err)
		}
	})
}

func everyTokenCAE(cfg *config.Config) {
	for i := range cfg.Tokens {
		cfg.Tokens[i].CAE = true
	}
}

// challenge has workloads report up to ten challenges of a random history at once, or none.
func (h *history) challenge(f *fixture, names []string) {
	for range max(0, h.roll(-150, 11)) {
		name := names[h.roll(0, len(names))]
		rejected := []string{"", digestOf(f.sinks[name].held(name)), digestOf(token.Token{AccessToken: foreign})}
		err := f.agent.Challenge(h.t.Context(), name, www(newerThan(h.roll(0, 5))), rejected[h.roll(0, len(rejected))])
		if err != nil {
			h.broken("challenge of %s: %v", name, err)
		}
	}
}
