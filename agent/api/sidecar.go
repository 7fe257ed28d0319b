package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/internal/peer"
	"github.com/credagent/credagent/token"
)

// The protocol of Microsoft's Entra auth sidecar, for an application's own tokens.
const (
	SidecarPath       = "/AuthorizationHeaderUnauthenticated/" // followed by the name of an API
	sidecarHealthPath = "/healthz"
	overridePrefix    = "optionsoverride."
)

// SidecarSource finds the tokens that the auth sidecar hands out.
type SidecarSource interface {
	Alive() bool
	// TokenNameForAPI returns the name of the token that serves an API, or [agent.ErrUnknownAPI].
	TokenNameForAPI(api string) (string, error)
	// Allows reports whether the configuration lets a user, or one of its groups, have a token.
	Allows(token string, user int, groups []int) bool
	// TokenAs returns a token if it meets the request. The error is [agent.ErrUnknownToken],
	// [agent.ErrOtherClient], [agent.ErrOtherTenant], [agent.ErrOtherScope] or an [*agent.NotYetError].
	TokenAs(token string, want agent.APIRequest) (token.Token, error)
}

// Sidecar returns the auth sidecar, for a listener of [ListenUsers]. The protocol has no secret, so the user at the
// other end decides: the owner may have every token, others need the source's permission. Unlike on the socket, root
// has no right of its own, because programs that relay connections from elsewhere often run as root. No request of a
// caller causes one to an authorization server.
func Sidecar(source SidecarSource, owner int, log *slog.Logger) http.Handler {
	return &sidecar{source: source, owner: owner, log: log, caller: userOf}
}

type sidecar struct {
	source SidecarSource
	owner  int
	log    *slog.Logger
	caller func(*http.Request) (int, error)
}

// sidecarAnswer is the protocol's answer. It holds the token in the clear.
type sidecarAnswer struct {
	AuthorizationHeader string `json:"authorizationHeader"`
}

// sidecarRefusal is an answer without a token. SDKs show its message, and not the detail, which may repeat what the
// caller sent.
type sidecarRefusal struct {
	refusal
	detail string
}

// String returns message and detail, for the log.
func (r sidecarRefusal) String() string {
	if r.detail == "" {
		return r.message
	}
	return r.message + ": " + r.detail
}

// ServeHTTP implements [http.Handler].
func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refused := checkDirect(r); refused != nil {
		s.refuse(w, sidecarRefusal{refusal: *refused})
		return
	}
	// A page could not read the answer; refuse it all the same.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		s.refuse(w, refuseWith(http.StatusForbidden, "requests of web pages are not answered", ""))
		return
	}
	api, isToken := strings.CutPrefix(r.URL.Path, SidecarPath)
	switch {
	case r.URL.Path != sidecarHealthPath && !isToken:
		s.refuse(w, refuseWith(http.StatusNotFound, "there is only "+SidecarPath+"NAME and "+sidecarHealthPath, ""))
	case r.Method != http.MethodGet:
		s.refuse(w, refuseWith(http.StatusMethodNotAllowed, "the method is GET", ""))
	case isToken:
		s.serveToken(w, r, api)
	default:
		s.serveHealth(w)
	}
}

// serveHealth reports on the agent, not on tokens: an SDK that finds the sidecar unhealthy does not ask for a token, and
// so would not report why there is none.
func (s *sidecar) serveHealth(w http.ResponseWriter) {
	if !s.source.Alive() {
		s.refuse(w, refuseWith(http.StatusServiceUnavailable, "the agent's goroutines do not get to run", ""))
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"Healthy"})
}

func (s *sidecar) serveToken(w http.ResponseWriter, r *http.Request, api string) {
	t, refused := s.tokenFor(r, api)
	if refused != nil {
		if refused.status == http.StatusForbidden {
			w.Header().Set("Connection", "close") // the next one may be known
		}
		s.refuse(w, *refused)
		return
	}
	writeJSON(w, http.StatusOK, sidecarAnswer{AuthorizationHeader: t.TokenType + " " + t.AccessToken.Reveal()})
}

func (s *sidecar) tokenFor(r *http.Request, api string) (token.Token, *sidecarRefusal) {
	name, err := s.source.TokenNameForAPI(api)
	if err != nil {
		return token.Token{}, sidecarRefusalOf(err, api)
	}
	user, err := s.caller(r)
	if err != nil {
		return token.Token{}, new(refuseWith(http.StatusForbidden, "the user who asks cannot be determined", err.Error()))
	}
	if user != s.owner && !s.source.Allows(name, user, nil) {
		return token.Token{}, new(refuseWith(http.StatusForbidden,
			"this user may not have the token: allow in credagent's configuration lists the users who may",
			fmt.Sprintf("user %d may not have the token for API %s", user, quoted(api))))
	}
	want, refused := parseSidecarQuery(r.URL.RawQuery)
	if refused != nil {
		return token.Token{}, refused
	}
	t, err := s.source.TokenAs(name, want)
	if err != nil {
		return token.Token{}, sidecarRefusalOf(err, api)
	}
	return t, nil
}

