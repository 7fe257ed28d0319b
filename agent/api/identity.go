package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/internal/loopback"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

// The managed-identity protocol of Azure App Service, which every Azure SDK supports.
const (
	IdentityPath       = "/msi/token"
	identityAPIVersion = "2019-08-01"
	identityHeader     = "X-Identity-Header"

	longestQuery  = 4 << 10
	longestQuoted = 200 // bytes of what a caller sent, in a message
)

// IdentitySource finds the tokens for the identity endpoint.
type IdentitySource interface {
	// TokenFor returns the token for a resource; a clientID that is not empty has to be that of its
	// client. The error is [agent.ErrUnknownResource], [agent.ErrOtherClient] or an
	// [*agent.NotYetError].
	TokenFor(resource, clientID string) (token.Token, error)
}

// Identity returns the identity endpoint. It serves the source's tokens to callers that send the header's value. It
// only reads existing tokens: no call causes a request to an authorization server.
func Identity(source IdentitySource, header secret.Value, log *slog.Logger) http.Handler {
	return &identity{source: source, header: sha256.Sum256([]byte(header.Reveal())), log: log}
}

// ListenLoopback listens on an address of the loopback interface, and on no other, whatever its name resolves to.
func ListenLoopback(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if at, ok := listener.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		_ = listener.Close()
		return nil, fmt.Errorf("%q is %s here, which is not a loopback address", address, listener.Addr())
	}
	return listener, nil
}

type identity struct {
	source IdentitySource
	header [sha256.Size]byte
	log    *slog.Logger
}

// identityAnswer is the protocol's answer. It contains the token in plain text.
type identityAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresOn   string `json:"expires_on"` // epoch seconds: a number would be refused by some SDKs
	ExpiresIn   string `json:"expires_in"` // seconds, without which some libraries never renew
	Resource    string `json:"resource"`   // as requested: SDKs use it as the cache key
	TokenType   string `json:"token_type"`
	ClientID    string `json:"client_id"`
}

// refusal is an answer without a token.
type refusal struct {
	status  int
	message string
	retryIn time.Duration // 0 for no Retry-After
}

// ServeHTTP implements [http.Handler].
func (i *identity) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, refused := i.answer(r)
	if refused != nil {
		i.refuse(w, *refused)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (i *identity) answer(r *http.Request) (identityAnswer, *refusal) {
	for _, check := range []func(*http.Request) *refusal{checkDirect, checkRoute, i.checkHeader} {
		if refused := check(r); refused != nil {
			return identityAnswer{}, refused
		}
	}
	q, refused := parseIdentityQuery(r.URL.RawQuery)
	if refused != nil {
		return identityAnswer{}, refused
	}
	t, err := i.source.TokenFor(q.resource, q.clientID)
	if err != nil {
		return identityAnswer{}, refusalOf(err, q)
	}
	return identityAnswer{
		AccessToken: t.AccessToken.Reveal(),
		ExpiresOn:   strconv.FormatInt(t.Expiry.Unix(), 10),
		ExpiresIn:   strconv.FormatInt(max(0, int64(time.Until(t.Expiry)/time.Second)), 10),
		Resource:    q.resource,
		TokenType:   t.TokenType,
		ClientID:    t.ClientID,
	}, nil
}

// checkDirect refuses requests that a program on this host did not make itself: those of a web page after DNS
// rebinding are recognized by their Host, those that a proxy was tricked into forwarding by its added headers.
func checkDirect(r *http.Request) *refusal {
	if !loopback.IsHostPort(r.Host) {
		return &refusal{status: http.StatusForbidden, message: "only requests to a loopback host are answered, such as 127.0.0.1"}
	}
	for name := range r.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			return &refusal{status: http.StatusForbidden, message: "requests that were forwarded are not answered"}
		}
	}
	return nil
}

func checkRoute(r *http.Request) *refusal {
	switch {
	case r.URL.Path != IdentityPath:
		return &refusal{status: http.StatusNotFound, message: "there is only " + IdentityPath}
	case r.Method != http.MethodGet:
		return &refusal{status: http.StatusMethodNotAllowed, message: "the method is GET"}
	}
	return nil
}

// checkHeader compares digests, so that its timing reveals neither the value nor its length.
func (i *identity) checkHeader(r *http.Request) *refusal {
	values := r.Header[identityHeader]
	if len(values) == 1 {
		sent := sha256.Sum256([]byte(values[0]))
		if subtle.ConstantTimeCompare(sent[:], i.header[:]) == 1 {
			return nil
		}
	}
	// An older library uses another header, so a missing header would be a misleading error.
	if q, err := url.ParseQuery(r.URL.RawQuery); err == nil && slices.Contains(olderVersions(), q.Get("api-version")) {
		return &refusal{status: http.StatusUnauthorized, message: notSpoken(q.Get("api-version"))}
	}
	return &refusal{status: http.StatusUnauthorized, message: "X-IDENTITY-HEADER is missing or wrong: IDENTITY_HEADER is to hold what is in the header file"}
}

