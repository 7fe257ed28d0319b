// Package kubesecret owns Secrets of a Kubernetes cluster from which workloads take tokens: each is a sink,
// written by one server-side apply when its content changes.
//
// Only the keys and labels that are configured are applied, as the field manager "credagent" and never by
// force: what belongs to somebody else is named in the error and left alone. A Secret that others change
// is noticed by a watch of metadata, see [Cluster]. One caveat: a pod that mounts a Secret sees a new
// token up to 100 seconds late, and by an environment variable or a subPath never.
package kubesecret

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

const (
	// Manager is the field manager of all that is applied.
	Manager = "credagent"
	// MaxData is how many bytes all values of a Secret may have together.
	MaxData = 1 << 20

	// ManagedLabel is on each Secret that is written, so that one watch sees all of a namespace.
	ManagedLabel = "credagent.io/managed"
	// ExpiryAnnotation is when the first of the tokens ends, RFC 3339.
	ExpiryAnnotation = "credagent.io/expires-on"
	// RefreshAnnotation is when the next of them is to be replaced, RFC 3339.
	RefreshAnnotation = "credagent.io/refresh-on"

	// shortLife is what a token should have left when it is written: a kubelet brings a changed Secret into
	// the pods that mount it within 100 seconds.
	shortLife = 5 * time.Minute
)

// Options describe one Secret.
type Options struct {
	Namespace string
	Name      string
	Type      string            // such as Opaque
	Labels    map[string]string // beside [ManagedLabel]
	Data      []Value
}

// Value is one key of a Secret's data.
type Value struct {
	Key      string
	Renderer sink.Renderer
}

// Secret is one sink. Its methods may be called from several goroutines.
type Secret struct {
	cluster *Cluster
	o       Options
	tokens  []string
	log     *slog.Logger

	mu       sync.Mutex
	version  string    // the resourceVersion with which it was last seen to be right; "" before. Guarded by mu, as is all that follows
	verified time.Time // when that was
	applied  []byte    // the object that was applied last, as a digest; nil before
	warned   bool      // of a short life
	watched  bool      // it is among those that the cluster watches
	closed   bool
}

// Open returns the sink of a Secret. It asks the API server nothing.
func (c *Cluster) Open(o Options) (*Secret, error) {
	path := o.Namespace + "/" + o.Name
	if o.Namespace == "" {
		return nil, fmt.Errorf("preparing Secret %q: it has no namespace, and this is no pod whose own it could be; configure namespace", o.Name)
	}
	var tokens []string
	for _, v := range o.Data {
		tokens = append(tokens, v.Renderer.Tokens()...)
	}
	slices.Sort(tokens)
	s := &Secret{cluster: c, o: o, tokens: slices.Compact(tokens), log: c.log.With(logkey.Sink, path)}
	return s, nil
}

// Close ends the watch of the Secret. The Secret stays.
func (s *Secret) Close() {
	s.mu.Lock()
	watched := s.watched
	s.watched, s.closed = false, true
	s.mu.Unlock()
	if watched {
		s.cluster.remove(s)
	}
}

// Path returns "namespace/name".
func (s *Secret) Path() string { return s.o.Namespace + "/" + s.o.Name }

// Tokens returns the names of the tokens that the Secret shows, sorted.
func (s *Secret) Tokens() []string { return slices.Clone(s.tokens) }

// object is a Secret as it is applied, and as the API server has it.
type object struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Immutable  bool              `json:"immutable,omitempty"`
	Data       map[string][]byte `json:"data"`
}

