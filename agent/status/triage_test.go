package status

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// valid, gone and never are tokens of the three kinds that there are.
func valid(name string) Token {
	return Token{Name: name, Client: "c", Valid: true, AcquiredAt: at(-time.Hour), Expiry: at(time.Hour), RefreshAt: at(time.Minute), Requests: 3}
}

func gone(name string) Token {
	t := valid(name)
	t.Valid, t.Expiry = false, at(-20*time.Minute)
	return t
}

func never(name string) Token { return Token{Name: name, Client: "c", RefreshAt: at(time.Minute)} }

// failed is a token whose last request failed.
func failed(t Token, outcome, cause string, failures int) Token {
	t.LastOutcome, t.LastError, t.LastErrorAt, t.ConsecutiveFailures = outcome, cause, at(-time.Second), failures
	return t
}

func TestTokenLevels(t *testing.T) {
	challengedToken := valid("t")
	challengedToken.ChallengePending = true
	for name, tc := range map[string]struct {
		token Token
		gate  Gate
		level Level
		what  string
	}{
		"well":                             {valid("t"), Gate{}, Well, ""},
		"secret refused, expired":          {failed(gone("t"), "credential", "invalid_client", 7), Gate{}, Act, "refused by the server"},
		"secret refused, still valid":      {failed(valid("t"), "credential", "invalid_client", 1), Gate{}, Act, "refused by the server"},
		"secret refused, never there":      {failed(never("t"), "credential", "invalid_client", 1), Gate{}, Act, "refused by the server"},
		"scope unknown":                    {failed(valid("t"), "configuration", "invalid_scope", 1), Gate{}, Act, "refused by the server"},
		"refused by policy":                {failed(valid("t"), "policy", "access_denied", 1), Gate{}, Act, "refused by the server"},
		"refused while the gate is closed": {failed(valid("t"), "credential", "invalid_client", 1), Gate{BlockedUntil: at(time.Hour)}, Act, "refused by the server"},
		"refused, backoff just reset":      {failed(valid("t"), "credential", "invalid_client", 0), Gate{}, Act, "refused by the server"},
		"outage, expired":                  {failed(gone("t"), "transient", "no route", 9), Gate{}, Act, "token requests fail"},
		"outage, still valid":              {failed(valid("t"), "transient", "no route", 9), Gate{}, Wait, "not refreshed yet"},
		"outage at a start":                {failed(never("t"), "transient", "no route", 2), Gate{}, Wait, "being acquired"},
		"outage since the start":           {failed(never("t"), "transient", "no route", 3), Gate{}, Act, "token requests fail"},
		"throttled, still valid":           {failed(valid("t"), "throttled", "HTTP 429", 1), Gate{BlockedUntil: at(time.Minute)}, Wait, "held back by the server"},
		"throttled, expired":               {failed(gone("t"), "throttled", "HTTP 429", 5), Gate{BlockedUntil: at(time.Minute)}, Wait, "held back by the server"},
		"throttled by another's request":   {valid("t"), Gate{BlockedUntil: at(time.Hour)}, Wait, "held back by the server"},
		"starting":                         {never("t"), Gate{}, Wait, "being acquired"},
		"expired, and just asked for":      {gone("t"), Gate{}, Wait, "being acquired again"},
		"challenged":                       {challengedToken, Gate{}, Wait, "answering a claims challenge"},
	} {
		t.Run(name, func(t *testing.T) {
			triage := Status{Now: now, Tokens: []Token{tc.token}, Clients: []Client{{Name: "c", Gate: tc.gate}}}.Triage()
			if got := triage.Tokens[0].Level; got != tc.level {
				t.Errorf("level %s, want %s", got, tc.level)
			}
			what := ""
			if len(triage.Matters) > 0 {
				what = triage.Matters[0].What
				checkMatter(t, triage.Matters[0])
			}
			if what != tc.what || len(triage.Matters) > 1 {
				t.Errorf("matters %+v, want %q alone", triage.Matters, tc.what)
			}
		})
	}
}

// checkMatter checks what holds of every matter: it says how it stands and what to do.
func checkMatter(t *testing.T, m Matter) {
	t.Helper()
	if m.What == "" || m.Step == "" || len(m.Names) == 0 || m.Level == Well {
		t.Errorf("an unfinished matter: %+v", m)
	}
}

