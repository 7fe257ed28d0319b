package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// FuzzDecode reads what a forger who knows the key could have written. What it accepts is written
// and read again the same, and stops nothing for longer than a server may.
func FuzzDecode(f *testing.F) {
	plain, err := encode("graph", onTheWall(sample("graph")))
	must(f, err)
	f.Add(plain, int64(0))
	f.Fuzz(func(t *testing.T, plain []byte, elapsed int64) {
		r, err := decode("graph", plain)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 200 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		again, err := encode("graph", r)
		must(t, err)
		twice, err := decode("graph", again)
		must(t, err)
		if !reflect.DeepEqual(twice, r) {
			t.Errorf("written and read again, it is\n%+v, not\n%+v", twice, r)
		}
		checkRestored(t, r, r.SavedAt.Add(time.Duration(elapsed)))
	})
}

// checkRestored holds what the daemon relies on.
func checkRestored(t *testing.T, r Record, now time.Time) {
	t.Helper()
	got := r.restored(now)
	if opens := got.Gate.OpensAt(); opens.After(now.Add(policy.MaxRetryAfter * 11 / 10)) {
		t.Errorf("the gate opens %v after now", opens.Sub(now))
	}
	if ready := got.Attempts.ReadyAt(); ready.After(now.Add(policy.MaxProbe)) {
		t.Errorf("the token is ready %v after now", ready.Sub(now))
	}
	if got.Token.Expiry.After(now.Add(policy.MaxLife)) || got.Token.RefreshOn.After(got.Token.Expiry) {
		t.Errorf("it expires at %v and is refreshed at %v", got.Token.Expiry, got.Token.RefreshOn)
	}
	for what, instants := range map[string][]time.Time{"gate": got.Gate.Recent, "attempts": got.Attempts.Recent} {
		if !slices.IsSortedFunc(instants, time.Time.Compare) || len(instants) > policy.MaxInWindow || len(instants) > 0 && instants[len(instants)-1].After(now) {
			t.Errorf("the requests of the %s were at %v", what, instants)
		}
	}
	if got.Gate.Failures < 0 || got.Attempts.Failures < 0 {
		t.Errorf("%d and %d failures", got.Gate.Failures, got.Attempts.Failures)
	}
	got.Gate.Answered(now, policy.Outcome{Class: policy.Transient, ClientWide: true}, 0)
	got.Attempts.Answered(now, policy.Outcome{Class: policy.Transient}, 0)
}

// FuzzFile reads any bytes as a token's file. They are a record or damage, and nothing else.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	k, err := parseKey([]byte(testKey))
	must(f, err)
	s := &Store{dir: filepath.Join(dir, "state"), key: k}
	must(f, os.Mkdir(s.dir, 0o700))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := put(t, s, "graph", content)
		r, err := s.Load("graph")
		if err == nil {
			if r.Token.Name != "graph" && !r.Token.AccessToken.IsZero() {
				t.Errorf("it holds token %q", r.Token.Name)
			}
			return
		}
		var damage *DamageError
		if !errors.As(err, &damage) || damage.Path != path {
			t.Fatalf("%v is no damage", err)
		}
		if prefix := fmt.Sprintf("reading state %q: ", path); !strings.HasPrefix(err.Error(), prefix) || strings.Contains(err.Error(), "\n") || len(err.Error()) > len(prefix)+200 {
			t.Errorf("the error is %q", err)
		}
	})
}

// FuzzKey reads any bytes as a key's file. No error shows a part of them.
func FuzzKey(f *testing.F) {
	content, err := NewKey(time.Unix(0, 0))
	must(f, err)
	f.Add([]byte(content.Reveal()))
	f.Fuzz(func(t *testing.T, content []byte) {
		k, err := parseKey(content)
		if err != nil {
			for word := range strings.FieldsSeq(string(content)) {
				if len(word) > 20 && strings.Contains(err.Error(), word) {
					t.Errorf("the error %q shows the file's %q", err, word)
				}
			}
			return
		}
		if !strings.Contains(strings.ToUpper(string(content)), k.identity.String()) {
			t.Error("it is a key that the file does not hold")
		}
	})
}
