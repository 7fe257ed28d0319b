package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"github.com/credagent/credagent/agent/policy"
)

func TestSavedIsLoaded(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"graph", "a.b", "a.age", "A-_.", strings.Repeat("x", 63)} {
		saved := sample(name)
		must(t, s.Save(name, saved))
		got, err := s.Load(name)
		must(t, err)
		saved.SavedAt = got.SavedAt
		if !reflect.DeepEqual(onTheWall(got), onTheWall(saved)) {
			t.Errorf("loaded\n%+v, want\n%+v", got, saved)
		}
		if got.Token.AccessToken.Reveal() != canary {
			t.Error("the access token is another one")
		}
		if since := time.Since(got.SavedAt); since < 0 || since > time.Minute {
			t.Errorf("it was saved at %v", got.SavedAt)
		}
	}
	all, failed := s.LoadAll()
	if len(all) != 5 || len(failed) != 0 {
		t.Errorf("LoadAll() has %d records and fails with %v", len(all), failed)
	}
}

func TestRecordWithoutToken(t *testing.T) {
	s := newStore(t)
	saved := Record{Binding: Binding{ClientID: "app-1"}, Gate: policy.Gate{Failures: 1, FailedAt: time.Now()}}
	must(t, s.Save("graph", saved))
	got, err := s.Load("graph")
	must(t, err)
	saved.SavedAt = got.SavedAt
	if !reflect.DeepEqual(onTheWall(got), onTheWall(saved)) {
		t.Errorf("loaded %+v, want %+v", got, saved)
	}
}

// TestFilesAreAge decrypts a file with age itself, and looks for the token where it must not be.
func TestFilesAreAge(t *testing.T) {
	keyFile := writeKey(t)
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, keyFile)
	must(t, err)
	must(t, s.Save("graph", sample("graph")))
	sealed, err := os.ReadFile(filepath.Join(dir, "graph.age"))
	must(t, err)
	if bytes.Contains(sealed, []byte(canary)) {
		t.Error("the file shows the token")
	}
	key, err := os.Open(keyFile)
	must(t, err)
	defer key.Close()
	identities, err := age.ParseIdentities(key)
	must(t, err)
	reader, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	must(t, err)
	plain, err := io.ReadAll(reader)
	must(t, err)
	if !bytes.Contains(plain, []byte(`"access_token":"`+canary+`"`)) {
		t.Errorf("it holds %s", plain)
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	s := newStore(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		shown := fmt.Sprintf(verb+verb+verb, s, *s, sample("graph"))
		if strings.Contains(shown, canary) || strings.Contains(shown, "AGE-SECRET") {
			t.Errorf("%s prints %s", verb, shown)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", ".", "..", ".x", "../x", "a/b", "a b", "ä", "-x", "x\x00", strings.Repeat("x", 64)} {
		wantError(t, s.Save(name, Record{}), "not the name of a token")
		wantError(t, s.Remove(name), "not the name of a token")
		_, err := s.Load(name)
		wantError(t, err, "not the name of a token")
	}
	if got := entries(t, s.dir); got != "" {
		t.Errorf("the directory has %q", got)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := newStore(t)
	if _, err := s.Load("graph"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load() = %v", err)
	}
	must(t, s.Remove("graph"))
	if all, failed := s.LoadAll(); len(all) != 0 || len(failed) != 0 {
		t.Errorf("LoadAll() = %v, %v", all, failed)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	must(t, s.Save("graph", sample("graph")))
	must(t, s.Save("other", sample("other")))
	must(t, s.Remove("graph"))
	if got := entries(t, s.dir); got != "other.age" {
		t.Errorf("the directory has %q", got)
	}
}

// TestForeignFilesAreLeftAlone: neither read, nor taken for left-overs.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
	must(t, os.Mkdir(dir, 0o700))
	const random = "-0123456789abcdef"
	ours := []string{".credagent-graph.age" + random, ".credagent-a.b.age" + random}
	theirs := []string{".credagent-graph" + random, ".credagent-graph.age-0123", ".credagent-.x.age" + random, ".x.age", "lost+found", "notes", "x y.age"}
	for _, name := range append(ours, theirs...) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	s, err := Open(dir, keyFile)
	must(t, err)
	slices.Sort(theirs)
	if got, want := entries(t, dir), strings.Join(theirs, " "); got != want {
		t.Errorf("the directory has %q, want %q", got, want)
	}
	if all, failed := s.LoadAll(); len(all) != 0 || len(failed) != 0 {
		t.Errorf("LoadAll() = %v, %v", all, failed)
	}
}

func TestDirectoryIsMadeAgain(t *testing.T) {
	s := newStore(t)
	must(t, os.RemoveAll(s.dir))
	if _, failed := s.LoadAll(); len(failed) != 1 {
		t.Errorf("LoadAll() without a directory fails with %v", failed)
	}
	must(t, s.Save("graph", sample("graph")))
	if _, err := s.Load("graph"); err != nil {
		t.Error(err)
	}
	must(t, os.RemoveAll(filepath.Dir(s.dir)))
	wantError(t, s.Save("graph", sample("graph")), `saving the state of token "graph": making state directory`, "create that first")
}

// TestClockSetBackWhileStopped: the wait that the server asked for is as long as it was, and a token
// lives no longer than it did.
func TestClockSetBackWhileStopped(t *testing.T) {
	s := newStore(t)
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		r := sample("graph")
		r.SavedAt = now
		sealed, err := s.seal("graph", later(r, 1000*time.Hour))
		must(t, err)
		put(t, s, "graph", sealed)
		r, err = s.Load("graph")
		must(t, err)
		for what, got := range map[string][2]time.Duration{
			"blocked for": {r.Gate.BlockedUntil.Sub(now), 2 * time.Hour},
			"expires in":  {r.Token.Expiry.Sub(now), time.Hour},
			"refresh in":  {r.Token.RefreshOn.Sub(now), 30 * time.Minute},
			"acquired":    {r.AcquiredAt.Sub(now), -time.Second},
			"retry in":    {r.Attempts.RetryAt.Sub(now), 10 * time.Second},
		} {
			if got[0] != got[1] {
				t.Errorf("%s %v, want %v", what, got[0], got[1])
			}
		}
	})
}

