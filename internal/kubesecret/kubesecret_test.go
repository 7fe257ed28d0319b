package kubesecret_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/internal/kubesecret"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/testkit/kubefake"
	"github.com/credagent/credagent/token"
)

// bed is a Secret's sink at a server of the test's own.
type bed struct {
	*kubefake.Server
	t       *testing.T
	cluster *kubesecret.Cluster
	log     *bytes.Buffer
	tokens  map[string]token.Token
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{Server: kubefake.New(), t: t, log: new(bytes.Buffer), tokens: map[string]token.Token{}}
	b.cluster = kubesecret.NewCluster(b.Client(t), slog.New(slog.NewTextHandler(b.log, nil)))
	t.Cleanup(b.cluster.Close)
	b.issue("graph", "one", time.Hour)
	return b
}

func (b *bed) issue(name, content string, life time.Duration) {
	b.tokens[name] = token.Token{
		AccessToken: secret.New(content), TokenType: "Bearer", Expiry: time.Now().Add(life), RefreshOn: time.Now().Add(life / 2),
	}
}

func (b *bed) lookup(name string) (token.Token, bool) {
	t, ok := b.tokens[name]
	return t, ok
}

func (b *bed) open(name string) *kubesecret.Secret {
	b.t.Helper()
	s, err := b.cluster.Open(kubesecret.Options{
		Namespace: "shop", Name: name, Type: "Opaque", Labels: map[string]string{"team": "web"},
		Data: []kubesecret.Value{{Key: "token", Renderer: sink.Raw("graph")}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(s.Close)
	return s
}

func (b *bed) write(s *kubesecret.Secret, want sink.Outcome) {
	b.t.Helper()
	got, err := s.Write(b.lookup)
	if err != nil || got != want {
		b.t.Fatalf("writing: %v, %v, want %v", got, err, want)
	}
}

// check is what the agent does twice a minute.
func (b *bed) check(s *kubesecret.Secret) (holds bool) {
	b.t.Helper()
	if s.Untouched() {
		return true
	}
	holds, err := s.Holds(b.lookup)
	if err != nil {
		b.t.Fatal(err)
	}
	return holds
}

func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		s := b.open("graph")
		if s.Path() != "shop/graph" || !slices.Equal(s.Tokens(), []string{"graph"}) {
			t.Errorf("it is %q with %v", s.Path(), s.Tokens())
		}
		b.write(s, sink.Written)
		got := b.Get("shop/graph")
		if string(got.Data["token"]) != "one" || got.Type != "Opaque" || got.Labels["team"] != "web" || got.Labels[kubesecret.ManagedLabel] != "true" {
			t.Errorf("the Secret is %+v", got)
		}
		if got.Annotations[kubesecret.ExpiryAnnotation] != "2000-01-01T01:00:00Z" || got.Annotations[kubesecret.RefreshAnnotation] != "2000-01-01T00:30:00Z" {
			t.Errorf("its annotations are %v", got.Annotations)
		}
		if seen := b.Seen(); !slices.Equal(seen, []string{"GET shop/graph", "PATCH shop/graph"}) {
			t.Errorf("the first write asked %v", seen)
		}
		b.issue("graph", "two", time.Hour)
		b.write(s, sink.Written)
		if seen := b.Seen(); !slices.Equal(seen, []string{"PATCH shop/graph"}) {
			t.Errorf("another write asked %v", seen)
		}
		b.write(s, sink.Unchanged)
		again := b.open("graph") // a process that was started again
		b.write(again, sink.Unchanged)
		if seen := b.Seen(); !slices.Equal(seen, []string{"GET shop/graph", "GET shop/graph"}) {
			t.Errorf("what was right already was asked for by %v", seen)
		}
	})
}

// What a token is not there for is written when it is.
func TestWriteWithoutItsToken(t *testing.T) {
	b := newBed(t)
	delete(b.tokens, "graph")
	_, err := b.open("graph").Write(b.lookup)
	var missing *sink.MissingTokenError
	if !errors.As(err, &missing) || len(b.Seen()) > 0 {
		t.Errorf("it ends with %v", err)
	}
}

// fault answers a request in place of the API server.
type fault func(*http.Request) (*http.Response, error)

