package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/kubeapi"
)

const (
	holderAnnotation = "credagent.io/state-holder"
	// maxSecret is how many bytes all records in a Secret may have together, by Kubernetes' own limit.
	maxSecret = 1 << 20
	// mostTries is how often a save is tried that others' changes of the Secret get in the way of.
	mostTries = 3
)

// Secret keeps the same encrypted records as a [Store], of tokens and of streams, in one Secret of the pod's cluster: a
// pod that moves to another node finds them. Its methods may be called from several goroutines.
//
// Only one process at a time may use the Secret. The last one that saved is its holder; each save has the resourceVersion
// as a precondition, so a process that is no longer the holder detects that with its next save, which is a [*TakenError]
// from then on.
type Secret struct {
	api             *kubeapi.Client
	namespace, name string
	crypt           Store // for its key alone
	self            string

	mu      sync.Mutex
	version string         // the resourceVersion; guarded by mu, as is all that follows
	opened  bool           // holder is known
	holder  string         // as it was seen last
	sizes   map[string]int // bytes, by key
	taken   *TakenError
}

// TakenError means that another process uses the same Secret. The two must not send the same requests, so the process that
// gets the error sends none.
type TakenError struct {
	Secret string
	By     string // the other process's pod
}

// Error implements error.
func (e *TakenError) Error() string {
	return fmt.Sprintf("another credagent, in pod %q, uses the state in Secret %q too; stop one of the two, or give each a Secret of its own", e.By, e.Secret)
}

// OpenSecret reads the key and the Secret, which must exist. It changes nothing. Its error is a [*SetupError] if the
// configuration cannot be used.
func OpenSecret(api *kubeapi.Client, namespace, name, keyFile string) (*Secret, error) {
	crypt, err := prepare("", keyFile)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // a pod's name; without it the rest still tells processes apart
	s := &Secret{api: api, namespace: namespace, name: name, crypt: *crypt, self: host + "/" + rand.Text()[:8]}
	if namespace == "" {
		return nil, &SetupError{"kubernetes_secret", fmt.Errorf("this process is not in a pod, in whose namespace the Secret %q would be; configure state.dir instead", name)}
	}
	if _, err := s.read(); err != nil {
		return nil, &SetupError{"kubernetes_secret", err}
	}
	return s, nil
}

func (s *Secret) at() string { return s.namespace + "/" + s.name }

// read fetches the Secret and records its version, its holder and its sizes. The caller holds mu, or is the only user.
func (s *Secret) read() (data map[string][]byte, err error) {
	answer, err := s.api.Do(context.Background(), kubeapi.Request{Method: "GET", Path: kubeapi.SecretPath(s.namespace, s.name), Accept: kubeapi.JSON})
	if err != nil {
		return nil, s.explain(err)
	}
	var got struct {
		Kind     string            `json:"kind"`
		Metadata kubeapi.Metadata  `json:"metadata"`
		Data     map[string][]byte `json:"data"`
	}
	if json.Unmarshal(answer, &got) != nil || got.Kind != "Secret" || got.Metadata.Version == "" {
		return nil, fmt.Errorf("reading the state in Secret %q: the API server's answer is not a Secret", s.at())
	}
	s.version, s.sizes = got.Metadata.Version, make(map[string]int, len(got.Data))
	for key, value := range got.Data {
		s.sizes[key] = len(key) + len(value)
	}
	if holder := got.Metadata.Annotations[holderAnnotation]; !s.opened {
		s.opened, s.holder = true, holder
	} else if holder != s.holder && holder != s.self {
		s.taken = &TakenError{Secret: s.at(), By: strings.SplitN(holder, "/", 2)[0]}
		return nil, s.taken
	}
	return got.Data, nil
}

