package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/demo"
)

var showNow = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)

func in(d time.Duration) *time.Time { return status.Instant(showNow.Add(d)) }

// eventful is a status in which there is something of everything.
func eventful() status.Status {
	return status.Status{
		Version: "v1.2", Source: "/etc/credagent/credagent.yaml", Now: showNow,
		Reload:   &status.Reload{At: *in(-time.Minute), Error: "c.yaml:1:1: unknown key"},
		NotReady: []string{`token "late" is not valid`, `sink "/run/b" does not hold the newest token`},
		Tokens: []status.Token{
			{Name: "good", Client: "one", Valid: true, AcquiredAt: in(-15 * time.Minute), Expiry: in(45 * time.Minute), RefreshAt: in(15 * time.Minute), LastOutcome: "success"},
			{Name: "held", Client: "two", Valid: true, AcquiredAt: in(-30 * time.Minute), Expiry: in(30 * time.Minute), RefreshAt: in(time.Minute), LastOutcome: "throttled", ConsecutiveFailures: 1},
			{Name: "late", Client: "one", AcquiredAt: in(-2 * time.Hour), Expiry: in(-time.Hour), RefreshAt: in(2 * time.Minute), LastOutcome: "credential",
				ConsecutiveFailures: 7, LastError: "invalid_client (401)", LastErrorAt: in(-3 * time.Second), Advice: "renew the secret"},
			{Name: "none", Client: "one", RefreshAt: in(-time.Second), ChallengePending: true},
		},
		Clients: []status.Client{
			{Name: "one", TokenEndpoint: "https://login.example.com/token", Gate: status.Gate{RetryAt: in(2 * time.Minute)},
				Credentials: []status.Credential{
					{Name: "primary", Provider: "certcred", NotAfter: in(-time.Hour), Problem: "the server refuses it"},
					{Name: "fallback", InUse: true, Provider: "secretcred"},
				}},
			{Name: "two", Gate: status.Gate{BlockedUntil: in(20 * time.Minute)}, Credentials: []status.Credential{{Name: "primary", InUse: true, Provider: "certcred", NotAfter: in(49 * time.Hour), EndsSoon: true}}},
			{Name: "three", ClockSkew: -420, Credentials: []status.Credential{{Name: "primary", InUse: true, Provider: "jwtcred"}}},
		},
		Sinks: []status.Sink{
			{Path: "/run/a", Tokens: []string{"good", "held"}, Holds: true, LastSuccess: in(-15 * time.Minute)},
			{Path: "/run/b", Tokens: []string{"late"}, LastError: `writing "/run/b": no space left on device`, LastErrorAt: in(-time.Minute), RetryAt: in(4 * time.Second)},
		},
	}
}

const eventfulText = `credagent v1.2, /etc/credagent/credagent.yaml: not ready, 2 of 4 tokens valid
    token "late" is not valid
    sink "/run/b" does not hold the newest token

TOKEN  CLIENT  VALID  LIFE                        EXPIRES IN  NEXT REQUEST                        LAST OUTCOME  FAILURES
good   one     yes    [======>-----|...........]  45m 0s      in 15m 0s                           success       0
held   two     yes    [============>-------|...]  30m 0s      in 20m 0s, held back by the server  throttled     1
late   one     no     [=======================>]  -           in 2m 0s, trying again              credential    7
none   one     no     -                           -           now, answering a claims challenge   -             0

CLIENT  GATE                             CREDENTIAL  IN USE  PROVIDER    NOT AFTER             TOKEN ENDPOINT
one     backing off for 2m 0s            primary     no      certcred    2031-05-06, over      https://login.example.com/token
one     backing off for 2m 0s            fallback    yes     secretcred  -                     https://login.example.com/token
two     closed by the server for 20m 0s  primary     yes     certcred    2031-05-08, in 2d 1h  -
three   open                             primary     yes     jwtcred     -                     -

SINK    TOKENS     HOLDS  LAST WRITTEN  NEXT TRY
/run/a  good,held  yes    15m 0s ago    -
/run/b  late       no     never         4s

the configuration was not reloaded 1m 0s ago, the running one stays: c.yaml:1:1: unknown key
token late, 3s ago: invalid_client (401)
    hint: renew the secret
client one, primary credential: the server refuses it
client three, clocks: the server's is 7m 0s behind
sink, 1m 0s ago: writing "/run/b": no space left on device
`

