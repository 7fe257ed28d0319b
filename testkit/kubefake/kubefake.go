// Package kubefake is as much of a Kubernetes API server as Secrets need, in the test's process: server-side
// apply with its conflicts, watches, and every fault that a test asks for. It is an [http.RoundTripper], so
// that it works in virtual time too.
package kubefake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/kubeapi"
)

// Server is an API server with Secrets alone. Its fields may be changed under Lock.
type Server struct {
	sync.Mutex

	// Fault answers a request in the server's place if it returns an answer or an error; nil for none.
	Fault func(*http.Request) (*http.Response, error)
	// Denied are verbs that are not allowed, such as watch.
	Denied map[string]bool
	// Requests are those that came, such as "PATCH shop/graph".
	Requests []string

	version  int
	oldest   int // versions before are forgotten: 410
	secrets  map[string]*Secret
	managed  map[string]bool // those with our label
	events   []event
	watchers []*watcher
}

// Secret is one as the server keeps it.
type Secret struct {
	Type        string
	Immutable   bool
	Version     int
	Data        map[string][]byte
	Labels      map[string]string
	Annotations map[string]string
	Owners      map[string]string // field, such as .data.token → its manager
}

type event struct {
	version int
	kind    string
	at      string // namespace/name
	secret  Secret
	managed bool // it had our label before
}

type watcher struct {
	namespace, name string
	label           bool
	out             *io.PipeWriter
	queue           chan string
}

// New returns a server without Secrets.
func New() *Server {
	return &Server{version: 1000, secrets: map[string]*Secret{}, managed: map[string]bool{}, Denied: map[string]bool{}}
}

// Client returns a client of the server, with a service account's files in a directory of its own.
func (s *Server) Client(t testing.TB) *kubeapi.Client {
	t.Helper()
	return kubeapi.New(kubeapi.Options{Dir: Account(t), Server: "https://kubernetes.test", Transport: func([]byte) (http.RoundTripper, error) { return s, nil }})
}

// Account makes a service account's files.
func Account(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range map[string]string{"token": "sa-token\n", "ca.crt": "roots", "namespace": "shop"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Put makes or replaces a Secret as another manager.
func (s *Server) Put(at, manager string, secret Secret) {
	s.Lock()
	defer s.Unlock()
	kind := "MODIFIED"
	if s.secrets[at] == nil {
		kind = "ADDED"
	}
	secret.Owners = map[string]string{}
	if old := s.secrets[at]; old != nil && secret.Labels == nil {
		secret.Labels, secret.Annotations = old.Labels, old.Annotations
	}
	for key := range secret.Data {
		secret.Owners[".data."+key] = manager
	}
	s.secrets[at] = &secret
	s.changed(kind, at)
}

// Delete removes a Secret.
func (s *Server) Delete(at string) {
	s.Lock()
	defer s.Unlock()
	s.changed("DELETED", at)
	delete(s.secrets, at)
}

// Get returns a copy of a Secret; nil for none.
func (s *Server) Get(at string) *Secret {
	s.Lock()
	defer s.Unlock()
	found := s.secrets[at]
	if found == nil {
		return nil
	}
	secret := *found
	secret.Data = maps.Clone(found.Data)
	return &secret
}

// Forget makes the server forget what happened so far, so that watches from before are told 410.
func (s *Server) Forget() {
	s.Lock()
	defer s.Unlock()
	s.oldest = s.version
}

// EndWatches ends the streams that are open; lines that it is given are sent before.
func (s *Server) EndWatches(lines ...string) {
	s.Lock()
	defer s.Unlock()
	for _, w := range s.watchers {
		for _, line := range lines {
			w.queue <- line
		}
		close(w.queue)
	}
	s.watchers = nil
}

// Watches is how many streams are open.
func (s *Server) Watches() int {
	s.Lock()
	defer s.Unlock()
	return len(s.watchers)
}

// Seen returns the requests so far, and forgets them.
func (s *Server) Seen() []string {
	s.Lock()
	defer s.Unlock()
	seen := s.Requests
	s.Requests = nil
	return seen
}

// changed gives a Secret its next version, and tells the watches. The caller holds the lock.
func (s *Server) changed(kind, at string) {
	s.version++
	secret := s.secrets[at]
	secret.Version = s.version
	e := event{s.version, kind, at, *secret, s.managed[at]}
	s.managed[at] = secret.Labels["credagent.io/managed"] == "true"
	s.events = append(s.events, e)
	for _, w := range s.watchers {
		w.tell(e)
	}
}

// tell queues an event for a watch that wants it. What does not match a watch any more is deleted to it.
func (w *watcher) tell(e event) {
	namespace, name, _ := strings.Cut(e.at, "/")
	if namespace != w.namespace || w.name != "" && name != w.name {
		return
	}
	matches := !w.label || e.secret.Labels["credagent.io/managed"] == "true"
	switch {
	case matches:
	case !e.managed:
		return
	default:
		e.kind = "DELETED"
	}
	w.queue <- e.line()
}

func (e event) line() string {
	namespace, name, _ := strings.Cut(e.at, "/")
	object := map[string]any{"kind": "PartialObjectMetadata", "metadata": map[string]any{
		"name": name, "namespace": namespace, "resourceVersion": strconv.Itoa(e.version), "labels": e.secret.Labels, "annotations": e.secret.Annotations,
	}}
	return encode(map[string]any{"type": e.kind, "object": object}) + "\n"
}

// RoundTrip implements [http.RoundTripper].
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/"), "/")
	at := ""
	if len(parts) == 3 {
		at = parts[0] + "/" + parts[2]
	}
	s.Lock()
	watching := r.URL.Query().Get("watch") != ""
	what := r.Method + " " + at
	if watching {
		what = "WATCH " + parts[0] + "/" + r.URL.Query().Get("fieldSelector") + r.URL.Query().Get("labelSelector") + " from " + r.URL.Query().Get("resourceVersion")
	}
	s.Requests = append(s.Requests, what)
	fault := s.Fault
	s.Unlock()
	if fault != nil {
		if response, err := fault(r); response != nil || err != nil {
			return response, err
		}
	}
	s.Lock()
	defer s.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		return s.review(body), nil
	case watching:
		return s.watch(r, parts[0]), nil
	case r.Method == http.MethodGet:
		return s.get(at), nil
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == kubeapi.ApplyPatch:
		return s.apply(at, r.URL.Query().Get("fieldManager"), body), nil
	case r.Method == http.MethodPatch:
		return s.merge(at, body), nil
	}
	return Status(http.StatusMethodNotAllowed, "MethodNotAllowed", "not a method of this server"), nil
}