type metadata struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Version     string            `json:"resourceVersion,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// render returns the object that lookup's tokens make, and when the first of them ends.
func (s *Secret) render(lookup sink.Lookup) (object, time.Time, error) {
	o := object{APIVersion: "v1", Kind: "Secret", Type: s.o.Type, Data: make(map[string][]byte, len(s.o.Data))}
	size := 0
	for _, v := range s.o.Data {
		content, err := v.Renderer.Render(lookup)
		if err != nil {
			return object{}, time.Time{}, &sink.RenderError{Path: s.Path(), Err: err}
		}
		o.Data[v.Key] = content
		size += len(v.Key) + len(content)
	}
	if size > MaxData {
		return object{}, time.Time{}, fmt.Errorf("writing Secret %q: its values have %d bytes together, and a Secret holds at most %d; split it into several", s.Path(), size, MaxData)
	}
	expiry, refresh := s.instants(lookup)
	o.Metadata = metadata{
		Name: s.o.Name, Namespace: s.o.Namespace,
		Labels:      map[string]string{ManagedLabel: "true"},
		Annotations: map[string]string{ExpiryAnnotation: stamp(expiry), RefreshAnnotation: stamp(refresh)},
	}
	for name, value := range s.o.Labels {
		o.Metadata.Labels[name] = value
	}
	return o, expiry, nil
}

// instants returns when the first token ends, and when the next is to be replaced.
func (s *Secret) instants(lookup sink.Lookup) (expiry, refresh time.Time) {
	for _, name := range s.tokens {
		t, _ := lookup(name)
		expiry, refresh = earlier(expiry, t.Expiry), earlier(refresh, refreshOf(t))
	}
	return expiry, refresh
}

func refreshOf(t token.Token) time.Time {
	if t.RefreshOn.IsZero() {
		return t.Expiry
	}
	return t.RefreshOn
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Write applies the Secret unless it is what it should be. The first time it is read before, so that one
// that is right already is no change. It is tried for [kubeapi.RequestTimeout] a request. After an error
// the old content stays; a [*sink.LaterError] says how long the API server is to be left alone.
func (s *Secret) Write(lookup sink.Lookup) (sink.Outcome, error) {
	want, expiry, err := s.render(lookup)
	if err != nil {
		return sink.Unchanged, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	outcome, err := s.put(want)
	if err != nil {
		return sink.Unchanged, s.explain(err)
	}
	s.warnOfShortLife(time.Until(expiry))
	return outcome, nil
}

func (s *Secret) put(want object) (sink.Outcome, error) {
	digest := digestOf(want)
	if s.applied == nil || slices.Equal(s.applied, digest) {
		// What is there may be right: it was written by an earlier process, or somebody changed it.
		right, err := s.compare(want)
		var refused *kubeapi.Error
		switch {
		case right:
			s.applied = digest
			return sink.Unchanged, nil
		case errors.As(err, &refused) && (refused.Code == http.StatusForbidden || refused.Code == http.StatusNotFound):
			// It may be written without being read, or made.
		case err != nil:
			return sink.Unchanged, err
		}
	}
	body, err := json.Marshal(want)
	if err != nil {
		return sink.Unchanged, err
	}
	answer, err := s.cluster.api.Do(s.cluster.ctx, kubeapi.Request{
		Method: http.MethodPatch, Path: s.path(), Query: url.Values{"fieldManager": {Manager}, "fieldValidation": {"Strict"}},
		ContentType: kubeapi.ApplyPatch, Accept: kubeapi.MetadataOnly, Body: body,
	})
	if err != nil {
		return sink.Unchanged, err
	}
	got, err := kubeapi.ParseMetadata(answer)
	if err != nil || got.Version == "" {
		return sink.Unchanged, errors.New("the API server took it, but its answer is not an object's metadata")
	}
	s.applied = digest
	s.isRight(got.Version)
	return sink.Written, nil
}

func (s *Secret) path() string { return kubeapi.SecretPath(s.o.Namespace, s.o.Name) }

// isRight notes that the Secret is as it should be.
func (s *Secret) isRight(version string) { s.version, s.verified = version, time.Now() }

// compare reads the Secret and reports whether it has all that would be applied.
func (s *Secret) compare(want object) (right bool, err error) {
	answer, err := s.cluster.api.Do(s.cluster.ctx, kubeapi.Request{Method: http.MethodGet, Path: s.path(), Accept: kubeapi.JSON})
	if err != nil {
		return false, err
	}
	got, err := parseObject(answer)
	if err != nil {
		return false, err
	}
	right = got.has(want)
	if !right && got.Immutable {
		return false, errImmutable
	}
	if !right && got.Type != want.Type {
		return false, &typeError{got: got.Type, want: want.Type}
	}
	if right {
		s.isRight(got.Metadata.Version)
	}
	return right, nil
}

// parseObject reads a Secret.
func parseObject(answer []byte) (object, error) {
	var got object
	if json.Unmarshal(answer, &got) != nil || got.Kind != "Secret" || got.Metadata.Version == "" {
		return object{}, errors.New("the API server's answer is no Secret")
	}
	return got, nil
}

// Mend implements the agent's interface: nothing of a Secret drifts but its content.
func (s *Secret) Mend(lookup sink.Lookup) (holds bool, err error) { return s.Holds(lookup) }

// Holds reads the Secret and reports whether it has what [Secret.Write] would apply. Where the API server
// cannot be asked, what was so is taken to be so still.
func (s *Secret) Holds(lookup sink.Lookup) (bool, error) {
	want, _, err := s.render(lookup)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == "" {
		return false, nil
	}
	right, err := s.compare(want)
	var refused *kubeapi.Error
	switch {
	case err == nil, errors.As(err, &refused) && refused.Code == http.StatusNotFound,
		errors.Is(err, errImmutable), errors.As(err, new(*typeError)):
		return right, nil
	default: // nobody says that it has changed
		s.verified = time.Now()
		return true, nil
	}
}

// Untouched reports that nobody has changed the Secret since it was last seen to be right, as far as the
// watch knows. The first call begins the watch.
func (s *Secret) Untouched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == "" || s.closed {
		return false
	}
	if !s.watched {
		s.watched = true
		s.cluster.add(s)
	}
	return s.cluster.untouched(s)
}

// warnOfShortLife warns, once, of a token that may end before the pods that mount the Secret see the next.
func (s *Secret) warnOfShortLife(left time.Duration) {
	if left >= shortLife {
		s.warned = false
		return
	}
	if !s.warned {
		s.warned = true
		s.log.Warn("token was written to a Secret with little of its life left: pods that mount it see it up to 100 seconds later",
			logkey.Left, left.Round(time.Second))
	}
}
