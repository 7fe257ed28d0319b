package main

import (
	"errors"
	"fmt"
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

const eventfulText = `not ready, 2 of 4 tokens valid; credagent v1.2, /etc/credagent/credagent.yaml

NEEDS A PERSON (4)
token late of client one: refused by the server, expired 1h 0m ago, 7 failures, next try in 2m 0s
    invalid_client (401), 3s ago
    no valid token in /run/b
    hint: renew the secret
    see: https://github.com/credagent/credagent/blob/main/docs/operations.md#the-server-refuses
sink /run/b: cannot be written, next try in 4s
    writing "/run/b": no space left on device, 1m 0s ago
    hint: check the directory's rights, its room and its file system: credagent doctor
    see: https://github.com/credagent/credagent/blob/main/docs/operations.md#a-sink-cannot-be-written
client one: primary credential cannot be used
    the server refuses it
    hint: replace it: a changed file is noticed by itself
    see: https://github.com/credagent/credagent/blob/main/docs/operations.md#a-credential-ends-or-cannot-be-used
configuration /etc/credagent/credagent.yaml: was not reloaded, the running one stays
    c.yaml:1:1: unknown key, 1m 0s ago
    hint: correct the file, then reload: systemctl reload credagent
    see: https://github.com/credagent/credagent/blob/main/docs/operations.md#the-configuration-was-not-reloaded

NEEDS A PERSON SOON (2)
client two: primary credential ends soon, 2031-05-08, in 2d 1h
    hint: replace it in time: a changed file is noticed by itself
client three: clocks differ
    the server's is 7m 0s behind
    hint: set this host's clock: timedatectl set-ntp true

WAITS (2)
token none of client one: being acquired, no token yet
    hint: wait for the first answer
token held of client two: held back by the server, valid for 30m 0s, next try in 20m 0s
    hint: wait: nothing may be sent before the server's Retry-After is over

TOKEN  STATE         EXPIRES    NEXT REQUEST                        LIFE                        CLIENT  LAST OUTCOME  FAILURES
late   expired       1h 0m ago  in 2m 0s, trying again              [=======================>]  one     credential    7
none   no token yet  -          now, answering a claims challenge   -                           one     -             0
held   valid         in 30m 0s  in 20m 0s, held back by the server  [============>-------|...]  two     throttled     1
good   valid         in 45m 0s  in 15m 0s                           [======>-----|...........]  one     success       0

CLIENT  GATE                             CREDENTIAL  IN USE  PROVIDER    NOT AFTER             TOKEN ENDPOINT
one     backing off for 2m 0s            primary     no      certcred    2031-05-06, over      https://login.example.com/token
one     backing off for 2m 0s            fallback    yes     secretcred  -                     https://login.example.com/token
two     closed by the server for 20m 0s  primary     yes     certcred    2031-05-08, in 2d 1h  -
three   open                             primary     yes     jwtcred     -                     -

SINK    TOKENS     STATE              LAST WRITTEN  NEXT TRY
/run/a  good,held  holds the newest   15m 0s ago    -
/run/b  late       cannot be written  never         4s
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
	const want = `ready, 1 of 1 token valid, next request in 1m 0s; credagent v1, environment

TOKEN  STATE  EXPIRES  NEXT REQUEST  LIFE  CLIENT  LAST OUTCOME  FAILURES
a      valid  -        in 1m 0s      -             -             0
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
		yellow + "closed by the server for 20m 0s" + plain, bold + "TOKEN" + plain,
		bold + red + "NEEDS A PERSON (4)" + plain, bold + yellow + "WAITS (2)" + plain,
		red + "token late of client one: refused by the server, expired 1h 0m ago, 7 failures, next try in 2m 0s" + plain,
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
	if !strings.Contains(out.String(), "bad\ufffd]0;title\ufffd \ufffd31m\ufffdnext, 3s ago\n") {
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

// fleet is 41 tokens of as many files, of which one is refused and one is throttled.
func fleet() status.Status {
	s := status.Status{Version: "v1.2", Source: "/etc/credagent/credagent.yaml", Now: showNow}
	add := func(t status.Token) {
		s.Tokens = append(s.Tokens, t)
		s.Sinks = append(s.Sinks, status.Sink{Path: "/run/credagent/" + t.Name, Tokens: []string{t.Name}, Holds: true})
	}
	for i := range 39 {
		add(status.Token{Name: fmt.Sprintf("a-rather-long-name-of-a-service-%02d", i), Client: "payments", Valid: true,
			AcquiredAt: in(-time.Duration(i) * time.Minute), Expiry: in(time.Hour), RefreshAt: in(20 * time.Minute), LastOutcome: "success"})
	}
	add(status.Token{Name: "throttled", Client: "reports", Valid: true, AcquiredAt: in(-time.Hour), Expiry: in(time.Hour), RefreshAt: in(time.Minute),
		LastOutcome: "throttled", LastError: "HTTP 429", LastErrorAt: in(-time.Second), ConsecutiveFailures: 1})
	add(status.Token{Name: "zz-billing", Client: "billing", AcquiredAt: in(-time.Hour), Expiry: in(-20 * time.Minute), RefreshAt: in(time.Minute), LastOutcome: "credential",
		LastError:   "invalid_client (401), AADSTS7000222: The provided client secret keys for app '8f2e' are expired. Visit the portal to create new keys",
		LastErrorAt: in(-time.Minute), Advice: "create a new secret at the app registration and write it to the client's secret_file", ConsecutiveFailures: 7})
	s.Sinks[40].ExpiredAt = s.Tokens[40].Expiry
	s.Clients = []status.Client{{Name: "reports", Gate: status.Gate{BlockedUntil: in(10 * time.Minute)}}}
	return s
}

// watched is what a window of a size shows.
func watched(t *testing.T, s status.Status, width, height int) []string {
	t.Helper()
	var out strings.Builder
	if err := (&display{out: &out, screen: screen(false, width, height), watch: true}).show(s); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(sequence.ReplaceAllString(out.String(), ""), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
		if n := utf8.RuneCountInString(lines[i]); n > width {
			t.Errorf("a line of %d: %q", n, line)
		}
	}
	if len(lines) > max(1, height-1) {
		t.Errorf("%d lines in a window of %d", len(lines), height)
	}
	return lines
}

// TestWatchShowsWhatMatters: of 41 tokens, in the smallest usual window, the refused one comes first and
// whole, with its cause and the next step, and then the one that waits.
func TestWatchShowsWhatMatters(t *testing.T) {
	lines := watched(t, fleet(), 80, 24)
	text := strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
	at := -1
	for _, want := range []string{
		"not ready, 40 of 41 tokens valid", "q quits", "NEEDS A PERSON (1)",
		"token zz-billing of client billing: refused by the server, expired 20m 0s ago, 7 failures, next try in 1m 0s",
		"invalid_client (401), AADSTS7000222: The provided client secret keys for app '8f2e' are expired. Visit the portal to create new keys, 1m 0s ago",
		"no valid token in /run/credagent/zz-billing", "hint: create a new secret at the app registration and write it to the client's secret_file",
		"see: docs/operations.md#the-server-refuses", "WAITS (1)", "token throttled of client reports: held back by the server, valid for 1h 0m, next try in 10m 0s",
		"HTTP 429, 1s ago", "WELL (39), ", " of them shown", "a-rather-long-name-of-a-service-00",
	} {
		next := strings.Index(text, want)
		if next <= at {
			t.Errorf("%q is not there, or not after what comes before it:\n%s", want, strings.Join(lines, "\n"))
		}
		at = max(at, next)
	}
}

// TestWatchOfManyTroubles: what has no room is counted, in the order of its need.
func TestWatchOfManyTroubles(t *testing.T) {
	s := fleet()
	for i := range s.Tokens[:30] {
		s.Tokens[i].Client = fmt.Sprint("client-", i)
		s.Tokens[i].LastOutcome, s.Tokens[i].LastError, s.Tokens[i].ConsecutiveFailures = "credential", "invalid_client (401)", 1
	}
	for _, height := range []int{0, 1, 2, 3, 4, 5, 6, 8, 12, 24, 60, 200} {
		for _, width := range []int{20, 40, 80, 200} {
			lines := watched(t, s, width, height)
			text := strings.Join(lines, "\n")
			if height >= 4 && !strings.Contains(text, "NEEDS A PERSON (31)") {
				t.Errorf("%dx%d: it does not show that something needs a person:\n%s", width, height, text)
			}
			if height >= 5 && !strings.Contains(text, "WAITS (1)") {
				t.Errorf("%dx%d: it does not show that something waits:\n%s", width, height, text)
			}
			if height >= 6 && !strings.Contains(text, "token zz-billing of") && !strings.Contains(text, "and 31 more") {
				t.Errorf("%dx%d: it does not begin with the worst:\n%s", width, height, text)
			}
		}
	}
}

func TestWrapped(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("word ", 40), strings.Repeat("x", 100), "ünïcödé " + strings.Repeat("ß", 50) + " end", "a  double  blank " + strings.Repeat("y ", 30)} {
		for _, indent := range []int{0, 4} {
			var joined []string
			for i, line := range wrapped(cell{text, ""}, indent, 40) {
				if i > 0 && line[0].text == "" {
					t.Errorf("%q: what goes on is not set off", text)
				}
				if n := utf8.RuneCountInString(line[0].text + line[1].text); n > 40 {
					t.Errorf("%q: a line of %d", text, n)
				}
				joined = append(joined, line[1].text)
			}
			if got, want := strings.ReplaceAll(strings.Join(joined, ""), " ", ""), strings.ReplaceAll(text, " ", ""); got != want {
				t.Errorf("%q became %q", text, joined)
			}
		}
	}
}

func TestAwaitQuit(t *testing.T) {
	for keys, left := range map[string]string{"q": "", "Q": "", "jkq!": "!", "x\x03y": "y", "\x1b[Aq": "", "": "", "abc": ""} {
		in := strings.NewReader(keys)
		awaitQuit(in)
		if got := keys[len(keys)-in.Len():]; got != left {
			t.Errorf("of %q it leaves %q, want %q", keys, got, left)
		}
	}
	if quit, _, err := quitKeys(strings.NewReader("q")); quit != nil || err != nil {
		t.Errorf("what is no terminal has keys: %v, %v", quit, err)
	}
}