func (s *Server) forbidden(verb, at string) *http.Response {
	namespace, name, _ := strings.Cut(at, "/")
	return Status(http.StatusForbidden, "Forbidden", fmt.Sprintf(`secrets %q is forbidden: User "system:serviceaccount:shop:app" cannot %s resource "secrets" in API group "" in the namespace %q`, name, verb, namespace))
}

func (s *Server) review(body []byte) *http.Response {
	var asked struct {
		Spec struct {
			Attributes struct{ Verb string } `json:"resourceAttributes"`
		} `json:"spec"`
	}
	_ = json.Unmarshal(body, &asked)
	return Answer(http.StatusCreated, encode(map[string]any{"kind": "SelfSubjectAccessReview", "status": map[string]any{"allowed": !s.Denied[asked.Spec.Attributes.Verb]}}))
}

func (s *Server) get(at string) *http.Response {
	secret := s.secrets[at]
	switch {
	case s.Denied["get"]:
		return s.forbidden("get", at)
	case secret == nil:
		return Status(http.StatusNotFound, "NotFound", fmt.Sprintf("secrets %q not found", at))
	}
	return Answer(http.StatusOK, secret.json(at))
}

func (s *Secret) json(at string) string {
	namespace, name, _ := strings.Cut(at, "/")
	return encode(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": s.Type, "immutable": s.Immutable, "data": s.Data,
		"metadata": map[string]any{
			"name": name, "namespace": namespace, "resourceVersion": strconv.Itoa(s.Version), "labels": s.Labels, "annotations": s.Annotations,
		},
	})
}

