package assertion

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/credagent/credagent/internal/loopback"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/redact"
	"github.com/credagent/credagent/internal/transport"
	"github.com/credagent/credagent/plugins"
)

const (
	// patience is how long a source has to answer. Those that are asked are near, and a token request is
	// waiting.
	patience = 5 * time.Second
	// maxAnswer bounds an answer, in bytes. A token has a few KiB.
	maxAnswer = 1 << 20
	maxWords  = 200 // bytes of a refusal that are shown
)

// question is a request to what hands out tokens, which is sent once.
type question struct {
	method  string // GET where it is empty
	url     string
	header  http.Header
	body    []byte
	secrets []string // that go with it, which an answer may repeat

	// near has it go to this machine or a link-local address, past any proxy; otherwise it never goes to a
	// link-local address, whatever a name resolves to: metadata services of other clouds are there.
	near    bool
	roots   *x509.CertPool // trusted in place of the system's, past any proxy; nil for those
	absent  string         // what to ask oneself where nobody answers
	passing []int          // statuses that may pass, beside those that always may
}

// answer is what came back with a status of success, or one that the asker knows what to do about.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends the question, and returns its answer if its status is one of 2xx or of those that are expected. Any
// other is an error, with what to do about that status where the hints know.
func (q question) ask(ctx context.Context, hints map[int]string, expected ...int) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	got, err := q.send(ctx)
	if err != nil {
		return answer{}, err
	}
	if got.status/100 == 2 {
		// Whatever its Content-Type: Google's metadata server calls its tokens HTML.
		if bytes.HasPrefix(bytes.TrimSpace(got.body), []byte("<")) {
			return answer{}, errors.New("it answered with a web page and no token: something else answers in its place, such as a proxy")
		}
		return got, nil
	}
	if slices.Contains(expected, got.status) {
		return got, nil
	}
	return answer{}, q.refused(got, hints[got.status])
}

func (q question) send(ctx context.Context) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, errors.New("its address is not a URL")
	}
	for name, values := range q.header {
		request.Header[name] = values
	}
	connections, err := q.connections()
	if err != nil {
		return answer{}, err
	}
	defer connections.CloseIdleConnections()
	// Not through an http.Client: it follows redirects, which would carry what is sent elsewhere.
	response, err := connections.RoundTrip(request)
	if err != nil {
		return answer{}, q.unreachable(ctx, err)
	}
	defer response.Body.Close()
	got := answer{status: response.StatusCode, header: response.Header}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return answer{}, errors.New("it switched to another protocol")
	}
	got.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, q.unreachable(ctx, err)
	case len(got.body) > maxAnswer:
		return answer{}, errors.New("its answer is longer than 1 MiB")
	}
	return got, nil
}

// connections are for one question: nothing is repeated, and nothing is kept.
func (q question) connections() (*http.Transport, error) {
	made, err := transport.New(nil, "")
	if err != nil {
		return nil, err
	}
	made.DisableKeepAlives = true
	if q.near || q.roots != nil {
		made.Proxy = nil
	}
	made.TLSClientConfig.RootCAs = q.roots
	made.DialContext = (&net.Dialer{Timeout: patience, Control: func(_, address string, _ syscall.RawConn) error {
		return q.mayReach(address)
	}}).DialContext
	return made, nil
}

// misplaced is the error of a question that would go where none of its kind may.
type misplaced struct{ message string }

func (e *misplaced) Error() string { return e.message }

// mayReach judges an address that is about to be connected to, names being resolved.
func (q question) mayReach(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return &misplaced{"its address is not one of a network"}
	}
	ip := at.Addr().Unmap()
	switch {
	case q.near && !ip.IsLinkLocalUnicast() && !ip.IsLoopback():
		return &misplaced{"its address leads away from this machine, where its answer could be anybody's"}
	case !q.near && ip.IsLinkLocalUnicast():
		return &misplaced{"its address is a link-local one, where the metadata services of clouds are, and no such service is meant"}
	}
	return nil
}

// unreachable is the error of a question without an answer.
func (q question) unreachable(ctx context.Context, err error) error {
	var elsewhere *misplaced
	var inNet net.Error
	message := transport.Explain(err)
	switch {
	case errors.As(err, &elsewhere):
		return elsewhere
	case ctx.Err() != nil || errors.As(err, &inNet) && inNet.Timeout():
		message = "it did not answer in time"
	case strings.Contains(message, "malformed"): // such errors quote what came
		message = "its answer is not HTTP"
	}
	if q.absent != "" {
		message += "; " + q.absent
	}
	return &plugins.Unavailable{Message: message}
}

// refused is the error of an answer that is none of success.
func (q question) refused(got answer, hint string) error {
	message := fmt.Sprintf("it answered HTTP %d", got.status)
	if words := q.words(got.body); words != "" {
		message += ", " + words
	}
	if got.status/100 == 3 {
		hint = "a redirect, which is not followed: its address is not the one of what hands out tokens"
	}
	if hint != "" {
		message += "; " + hint
	}
	switch {
	case got.status == http.StatusTooManyRequests, got.status == http.StatusRequestTimeout, got.status >= http.StatusInternalServerError, slices.Contains(q.passing, got.status), got.header.Get("Retry-After") != "":
		return &plugins.Unavailable{Message: message, Status: got.status, Header: got.header}
	}
	return errors.New(message)
}

// words are what a refusal says in words, cleaned and bounded, without what went with the question.
func (q question) words(body []byte) string {
	var said struct {
		Description string          `json:"error_description"`
		Message     string          `json:"message"`
		Error       json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	var code string
	var inError struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(said.Error, &code)
	_ = json.Unmarshal(said.Error, &inError)
	var parts []string
	for _, part := range []string{code, said.Description, said.Message, inError.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	hidden := redact.New(q.secrets...)
	return printable.Text(hidden.Text(strings.Join(parts, ": ")), maxWords)
}

// parseJSON reads an answer that is a JSON object, of which nothing is shown.
func (a answer) parseJSON(into any) error {
	if !bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) || json.Unmarshal(a.body, into) != nil {
		return errors.New("its answer is not the JSON that it should be")
	}
	return nil
}

// endpoint reads a URL that a variable of the environment holds. Over plain HTTP it may only lead to this
// machine, or, where the source is near, to a link-local address; a connection proves what a name leads to.
func endpoint(variable, text string, near bool) (*url.URL, error) {
	at, err := url.Parse(text)
	switch {
	case err != nil || at.Hostname() == "" || at.User != nil || at.Scheme != "http" && at.Scheme != "https":
		return nil, fmt.Errorf("the variable %s holds no URL of http or https", variable)
	case !near && isLinkLocal(at.Hostname()):
		return nil, fmt.Errorf("the variable %s leads to a link-local address, where the metadata services of clouds are, and no such service is meant", variable)
	case at.Scheme == "http" && !near && !loopback.IsHost(at.Hostname()):
		return nil, fmt.Errorf("the variable %s holds a URL of plain http, over which a token would be anybody's to read", variable)
	}
	return at, nil
}

func isLinkLocal(name string) bool {
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLinkLocalUnicast()
}
