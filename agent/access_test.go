package agent

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// allowing has a socket and lets some have the tokens of the fixture's configuration, in order.
func allowing(allow ...[]config.Principal) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.Socket = &config.Socket{Path: "/run/s"}
		for i := range allow {
			cfg.Tokens[i].Allow = allow[i]
		}
	}
}

func TestAllows(t *testing.T) {
	f := newFixture((&server{answer: good}).exchange, "a", "b", "c")
	f.make(f.changed(allowing(
		[]config.Principal{{User: "1001"}, {Group: "2001"}, {Group: "2002"}},
		[]config.Principal{{User: "root"}, {Group: "0"}},
	)), (&server{answer: good}).exchange)
	if f.agent.Allows("a", 1001, nil) {
		t.Error("somebody is let in before anybody was looked up")
	}
	if err := f.agent.ResolveAccess(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		token  string
		user   int
		groups []int
		want   bool
	}{
		{"by user", "a", 1001, []int{9}, true},
		{"by primary group", "a", 9, []int{2001}, true},
		{"by another group", "a", 9, []int{9, 8, 2002}, true},
		{"a user of a group's number", "a", 2001, []int{9}, false},
		{"a group of a user's number", "a", 9, []int{1001}, false},
		{"a stranger", "a", 9, []int{9}, false},
		{"a stranger without groups", "a", 9, nil, false},
		{"by names", "b", 0, nil, true},
		{"of another token", "b", 1001, []int{2001}, false},
		{"nobody is named", "c", 0, []int{0}, false},
		{"an unknown token", "d", 0, []int{0}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := f.agent.Allows(test.token, test.user, test.groups); got != test.want {
				t.Errorf("Allows = %v, want %v", got, test.want)
			}
		})
	}
}

// TestStatusForOthers: a caller sees what it may have, and is ready when that is.
func TestStatusForOthers(t *testing.T) {
	f := newFixture((&server{answer: good}).exchange, "a", "b", "c")
	f.make(f.changed(allowing([]config.Principal{{User: "1001"}}, []config.Principal{{User: "1001"}, {Group: "2001"}})), (&server{answer: good}).exchange)
	if err := f.agent.ResolveAccess(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		user   int
		groups []int
		want   string
	}{
		"of two tokens":        {1001, []int{9}, "a b"},
		"of one, by its group": {9, []int{2001}, "b"},
		"of none":              {9, []int{9}, ""},
		"no root by group":     {9, []int{0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := f.agent.StatusFor(test.user, test.groups)
			var tokens []string
			clients := map[string]bool{}
			for _, token := range s.Tokens {
				tokens = append(tokens, token.Name)
				clients[token.Client] = true
			}
			if strings.Join(tokens, " ") != test.want {
				t.Errorf("tokens %q, want %q", tokens, test.want)
			}
			for _, client := range s.Clients {
				if !clients[client.Name] {
					t.Errorf("client %q is not of its tokens", client.Name)
				}
			}
			seen := append(s.NotReady, "")
			for _, sink := range s.Sinks {
				seen = append(seen, sink.Tokens...)
			}
			for _, name := range []string{"a", "b", "c"} {
				if strings.Contains(strings.Join(seen, " "), strconv.Quote(name)) && !strings.Contains(test.want, name) {
					t.Errorf("it tells of %q: %q", name, seen)
				}
			}
			for _, sink := range s.Sinks {
				for _, name := range sink.Tokens {
					if !strings.Contains(test.want, name) {
						t.Errorf("it tells of a sink with %q", name)
					}
				}
			}
			if s.Source != "" || s.Reload != nil {
				t.Errorf("it tells of the configuration: %q, %v", s.Source, s.Reload)
			}
		})
	}
}