// parseSidecarQuery reads what a caller expects of the token. Parameter names are not case-sensitive. Requests for a
// token other than the configured one are refused, so that nobody gets a different token from the one they asked for.
// Parameters that only concern a sidecar which calls the API itself are ignored, and so is the request for a fresh token.
func parseSidecarQuery(raw string) (agent.APIRequest, *sidecarRefusal) {
	var want agent.APIRequest
	if len(raw) > longestQuery {
		return want, new(refuseWith(http.StatusBadRequest, fmt.Sprintf("the query is longer than %d bytes", longestQuery), ""))
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return want, new(refuseWith(http.StatusBadRequest, "the query cannot be read", ""))
	}
	folded := map[string][]string{}
	for name, all := range values {
		folded[strings.ToLower(name)] = append(folded[strings.ToLower(name)], all...)
	}
	for name, all := range folded {
		override, isOverride := strings.CutPrefix(name, overridePrefix)
		isClient, isTenant := name == "agentidentity", override == "acquiretokenoptions.tenant"
		switch {
		case (isClient || isTenant) && len(all) > 1:
			return want, new(refuseWith(http.StatusBadRequest, "a parameter is given more than once", quoted(name)))
		case isClient:
			want.ClientID = all[0]
		case isTenant:
			want.Tenant = all[0]
		case override == "scopes":
			want.Scopes = all
		case name == "agentusername", name == "agentuserid":
			return want, new(refuseWith(http.StatusBadRequest, "only an application's own tokens are served, never a user's", quoted(name)))
		case isOverride && !isIgnored(override):
			return want, new(refuseWith(http.StatusBadRequest, "the token is the one in credagent's configuration: only its scopes and tenant can be named", quoted(name)))
		}
	}
	return want, nil
}

// isIgnored reports whether an override, in lower case, does not change which token is meant.
func isIgnored(override string) bool {
	return strings.HasPrefix(override, "extraheaderparameters") || slices.Contains([]string{
		"requestapptoken", "acquiretokenoptions.forcerefresh", "acquiretokenoptions.correlationid",
		"baseurl", "relativepath", "httpmethod", "acceptheader", "contenttype",
	}, override)
}

func refuseWith(status int, message, detail string) sidecarRefusal {
	return sidecarRefusal{refusal{status: status, message: message}, detail}
}

// sidecarRefusalOf explains why there is no token.
func sidecarRefusalOf(err error, api string) *sidecarRefusal {
	var notYet *agent.NotYetError
	of := "API " + quoted(api)
	for cause, message := range map[error]string{
		agent.ErrOtherClient: "the token does not belong to the client that AgentIdentity names",
		agent.ErrOtherTenant: "the token does not belong to the tenant asked for, or credagent's configuration names the tenant differently",
		agent.ErrOtherScope:  "the token does not have the scope asked for: scopes in credagent's configuration lists its scopes",
	} {
		if errors.Is(err, cause) {
			return new(refuseWith(http.StatusBadRequest, message, of))
		}
	}
	switch {
	case errors.As(err, &notYet):
		refused := refuseWith(http.StatusServiceUnavailable, "no token for the API yet", of)
		refused.retryIn = notYet.RetryIn
		return &refused
	case errors.Is(err, agent.ErrUnknownAPI), errors.Is(err, agent.ErrUnknownToken):
		return new(refuseWith(http.StatusNotFound, "no token for the API: auth_sidecar.token_for in credagent's configuration lists the APIs", of))
	}
	return new(refuseWith(http.StatusInternalServerError, "the token cannot be looked up", of))
}

// refuse answers with an error in the form of RFC 9457.
func (s *sidecar) refuse(w http.ResponseWriter, refused sidecarRefusal) {
	correlationID := newCorrelationID()
	s.log.Debug("auth sidecar refused a request",
		keyStatus, refused.status, keyError, refused.String(), keyCorrelationID, correlationID)
	if refused.retryIn > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(seconds(refused.retryIn), 10))
	}
	if refused.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	writeAs(w, "application/problem+json", refused.status, struct {
		Status        int    `json:"status"`
		Title         string `json:"title"`
		Detail        string `json:"detail,omitempty"`
		CorrelationID string `json:"correlationId"`
	}{refused.status, refused.message, refused.detail, correlationID})
}

// ListenUsers listens on an address of the loopback interface, for a handler that needs to know which user sends a
// request. It fails where the kernel does not report users, as on systems other than Linux.
func ListenUsers(address string) (net.Listener, error) {
	listener, err := ListenLoopback(address)
	if err != nil {
		return nil, err
	}
	if err := tryUsers(listener.Addr().(*net.TCPAddr).IP); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return &userListener{Listener: listener}, nil
}

// tryUsers connects to itself on an address, and checks that the kernel reports this process's user.
func tryUsers(ip net.IP) error {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
	if err != nil {
		return err
	}
	defer listener.Close()
	there, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer there.Close()
	here, err := listener.AcceptTCP()
	if err != nil {
		return err
	}
	defer here.Close()
	if here.RemoteAddr().String() != there.LocalAddr().String() {
		return errors.New("another program connected to a port that was opened for a test: start again")
	}
	user, err := peer.UserOf(here)
	if err != nil {
		return err
	}
	if user != os.Geteuid() {
		return fmt.Errorf("asking who connected: the kernel names user %d, and this is user %d", user, os.Geteuid())
	}
	return nil
}

// userListener accepts connections that can determine their user.
type userListener struct {
	net.Listener
	asking sync.Mutex
}

// Accept implements [net.Listener].
func (l *userListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &userConn{Conn: conn}
	c.user = sync.OnceValues(func() (int, error) {
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return 0, errors.New("asking who connected: not a TCP connection")
		}
		// One at a time: each reads the table of all sockets, and many callers may connect at once.
		l.asking.Lock()
		defer l.asking.Unlock()
		return peer.UserOf(tcp)
	})
	return c, nil
}

// userConn is a connection that determines its user at the first call. The user cannot change while it is open.
type userConn struct {
	net.Conn
	user func() (int, error)
}

// userOf returns the user of the connection of a request.
func userOf(r *http.Request) (int, error) {
	for conn := connOf(r); conn != nil; conn = inner(conn) {
		if known, ok := conn.(*userConn); ok {
			return known.user()
		}
	}
	return 0, errors.New("asking who connected: not a connection of ListenUsers")
}