// refusal is what makes a write fail, and what the error says.
type refusal struct {
	there *kubefake.Secret
	deny  []string
	fault fault
	want  []string
}

func refusals() map[string]refusal {
	status := func(code int, reason, message string) fault {
		return func(*http.Request) (*http.Response, error) { return kubefake.Status(code, reason, message), nil }
	}
	answer := func(code int, body string) fault {
		return func(*http.Request) (*http.Response, error) { return kubefake.Answer(code, body), nil }
	}
	return map[string]refusal{
		"conflict": {
			there: &kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"token": []byte("theirs")}},
			want:  []string{".data.token of it belongs to \"helm\" and is not overwritten by force: remove that from what \"helm\" applies, or write to another Secret", "409 Conflict"},
		},
		"immutable":         {there: &kubefake.Secret{Type: "Opaque", Immutable: true}, want: []string{"it is immutable", "delete and recreate it"}},
		"immutable, unread": {there: &kubefake.Secret{Type: "Opaque", Immutable: true}, deny: []string{"get"}, want: []string{"it is immutable", "delete and recreate it"}},
		"another type":      {there: &kubefake.Secret{Type: "example/x"}, want: []string{`its type is "example/x" and cannot be changed to "Opaque"; configure secret_type: example/x`}},
		"another type, unread": {
			there: &kubefake.Secret{Type: "example/x"}, deny: []string{"get"}, want: []string{`its type cannot be changed to "Opaque": configure the type that it has as secret_type`},
		},
		"full": {
			there: &kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"other": bytes.Repeat([]byte("x"), 1<<20)}},
			want:  []string{"it is full: a Secret holds at most 1 MiB, what others have in it included"},
		},
		"may not patch": {deny: []string{"patch"}, want: []string{`the pod's service account may not write it: grant it patch, get and watch on the Secret "graph", as the Role in deploy/k8s/secret does`}},
		"may not make":  {deny: []string{"create"}, want: []string{"kubectl create secret generic graph --namespace shop --type Opaque", "or grant it create on secrets"}},
		"no namespace":  {fault: status(404, "NotFound", `namespaces "shop" not found`), want: []string{`namespace "shop" does not exist: create it, or correct the sink's namespace`}},
		"namespace ends": {
			fault: status(403, "Forbidden", `unable to create new content in namespace shop because it is being terminated`), want: []string{`namespace "shop" is being deleted`},
		},
		"quota":        {fault: status(403, "Forbidden", `exceeded quota: objects, requested: secrets=1`), want: []string{"the namespace's quota leaves no room"}},
		"not accepted": {fault: status(401, "Unauthorized", "Unauthorized"), want: []string{"does not accept the pod's service account token"}},
		"too large":    {fault: answer(413, "<html>too large</html>"), want: []string{"a Secret holds at most 1 MiB", "413"}},
		"invalid":      {fault: status(422, "Invalid", `metadata.labels: Invalid value`), want: []string{"the API server does not accept its content", "metadata.labels"}},
		"a webhook":    {fault: status(500, "InternalError", `failed calling webhook "x"`), want: []string{`500 Internal Server Error: failed calling webhook "x"`}},
		"nonsense":     {fault: answer(200, "<html>"), want: []string{"is not a Secret"}},
	}
}

// Each refusal is explained, and leaves the Secret as it is.
func TestRefusals(t *testing.T) {
	for name, tc := range refusals() {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			if tc.there != nil {
				b.Put("shop/graph", "helm", *tc.there)
			}
			for _, verb := range tc.deny {
				b.Denied[verb] = true
			}
			b.Fault = tc.fault
			before := b.Get("shop/graph")
			_, err := b.open("graph").Write(b.lookup)
			if err == nil {
				t.Fatal("it was written")
			}
			for _, want := range append(tc.want, `writing Secret "shop/graph": `) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error %q does not say %q", err, want)
				}
			}
			if after := b.Get("shop/graph"); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("the Secret was %v and is %v", before, after)
			}
			if strings.Contains(err.Error(), "theirs") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

