package keeper

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

// foreign stands for a token that somebody else has.
var foreign = secret.New("tampered")

// newerThan is a claims request for a token that is newer than an instant.
func newerThan(second int) string {
	return fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, second)
}

// TestChallengesAreTheSameAfterARestart goes on from what an earlier process could have kept.
func TestChallengesAreTheSameAfterARestart(t *testing.T) {
	held := token.Token{AccessToken: foreign}
	waiting := store.Challenge{Claims: newerThan(2), Rejected: digest(held), Answered: `{"a":1,"b":2}`}
	tests := []struct {
		name             string
		known            store.Challenge
		claims, rejected string
		want             string
	}{
		{"what waits", waiting, newerThan(2), digest(held), "duplicate"},
		{"what waits, the token is not named", waiting, newerThan(2), "", "duplicate"},
		{"what was answered, the token is not named", waiting, `{"a":1,"b":2}`, "", "duplicate"},
		{"a part of what was answered, the token is not named", waiting, `{"b":2}`, "", "duplicate"},
		{"more than was answered, the token is not named", waiting, `{"b":2,"c":3}`, "", "accepted"},
		{"what was answered, but the new token is rejected", waiting, `{"a":1,"b":2}`, digest(held), "accepted"},
		{"what is new", waiting, newerThan(3), "", "accepted"},
		{"nothing", store.Challenge{}, newerThan(1), "", "accepted"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newChallenges(test.known, held, func() {})
			if waits := test.known.Claims != ""; c.since().IsZero() == waits {
				t.Errorf("before: it waits since %v", c.since())
			}
			if got := c.report(test.claims, test.rejected, time.Now()); got != test.want {
				t.Errorf("the challenge is %s, want %s", got, test.want)
			}
			if asked, _ := c.ask(false); test.want == "accepted" && asked != oauth.MergeClaims(test.known.Claims, test.claims) {
				t.Errorf("the next request asks for %s", asked)
			}
		})
	}
}

// TestWhatARefusalSaysOfClaims leaves claims out only when a refusal may be because of them.
func TestWhatARefusalSaysOfClaims(t *testing.T) {
	refused := &exchange.Failure{Class: policy.Configuration, Status: http.StatusBadRequest}
	tests := []struct {
		name  string
		steps func(c *challenges)
		want  string // what a refresh that is due then asks for
	}{
		{"of a request with them", func(c *challenges) {
			c.ask(false)
			c.failed(refused)
		}, ""},
		{"of none", func(*challenges) {}, newerThan(1)},
		{"of a request that was never sent", func(c *challenges) {
			c.ask(false)
			c.failed(&exchange.Failure{Class: policy.Configuration, Local: true})
		}, newerThan(1)},
		{"of the credential", func(c *challenges) {
			c.ask(false)
			c.failed(&exchange.Failure{Class: policy.Credential})
		}, newerThan(1)},
		{"of a request before them", func(c *challenges) { c.failed(refused) }, newerThan(1)},
		{"of a request with a part of them", func(c *challenges) {
			c.ask(false)
			c.report(newerThan(2), "", time.Now())
			c.failed(refused)
		}, newerThan(2)},
		{"of a request with others", func(c *challenges) {
			c.ask(false)
			c.failed(refused)
			c.report(newerThan(2), "", time.Now())
		}, newerThan(2)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newChallenges(store.Challenge{}, token.Token{AccessToken: foreign}, func() {})
			c.ask(true)
			c.failed(refused)
			if _, leftOut := c.ask(true); leftOut {
				t.Error("claims are left out although there are none")
			}
			c.report(newerThan(1), "", time.Now())
			test.steps(c)
			if asked, leftOut := c.ask(true); asked != test.want || leftOut != (test.want == "") {
				t.Errorf("the refresh asks for %q, left out is %v, want %q", asked, leftOut, test.want)
			}
		})
	}
}
