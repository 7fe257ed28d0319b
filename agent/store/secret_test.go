package store_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/kubefake"
	"github.com/credagent/credagent/token"
)

func keyFile(t *testing.T) string {
	t.Helper()
	key, err := store.NewKey(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key.Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func recordOf(content string) store.Record {
	return store.Record{Token: token.Token{AccessToken: secret.New(content), TokenType: "Bearer", Expiry: time.Now().Add(time.Hour)}}
}

// opened opens the state of a process of its own.
func opened(t *testing.T, server *kubefake.Server, key string) *store.Secret {
	t.Helper()
	s, err := store.OpenSecret(server.Client(t), "shop", "state", key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretState(t *testing.T) {
	server, key := kubefake.New(), keyFile(t)
	server.Put("shop/state", "kubectl", kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"note": []byte("theirs")}})
	first := opened(t, server, key)
	for name, content := range map[string]string{"graph": "one", "orders": "two"} {
		if err := first.Save(name, recordOf(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Remove("orders"); err != nil {
		t.Fatal(err)
	}
	kept := server.Get("shop/state")
	if string(kept.Data["note"]) != "theirs" || len(kept.Data) != 2 || strings.Contains(string(kept.Data["graph.age"]), "one") {
		t.Errorf("the Secret has %q", kept.Data)
	}
	records, failed := opened(t, server, key).LoadAll()
	if len(failed) > 0 || len(records) != 1 || records["graph"].Token.AccessToken.Reveal() != "one" {
		t.Errorf("a later process finds %v, %v", records, failed)
	}
	records, failed = opened(t, server, keyFile(t)).LoadAll()
	var damage *store.DamageError
	if len(records) > 0 || len(failed) != 1 || !errors.As(failed[0], &damage) || !strings.Contains(damage.Path, "shop/state: graph.age") {
		t.Errorf("with another key it finds %v, %v", records, failed)
	}
}

// A stream's record is kept beside the tokens', also where the names are the same.
func TestSecretStateOfStreams(t *testing.T) {
	server, key := kubefake.New(), keyFile(t)
	server.Put("shop/state", "kubectl", kubefake.Secret{Type: "Opaque"})
	first := opened(t, server, key)
	if _, err := first.LoadStream("graph"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first save: %v", err)
	}
	want := store.Stream{Issuer: "https://signals.example.com", ClientID: "app-1", ID: "stream-1", Seen: []string{"a", "b"}, Acks: []string{"jti-1"}}
	if err := first.SaveStream("graph", want); err != nil {
		t.Fatal(err)
	}
	if err := first.Save("graph", recordOf("one")); err != nil {
		t.Fatal(err)
	}
	later := opened(t, server, key)
	if records, failed := later.LoadAll(); len(records) != 1 || len(failed) != 0 {
		t.Errorf("a later process finds the tokens %v, %v", records, failed)
	}
	got, err := later.LoadStream("graph")
	if err != nil || got.SavedAt.IsZero() {
		t.Errorf("a later process finds a stream saved at %v, %v", got.SavedAt, err)
	}
	got.SavedAt = time.Time{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("a later process finds\n%+v, want\n%+v", got, want)
	}
	var damage *store.DamageError
	if _, err := opened(t, server, keyFile(t)).LoadStream("graph"); !errors.As(err, &damage) {
		t.Errorf("with another key it finds %v", err)
	}
	if err := later.SaveStream("../graph", want); err == nil {
		t.Error("it saves a stream under no name")
	}
	var taken *store.TakenError
	if err := later.SaveStream("graph", want); err != nil {
		t.Fatal(err)
	}
	if err := first.SaveStream("graph", want); !errors.As(err, &taken) {
		t.Errorf("beside another process it saves with %v", err)
	}
}

// Of two processes with the same state, one finds that out with its next save, and names the other.
func TestSecretStateTaken(t *testing.T) {
	for name, tc := range map[string]struct{ firstSavesBefore, secondSaves bool }{
		"before the second one saved": {true, false}, "after the second one took over": {true, true}, "both new": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			server, key := kubefake.New(), keyFile(t)
			server.Put("shop/state", "kubectl", kubefake.Secret{Type: "Opaque"})
			first := opened(t, server, key)
			save := func(s *store.Secret, content string) error { return s.Save("graph", recordOf(content)) }
			if tc.firstSavesBefore {
				if err := save(first, "one"); err != nil {
					t.Fatal(err)
				}
			}
			second := opened(t, server, key)
			loser := second
			if tc.secondSaves {
				if err := save(second, "two"); err != nil {
					t.Fatal(err)
				}
				loser = first
			} else if err := save(first, "three"); err != nil {
				t.Fatal(err)
			} else if err := save(second, "four"); err != nil {
				t.Fatalf("the one that came later is to go on: %v", err)
			} else {
				loser = first
			}
			var taken *store.TakenError
			for range 2 { // and from then on
				if err := save(loser, "five"); !errors.As(err, &taken) || taken.By == "" || !strings.Contains(err.Error(), "stop one of the two") {
					t.Errorf("it saves with %v", err)
				}
			}
		})
	}
}

// A change by somebody who is no agent is none of that, and costs no save.
func TestSecretStateChangedByOthers(t *testing.T) {
	server, key := kubefake.New(), keyFile(t)
	server.Put("shop/state", "kubectl", kubefake.Secret{Type: "Opaque"})
	s := opened(t, server, key)
	for range 3 {
		kept := *server.Get("shop/state")
		server.Put("shop/state", "kubectl", kept)
		if err := s.Save("graph", recordOf("one")); err != nil {
			t.Error(err)
		}
	}
}

func TestSecretStateProblems(t *testing.T) {
	server, key := kubefake.New(), keyFile(t)
	_, err := store.OpenSecret(server.Client(t), "shop", "state", key)
	var setup *store.SetupError
	if !errors.As(err, &setup) || setup.Setting != "kubernetes_secret" || !strings.Contains(err.Error(), "kubectl create secret generic state --namespace shop") {
		t.Errorf("without the Secret: %v", err)
	}
	server.Denied["get"] = true
	if _, err := store.OpenSecret(server.Client(t), "shop", "state", key); err == nil || !strings.Contains(err.Error(), "grant it get and patch") {
		t.Errorf("without rights: %v", err)
	}
	if _, err := store.OpenSecret(server.Client(t), "", "state", key); err == nil || !strings.Contains(err.Error(), "this process is not in a pod") {
		t.Errorf("outside of a pod: %v", err)
	}
	if _, err := store.OpenSecret(server.Client(t), "shop", "state", key+"x"); !errors.As(err, &setup) || setup.Setting != "key_file" {
		t.Errorf("without a key: %v", err)
	}
	server.Denied = map[string]bool{}
	server.Put("shop/state", "kubectl", kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"other": make([]byte, 1<<20-100)}})
	s := opened(t, server, key)
	if err := s.Save("graph", recordOf("one")); err == nil || !strings.Contains(err.Error(), "a Secret holds at most 1048576") {
		t.Errorf("a full Secret: %v", err)
	}
	server.Fault = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	err = s.Remove("graph")
	var waiting *kubeapi.WaitError
	if err == nil || errors.As(err, &waiting) || !strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("without an API server: %v", err)
	}
}
