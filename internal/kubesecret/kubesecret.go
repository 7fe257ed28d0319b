// Package kubesecret owns Secrets of a Kubernetes cluster from which workloads take tokens: each is a sink,
// written by one server-side apply when its content changes.
//
// Only the configured keys and labels are applied, as the field manager "credagent" and never by force: an error names
// the fields of others, which are left alone. A watch of metadata detects changes by others, see [Cluster]. One caveat:
// a pod that mounts a Secret sees a new token up to 100 seconds late; in an environment variable or with subPath it never
// does.
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

	// ManagedLabel is set on each Secret, so that one watch covers all those of a namespace.
	ManagedLabel = "credagent.io/managed"
	// ExpiryAnnotation is when the first of the tokens expires, RFC 3339.
	ExpiryAnnotation = "credagent.io/expires-on"
	// RefreshAnnotation is when the next of them is to be replaced, RFC 3339.
	RefreshAnnotation = "credagent.io/refresh-on"

	// shortLife is how long a token should be valid when it is written: a kubelet updates mounted Secrets within
	// 100 seconds.
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
	version  string    // the resourceVersion when it was last found correct; "" before. Guarded by mu, as are all fields below
	verified time.Time // when that was
	applied  []byte    // digest of the object that was last applied; nil before
	warned   bool      // about a short remaining lifetime
	watched  bool      // the cluster watches it
	closed   bool
}

// Open returns the sink of a Secret. It sends no request.
func (c *Cluster) Open(o Options) (*Secret, error) {
	path := o.Namespace + "/" + o.Name
	if o.Namespace == "" {
		return nil, fmt.Errorf("preparing Secret %q: it has no namespace, and this process is not in a pod, whose namespace would be used; configure namespace", o.Name)
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

// Tokens returns the names of the tokens in the Secret, sorted.
func (s *Secret) Tokens() []string { return slices.Clone(s.tokens) }

// object is a Secret, in a request or in an answer.
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

// render returns the object with the tokens of lookup, and when the first of them expires.
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
		return object{}, time.Time{}, fmt.Errorf("writing Secret %q: its values have %d bytes in total, and a Secret holds at most %d; split it into several", s.Path(), size, MaxData)
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

// instants returns when the first token expires, and when the first is due for a refresh.
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

// Write applies the Secret unless it is already correct. The first call reads it before, so that a correct one counts as
// unchanged. Each request may take [kubeapi.RequestTimeout]. After an error the old content stays; a
// [*sink.LaterError] gives the wait that the API server asked for.
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
		// It may be correct, if an earlier process wrote it, or may have been changed by somebody.
		right, err := s.compare(want)
		var refused *kubeapi.Error
		switch {
		case right:
			s.applied = digest
			return sink.Unchanged, nil
		case errors.As(err, &refused) && (refused.Code == http.StatusForbidden || refused.Code == http.StatusNotFound):
			// The account may have the right to write it but not to read it, or to create it.
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
		return sink.Unchanged, errors.New("the API server accepted it, but its answer is not the metadata of an object")
	}
	s.applied = digest
	s.isRight(got.Version)
	return sink.Written, nil
}

func (s *Secret) path() string { return kubeapi.SecretPath(s.o.Namespace, s.o.Name) }

// isRight records that the Secret is correct.
func (s *Secret) isRight(version string) { s.version, s.verified = version, time.Now() }

// compare reads the Secret and reports whether it contains everything that would be applied.
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
		return object{}, errors.New("the API server's answer is not a Secret")
	}
	return got, nil
}

// Mend is [Secret.Holds]: a Secret has no mode or owner to repair.
func (s *Secret) Mend(lookup sink.Lookup) (holds bool, err error) { return s.Holds(lookup) }

// Holds reads the Secret and reports whether it contains what [Secret.Write] would apply. If the API server does not
// answer, the last known state counts.
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
	default: // there is no sign that it has changed
		s.verified = time.Now()
		return true, nil
	}
}

// Untouched reports whether, according to the watch, nobody has changed the Secret since it was last found correct. The
// first call starts the watch.
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

// warnOfShortLife warns once about a token that may expire before pods that mount the Secret see the next one.
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
