package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/peer"
)

const (
	// mostBody is the maximum size of a body in bytes; a claims challenge is much smaller.
	mostBody = 64 << 10
	// refreshTimeout is how long a caller waits for the result of a requested refresh.
	refreshTimeout = 15 * time.Second
)

const (
	keyToken   = "token"
	keyUser    = "user"
	keyOutcome = "outcome"
)

// Broker answers the local token API.
type Broker interface {
	Status() status.Status
	// StatusFor returns the status that a user, or one of its groups, may see, without tokens that Allows denies.
	StatusFor(user int, groups []int) status.Status
	// Allows reports whether the configuration lets a user, or one of its groups, have a token.
	Allows(token string, user int, groups []int) bool
	// TokenJSON returns the current token. Its error is [agent.ErrUnknownToken] or an
	// [*agent.NotYetError].
	TokenJSON(token string) ([]byte, error)
	// Refresh waits until ctx ends for the result of a refresh. Its error is [agent.ErrUnknownToken] or
	// an [*agent.HeldBackError].
	Refresh(ctx context.Context, token string) (status.Refresh, error)
	// Challenge accepts a WWW-Authenticate value and, if known, the SHA-256 of the token that was rejected with it.
	// Its error is [agent.ErrUnknownToken], or an [*agent.ChallengeError]: then nothing has changed.
	Challenge(ctx context.Context, token, wwwAuthenticate, tokenSHA256 string) error
}

// Local returns the local token API, for a listener of [ListenSocket]. The kernel identifies the caller: root and the
// user owner may do everything, others what the broker allows.
func Local(broker Broker, owner int, log *slog.Logger) http.Handler {
	l := &local{broker: broker, owner: owner, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/status", method(l.status, http.MethodGet, http.MethodHead))
	mux.HandleFunc("/v1/tokens/{token}", method(l.guarded(l.token), http.MethodGet, http.MethodHead))
	mux.HandleFunc("/v1/tokens/{token}/refresh", method(l.guarded(l.refresh), http.MethodPost))
	mux.HandleFunc("/v1/tokens/{token}/challenge", method(l.guarded(l.challenge), http.MethodPost))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &problem{status: http.StatusNotFound, Code: "not_found", Message: "there is nothing at this path"})
	})
	return mux
}

type local struct {
	broker Broker
	owner  int
	log    *slog.Logger
}

// problem is an error answer.
type problem struct {
	status     int
	Code       string `json:"error"`
	Message    string `json:"message"`
	RetryAfter int64  `json:"retry_after,omitempty"` // in seconds, as in the header
}

func writeProblem(w http.ResponseWriter, p *problem) {
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(p.RetryAfter, 10))
	}
	writeJSON(w, p.status, p)
}

// method allows only the given methods of a path.
func method(next http.HandlerFunc, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(methods, r.Method) {
			next(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeProblem(w, &problem{
			status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Message: "the method is " + methods[0],
		})
	}
}

// guarded admits only a caller that may have the token. Others do not learn which tokens exist.
func (l *local) guarded(next func(w http.ResponseWriter, r *http.Request, token string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.PathValue("token")
		caller, known := callerOf(r)
		if !known || !l.privileged(caller) && !l.broker.Allows(token, caller.UID, caller.GIDs) {
			l.log.Debug("caller is not allowed to have a token", keyToken, token, keyUser, caller.UID)
			writeProblem(w, &problem{
				status: http.StatusForbidden, Code: "forbidden",
				Message: fmt.Sprintf("user %d is not allowed to have a token %q", caller.UID, token),
			})
			return
		}
		next(w, r, token)
	}
}

// status answers with what the caller may see. A caller without access to any token gets nothing.
func (l *local) status(w http.ResponseWriter, r *http.Request) {
	caller, known := callerOf(r)
	if known && l.privileged(caller) {
		writeJSON(w, http.StatusOK, l.broker.Status())
		return
	}
	var s status.Status
	if known {
		s = l.broker.StatusFor(caller.UID, caller.GIDs)
	}
	if len(s.Tokens) == 0 {
		l.log.Debug("caller is not allowed to see the status", keyUser, caller.UID)
		writeProblem(w, &problem{
			status: http.StatusForbidden, Code: "forbidden",
			Message: fmt.Sprintf("user %d is not allowed to have any token, nor to see the status", caller.UID),
		})
		return
	}
	writeJSON(w, http.StatusOK, s)
}

// privileged reports whether a caller may do everything.
func (l *local) privileged(caller peer.Peer) bool { return caller.UID == 0 || caller.UID == l.owner }

func (l *local) token(w http.ResponseWriter, _ *http.Request, token string) {
	body, err := l.broker.TokenJSON(token)
	if err != nil {
		l.fail(w, err)
		return
	}
	writeBody(w, http.StatusOK, body)
}

func (l *local) refresh(w http.ResponseWriter, r *http.Request, token string) {
	if _, refused := readBody(w, r); refused != nil {
		writeProblem(w, refused)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), refreshTimeout)
	defer cancel()
	got, err := l.broker.Refresh(ctx, token)
	if err != nil {
		l.fail(w, err)
		return
	}
	caller, _ := callerOf(r)
	l.log.Info("refresh asked for over the socket", keyToken, token, keyUser, caller.UID, keyOutcome, got.Outcome)
	code := http.StatusOK
	if got.Outcome == status.Pending {
		code = http.StatusAccepted
	}
	writeJSON(w, code, got)
}

