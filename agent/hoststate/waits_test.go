package hoststate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// fakeBoot is a boot clock that a test sets.
type fakeBoot struct {
	id    string
	since time.Duration
}

func (c *fakeBoot) Boot() (string, time.Duration) { return c.id, c.since }

func open(t *testing.T, dir string, clock Clock) *Store {
	t.Helper()
	s, err := Open(Options{Runtime: []string{dir}, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func left(t *testing.T, s *Store, k gate) time.Duration {
	t.Helper()
	until, err := s.Until(k.endpoint, k.clientID)
	if err != nil {
		t.Fatal(err)
	}
	if until.IsZero() {
		return 0
	}
	return time.Until(until)
}

// gate is one client at one token endpoint.
type gate struct{ endpoint, clientID string }

var key = gate{endpoint: "https://login.example.com/token", clientID: "c1"}

func TestWaitIsSeenByAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "made")
		if err := open(t, dir, nil).Extend(key.endpoint, key.clientID, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		other := open(t, dir, nil)
		for k, want := range map[gate]time.Duration{
			key:                                      time.Minute,
			{endpoint: key.endpoint, clientID: "c2"}: 0,
			{endpoint: key.endpoint + "c", clientID: "1"}:                 0,
			{endpoint: "https://other.example.com/token", clientID: "c1"}: 0,
		} {
			if got := left(t, other, k); got != want {
				t.Errorf("wait of %v: %v left, want %v", k, got, want)
			}
		}
		<-time.After(time.Minute)
		if got := left(t, other, key); got != 0 {
			t.Errorf("at its end %v are left", got)
		}
	})
}

func TestLongerWaitStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), nil)
		for _, wait := range []time.Duration{time.Minute, time.Hour, time.Second} {
			if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(wait)); err != nil {
				t.Fatal(err)
			}
		}
		if got := left(t, s, key); got != time.Hour {
			t.Errorf("%v left, want the longest, an hour", got)
		}
	})
}

func TestConcurrentWritersKeepTheLongest(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	for i := range 8 {
		s := open(t, dir, nil)
		writers.Go(func() {
			for j := range 20 {
				if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(time.Duration(1+(i*7+j*13)%160)*time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if got := left(t, open(t, dir, nil), key); got < 159*time.Minute {
		t.Errorf("%v left, want almost 160 minutes", got)
	}
}

// The tables' waits are of an hour, written at the boot clock's 1000 seconds.
func TestClocksThatDisagree(t *testing.T) {
	hour := time.Hour
	tests := map[string]struct {
		step  time.Duration // of the wall clock, which carries no monotonic reading in a file
		clock *fakeBoot     // when it is read
		want  time.Duration
	}{
		"same boot":                    {0, &fakeBoot{"a", 1000 * time.Second}, hour},
		"same boot, later":             {0, &fakeBoot{"a", 2800 * time.Second}, hour / 2},
		"wall clock set forward":       {10 * hour, &fakeBoot{"a", 1000 * time.Second}, hour},
		"wall clock set back":          {-10 * hour, &fakeBoot{"a", 1000 * time.Second}, hour},
		"suspended for half an hour":   {hour / 2, &fakeBoot{"a", 2800 * time.Second}, hour / 2},
		"suspended over its end":       {2 * hour, &fakeBoot{"a", 8200 * time.Second}, 0},
		"another boot":                 {hour / 2, &fakeBoot{"b", time.Second}, hour / 2},
		"another boot, clock set back": {-10 * hour, &fakeBoot{"b", time.Second}, hour},
		"no boot clock":                {hour / 4, nil, 3 * hour / 4},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			now := time.Now().Round(0)
			r := record{Until: now.Add(hour), Saved: now, Boot: "a", BootUntil: 1000*time.Second + hour}
			s := &Store{}
			if test.clock != nil {
				s.clock = test.clock
			}
			read := now.Add(test.step)
			got := time.Duration(0)
			if until := s.until(r, read); !until.IsZero() {
				got = until.Sub(read)
			}
			if got != test.want {
				t.Errorf("%v left, want %v", got, test.want)
			}
		})
	}
}

func TestNothingStopsForLongerThanIsHonoured(t *testing.T) {
	now := time.Now()
	for name, r := range map[string]record{
		"wall clock": {Until: now.AddDate(50, 0, 0), Saved: now},
		"boot clock": {Until: now, Saved: now, Boot: "a", BootUntil: 1 << 62},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Store{clock: &fakeBoot{id: "a"}}
			if got := s.until(r, now).Sub(now); got != policy.LongestBlock {
				t.Errorf("%v left, want %v", got, policy.LongestBlock)
			}
		})
	}
}

func TestFilesHoldNothingThatNamesTheGate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, SystemClock())
	if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, subdirectory))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, subdirectory, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 || strings.Contains(entry.Name()+string(content), "example") {
			t.Errorf("%s: mode %v, %s", entry.Name(), info.Mode(), content)
		}
	}
	if len(entries) != 3 { // the wait, the lock and the claims
		t.Errorf("the directory holds %v", entries)
	}
}

func TestPruneRemovesWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, nil)
		long := gate{endpoint: key.endpoint, clientID: "long"}
		for k, wait := range map[gate]time.Duration{key: time.Minute, long: time.Hour} {
			if err := s.Extend(k.endpoint, k.clientID, time.Now().Add(wait)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(2 * time.Minute)
		left := filepath.Join(dir, subdirectory, ".credagent-"+fileOf(key.endpoint, key.clientID)+"-0123456789abcdef")
		if err := os.WriteFile(left, []byte("{"), 0o600); err != nil { // a writer was killed
			t.Fatal(err)
		}
		open(t, dir, nil)
		got := names(s.dirs[0])
		slices.Sort(got)
		want := []string{claimsName, fileOf(long.endpoint, long.clientID), lockName}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("left: %v, want %v", got, want)
		}
	})
}

func TestDamagedFileIsSaidAndReplaced(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"text":      func(path string) error { return os.WriteFile(path, []byte("tomorrow"), 0o600) },
		"null":      func(path string) error { return os.WriteFile(path, []byte("null"), 0o600) },
		"long":      func(path string) error { return os.WriteFile(path, make([]byte, 1<<16), 0o600) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"no saved":  func(path string) error { return os.WriteFile(path, []byte(`{"until":"2026-01-01T00:00:00Z"}`), 0o600) },
		"bad until": func(path string) error { return os.WriteFile(path, []byte(`{"until":12}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, nil)
			path := filepath.Join(dir, subdirectory, fileOf(key.endpoint, key.clientID))
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Until(key.endpoint, key.clientID); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("Until = %v, want an error that names the file", err)
			}
			if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got := left(t, s, key); got < 59*time.Minute {
				t.Errorf("%v left after it was replaced", got)
			}
		})
	}
}

func TestRuntimeDirectories(t *testing.T) {
	env := map[string]string{"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"}
	got := RuntimeDirectories(func(name string) string { return env[name] })
	if want := []string{"/run/a", runtimeDirectory, "/run/user/7/credagent"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	env["RUNTIME_DIRECTORY"] = "run/a"
	if got := RuntimeDirectories(func(name string) string { return env[name] }); !slices.Equal(got, []string{runtimeDirectory, "/run/user/7/credagent"}) {
		t.Errorf("with a relative one: %v", got)
	}
	if got := RuntimeDirectories(func(string) string { return "" }); !slices.Equal(got, []string{runtimeDirectory}) {
		t.Errorf("with nothing set: %v", got)
	}
}

// A wait is kept beside the state and in the first runtime directory that can be written.
func TestWhereWaitsAreKept(t *testing.T) {
	state, first, second := t.TempDir(), t.TempDir(), t.TempDir()
	missing := filepath.Join(first, "not", "there")
	s, err := Open(Options{State: state, Runtime: []string{missing, first, second}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{state: true, first: true, second: false} {
		_, err := os.Stat(filepath.Join(dir, subdirectory, fileOf(key.endpoint, key.clientID)))
		if (err == nil) != want {
			t.Errorf("in %s: %v, want it there: %v", dir, err, want)
		}
	}
	if got := left(t, open(t, first, nil), key); got < 59*time.Minute {
		t.Errorf("a command without the state has %v left to wait", got)
	}
}

// A probe makes no directory, and nothing in the state's.
func TestProbeMakesNothingThatStays(t *testing.T) {
	state, runtime := t.TempDir(), filepath.Join(t.TempDir(), "credagent")
	if _, err := Open(Options{State: state, Runtime: []string{runtime}, Probe: true}); err == nil {
		t.Error("a probe has a directory of its own")
	}
	if made, err := os.ReadDir(state); err != nil || len(made) > 0 {
		t.Errorf("in the state directory: %v, %v", made, err)
	}
	if _, err := os.Stat(runtime); err == nil {
		t.Error("the runtime directory was made")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"until":"2026-01-01T00:01:00Z","saved":"2026-01-01T00:00:00Z","boot_id":"a","boot_until":60000000000}`))
	f.Add([]byte(`{"until":"2026-01-01T00:01:00Z","saved":"9999-12-31T23:59:59Z"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := decode(content)
		if err != nil {
			return
		}
		now := time.Now()
		s := &Store{clock: &fakeBoot{id: r.Boot}}
		if until := s.until(r, now); until.Sub(now) > policy.LongestBlock {
			t.Errorf("%q holds for %v", content, until.Sub(now))
		}
	})
}