func TestOtherLevels(t *testing.T) {
	credential := func(c Credential) Status {
		c.Name = Primary
		return Status{Now: now, Clients: []Client{{Name: "c", Credentials: []Credential{c}}}}
	}
	sink := func(k Sink) Status { k.Path = "/run/t"; return Status{Now: now, Sinks: []Sink{k}} }
	for name, tc := range map[string]struct {
		status Status
		want   string // level and what, "" for nothing
	}{
		"credential well":              {credential(Credential{InUse: true, NotAfter: at(time.Hour)}), ""},
		"credential ends soon":         {credential(Credential{InUse: true, NotAfter: at(time.Hour), EndsSoon: true}), "soon primary credential ends soon"},
		"credential ended":             {credential(Credential{InUse: true, NotAfter: at(-time.Hour), EndsSoon: true}), "act primary credential has expired"},
		"credential ends now":          {credential(Credential{InUse: true, NotAfter: at(0)}), "act primary credential has expired"},
		"credential unusable":          {credential(Credential{Problem: "refused", NotAfter: at(-time.Hour)}), "act primary credential cannot be used"},
		"clocks":                       {Status{Now: now, Clients: []Client{{Name: "c", ClockSkew: 420}}}, "soon clocks differ"},
		"gate closed":                  {Status{Now: now, Clients: []Client{{Name: "c", Gate: Gate{BlockedUntil: at(1)}}}}, "wait held back by the server"},
		"gate opened":                  {Status{Now: now, Clients: []Client{{Name: "c", Gate: Gate{BlockedUntil: at(0)}}}}, ""},
		"sink holds":                   {sink(Sink{Holds: true}), ""},
		"sink fails":                   {sink(Sink{LastError: "no space left"}), "act cannot be written"},
		"sink fails, holding":          {sink(Sink{Holds: true, LastError: "no space left"}), "act cannot be written"},
		"sink behind":                  {sink(Sink{}), "wait does not hold the newest token"},
		"sink of an expired token":     {sink(Sink{Holds: true, ExpiredAt: at(-1)}), ""}, // the token is the matter
		"sink that waits":              {sink(Sink{WaitsFor: []string{"t"}}), ""},
		"program not told":             {sink(Sink{Holds: true, OnChange: &OnChange{LastAction: "signal", LastError: "no such process"}}), "act a program was not told of its new token"},
		"program told":                 {sink(Sink{Holds: true, OnChange: &OnChange{LastAction: "signal", LastOutcome: "success"}}), ""},
		"not reloaded":                 {Status{Now: now, Source: "c.yaml", Reload: &Reload{Error: "unknown key"}}, "act was not reloaded, the running one stays"},
		"reloaded":                     {Status{Now: now, Source: "c.yaml", Reload: &Reload{Successful: true}}, ""},
		"nothing is configured at all": {Status{Now: now}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, m := range tc.status.Triage().Matters {
				checkMatter(t, m)
				got = append(got, string(m.Level)+" "+m.What)
			}
			if strings.Join(got, "; ") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// onCall is a night of everything, in the worst order.
func onCall() Status {
	s := Status{
		Now: now, Source: "c.yaml", Reload: &Reload{Error: "unknown key"},
		Tokens: []Token{
			valid("well"), failed(valid("retrying"), "transient", "no route", 1), never("starting"),
			failed(valid("throttled"), "throttled", "HTTP 429", 1), failed(valid("refused"), "credential", "invalid_client", 1),
			failed(gone("outage"), "transient", "no route", 4), failed(gone("throttled-down"), "throttled", "HTTP 429", 4), failed(gone("refused-down"), "credential", "invalid_client", 4),
		},
		Clients: []Client{
			{Name: "soon", Credentials: []Credential{{Name: Primary, InUse: true, NotAfter: at(time.Hour), EndsSoon: true}}},
			{Name: "fallback", Credentials: []Credential{{Name: Primary, Problem: "refused"}, {Name: Fallback, InUse: true}}},
		},
		Sinks: []Sink{
			{Path: "/run/behind"}, {Path: "/run/full", LastError: "no space left"},
			{Path: "/run/hook", Holds: true, OnChange: &OnChange{LastAction: "signal", LastError: "no such process"}},
			{Path: "/run/dead", Tokens: []string{"refused-down"}, Holds: true, ExpiredAt: at(-20 * time.Minute)},
		},
	}
	for i := range s.Tokens { // a cause is joined within a client only
		s.Tokens[i].Client = s.Tokens[i].Name
	}
	return s
}

func TestTriageOrder(t *testing.T) {
	triage := onCall().Triage()
	var names, levels []string
	for _, m := range triage.Matters {
		checkMatter(t, m)
		names, levels = append(names, m.Names[0]), append(levels, string(m.Level))
	}
	want := []string{
		"refused-down", "outage", "/run/full", "refused", "fallback", "c.yaml", "/run/hook", "soon",
		"throttled-down", "starting", "throttled", "retrying", "/run/behind",
	}
	if !slices.Equal(names, want) {
		t.Errorf("order\n%q, want\n%q", names, want)
	}
	if order := slices.Compact(levels); !slices.Equal(order, []string{"act", "soon", "wait"}) {
		t.Errorf("levels in the order %q", order)
	}
	if got := triage.Matters[0].Sinks; !slices.Equal(got, []string{"/run/dead"}) {
		t.Errorf("files without a valid token: %q", got)
	}
	var tokens []string
	for _, token := range triage.Tokens {
		tokens = append(tokens, token.Name)
	}
	if want := []string{"refused-down", "outage", "refused", "throttled-down", "starting", "throttled", "retrying", "well"}; !slices.Equal(tokens, want) {
		t.Errorf("tokens in the order\n%q, want\n%q", tokens, want)
	}
	if triage.Tally(Act) != 3 || triage.Tally(Wait) != 4 || triage.Tally(Well) != 1 || len(triage.Of(Soon)) != 1 {
		t.Errorf("tally of %+v", triage.Tokens)
	}
}

// TestOneMatterOfACause: forty tokens of a refused client are one thing to do.
func TestOneMatterOfACause(t *testing.T) {
	s := Status{Now: now}
	for i := range 40 {
		token := failed(gone(fmt.Sprint("t", i)), "credential", "invalid_client", i)
		token.Expiry = at(-time.Duration(i) * time.Minute)
		s.Tokens = append(s.Tokens, token)
		s.Sinks = append(s.Sinks, Sink{Path: fmt.Sprint("/run/", i%2), Tokens: []string{token.Name}, ExpiredAt: token.Expiry})
	}
	s.Tokens = append(s.Tokens, failed(valid("valid"), "credential", "invalid_client", 1), failed(gone("scope"), "configuration", "invalid_scope", 1))
	all := s.Triage().Matters
	if len(all) != 3 || len(all[0].Names) != 40 || all[1].Names[0] != "scope" || all[2].Names[0] != "valid" {
		t.Fatalf("matters %+v", all)
	}
	if m := all[0]; m.Failures != 39 || !m.Expiry.Equal(*at(-39 * time.Minute)) || !slices.Equal(m.Sinks, []string{"/run/0", "/run/1"}) {
		t.Errorf("joined they are %+v", m)
	}
}

// TestOneCauseOfAGate: tokens that wait at a failing gate have its cause, whether they were probed or not.
func TestOneCauseOfAGate(t *testing.T) {
	gate := func(outcome, cause string) Gate {
		return Gate{RetryAt: at(time.Minute), Failures: 4, LastOutcome: outcome, LastError: cause, LastErrorAt: at(-time.Second)}
	}
	blocked := Gate{BlockedUntil: at(time.Minute), LastOutcome: "throttled", LastError: "asked an earlier process"}
	another := gate("credential", "invalid_client")
	another.FailedClient = "other"
	scope := failed(gone("scope"), "configuration", "invalid_scope", 1)
	early := failed(gone("early"), "credential", "invalid_client", 1)
	for name, tc := range map[string]struct {
		gate  Gate
		extra Token
		want  []string // of the matters: how many tokens, level, what, cause
	}{
		"outage":             {gate("transient", "connection refused"), failed(gone("probed"), "transient", "timed out", 2), []string{"39 act token requests fail: connection refused"}},
		"refused":            {gate("credential", "invalid_client"), failed(gone("probed"), "credential", "invalid_client, at noon", 2), []string{"39 act refused by the server: invalid_client"}},
		"nothing known":      {gate("", ""), valid("well"), []string{"1 wait being acquired again: ", "many"}},
		"one's own refusal":  {gate("transient", "connection refused"), scope, []string{"1 act refused by the server: invalid_scope", "38 act token requests fail: connection refused"}},
		"refused before":     {gate("transient", "connection refused"), early, []string{"1 act refused by the server: invalid_client", "38 act token requests fail: connection refused"}},
		"valid, and waiting": {gate("transient", "connection refused"), valid("waiting"), []string{"38 act token requests fail: connection refused", "1 wait not refreshed yet: connection refused"}},
		"never there":        {gate("transient", "connection refused"), never("new"), []string{"39 act token requests fail: connection refused"}},
		"asked before":       {blocked, gone("another"), []string{"39 wait held back by the server: asked an earlier process"}},
		"of another client":  {another, gone("another"), []string{`39 act held up by another client: client "other", which is the same client to the server: invalid_client`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Status{Now: now, Clients: []Client{{Name: "c", Gate: tc.gate}}, Tokens: []Token{tc.extra}}
			for i := range 38 {
				token := gone(fmt.Sprint("t", i))
				token.LastOutcome = "success"
				s.Tokens = append(s.Tokens, token)
			}
			triage := s.Triage()
			if tc.want[len(tc.want)-1] != "many" && len(triage.Matters) != len(tc.want) {
				t.Errorf("%d matters, want %q", len(triage.Matters), tc.want)
			}
			for i, m := range triage.Matters {
				checkMatter(t, m)
				if tc.want[min(i, len(tc.want)-1)] == "many" {
					break
				}
				if got := fmt.Sprintf("%d %s %s: %s", len(m.Names), m.Level, m.What, m.Cause); i >= len(tc.want) || got != tc.want[i] {
					t.Errorf("matter %q, want %q", got, tc.want[min(i, len(tc.want)-1)])
				}
			}
			for _, shown := range triage.Tokens {
				if tc.gate.LastError != "" && !shown.Valid && shown.LastOutcome == "success" {
					t.Errorf("the table says success of token %q", shown.Name)
				}
			}
		})
	}
}

// TestRefusalStaysInAnOutage: what a client was refused for is to be mended when its server is back.
func TestRefusalStaysInAnOutage(t *testing.T) {
	down := failed(gone("t"), "transient", "no route", 9)
	for name, tc := range map[string]struct {
		token Token
		want  []string
	}{
		"outage":        {down, []string{"token requests fail", "primary credential cannot be used"}},
		"still refused": {failed(gone("t"), "credential", "invalid_client", 9), []string{"refused by the server"}},
		"throttled":     {failed(gone("t"), "throttled", "HTTP 429", 9), []string{"primary credential cannot be used", "held back by the server"}},
	} {
		s := Status{Now: now, Tokens: []Token{tc.token}, Clients: []Client{{Name: "c", Credentials: []Credential{{Name: Primary, InUse: true, Problem: "invalid_client"}}}}}
		var got []string
		for _, m := range s.Triage().Matters {
			got = append(got, m.What)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestSinkState(t *testing.T) {
	tokens := []Token{valid("valid"), gone("gone"), never("never")}
	for name, tc := range map[string]struct {
		sink Sink
		want SinkState
	}{
		"holds":                     {Sink{Tokens: []string{"valid"}, Holds: true}, SinkHolds},
		"behind":                    {Sink{Tokens: []string{"valid"}}, SinkBehind},
		"an expired one":            {Sink{Tokens: []string{"gone"}, Holds: true}, SinkExpired},
		"an expired one of several": {Sink{Tokens: []string{"valid", "gone"}, Holds: true}, SinkExpired},
		"of an earlier process":     {Sink{Tokens: []string{"gone"}}, SinkExpired},
		"expired and never":         {Sink{Tokens: []string{"gone", "never"}}, SinkExpired},
		"waits":                     {Sink{Tokens: []string{"valid", "never"}}, SinkWaits},
		"fails":                     {Sink{Tokens: []string{"valid"}, Holds: true, LastError: "no space left"}, SinkFailing},
		"fails with an expired one": {Sink{Tokens: []string{"gone"}, LastError: "no space left"}, SinkFailing},
	} {
		s := Status{Tokens: tokens, Sinks: []Sink{tc.sink}}
		s.DescribeSinks()
		if got := s.Sinks[0].State(); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestDocsAreThere: each matter's heading is in the document.
func TestDocsAreThere(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		anchors[strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")] = true
	}
	s := onCall()
	s.Clients = append(s.Clients, Client{Name: "late", ClockSkew: 420})
	for _, m := range s.Triage().Matters {
		if !anchors[m.Doc] {
			t.Errorf("%s: no heading %q", m.What, m.Doc)
		}
	}
}

// The server's wait and the agent's own are told apart: only within the first nothing may be sent.
func TestStepOfAThrottledTokenSaysWhoseWaitItIs(t *testing.T) {
	for want, gate := range map[string]Gate{
		"nothing may be sent before the server's Retry-After is over": {BlockedUntil: at(time.Minute)},
		"it is tried again by itself":                                 {BlockedUntil: at(-time.Second), RetryAt: at(3 * time.Second)},
	} {
		token := failed(valid("t"), "throttled", "HTTP 429", 1)
		token.RefreshAt = at(3 * time.Second)
		s := Status{Now: now, Clients: []Client{{Name: token.Client, Gate: gate}}, Tokens: []Token{token}}
		if all := s.Triage().Matters; len(all) != 1 || !strings.Contains(all[0].Step, want) {
			t.Errorf("%+v, want a step with %q", all, want)
		}
	}
}
