// Package kubeapi sends requests to the API server of the Kubernetes cluster in which this process has a
// pod, as the pod's service account.
//
// The account's token and the cluster's CA are read afresh for each request, as both rotate. No request
// is repeated. Where the API server asks for a wait, does not answer or is overloaded, no request goes out
// before the wait is over, whoever makes it. One caveat: no proxy is used, as the API server is in the
// cluster.
package kubeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

	// maxAnswer is more than an object with 1 MiB of data has in JSON, with what the API server notes of it.
	maxAnswer = 4 << 20
	maxFile   = 1 << 20

	// RequestTimeout is how long a request may take, its answer included.
	RequestTimeout = 10 * time.Second
	// mostRequests is how many are under way at once: enough to be quick, and few of those that the API
	// server has for all service accounts.
	mostRequests = 4
)

// Options are what a [Client] is made from. All may be left out.
type Options struct {
	Dir    string // of the service account's files; "" for where a pod has them
	Server string // URL of the API server; "" for the one that the environment names
	// Transport makes what sends requests, to a server that a PEM file's roots vouch for; nil for HTTPS.
	Transport func(roots []byte) (http.RoundTripper, error)
}

// Client sends requests as a pod's service account. Its methods may be called from several goroutines.
type Client struct {
	o     Options
	slots chan struct{}

	mu        sync.Mutex
	roots     []byte            // guarded by mu, as is all that follows
	transport http.RoundTripper // for roots; nil before the first request
	failures  int               // of the API server in a row
	until     time.Time         // no request before
	why       error             // what the wait is for
}

// New returns a client. It touches neither disk nor network.
func New(o Options) *Client {
	if o.Dir == "" {
		o.Dir = accountDir
	}
	if o.Transport == nil {
		o.Transport = overHTTPS
	}
	return &Client{o: o, slots: make(chan struct{}, mostRequests)}
}

// Namespace returns the pod's own namespace; "" outside of a pod.
func Namespace() string {
	name, err := os.ReadFile(filepath.Join(accountDir, "namespace"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// Request is what is asked of the API server.
type Request struct {
	Method      string
	Path        string // see [SecretPath]
	Query       url.Values
	ContentType string // of Body
	Accept      string
	Body        []byte
}

// Media types.
const (
	JSON         = "application/json"
	ApplyPatch   = "application/apply-patch+yaml" // server-side apply; JSON is YAML
	MergePatch   = "application/merge-patch+json" // RFC 7396
	MetadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
)

// SecretPath is the path of a Secret, or of all in a namespace where name is "".
func SecretPath(namespace, name string) string {
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/secrets"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// Do sends a request and returns the answer's body. An answer that is no success is an [*Error]; a
// [*WaitError] says that nothing was sent.
func (c *Client) Do(ctx context.Context, r Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, &WaitError{Wait: time.Second, Err: errors.New("other requests to the API server are still under way")}
	}
	response, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.failed(fmt.Errorf("reading the API server's answer: %w", err), 0)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the API server's answer is larger than %d MiB", maxAnswer>>20)
	}
	c.answered()
	return body, nil
}

// send returns an answer that is a success.
func (c *Client) send(ctx context.Context, r Request) (*http.Response, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	request, transport, err := c.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, context.Canceled // nobody waits for the answer any more
	}
	if err != nil {
		return nil, c.failed(explain(err), 0)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxStatus)) // half of it may say enough
	refusal := newError(response, body)
	if refusal.overloaded() {
		return nil, c.failed(refusal, refusal.RetryAfter)
	}
	c.answered()
	return nil, refusal
}

// prepare makes the HTTP request, and what sends it.
func (c *Client) prepare(ctx context.Context, r Request) (*http.Request, http.RoundTripper, error) {
	server, err := c.server()
	if err != nil {
		return nil, nil, err
	}
	token, err := c.read("token")
	if err != nil {
		return nil, nil, err
	}
	transport, err := c.trusting()
	if err != nil {
		return nil, nil, err
	}
	target := server + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(r.Body))
	if err != nil {
		return nil, nil, fmt.Errorf("making the request to the API server: %w", err)
	}
	request.GetBody = nil // nothing is sent twice
	request.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	request.Header.Set("User-Agent", "credagent")
	for name, value := range map[string]string{"Accept": r.Accept, "Content-Type": r.ContentType} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	return request, transport, nil
}

// server returns the URL of the API server.
func (c *Client) server() (string, error) {
	if c.o.Server != "" {
		return c.o.Server, nil
	}
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return "", errors.New("this is no pod of a Kubernetes cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; run it in a pod")
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// read reads one of the service account's files.
func (c *Client) read(name string) ([]byte, error) {
	file, err := os.Open(filepath.Join(c.o.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("reading the service account's %s: %w; the pod needs a service account whose token is mounted (automountServiceAccountToken)", name, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("reading the service account's %s: %w", name, err)
	}
	return data, nil
}

// trusting returns what sends requests to a server that the cluster's CA, as it is now, vouches for.
func (c *Client) trusting() (http.RoundTripper, error) {
	roots, err := c.read("ca.crt")
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.transport != nil && bytes.Equal(roots, c.roots) {
		return c.transport, nil
	}
	made, err := c.o.Transport(roots)
	if err != nil {
		return nil, fmt.Errorf("reading the service account's ca.crt: %w", err)
	}
	if old, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		old.CloseIdleConnections()
	}
	c.roots, c.transport = roots, made
	return made, nil
}

// Close ends connections that are not in use.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		open.CloseIdleConnections()
	}
}