// wire is what a patch may have.
type wire struct {
	Type     string            `json:"type"`
	Data     map[string][]byte `json:"data"`
	Metadata struct {
		Version     string            `json:"resourceVersion"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// apply is server-side apply without force.
func (s *Server) apply(at, manager string, body []byte) *http.Response {
	var want wire
	if err := json.Unmarshal(body, &want); err != nil {
		return Status(http.StatusBadRequest, "BadRequest", err.Error())
	}
	old := s.secrets[at]
	switch {
	case s.Denied["patch"]:
		return s.forbidden("patch", at)
	case old == nil && s.Denied["create"]:
		return s.forbidden("create", at)
	case old != nil && old.Type != want.Type:
		return Status(http.StatusUnprocessableEntity, "Invalid", "Secret is invalid", kubeapi.Cause{Reason: "FieldValueInvalid", Field: "type", Message: "field is immutable"})
	case old != nil && old.Immutable:
		return Status(http.StatusUnprocessableEntity, "Invalid", "Secret is invalid", kubeapi.Cause{Reason: "FieldValueForbidden", Field: "data", Message: "field is immutable when `immutable` is set"})
	}
	var conflicts []kubeapi.Cause
	next := Secret{Type: want.Type, Data: map[string][]byte{}, Labels: map[string]string{}, Annotations: map[string]string{}, Owners: map[string]string{}}
	if old != nil {
		for key, value := range old.Data {
			if old.Owners[".data."+key] != manager {
				next.Data[key], next.Owners[".data."+key] = value, old.Owners[".data."+key]
			}
		}
		maps.Copy(next.Labels, old.Labels)
		maps.Copy(next.Annotations, old.Annotations)
	}
	for _, key := range slices.Sorted(maps.Keys(want.Data)) {
		field := ".data." + key
		if have, there := next.Data[key]; there && string(have) != string(want.Data[key]) {
			conflicts = append(conflicts, kubeapi.Cause{Reason: "FieldManagerConflict", Field: field, Message: fmt.Sprintf("conflict with %q using v1 at 2026-11-29T11:00:00Z", next.Owners[field])})
		}
		next.Data[key], next.Owners[field] = want.Data[key], manager
	}
	if len(conflicts) > 0 {
		return Status(http.StatusConflict, "Conflict", "Apply failed with conflicts", conflicts...)
	}
	maps.Copy(next.Labels, want.Metadata.Labels)
	maps.Copy(next.Annotations, want.Metadata.Annotations)
	return s.store(at, old, next)
}

// merge is RFC 7396, with metadata.resourceVersion as a precondition.
func (s *Server) merge(at string, body []byte) *http.Response {
	var want struct {
		Data     map[string]*[]byte `json:"data"`
		Metadata struct {
			Version     string            `json:"resourceVersion"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(body, &want); err != nil {
		return Status(http.StatusBadRequest, "BadRequest", err.Error())
	}
	old := s.secrets[at]
	switch {
	case s.Denied["patch"]:
		return s.forbidden("patch", at)
	case old == nil:
		return Status(http.StatusNotFound, "NotFound", fmt.Sprintf("secrets %q not found", at))
	case want.Metadata.Version != "" && want.Metadata.Version != strconv.Itoa(old.Version):
		return Status(http.StatusConflict, "Conflict", "the object has been modified; please apply your changes to the latest version and try again")
	}
	next := *old
	next.Data, next.Annotations = maps.Clone(old.Data), maps.Clone(old.Annotations)
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	for key, value := range want.Data {
		if value == nil {
			delete(next.Data, key)
		} else {
			next.Data[key] = *value
		}
	}
	maps.Copy(next.Annotations, want.Metadata.Annotations)
	return s.store(at, old, next)
}

// store keeps a Secret, unless it is the same, too large or has a key that Kubernetes does not allow.
func (s *Server) store(at string, old *Secret, next Secret) *http.Response {
	size := 0
	for key, value := range next.Data {
		if key == "" || strings.Trim(key, "-._abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return Status(http.StatusUnprocessableEntity, "Invalid", "Secret is invalid", kubeapi.Cause{Reason: "FieldValueInvalid", Field: "data[" + key + "]", Message: "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"})
		}
		size += len(value)
	}
	if size > 1<<20 {
		return Status(http.StatusUnprocessableEntity, "Invalid", "Secret is invalid", kubeapi.Cause{Reason: "FieldValueTooLong", Field: "data", Message: "Too long: may not be more than 1048576 bytes"})
	}
	if old == nil || old.json(at) != next.with(old.Version).json(at) {
		kind := "ADDED"
		if old != nil {
			kind = "MODIFIED"
		}
		s.secrets[at] = &next
		s.changed(kind, at)
	}
	return Answer(http.StatusOK, s.secrets[at].json(at))
}

func (s Secret) with(version int) *Secret {
	s.Version = version
	return &s
}

func (s *Server) watch(r *http.Request, namespace string) *http.Response {
	if s.Denied["watch"] {
		return s.forbidden("watch", namespace+"/")
	}
	query := r.URL.Query()
	w := &watcher{namespace: namespace, queue: make(chan string, 10_000), label: query.Get("labelSelector") != ""}
	w.name = strings.TrimPrefix(query.Get("fieldSelector"), "metadata.name=")
	if from := query.Get("resourceVersion"); from != "" {
		since, _ := strconv.Atoi(from)
		if since < s.oldest {
			return Status(http.StatusGone, "Expired", "too old resource version")
		}
		for _, e := range s.events {
			if e.version > since {
				w.tell(e)
			}
		}
	} else {
		for _, at := range slices.Sorted(maps.Keys(s.secrets)) {
			w.tell(event{s.secrets[at].Version, "ADDED", at, *s.secrets[at], false})
		}
	}
	in, out := io.Pipe()
	w.out = out
	s.watchers = append(s.watchers, w)
	go s.serve(w, r)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: in}
}

// serve writes what is queued for a watch until its time is up.
func (s *Server) serve(w *watcher, r *http.Request) {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	end := time.NewTimer(time.Duration(seconds) * time.Second)
	defer end.Stop()
	defer func() {
		s.Lock()
		defer s.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(other *watcher) bool { return other == w })
	}()
	for {
		select {
		case <-r.Context().Done():
			w.out.CloseWithError(r.Context().Err())
			return
		case <-end.C:
			w.out.Close()
			return
		case line, more := <-w.queue:
			if !more {
				w.out.Close()
				return
			}
			if _, err := io.WriteString(w.out, line); err != nil {
				return
			}
		}
	}
}

// Status is an answer with a Status object, as the API server refuses things.
func Status(code int, reason, message string, causes ...kubeapi.Cause) *http.Response {
	list := []map[string]string{}
	for _, c := range causes {
		list = append(list, map[string]string{"reason": c.Reason, "field": c.Field, "message": c.Message})
	}
	return Answer(code, encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message, "details": map[string]any{"causes": list},
	}))
}

// Answer is any answer.
func Answer(code int, body string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // the package makes only values that JSON has
	}
	return string(text)
}