// What others have in a Secret stays, and what is not configured any more goes.
func TestOthersKeysStay(t *testing.T) {
	b := newBed(t)
	b.Put("shop/graph", "kubectl", kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"url": []byte("theirs")}})
	b.write(b.open("graph"), sink.Written)
	if got := b.Get("shop/graph"); string(got.Data["url"]) != "theirs" || string(got.Data["token"]) != "one" {
		t.Errorf("the Secret is %+v", got)
	}
}

func TestTooManyBytes(t *testing.T) {
	b := newBed(t)
	b.issue("graph", strings.Repeat("x", 1<<20), time.Hour)
	_, err := b.open("graph").Write(b.lookup)
	if err == nil || !strings.Contains(err.Error(), "1048581 bytes in total, and a Secret holds at most 1048576") || len(b.Seen()) > 0 {
		t.Errorf("it ends with %.200v", err)
	}
}

func TestNoNamespace(t *testing.T) {
	b := newBed(t)
	_, err := b.cluster.Open(kubesecret.Options{Name: "graph"})
	if err == nil || !strings.Contains(err.Error(), "configure namespace") {
		t.Errorf("it opens with %v", err)
	}
}

// What the API server asks for holds for every Secret, and is no failure of each.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.Fault = func(*http.Request) (*http.Response, error) {
			r := kubefake.Status(429, "TooManyRequests", "too many requests")
			r.Header.Set("Retry-After", "20")
			return r, nil
		}
		first, second := b.open("graph"), b.open("other")
		_, err := first.Write(b.lookup)
		var later *sink.LaterError
		if !errors.As(err, &later) || later.Untried || later.Wait != 20*time.Second {
			t.Fatalf("the first write ends with %+v, %v", later, err)
		}
		b.Seen()
		<-time.After(5 * time.Second)
		_, err = second.Write(b.lookup)
		if !errors.As(err, &later) || !later.Untried || later.Wait != 15*time.Second || len(b.Seen()) > 0 {
			t.Fatalf("the second write ends with %+v, %v", later, err)
		}
		b.Fault = nil
		<-time.After(15 * time.Second)
		b.write(second, sink.Written)
	})
}

// A server that hangs holds up a request for its time alone.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.Fault = func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		begin := time.Now()
		_, err := b.open("graph").Write(b.lookup)
		if took := time.Since(begin); took != kubeapi.RequestTimeout || err == nil || !strings.Contains(err.Error(), "did not answer in time") {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// Changes by others are noticed, by one watch and without asking.
func TestWatch(t *testing.T) {
	for name, tc := range map[string]struct{ secrets, streams int }{"by name": {2, 2}, "by label": {20, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t)
				var all []*kubesecret.Secret
				for i := range tc.secrets {
					all = append(all, b.open(fmt.Sprintf("s%02d", i)))
					b.write(all[i], sink.Written)
				}
				b.Seen()
				b.quiet(all, time.Hour)
				for _, request := range b.Seen() {
					if !strings.HasPrefix(request, "WATCH ") {
						t.Errorf("it asked %s", request)
					}
				}
				if b.Watches() != tc.streams {
					t.Errorf("there are %d streams, want %d", b.Watches(), tc.streams)
				}
				b.notice(all)
				for _, s := range all {
					s.Close()
				}
				<-time.After(time.Minute)
				if b.Watches() != 0 {
					t.Error("a stream is open although nobody writes a Secret any more")
				}
			})
		})
	}
}

// quiet checks that Secrets are held for a while.
func (b *bed) quiet(all []*kubesecret.Secret, d time.Duration) {
	b.t.Helper()
	for range d / (27 * time.Second) {
		<-time.After(27 * time.Second)
		for _, s := range all {
			if !b.check(s) {
				b.t.Fatalf("%s is not held", s.Path())
			}
		}
	}
}

// notice has others change and delete Secrets.
func (b *bed) notice(all []*kubesecret.Secret) {
	b.t.Helper()
	b.Put("shop/s01", "helm", kubefake.Secret{Type: "Opaque", Data: map[string][]byte{"token": []byte("theirs")}})
	synctest.Wait()
	if b.check(all[1]) || !b.check(all[0]) {
		b.t.Error("the change was not noticed, or seen where there was none")
	}
	b.Delete("shop/s01")
	synctest.Wait()
	b.write(all[1], sink.Written)
	synctest.Wait()
	b.quiet(all, 5*time.Minute)
	b.Put("shop/s00", "helm", kubefake.Secret{Type: "Opaque", Data: b.Get("shop/s00").Data, Labels: map[string]string{}})
	synctest.Wait()
	if b.check(all[0]) {
		b.t.Error("that its label was removed is not noticed")
	}
	b.Delete("shop/s00")
	synctest.Wait()
	if b.check(all[0]) {
		b.t.Error("that it was deleted is not noticed")
	}
	b.write(all[0], sink.Written)
}