func TestShowPlain(t *testing.T) {
	var out strings.Builder
	d := display{out: &out, watch: true}
	for range 2 {
		if err := d.show(eventful()); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); got != eventfulText+"\n"+eventfulText {
		t.Errorf("it shows\n%s\nwant twice\n%s", got, eventfulText)
	}
}

func TestShowLittle(t *testing.T) {
	var out strings.Builder
	s := status.Status{Version: "v1", Source: "environment", Ready: true, Now: showNow, Tokens: []status.Token{{Name: "a", Valid: true, RefreshAt: in(time.Minute)}}}
	if err := (&display{out: &out}).show(s); err != nil {
		t.Fatal(err)
	}
	const want = `credagent v1, environment: ready, 1 of 1 tokens valid, next request in 1m 0s

TOKEN  CLIENT  VALID  LIFE  EXPIRES IN  NEXT REQUEST  LAST OUTCOME  FAILURES
a              yes    -     -           in 1m 0s      -             0
`
	if out.String() != want {
		t.Errorf("it shows\n%s\nwant\n%s", &out, want)
	}
}

var sequence = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

func screen(color bool, width, height int) *demo.Screen {
	return &demo.Screen{Color: color, Size: func() (int, int) { return width, height }}
}

func TestShowOnATerminal(t *testing.T) {
	var out strings.Builder
	if err := (&display{out: &out, screen: screen(true, 80, 24)}).show(eventful()); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		red + "not ready" + plain, green + "[━━━━━━●─────┃┄┄┄┄┄┄┄┄┄┄┄]" + plain, yellow + "[━━━━━━━━━━━━●───────┃┄┄┄]" + plain,
		red + "2031-05-06, over" + plain, yellow + "2031-05-08, in 2d 1h" + plain,
		red + "closed by the server for 20m 0s" + plain, bold + "TOKEN" + plain,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in %q", want, text)
		}
	}
	drawn := strings.NewReplacer("━", "=", "●", ">", "─", "-", "┃", "|", "┄", ".").Replace(sequence.ReplaceAllString(text, ""))
	if drawn != eventfulText {
		t.Errorf("a terminal is told something else than a pipe:\n%s", drawn)
	}
	out.Reset()
	if err := (&display{out: &out, screen: screen(false, 80, 24)}).show(eventful()); err != nil {
		t.Fatal(err)
	}
	if sequence.MatchString(out.String()) {
		t.Error("NO_COLOR is not heeded")
	}
}

// TestWatchStaysInItsPlace: each picture covers the one before, and none is larger than the screen.
func TestWatchStaysInItsPlace(t *testing.T) {
	for _, height := range []int{0, 1, 5, 24, 100} {
		var out strings.Builder
		d := display{out: &out, screen: screen(true, 40, height), watch: true}
		for range 2 {
			if err := d.show(eventful()); err != nil {
				t.Fatal(err)
			}
		}
		first, second, ok := strings.Cut(out.String(), eraseBelow+goHome)
		if !ok || !strings.HasPrefix(first, clearScreen) || strings.Contains(second, clearScreen) {
			t.Fatalf("the pictures are not one over the other: %q", out.String())
		}
		lines := strings.Split(strings.TrimSuffix(sequence.ReplaceAllString(first, ""), "\n"), "\n")
		if len(lines) > max(1, height-1) {
			t.Errorf("height %d: %d lines", height, len(lines))
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > 40 {
				t.Errorf("a line of %d", n)
			}
		}
		if strings.Count(first, "\n") != strings.Count(first, eraseLine) {
			t.Error("something of an older picture stays")
		}
	}
}

func TestShowHidesControlCharacters(t *testing.T) {
	s := eventful()
	s.Tokens[2].LastError = "bad\x1b]0;title\x07 \u009b31m\nnext"
	var out strings.Builder
	if err := (&display{out: &out, screen: screen(false, 80, 24)}).show(s); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "bad\ufffd]0;title\ufffd \ufffd31m\ufffdnext\n") {
		t.Errorf("it shows %q", out.String())
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestShowTellsWhenNobodyReads(t *testing.T) {
	if err := (&display{out: closed{}}).show(eventful()); err == nil {
		t.Error("no error")
	}
}

func TestSummary(t *testing.T) {
	s := eventful()
	s.NotReady = append(s.NotReady, "third", "fourth")
	const want = `2 of 4 tokens valid, not ready: token "late" is not valid, sink "/run/b" does not hold the newest token, third`
	if got := summary(s.Brief()); got != want {
		t.Errorf("summary is %q, want %q", got, want)
	}
}