func TestAllowOfAnUnknownNameIsRefused(t *testing.T) {
	f := newFixture((&server{answer: good}).exchange, "a", "b")
	unknown := allowing([]config.Principal{{User: "no-such-user"}, {User: "0"}}, []config.Principal{{Group: "no-such-group"}})
	f.make(f.changed(unknown), (&server{answer: good}).exchange)
	var bad *config.Error
	if err := f.agent.ResolveAccess(); !errors.As(err, &bad) || len(bad.Problems) != 2 {
		t.Fatalf("ResolveAccess: %v, want two problems", err)
	}
	for i, want := range []string{
		`tokens.a.allow[0]: looking up user "no-such-user": no such user: it is not in /etc/passwd, and getent does not know it either; check the name, or give a number`,
		`tokens.b.allow[0]: looking up group "no-such-group": no such group: it is not in /etc/group, and getent does not know it either; check the name, or give a number`,
	} {
		if got := bad.Problems[i].String(); !strings.HasSuffix(got, want) {
			t.Errorf("problem %q, want %q", got, want)
		}
	}
	f.make(f.changed(func(cfg *config.Config) { cfg.Socket = nil }), (&server{answer: good}).exchange)
	if err := f.agent.ResolveAccess(); err != nil {
		t.Errorf("without a socket: %v", err)
	}
}

func TestReloadTakesAllowOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		f.make(f.changed(allowing([]config.Principal{{User: "1001"}})), s.exchange)
		if err := f.agent.ResolveAccess(); err != nil {
			t.Fatal(err)
		}
		defer f.run(t.Context())()
		pass(time.Minute)
		if err := f.agent.Reload(t.Context(), f.changed(allowing([]config.Principal{{User: "1002"}}))); err != nil {
			t.Fatal(err)
		}
		if f.agent.Allows("a", 1001, nil) || !f.agent.Allows("a", 1002, nil) {
			t.Error("who may have the token is not what the new configuration says")
		}
		if err := f.agent.Reload(t.Context(), f.changed(allowing([]config.Principal{{User: "no-such-user"}}))); err == nil {
			t.Error("a name that is not known was taken over")
		}
		if !f.agent.Allows("a", 1002, nil) {
			t.Error("a reload that was refused changed who may have the token")
		}
		pass(time.Minute)
		if got := s.requests(); len(got) != 2 {
			t.Errorf("%d requests: who may have a token is no reason to request it again", len(got))
		}
	})
}

func TestTokenJSONIsWhatASinkHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []provider.Reply{refusal(503, "", "9"), granted("one", time.Hour), granted("two", time.Hour)}
		f := newFixture((&server{answer: func(n int, _ arrival) (provider.Reply, error) { return answers[n-1], nil }}).exchange, "a")
		defer f.run(t.Context())()
		pass(time.Second)
		if got, err := f.agent.TokenJSON("a"); !errors.Is(err, ErrNoToken) || got != nil {
			t.Errorf("before there is one: %q, %v", got, err)
		}
		if _, err := f.agent.TokenJSON("b"); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("of an unknown name: %v", err)
		}
		pass(10 * time.Second)
		got, err := f.agent.TokenJSON("a")
		if err != nil {
			t.Fatal(err)
		}
		held := func(name string) (token.Token, bool) { return f.sinks[name].held(name), true }
		if want, err := sink.JSON("a").Render(held); err != nil || string(got) != string(want) {
			t.Errorf("got %s, want %s (%v)", got, want, err)
		}
		if again, err := f.agent.TokenJSON("a"); err != nil || string(again) != string(got) {
			t.Errorf("the second time: %s, %v; want %s", again, err, got)
		}
		if _, err := f.refresh(t, "a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want, err := sink.JSON("a").Render(held); err != nil || string(want) == string(got) {
			t.Errorf("the sink holds the old token: %v", err)
		} else if fresh, err := f.agent.TokenJSON("a"); err != nil || string(fresh) != string(want) {
			t.Errorf("after a refresh: %s, %v; want %s", fresh, err, want)
		}
		var fields map[string]any
		if err := json.Unmarshal(got, &fields); err != nil || fields["access_token"] != "one" || fields["token"] != "a" {
			t.Errorf("%s: %v", got, err)
		}
	})
}