// A stream that ends goes on where it was; one that the server does not know any more begins anew, and
// what happened meanwhile is noticed all the same.
func TestWatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		s := b.open("graph")
		b.write(s, sink.Written)
		s.Untouched()
		<-time.After(time.Minute)
		b.Seen()
		b.EndWatches()
		<-time.After(5 * time.Second)
		if seen := b.Seen(); len(seen) != 1 || seen[0] != "WATCH shop/metadata.name=graph from 1001" {
			t.Errorf("after its end it asked %v", seen)
		}
		for name, end := range map[string]func(){
			"410": func() { b.Forget(); b.Put("shop/x", "helm", kubefake.Secret{}); b.Forget(); b.EndWatches() },
			"410 inside": func() {
				b.EndWatches(`{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}` + "\n")
			},
			"not JSON":    func() { b.EndWatches("{\"type\":\n") },
			"a new kind":  func() { b.EndWatches(`{"type":"NEWS","object":{}}` + "\n") },
			"half a line": func() { b.EndWatches(`{"type":"MODIFIED","object":{"metadata":{"name":"gra`) },
		} {
			end()
			b.Delete("shop/graph")
			<-time.After(2 * time.Minute)
			synctest.Wait()
			if b.check(s) {
				t.Errorf("%s: that it was deleted is not noticed", name)
			}
			b.write(s, sink.Written)
			<-time.After(time.Minute)
			if !b.check(s) {
				t.Errorf("%s: it is not held after it was written again", name)
			}
		}
	})
}

// Without the right to watch, each Secret is read every ten minutes, and somebody is told.
func TestWatchForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.Denied["watch"] = true
		s := b.open("graph")
		b.write(s, sink.Written)
		b.Seen()
		for range 80 { // 36 minutes
			<-time.After(27 * time.Second)
			if !b.check(s) {
				t.Fatal("it is not held")
			}
		}
		gets := len(slices.DeleteFunc(b.Seen(), func(r string) bool { return r != "GET shop/graph" }))
		if gets != 3 {
			t.Errorf("it was read %d times, want 3", gets)
		}
		if n := strings.Count(b.log.String(), "watching Secrets is forbidden"); n != 1 {
			t.Errorf("that is logged %d times:\n%s", n, b.log)
		}
		b.Delete("shop/graph")
		<-time.After(11 * time.Minute)
		if b.check(s) {
			t.Error("that it was deleted is not noticed")
		}
	})
}

// An outage of the API server is no change.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		s := b.open("graph")
		b.write(s, sink.Written)
		s.Untouched()
		synctest.Wait()
		b.Lock()
		b.Fault = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		b.Unlock()
		b.EndWatches()
		b.Seen()
		for range 80 {
			<-time.After(27 * time.Second)
			if !b.check(s) {
				t.Fatal("it is not held any more")
			}
		}
		if n := len(b.Seen()); n > 90 {
			t.Errorf("%d requests in 36 minutes of outage", n)
		}
		b.Lock()
		b.Fault = nil
		b.Unlock()
		b.Delete("shop/graph")
		<-time.After(3 * time.Minute)
		if b.check(s) {
			t.Error("after the outage it is not noticed that it was deleted")
		}
	})
}

func TestShortLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		s := b.open("graph")
		for i, life := range []time.Duration{4 * time.Minute, 3 * time.Minute, 6 * time.Minute, 2 * time.Minute} {
			b.issue("graph", fmt.Sprint("token", i), life)
			b.write(s, sink.Written)
		}
		if n := strings.Count(b.log.String(), "with little of its life left"); n != 2 {
			t.Errorf("it is logged %d times, want 2:\n%s", n, b.log)
		}
	})
}