// challengeRequest is a claims challenge from a workload.
type challengeRequest struct {
	WWWAuthenticate string `json:"www_authenticate"`
	TokenSHA256     string `json:"token_sha256"`
}

// challengeAnswer confirms that a challenge was accepted; there need not be a new token yet.
type challengeAnswer struct {
	Token    string `json:"token"`
	Accepted bool   `json:"accepted"`
}

func (l *local) challenge(w http.ResponseWriter, r *http.Request, token string) {
	body, refused := readBody(w, r)
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	challenge, refused := readChallenge(r.Header.Get("Content-Type"), body)
	if refused != nil {
		writeProblem(w, refused)
		return
	}
	if err := l.broker.Challenge(r.Context(), token, challenge.WWWAuthenticate, challenge.TokenSHA256); err != nil {
		l.fail(w, err)
		return
	}
	writeJSON(w, http.StatusAccepted, challengeAnswer{Token: token, Accepted: true})
}

// fail answers with the reason for the broker's error.
func (l *local) fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.status == http.StatusInternalServerError {
		l.log.Error("a caller cannot be served", keyError, err)
	}
	writeProblem(w, p)
}

func problemOf(err error) *problem {
	var notYet *agent.NotYetError
	var held *agent.HeldBackError
	var invalid *agent.ChallengeError
	switch {
	case errors.Is(err, agent.ErrUnknownToken):
		return &problem{status: http.StatusNotFound, Code: "unknown_token", Message: err.Error()}
	case errors.As(err, &notYet):
		return &problem{http.StatusServiceUnavailable, "no_token_yet", err.Error(), seconds(notYet.RetryIn)}
	case errors.As(err, &held):
		return &problem{http.StatusTooManyRequests, "held_back", err.Error(), seconds(held.RetryIn)}
	case errors.As(err, &invalid):
		return &problem{status: http.StatusBadRequest, Code: "invalid_challenge", Message: err.Error()}
	}
	return &problem{status: http.StatusInternalServerError, Code: "internal", Message: err.Error()}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// readBody reads a body, up to a limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &problem{
			status: http.StatusRequestEntityTooLarge, Code: "too_large",
			Message: fmt.Sprintf("the body has more than %d bytes", mostBody),
		}
	case err != nil:
		return nil, &problem{status: http.StatusBadRequest, Code: "invalid_request", Message: "the body cannot be read"}
	}
	return body, nil
}

// readChallenge reads a body that has to be a challengeRequest. Its content type is optional, but if given, it must
// be JSON's.
func readChallenge(contentType string, body []byte) (challengeRequest, *problem) {
	if contentType != "" {
		if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" {
			return challengeRequest{}, &problem{
				status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
				Message: "the body is to be application/json",
			}
		}
	}
	var c challengeRequest
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&c)
	if _, more := decoder.Token(); err != nil || !errors.Is(more, io.EOF) || c.WWWAuthenticate == "" {
		return challengeRequest{}, &problem{
			status: http.StatusBadRequest, Code: "invalid_request",
			Message: "the body is to be one JSON object with www_authenticate and, where it is known, token_sha256",
		}
	}
	return c, nil
}
