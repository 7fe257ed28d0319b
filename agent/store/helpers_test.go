package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/token"
)

// canary is the access token of every record. No file, error or print may show it.
const canary = "canary-5b1e.token"

// testKey is a key that no store of anybody's was ever opened with.
const testKey = "AGE-SECRET-KEY-1DD45W7YK9058G4MJAHSYNY70U7EXAPJLPDA9D74FLJLLZ6N39XFQ5RZ2HX"

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func wantError(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			tb.Errorf("error %q does not say %q", err, part)
		}
	}
	for _, hidden := range []string{canary, testKey} {
		if strings.Contains(err.Error(), hidden) {
			tb.Errorf("error %q shows a secret", err)
		}
	}
}

// writeKey writes a new key's file.
func writeKey(tb testing.TB) string {
	tb.Helper()
	content, err := NewKey(time.Now())
	must(tb, err)
	file := filepath.Join(tb.TempDir(), "state-key")
	must(tb, os.WriteFile(file, []byte(content.Reveal()), 0o600))
	return file
}

// newStore opens a store in a new directory.
func newStore(tb testing.TB) *Store {
	tb.Helper()
	s, err := Open(filepath.Join(tb.TempDir(), "state"), writeKey(tb))
	must(tb, err)
	return s
}

// sample is a record with something in every field, as of now.
func sample(name string) Record {
	now := time.Now()
	return Record{
		Binding: Binding{ClientID: "app-1", Server: "https://login.example.com/token", Request: "5e1f", Provider: "certcred"},
		Token: token.Token{
			Name: name, AccessToken: secret.New(canary), TokenType: "Bearer", Scope: "read write", ClientID: "app-1",
			Expiry: now.Add(time.Hour), RefreshOn: now.Add(30 * time.Minute),
		},
		AcquiredAt: now.Add(-time.Second),
		Attempts: policy.Attempts{
			Failures: 2, FailingSince: now.Add(-time.Minute), FailedAt: now.Add(-time.Second), RetryAt: now.Add(10 * time.Second),
			Class: policy.Transient, Recent: []time.Time{now.Add(-time.Minute), now.Add(-time.Second)},
		},
		Gate: policy.Gate{
			BlockedUntil: now.Add(2 * time.Hour), RetryAt: now.Add(5 * time.Second), Failures: 1, Lasting: true,
			FailingSince: now.Add(-time.Minute), FailedAt: now.Add(-time.Second), Recent: []time.Time{now.Add(-time.Second)},
		},
		Challenge:  Challenge{Claims: `{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}`, Rejected: "ab12", Answered: `{"access_token":{"acrs":{"value":"c1"}}}`},
		Credential: Credential{Files: "/etc/app.pem,1,2;", Identity: "SHA256:2f", Choice: policy.Choice{Fallback: true, Spent: true}},
		History: History{
			Requests: 14, AcquiredAt: now.Add(-2 * time.Hour), Expiry: now.Add(-time.Hour),
			Failure: Failure{At: now.Add(-time.Second), Class: policy.Credential, Message: "invalid_client (401), the secret has expired", Advice: "renew the secret"},
		},
	}
}

// onTheWall is the record with its instants as they are written down.
func onTheWall(r Record) Record {
	r.SavedAt, r.AcquiredAt = wall(r.SavedAt), wall(r.AcquiredAt)
	r.Token.Expiry, r.Token.RefreshOn = wall(r.Token.Expiry), wall(r.Token.RefreshOn)
	h := &r.History
	h.AcquiredAt, h.Expiry, h.Failure.At = wall(h.AcquiredAt), wall(h.Expiry), wall(h.Failure.At)
	a := &r.Attempts
	a.FailingSince, a.FailedAt, a.RetryAt, a.Recent = wall(a.FailingSince), wall(a.FailedAt), wall(a.RetryAt), walls(a.Recent)
	g := &r.Gate
	g.BlockedUntil, g.RetryAt, g.FailingSince, g.FailedAt, g.Recent = wall(g.BlockedUntil), wall(g.RetryAt), wall(g.FailingSince), wall(g.FailedAt), walls(g.Recent)
	return r
}

// put writes a file of a store as somebody else would.
func put(tb testing.TB, s *Store, token string, content []byte) string {
	tb.Helper()
	path := filepath.Join(s.dir, token+suffix)
	must(tb, os.WriteFile(path, content, 0o600))
	return path
}

func entries(tb testing.TB, dir string) string {
	tb.Helper()
	found, err := os.ReadDir(dir)
	must(tb, err)
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

// wantSetup expects the error of an Open.
func wantSetup(tb testing.TB, err error, setting string, parts ...string) {
	tb.Helper()
	wantError(tb, err, parts...)
	var setup *SetupError
	if !errors.As(err, &setup) || setup.Setting != setting {
		tb.Errorf("%v is not about %s", err, setting)
	}
}
