package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/token"
)

// Challenge takes the WWW-Authenticate value with which a resource server rejected the token, and asks
// for a new one at once, with the claims that it names. tokenSHA256 is the SHA-256 of the rejected access
// token in hexadecimal, "" where that is not known. Its error says why the challenge is refused.
func (k *Keeper) Challenge(wwwAuthenticate, tokenSHA256 string) error {
	if !k.cfg.CAE {
		return errors.New("the token is configured without cae: true")
	}
	claims, rejected, err := readChallenge(wwwAuthenticate, tokenSHA256)
	if err != nil {
		k.challenges.refuse(time.Now())
		k.o.Metrics.Challenged(k.cfg.Name, status.ChallengeInvalid)
		return err
	}
	outcome := k.challenges.report(claims, rejected, time.Now())
	k.o.Metrics.Challenged(k.cfg.Name, outcome)
	if outcome == status.ChallengeAccepted {
		k.log().Info("claims challenge accepted, asking for a new token")
		k.challenges.wake()
	}
	return nil
}

func readChallenge(wwwAuthenticate, tokenSHA256 string) (claims, rejected string, err error) {
	rejected = strings.ToLower(tokenSHA256)
	if sum, err := hex.DecodeString(rejected); err != nil || rejected != "" && len(sum) != sha256.Size {
		return "", "", &oauth.ChallengeError{Reason: "token_sha256 is not the SHA-256 of a token in hexadecimal"}
	}
	claims, err = oauth.ParseChallenge(wwwAuthenticate)
	return claims, rejected, err
}

// challenges is where resource servers' challenges for a token wait for its next request. Whoever
// reports one, the keeper and the gate share it. A nil one is that of a token which has none.
type challenges struct {
	mu              sync.Mutex
	store.Challenge // guarded by mu, as is all that follows

	wakes    func()    // has the newest keeper ask for what waits: another one may have taken its place
	sinceAt  time.Time // since when Claims wait
	current  string    // SHA-256 of the newest token; "" while there is none
	answers  string    // the Claims that the request under way answers
	carries  string    // what of them it asks for
	hopeless bool      // the server refused a request that asked for Claims

	lastAt time.Time // when a challenge was handed in
	last   string    // what became of it
}

// newChallenges goes on from what is known of a token's challenges, and the token.
func newChallenges(known store.Challenge, t token.Token, wakes func()) *challenges {
	c := &challenges{Challenge: known, wakes: wakes}
	if known.Claims != "" {
		c.sinceAt = time.Now()
	}
	if !t.AccessToken.IsZero() {
		c.current = digest(t)
	}
	return c
}

// serve has another keeper ask for what waits from now on.
func (c *challenges) serve(wakes func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakes = wakes
}

func (c *challenges) wake() {
	c.mu.Lock()
	wakes := c.wakes
	c.mu.Unlock()
	wakes()
}

// digest is how a challenge names a token.
func digest(t token.Token) string {
	sum := sha256.Sum256([]byte(t.AccessToken.Reveal()))
	return hex.EncodeToString(sum[:])
}

// report takes a challenge: the claims that a resource server asks for, and the token that it
// rejected, if that is known.
func (c *challenges) report(claims, rejected string, now time.Time) (outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastAt, c.last = now, status.ChallengeDuplicate
	if c.settles(claims, rejected) {
		return c.last
	}
	c.last = status.ChallengeAccepted
	if c.Claims == "" {
		c.sinceAt = now
	}
	c.Rejected, c.hopeless = c.current, false
	c.Claims = oauth.MergeClaims(c.Claims, claims)
	if len(c.Claims) > oauth.MaxClaims {
		c.Claims = claims // together they are more than a server would read
	}
	return c.last
}

// settles reports whether a challenge needs no request of its own.
func (c *challenges) settles(claims, rejected string) bool {
	if rejected != "" && rejected != c.current {
		return true // of an older token: the current one has not been tried
	}
	return includes(c.Claims, claims) || rejected == "" && includes(c.Answered, claims)
}

// includes reports whether who asks for all asks for claims too.
func includes(all, claims string) bool {
	return all == claims || all != "" && oauth.MergeClaims(all, claims) == all
}

// refuse takes note of a challenge that is not valid.
func (c *challenges) refuse(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastAt, c.last = now, status.ChallengeInvalid
}

// since returns since when a challenge waits for an answer; zero when none does.
func (c *challenges) since() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sinceAt
}

// ask returns the claims that the request sent now is to ask for. What the server will not grant
// must not stand in the way of a refresh that is due by itself: then they are left out.
func (c *challenges) ask(due bool) (claims string, leftOut bool) {
	if c == nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	leftOut = c.hopeless && due
	c.answers, c.carries = c.Claims, c.Claims
	if leftOut {
		c.carries = ""
	}
	return c.carries, leftOut
}

// granted takes note of a new token. It reports whether that answers a challenge: not one that came
// after the request was sent.
func (c *challenges) granted(t token.Token) (answered bool) {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.Answered = digest(t), c.carries
	if c.answers != c.Claims {
		return false
	}
	c.Claims, c.Rejected, c.sinceAt, c.hopeless = "", "", time.Time{}, false
	return c.carries != ""
}

// demand takes the claims that the token endpoint itself asks for, in its refusal of a request. The
// next request carries them; when that is sent is the wait's business.
func (c *challenges) demand(claims string, now time.Time) {
	if claims != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !includes(c.Claims, claims) {
			c.Claims, c.sinceAt, c.hopeless = oauth.MergeClaims(c.Claims, claims), now, false
			if len(c.Claims) > oauth.MaxClaims {
				c.Claims = claims
			}
		}
	}
}

// failed learns from a request that brought no token whether the claims may be why.
func (c *challenges) failed(f *exchange.Failure) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := f.Class == policy.Configuration || f.Class == policy.Refused
	if refused && !f.Local && c.carries != "" && c.answers == c.Claims {
		c.hopeless = true
	}
}

// state returns what there is to show.
func (c *challenges) state() (waits bool, lastAt time.Time, last string) {
	if c == nil {
		return false, time.Time{}, ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Claims != "", c.lastAt, c.last
}

// answerChallenges takes note of a new token, before anybody can see it.
func (k *Keeper) answerChallenges() {
	if k.challenges.granted(k.view.Token) {
		k.log().Info("claims challenge answered with a new token")
	}
}

// remembered is what a later process has to know.
func (c *challenges) remembered() store.Challenge {
	if c == nil {
		return store.Challenge{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Challenge
}

// claimsOf is the claims request of every request for a token.
func claimsOf(cfg *config.Token) string {
	if !cfg.CAE {
		return cfg.Claims
	}
	return oauth.MergeClaims(cfg.Claims, oauth.ClientCapability)
}

// nextForm is the form of the request that is sent now. It asks for what challenges want, too.
func (k *Keeper) nextForm() url.Values {
	due := policy.Overdue(time.Now(), k.published.Load().Token.RefreshOn)
	claims, leftOut := k.challenges.ask(due)
	if leftOut {
		k.log().Warn("server refuses what a claims challenge asks for, the refresh that is due goes without it")
	}
	form := k.form()
	if claims == "" {
		return form
	}
	wanted := []string{form.Get("claims"), claims}
	if k.cfg.CAE {
		wanted = append(wanted, oauth.ClientCapability)
	}
	form.Set("claims", oauth.MergeClaims(wanted...))
	return form
}
