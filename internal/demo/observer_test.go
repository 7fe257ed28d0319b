package demo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/status"
)

func TestObserverTellsWhatChanged(t *testing.T) {
	at := func(s status.Status) status.Status {
		s.Now = noon
		return s
	}
	first := status.Token{Name: "graph", Client: "a", AcquiredAt: in(0), Expiry: in(15), RefreshAt: in(5)}
	second := status.Token{Name: "graph", Client: "a", AcquiredAt: in(5), Expiry: in(20), RefreshAt: in(10)}
	failed := second
	failed.LastError, failed.LastErrorAt = "(503), no", in(-1)
	blocked := []status.Client{{Name: "a", Gate: status.Gate{BlockedUntil: in(11.5)}}}
	steps := []struct {
		name string
		now  status.Status
		want []string
	}{
		{"nothing yet", at(status.Status{Tokens: []status.Token{{Name: "graph"}}, Sinks: []status.Sink{{Path: "/d/x"}}}), nil},
		{"a token", at(status.Status{Tokens: []status.Token{first}}), []string{"token graph acquired (#1), expires in 15.0s"}},
		{"the same token", at(status.Status{Tokens: []status.Token{first}}), nil},
		{"a sink", at(status.Status{Sinks: []status.Sink{{Path: "/d/x", LastSuccess: in(0)}}}), []string{"file x written for the first time"}},
		{"a sink again", at(status.Status{Sinks: []status.Sink{{Path: "/d/x", LastSuccess: in(5)}}}), nil},
		{"the next token", at(status.Status{Tokens: []status.Token{second}}), []string{"token graph refreshed (#2), expires in 20.0s"}},
		{"a failure", at(status.Status{Tokens: []status.Token{failed}, Clients: blocked}),
			[]string{"token graph not refreshed: (503), no; next request in 11.5s, the old token is good for 20.0s"}},
		{"the same failure", at(status.Status{Tokens: []status.Token{failed}, Clients: blocked}), nil},
	}
	o := newObserver()
	for _, step := range steps {
		if got := o.changes(step.now); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	if o.writes["x"] != 2 {
		t.Errorf("%d writes counted, want 2", o.writes["x"])
	}
}

func TestReaderCountsWhatItSees(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.token")
	r := newReader(path, func(token string) bool { return strings.HasPrefix(token, "good") }, func(string) {})
	put := func(content string) func() error {
		return func() error { return replaceFile(path, []byte(content)) }
	}
	steps := []struct {
		name string
		do   func() error
		says string
		want reading
	}{
		{"before the first token", func() error { return nil }, "", reading{}},
		{"the first token", put("good1"), "file graph.token holds #1, which the server accepts", reading{reads: 1, tokens: 1}},
		{"the same token", put("good1"), "", reading{reads: 2, tokens: 1}},
		{"the next token", put("good2"), "file graph.token holds #2, which the server accepts", reading{reads: 3, tokens: 2}},
		{"an empty file", put(""), "file graph.token is bad: it is empty", reading{4, 1, "it is empty", 2}},
		{"an expired token", put("old"), "", reading{5, 2, "it is empty", 2}},
		{"no file", func() error { return os.Remove(path) }, "", reading{6, 3, "it is empty", 2}},
		{"a token again", put("good2"), "", reading{7, 3, "it is empty", 2}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		says := strings.Join(r.read(), "\n")
		if got := r.report(); says != step.says || got != step.want {
			t.Errorf("%s: %q, %+v, want %q, %+v", step.name, says, got, step.says, step.want)
		}
	}
}

func TestReaderSaysWhatIsWrongFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.token")
	if err := replaceFile(path, []byte("expired")); err != nil {
		t.Fatal(err)
	}
	r := newReader(path, func(string) bool { return false }, func(string) {})
	if got, want := strings.Join(r.read(), "\n"), "file graph.token is bad: "+errNotAccepted.Error(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	log := &tail{}
	for i := range tailKeeps + 2 {
		if n, err := log.Write([]byte{'a' + byte(i), '\n'}); n != 2 || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if got, want := log.String(), "c\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