func (s *Secret) explain(err error) error {
	var refused *kubeapi.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case 404:
			err = fmt.Errorf("it does not exist; run kubectl create secret generic %s --namespace %s; %w", s.name, s.namespace, err)
		case 403:
			err = fmt.Errorf("the pod's service account may not use it; grant it get and patch on that Secret; %w", err)
		}
	}
	return fmt.Errorf("the state in Secret %q: %w", s.at(), err)
}

// LoadAll is [Store.LoadAll].
func (s *Secret) LoadAll() (map[string]Record, []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := s.read()
	if err != nil {
		return nil, []error{err}
	}
	records := make(map[string]Record, len(data))
	var failed []error
	for key, sealed := range data {
		token, ours := tokenOf(key)
		if !ours {
			continue
		}
		r, err := s.crypt.unseal(token, sealed)
		if err != nil {
			failed = append(failed, &DamageError{s.at() + ": " + key, err})
			continue
		}
		records[token] = r.restored(time.Now())
	}
	return records, failed
}

// Save is [Store.Save]. If another process has taken this one's place, its error is a [*TakenError].
func (s *Secret) Save(token string, r Record) error {
	r.SavedAt = time.Now()
	key, err := fileOf(token)
	if err != nil {
		return fmt.Errorf("saving the state of token %q: %w", token, err)
	}
	sealed, err := s.crypt.seal(token, r)
	if err == nil {
		err = s.patch(key, sealed)
	}
	if err != nil {
		return fmt.Errorf("saving the state of token %q: %w", token, err)
	}
	return nil
}

// Remove is [Store.Remove].
func (s *Secret) Remove(token string) error {
	key, err := fileOf(token)
	if err == nil {
		err = s.patch(key, nil)
	}
	if err != nil {
		return fmt.Errorf("removing the state of token %q: %w", token, err)
	}
	return nil
}

// patch changes one key of the Secret, or removes it if value is nil, provided that nobody else has changed the Secret.
func (s *Secret) patch(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		if s.taken != nil {
			return s.taken
		}
		if err := s.fits(key, value); err != nil {
			return err
		}
		err := s.tryPatch(key, value)
		var refused *kubeapi.Error
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && refused.Code == 409 && try < mostTries:
			if _, err := s.read(); err != nil { // it detects who changed it
				return err
			}
		default:
			return s.explain(err)
		}
	}
}

// fits refuses a value that would make the Secret too large.
func (s *Secret) fits(key string, value []byte) error {
	size := len(key) + len(value)
	for other, bytes := range s.sizes {
		if other != key {
			size += bytes
		}
	}
	if value != nil && size > maxSecret {
		return fmt.Errorf("the state in Secret %q would have %d bytes, and a Secret holds at most %d; give some of the tokens to another agent, or configure state.dir", s.at(), size, maxSecret)
	}
	return nil
}

func (s *Secret) tryPatch(key string, value []byte) error {
	type metadata struct {
		Version     string            `json:"resourceVersion"`
		Annotations map[string]string `json:"annotations"`
	}
	var content *[]byte // null removes
	if value != nil {
		content = &value
	}
	body, err := json.Marshal(struct {
		Metadata metadata           `json:"metadata"`
		Data     map[string]*[]byte `json:"data"`
	}{metadata{s.version, map[string]string{holderAnnotation: s.self}}, map[string]*[]byte{key: content}})
	if err != nil {
		return err
	}
	answer, err := s.api.Do(context.Background(), kubeapi.Request{
		Method: "PATCH", Path: kubeapi.SecretPath(s.namespace, s.name), ContentType: kubeapi.MergePatch, Accept: kubeapi.MetadataOnly, Body: body,
	})
	if err != nil {
		return err
	}
	got, err := kubeapi.ParseMetadata(answer)
	if err != nil || got.Version == "" {
		return errors.New("the API server accepted it, but its answer is not the metadata of an object")
	}
	s.version, s.holder = got.Version, s.self
	if value == nil {
		delete(s.sizes, key)
	} else {
		s.sizes[key] = len(key) + len(value)
	}
	return nil
}
