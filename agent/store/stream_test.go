package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/atomicfile"
)

// sampleStream has something in every field, as the wall clock has it.
func sampleStream() Stream {
	now := time.Now().Round(0).UTC()
	return Stream{
		Issuer: "https://signals.example.com", ClientID: "app-1", ID: "stream-1", Audience: []string{"https://receiver.example.com"},
		Seen: []string{"a", "b"}, Acks: []string{"jti-1"}, Added: []string{"c"},
		Pending:  []Effect{{Event: "session-revoked", Client: "app", At: now.Add(-time.Second)}, {Event: "credential-change", Client: "app", At: now, Serial: "0a1b"}},
		Verified: now.Add(-time.Hour), VerifyAsked: now.Add(-2 * time.Hour), VerifyState: "s", BlockedUntil: now.Add(time.Hour), Recent: []time.Time{now.Add(-time.Second)}, SavedAt: now,
	}
}

func TestStreamIsKept(t *testing.T) {
	s := newStore(t)
	want := sampleStream()
	must(t, s.SaveStream("corp", want))
	got, err := s.LoadStream("corp")
	must(t, err)
	if got.SavedAt.IsZero() || got.BlockedUntil.Sub(want.BlockedUntil).Abs() > time.Second {
		t.Errorf("loaded at %v with a wait until %v", got.SavedAt, got.BlockedUntil)
	}
	for _, instant := range []*time.Time{&got.SavedAt, &got.BlockedUntil, &got.Verified, &got.VerifyAsked, &want.SavedAt, &want.BlockedUntil, &want.Verified, &want.VerifyAsked} {
		*instant = time.Time{}
	}
	if len(got.Recent) != 1 || got.Recent[0].Sub(want.Recent[0]).Abs() > time.Second {
		t.Errorf("loaded are the requests %v", got.Recent)
	}
	got.Recent, want.Recent = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("loaded\n%+v, want\n%+v", got, want)
	}
	must(t, s.RemoveStream("corp"))
	must(t, s.RemoveStream("corp"))
	if _, err := s.LoadStream("corp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its end: %v", err)
	}
}

// TestStreamIsNoToken keeps the two kinds of records apart, also where the names are the same.
func TestStreamIsNoToken(t *testing.T) {
	s := newStore(t)
	must(t, s.Save("graph", sample("graph")))
	must(t, s.SaveStream("graph", sampleStream()))
	records, failed := s.LoadAll()
	if len(records) != 1 || len(failed) != 0 {
		t.Errorf("of one token and one stream there are %d records and the failures %v", len(records), failed)
	}
	must(t, s.RemoveStream("graph"))
	if _, err := s.Load("graph"); err != nil {
		t.Error(err)
	}
}

// TestStreamIsEncrypted looks for what is in the record in the file.
func TestStreamIsEncrypted(t *testing.T) {
	s := newStore(t)
	must(t, s.SaveStream("corp", sampleStream()))
	path := filepath.Join(s.dir, "signals@corp.age")
	content, err := os.ReadFile(path)
	must(t, err)
	if strings.Contains(string(content), "receiver.example.com") {
		t.Error("the record is there in the clear")
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
}

func TestDamagedStreamIsIgnoredAndReplaced(t *testing.T) {
	s := newStore(t)
	must(t, s.SaveStream("corp", sampleStream()))
	path := filepath.Join(s.dir, "signals@corp.age")
	other := newStore(t)
	must(t, other.SaveStream("corp", sampleStream()))
	foreign, err := os.ReadFile(filepath.Join(other.dir, "signals@corp.age"))
	must(t, err)
	must(t, s.SaveStream("lab", sampleStream()))
	lab, err := os.ReadFile(filepath.Join(s.dir, "signals@lab.age"))
	must(t, err)
	for name, content := range map[string][]byte{"torn": foreign[:50], "another key": foreign, "another stream's": lab, "empty": {}, "large": make([]byte, maxFile+1)} {
		must(t, os.WriteFile(path, content, 0o600))
		var damage *DamageError
		if _, err := s.LoadStream("corp"); !errors.As(err, &damage) || damage.Path != path {
			t.Errorf("%s: %v is no damage", name, err)
		}
		must(t, s.SaveStream("corp", sampleStream()))
		if _, err := s.LoadStream("corp"); err != nil {
			t.Errorf("%s: not replaced: %v", name, err)
		}
	}
}

func TestStreamsLeftOversAreRemoved(t *testing.T) {
	key := writeKey(t)
	dir := filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, key)
	must(t, err)
	must(t, s.SaveStream("corp", sampleStream()))
	left := filepath.Join(dir, atomicfile.Prefix+"signals@corp.age-"+strings.Repeat("0a", 8))
	must(t, os.WriteFile(left, []byte("x"), 0o600))
	_, err = Open(dir, key)
	must(t, err)
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
}

// TestStreamsWaitIsBounded keeps a forged record from stopping a stream for years, and a clock that was set
// back from lengthening a wait.
func TestStreamsWaitIsBounded(t *testing.T) {
	r := sampleStream()
	r.BlockedUntil = r.SavedAt.AddDate(50, 0, 0)
	r.Pending[0].At = r.SavedAt.AddDate(50, 0, 0)
	got := r.restored(r.SavedAt)
	if got.BlockedUntil.Sub(r.SavedAt) > policy.LongestBlock {
		t.Errorf("it waits until %v", got.BlockedUntil)
	}
	if got.Pending[0].At.After(r.SavedAt) {
		t.Errorf("an effect of the future, %v", got.Pending[0].At)
	}
}

func TestUnsoundStreams(t *testing.T) {
	s := newStore(t)
	for name, change := range map[string]func(*Stream){
		"a line break":     func(r *Stream) { r.ID = "a\nb" },
		"a very long jti":  func(r *Stream) { r.Acks = []string{strings.Repeat("x", maxJTI+1)} },
		"too many seen":    func(r *Stream) { r.Seen = make([]string, MaxSeen+1) },
		"too many effects": func(r *Stream) { r.Pending = make([]Effect, maxPending+1) },
	} {
		r := sampleStream()
		change(&r)
		if err := s.SaveStream("corp", r); err == nil {
			t.Errorf("%s is saved", name)
		}
	}
	for _, name := range []string{"", "../x", "a/b", "signals@x"} {
		if err := s.SaveStream(name, sampleStream()); err == nil {
			t.Errorf("stream %q is saved", name)
		}
	}
}

// FuzzDecodeStream reads what a forger who knows the key could have written. What it accepts is written and
// read again the same, and stops nothing for longer than a server may.
func FuzzDecodeStream(f *testing.F) {
	plain, err := encodeStream("corp", sampleStream())
	must(f, err)
	f.Add(plain)
	f.Add([]byte(`{"version":1,"stream":"corp","saved_at":"2026-11-01T00:00:00Z","issuer":"i","client_id":"c"}`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		r, err := decodeStream("corp", plain)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 200 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		again, err := encodeStream("corp", r)
		must(t, err)
		twice, err := decodeStream("corp", again)
		must(t, err)
		if len(r.Seen)+len(r.Acks)+len(r.Pending) != len(twice.Seen)+len(twice.Acks)+len(twice.Pending) || twice.ID != r.ID {
			t.Errorf("written and read again, it is\n%+v, not\n%+v", twice, r)
		}
		if got := r.restored(time.Now()); got.BlockedUntil.After(time.Now().Add(policy.LongestBlock)) {
			t.Errorf("it waits until %v", got.BlockedUntil)
		}
	})
}