// later is the record as a process would have saved it whose clock was ahead.
func later(r Record, by time.Duration) Record {
	r = onTheWall(r)
	for _, at := range []*time.Time{&r.SavedAt, &r.AcquiredAt, &r.Token.Expiry, &r.Token.RefreshOn, &r.Gate.BlockedUntil, &r.Attempts.RetryAt} {
		*at = at.Add(by)
	}
	return r
}

// TestNothingWaitsForYears: what a file says is believed only as far as it can be true.
func TestNothingWaitsForYears(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	far := now.AddDate(500, 0, 0)
	r := Record{SavedAt: now, Gate: policy.Gate{BlockedUntil: far, RetryAt: far}, Attempts: policy.Attempts{RetryAt: far}}
	r.Token.Expiry, r.Token.RefreshOn = far, far.Add(time.Hour)
	got := r.restored(now)
	for what, bound := range map[string][2]time.Time{
		"the gate":    {got.Gate.OpensAt(), now.Add(policy.MaxRetryAfter * 11 / 10)},
		"the token":   {got.Attempts.ReadyAt(), now.Add(policy.MaxProbe)},
		"the expiry":  {got.Token.Expiry, now.Add(policy.MaxLife)},
		"the refresh": {got.Token.RefreshOn, now.Add(policy.MaxLife)},
	} {
		if !bound[0].Equal(bound[1]) {
			t.Errorf("%s is at %v, want %v", what, bound[0], bound[1])
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newStore(t)
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			name := fmt.Sprintf("token%d", i)
			for range 20 {
				if err := s.Save(name, sample(name)); err != nil {
					t.Error(err)
				}
				if _, err := s.Load(name); err != nil {
					t.Error(err)
				}
				if _, failed := s.LoadAll(); len(failed) > 0 {
					t.Error(failed)
				}
			}
		})
	}
	workers.Wait()
	if all, failed := s.LoadAll(); len(all) != 8 || len(failed) != 0 {
		t.Errorf("LoadAll() has %d records and fails with %v", len(all), failed)
	}
}

func TestGates(t *testing.T) {
	now := time.Now()
	of := func(clientID string, saved time.Duration, g policy.Gate) Record {
		return Record{Binding: Binding{ClientID: clientID, Server: "s", Request: "differs", Provider: clientID}, Gate: g, SavedAt: now.Add(saved)}
	}
	gates := Gates(map[string]Record{
		"old":   of("app", -time.Hour, policy.Gate{BlockedUntil: now.Add(time.Hour), Failures: 9}),
		"new":   of("app", 0, policy.Gate{BlockedUntil: now.Add(time.Minute), Failures: 1}),
		"older": of("app", -2*time.Hour, policy.Gate{Failures: 5}),
		"other": of("stranger", 0, policy.Gate{Failures: 2}),
	})
	want := map[GateKey]policy.Gate{
		{"app", "s"}:      {BlockedUntil: now.Add(time.Hour), Failures: 1},
		{"stranger", "s"}: {Failures: 2},
	}
	if !reflect.DeepEqual(gates, want) {
		t.Errorf("Gates() = %+v, want %+v", gates, want)
	}
}
