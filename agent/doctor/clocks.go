package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/transport"
)

// farSkew is more than any server accepts: an assertion is valid for five minutes.
const farSkew = 5 * time.Minute

var errNoDate = errors.New("its answer has no Date")

// server is a client's server, and how it is reached.
type server struct{ at, caFile, proxy string }

func serverOf(c config.Client) server {
	at := c.TokenURL + c.Issuer
	if c.Entra != nil {
		at = c.Entra.Authority
	}
	if u, err := url.Parse(at); err == nil {
		at = u.Scheme + "://" + u.Host // the request does not go to the token endpoint
	}
	return server{at, c.CAFile, c.Proxy}
}

// clocks compares this host's clock with each server's, by one request that is not for a token.
func (e *exam) clocks(ctx context.Context) []Finding {
	clients := map[server][]config.Client{}
	var servers []server
	for _, c := range e.Config.Clients {
		at := serverOf(c)
		clients[at] = append(clients[at], c)
		servers = appendNew(servers, at)
	}
	found := make([][]Finding, len(servers))
	var asking sync.WaitGroup
	for i, at := range servers {
		asking.Go(func() { found[i] = e.clock(ctx, at, clients[at]) })
	}
	asking.Wait()
	return slices.Concat(found...)
}

func (e *exam) clock(ctx context.Context, s server, clients []config.Client) []Finding {
	var found []Finding
	if slices.ContainsFunc(clients, func(c config.Client) bool { return e.hasToWait(c.Name) }) {
		found = []Finding{{Level: Note, What: "the server was not asked for the time: it wants to be left alone for now (Retry-After)"}}
	} else {
		ctx, cancel := context.WithTimeout(ctx, clients[0].RequestTimeout)
		defer cancel()
		ahead, err := s.ahead(ctx)
		found = compared(s.at, ahead, err)
	}
	for _, c := range clients {
		found = about("client "+quote(c.Name), found...)
	}
	return found
}

// compared describes the result of a comparison with a server's clock.
func compared(at string, ahead time.Duration, err error) []Finding {
	switch {
	case errors.Is(err, errNoDate):
		return []Finding{{Level: Note, What: fmt.Sprintf("the clock could not be compared with that of %s: %v", at, err)}}
	case err != nil:
		return []Finding{{
			Level: Warning, What: fmt.Sprintf("%s could not be reached, so the clock was not compared with its: %v", at, err),
			Why: "without it there is no new token", Fix: "look at the network, proxy and ca_file",
		}}
	case !policy.Skewed(ahead):
		return nil
	}
	f := Finding{
		Level: Warning, What: fmt.Sprintf("this host's clock is %v %s that of %s", ahead.Abs(), direction(ahead), at),
		Why: "assertions and certificates are good for a time that the server reads from its own clock; it refuses what is not good by that",
		Fix: "have the clock set: timedatectl set-ntp true",
	}
	if ahead.Abs() >= farSkew {
		f.Level = Problem
	}
	return []Finding{f}
}

func direction(serverAhead time.Duration) string {
	if serverAhead > 0 {
		return "behind"
	}
	return "ahead of"
}

// hasToWait reports whether a running agent honours a Retry-After of the client's server.
func (e *exam) hasToWait(client string) bool {
	if e.running == nil || !sameSource(e.running.Source, e.Config.Source) {
		return false
	}
	for _, c := range e.running.Clients {
		if c.Name == client && c.Gate.BlockedUntil != nil && c.Gate.BlockedUntil.After(e.now) {
			return true
		}
	}
	return false
}

// ahead returns by how much the server's clock is ahead.
func (s server) ahead(ctx context.Context) (time.Duration, error) {
	var roots []byte
	if s.caFile != "" {
		var err error
		if roots, err = os.ReadFile(s.caFile); err != nil {
			return 0, fmt.Errorf("reading ca_file: %w", err)
		}
	}
	connections, err := transport.New(roots, s.proxy)
	if err != nil {
		return 0, err
	}
	defer connections.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, s.at+"/", nil)
	if err != nil {
		return 0, errors.New("it is not a URL")
	}
	request.Header.Set("User-Agent", "credagent")
	sent := time.Now()
	response, err := connections.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	half := time.Since(sent) / 2
	ahead, ok := policy.Skew(response.Header.Get("Date"), sent.Add(half))
	if !ok {
		return 0, errNoDate
	}
	return ahead + age(response.Header), nil
}

// age returns how long ago a cache received the answer (RFC 9111, 5.1); its Date is that old.
func age(header http.Header) time.Duration {
	seconds, err := strconv.ParseInt(header.Get("Age"), 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
