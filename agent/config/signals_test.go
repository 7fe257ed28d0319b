package config

import (
	"strings"
	"testing"
	"time"
)

// soundStream has everything that a stream needs.
const soundStream = "issuer: https://s.example.com, token: graph, subjects: [{ client: app, opaque: x }]"

func TestSignalsRules(t *testing.T) {
	check(t, []rule{
		{"complete", soundStream, ""},
		{"with everything", soundStream + ", audience: me, interval: 1m, events: [session-revoked, account-purged]", ""},
		{"nothing", "", "signals.corp: missing key \"token\"\nsignals.corp: missing key \"issuer\"\nsignals.corp: missing key \"subjects\""},
		{"unknown token", strings.Replace(soundStream, "graph", "graf", 1), `signals.corp.token: unknown token "graf"`},
		{"unknown client", strings.Replace(soundStream, "app", "ap", 1), `signals.corp.subjects[0].client: unknown client "ap"`},
		{"plain http", strings.Replace(soundStream, "https", "http", 1), "signals.corp.issuer: a plain http URL: credentials would be sent in the clear"},
		{"plain http on loopback", strings.Replace(soundStream, "https://s.example.com", "http://127.0.0.1:8080", 1), ""},
		{"an issuer with a query", strings.Replace(soundStream, "https://s.example.com", `"https://s.example.com?x=1"`, 1), "signals.corp.issuer: an issuer has no query"},
		{"the address of the metadata", strings.Replace(soundStream, ".com", ".com/.well-known/ssf-configuration", 1), "signals.corp.issuer: the address of the metadata, not the issuer"},
		{"both forms", strings.Replace(soundStream, "opaque: x", "opaque: x, iss_sub: { iss: a, sub: b }", 1), "signals.corp.subjects[0]: want exactly one of iss_sub and opaque"},
		{"neither form", strings.Replace(soundStream, ", opaque: x", "", 1), "signals.corp.subjects[0]: want exactly one of iss_sub and opaque"},
		{"half of iss_sub", strings.Replace(soundStream, "opaque: x", "iss_sub: { iss: a }", 1), `signals.corp.subjects[0].iss_sub: missing key "sub"`},
		{"one subject twice", strings.Replace(soundStream, "}]", "}, { client: app, opaque: x }]", 1), "signals.corp.subjects[1]: the same subject as signals.corp.subjects[0] in line 1"},
		{"an interval too short", soundStream + ", interval: 1s", `signals.corp.interval: "1s" is shorter than 10s`},
		{"an interval too long", soundStream + ", interval: 25h", `signals.corp.interval: "25h" is longer than 24h`},
		{"no events", soundStream + ", events: []", "signals.corp.events: empty: a stream without events says nothing"},
		{"an event that nothing follows", soundStream + ", events: [assurance-level-change]", `signals.corp.events[0]: unknown event "assurance-level-change", want some of account-disabled, account-purged, credential-change, session-revoked, token-claims-change`},
	}, func(line string) string { return "signals: { corp: { " + line + " } }\n" + minimal + minimalTail })
}

func TestSignalsDefaults(t *testing.T) {
	c, err := Parse("c", []byte("signals: { corp: { "+soundStream+" } }\n"+minimal+minimalTail), lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Signals[0]
	if s.Interval != 0 || len(s.Events) != len(SignalEvents()) || s.Audience != "" {
		t.Errorf("an interval of %v, events %v and the audience %q are not the defaults", s.Interval, s.Events, s.Audience)
	}
}

// TestStateOfAStreamIsNoOutput keeps a sink off the file that a stream's state is in.
func TestStateOfAStreamIsNoOutput(t *testing.T) {
	document := "signals: { corp: { " + soundStream + ", interval: 10s } }\nstate: { dir: /var/lib/x, key_file: /k }\n" + minimal + minimalTail +
		"sinks: [{ type: file, token: graph, path: /var/lib/x/signals@corp.age }]\n"
	c, err := Parse("c", []byte(document), lookup(nil))
	if err == nil || !strings.Contains(err.Error(), "state.dir") {
		t.Errorf("a sink over the stream's state: %v", err)
	}
	if c != nil && c.Signals[0].Interval != 10*time.Second {
		t.Errorf("the interval is %v", c.Signals[0].Interval)
	}
}

// TestPartOfTheConfigurationHasNoStreams keeps streams to the daemon, of which each has one receiver.
func TestPartOfTheConfigurationHasNoStreams(t *testing.T) {
	c, err := Parse("c", []byte("signals: { corp: { "+soundStream+" } }\n"+minimal+minimalTail), lookup(nil))
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.Only([]string{"graph"})
	if err != nil || len(part.Signals) != 0 {
		t.Errorf("a part has the streams %v, %v", part.Signals, err)
	}
}
