package kubesecret

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/credagent/credagent/internal/kubeapi"
	"github.com/credagent/credagent/sink"
)

var errImmutable = errors.New("it is immutable and cannot be changed; delete and recreate it")

// typeError is a Secret of another type, which nobody can change.
type typeError struct{ got, want string }

func (e *typeError) Error() string {
	return fmt.Sprintf("its type is %q and cannot be changed to %q; configure secret_type: %s, or delete and recreate it", e.got, e.want, e.got)
}

// managerPattern finds the field manager in a conflict's message.
var managerPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`conflict with "([^"]+)"`) })

// explain says which Secret could not be written, why, and what to do about it.
func (s *Secret) explain(err error) error {
	var waiting *kubeapi.WaitError
	if errors.As(err, &waiting) {
		return &sink.LaterError{Err: fmt.Errorf("writing Secret %q: %w", s.Path(), err), Wait: waiting.Wait, Untried: true}
	}
	var refused *kubeapi.Error
	if errors.As(err, &refused) {
		if advice := s.advise(refused); advice != "" {
			err = fmt.Errorf("%s; %w", advice, err)
		}
	}
	err = fmt.Errorf("writing Secret %q: %w", s.Path(), err)
	if wait := s.cluster.api.Wait(); wait > 0 {
		return &sink.LaterError{Err: err, Wait: wait}
	}
	return err
}

// advise says what a refusal means for the Secret, and what to do; "" where that is not known.
func (s *Secret) advise(e *kubeapi.Error) string {
	switch e.Code {
	case http.StatusConflict:
		return s.conflict(e)
	case http.StatusUnauthorized:
		return "the API server does not accept the pod's service account token: see that the account is still there, and that the token is the cluster's"
	case http.StatusForbidden:
		return s.forbidden(e)
	case http.StatusNotFound:
		return fmt.Sprintf("namespace %q does not exist: create it, or correct the sink's namespace", s.o.Namespace)
	case http.StatusRequestEntityTooLarge:
		return "it is too large: a Secret holds at most 1 MiB, what others have in it included"
	case http.StatusUnprocessableEntity:
		return s.invalid(e)
	}
	return ""
}

// conflict names who else keeps what would be applied.
func (s *Secret) conflict(e *kubeapi.Error) string {
	var managers, fields []string
	for _, cause := range e.Causes {
		if m := managerPattern().FindStringSubmatch(cause.Message); m != nil {
			managers = append(managers, fmt.Sprintf("%q", m[1]))
			fields = append(fields, cause.Field)
		}
	}
	if len(managers) == 0 {
		return ""
	}
	slices.Sort(managers)
	return fmt.Sprintf("%s of it belongs to %s and is not overwritten by force: remove that from what %s applies, or write to another Secret",
		strings.Join(fields, ", "), strings.Join(slices.Compact(managers), " and "), strings.Join(slices.Compact(managers), " and "))
}

func (s *Secret) forbidden(e *kubeapi.Error) string {
	switch {
	case strings.Contains(e.Message, "because it is being terminated"):
		return fmt.Sprintf("namespace %q is being deleted", s.o.Namespace)
	case strings.Contains(e.Message, "exceeded quota"):
		return "the namespace's quota leaves no room for another Secret"
	case strings.Contains(e.Message, "cannot create"):
		return fmt.Sprintf("the Secret does not exist, and the pod's service account may not create it: run kubectl create secret generic %s --namespace %s --type %s, or grant it create on secrets",
			s.o.Name, s.o.Namespace, s.o.Type)
	case strings.Contains(e.Message, "cannot patch"):
		return fmt.Sprintf("the pod's service account may not write it: grant it patch, get and watch on the Secret %q, as the Role in deploy/k8s/secret does", s.o.Name)
	}
	return "the API server does not allow it"
}

func (s *Secret) invalid(e *kubeapi.Error) string {
	for _, cause := range e.Causes {
		switch {
		case strings.Contains(cause.Message, "Too long") && strings.HasPrefix(cause.Field, "data"):
			return "it is full: a Secret holds at most 1 MiB, what others have in it included"
		case strings.Contains(cause.Message, "immutable") && cause.Field == "type":
			return fmt.Sprintf("its type cannot be changed to %q: configure the type that it has as secret_type, or delete and recreate it", s.o.Type)
		case strings.Contains(cause.Message, "immutable"):
			return errImmutable.Error()
		}
	}
	return "the API server does not accept its content"
}