// identityQuery is a caller's query.
type identityQuery struct{ resource, clientID string }

func parseIdentityQuery(raw string) (identityQuery, *refusal) {
	if len(raw) > longestQuery {
		return identityQuery{}, badQuery("the query is longer than %d bytes", longestQuery)
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return identityQuery{}, badQuery("the query cannot be read")
	}
	for _, name := range []string{"api-version", "resource", "client_id"} {
		for given, all := range values {
			if strings.EqualFold(given, name) && (given != name || len(all) > 1) {
				return identityQuery{}, badQuery("%s is there more than once, or in another spelling", name)
			}
		}
	}
	if name := otherIdentity(values); name != "" {
		return identityQuery{}, badQuery("%s is not known here: an identity is named by client_id", strings.Trim(quoted(name), `"`))
	}
	q := identityQuery{values.Get("resource"), values.Get("client_id")}
	switch version := values.Get("api-version"); {
	case slices.Contains(olderVersions(), version):
		return q, badQuery("%s", notSpoken(version))
	case version != identityAPIVersion:
		return q, badQuery("api-version is %s, want %s", quoted(version), identityAPIVersion)
	case q.resource == "":
		return q, badQuery("resource is missing")
	}
	return q, nil
}

func notSpoken(version string) string {
	return fmt.Sprintf("api-version %s is not spoken here, only %s: update the library that asks", quoted(version), identityAPIVersion)
}

// olderVersions returns the versions for App Service, virtual machines and Arc that libraries still use.
func olderVersions() []string {
	return []string{"2017-09-01", "2017-12-01", "2018-02-01", "2019-07-01-preview"}
}

// identityNames returns the parameters that name an identity in any version of the protocol, in lower case and
// without separators.
func identityNames() []string {
	return []string{
		"clientid", "msiclientid", "appid", "applicationid", "objectid", "msiobjectid", "principalid", "msiprincipalid",
		"miresid", "msiresid", "resid", "resourceid", "miresourceid", "msiresourceid", "identityid", "userassignedid",
	}
}

// otherIdentity returns a parameter that names an identity other than by client_id, as other versions do: a caller
// that asks for a certain identity must not get the token of another.
func otherIdentity(values url.Values) string {
	plain := strings.NewReplacer("_", "", "-", "", ".", "")
	for name := range values {
		if name != "client_id" && slices.Contains(identityNames(), strings.ToLower(plain.Replace(name))) {
			return name
		}
	}
	return ""
}

func badQuery(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...)}
}

// refusalOf explains why there is no token. It does not list the configured resources: SDKs put the message into
// their errors, and so into logs that others read.
func refusalOf(err error, q identityQuery) *refusal {
	var notYet *agent.NotYetError
	switch {
	case errors.As(err, &notYet):
		return &refusal{http.StatusServiceUnavailable, "there is no token for the resource yet", notYet.RetryIn}
	case errors.Is(err, agent.ErrOtherClient):
		return badQuery("client_id %s is not the client of the token for resource %s", quoted(q.clientID), quoted(q.resource))
	case errors.Is(err, agent.ErrUnknownResource):
		return badQuery("no token for resource %s: identity_endpoint.token_for in credagent's configuration names those there are", quoted(q.resource))
	}
	return &refusal{status: http.StatusInternalServerError, message: "the token cannot be looked up"}
}

// quoted quotes what a caller sent, limited in length.
func quoted(s string) string {
	if len(s) > longestQuoted {
		s = s[:longestQuoted] + "…"
	}
	return strconv.Quote(s)
}

// refuse answers with an error. It always has a body, because some SDKs fail on an empty one.
func (i *identity) refuse(w http.ResponseWriter, refused refusal) {
	correlationID := newCorrelationID()
	i.log.Debug("identity endpoint refused a request",
		keyStatus, refused.status, keyError, refused.message, keyCorrelationID, correlationID)
	if refused.retryIn > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(refused.retryIn.Seconds())))
	}
	if refused.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodGet)
	}
	writeJSON(w, refused.status, struct {
		StatusCode    int    `json:"statusCode"`
		Message       string `json:"message"`
		CorrelationID string `json:"correlationId"`
	}{refused.status, refused.message, correlationID})
}

// newCorrelationID returns a random UUID (RFC 9562, 5.4) to find an answer in the log.
func newCorrelationID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, by its contract
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
