// Package devserver is a small OAuth 2.0 authorization server, used by `credagent demo`, `credagent devserver` and
// the project's tests.
//
// It owns a token endpoint for the grants client_credentials, jwt_bearer and token_exchange, and discovery,
// introspection, a protected resource and a transmitter of Shared Signals.
// It promises to really verify client authentication (secrets, signed and federated assertions, replay, TLS
// certificates), to misbehave exactly as a [Fault] says, to log nothing, and to keep no secret in what
// [Server.Requests] returns. Caveat: it is for loopback, because introspection and the control endpoint require no
// credential.
package devserver

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultListen = "127.0.0.1:0"
	defaultTTL    = 30 * time.Second
)

// Options configures a [Server]. The zero value is a plain HTTP server on a free port of
// 127.0.0.1 whose tokens live for 30 seconds and which knows no client.
type Options struct {
	Listen    string        // host:port; "" is a free port of 127.0.0.1
	URL       string        // the address clients reach it by, no path; "" is the listener's
	TLS       bool          // HTTPS, with its own CA: see CAPEM
	TTL       time.Duration // the life of a token, a second at least; 0 is 30 seconds
	RefreshIn time.Duration // sent as refresh_in; 0 leaves it out
	JWT       bool          // access tokens are JWTs (RFC 9068) with their expiry; opaque otherwise
	Tenants   []string      // the TENANTs that exist in /TENANT/... paths; nil is every one
	Clients   []Client      // registered from the start
	Faults    []Fault       // injected from the start
	Control   bool          // serve /control
	Manner    string        // the known server that it imitates, see Manners; "" is none
}

// Server is the authorization server. Its methods may be called from any goroutine. Inside a
// testing/synctest bubble, make it there and reach it with [Server.DialContext].
type Server struct {
	options  Options
	manner   *Manner // nil is the plain server
	http     *http.Server
	identity identity
	base     atomic.Pointer[string]

	clients registry
	tokens  tokenStore
	revoked revocation
	replays replayMemory
	faults  faultQueue
	journal *journal

	transmitter transmitter

	pipe      *pipeListener
	startPipe sync.Once
	started   atomic.Bool
	serving   sync.WaitGroup
	closing   sync.Mutex // orders serve and Close
	closed    chan struct{}
	closeOnce sync.Once
}

// New returns a server that does not listen yet: see [Server.Start], [Server.DialContext] and
// [Server.Handler].
func New(options Options) (*Server, error) {
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, journal: newJournal(), pipe: newPipeListener(), closed: make(chan struct{})}
	if s.identity, err = newIdentity(options); err != nil {
		return nil, err
	}
	for _, client := range options.Clients {
		s.SetClient(client)
	}
	for _, fault := range options.Faults {
		if err := s.Inject(fault); err != nil {
			return nil, err
		}
	}
	if options.Manner != "" {
		manner, err := ParseManner(options.Manner)
		if err != nil {
			return nil, fmt.Errorf("setting up the authorization server: %w", err)
		}
		s.manner = &manner
	}
	s.setBase("127.0.0.1")
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	return s, nil
}

func (o Options) complete() (Options, error) {
	if o.Listen == "" {
		o.Listen = defaultListen
	}
	if o.TTL == 0 {
		o.TTL = defaultTTL
	}
	base, err := url.Parse(o.URL)
	if o.URL != "" && (err != nil || base.Host == "" || base.Path != "" || base.RawQuery != "") {
		return o, fmt.Errorf("setting up the authorization server: the URL %q is not a scheme and a host alone", o.URL)
	}
	if o.TTL < time.Second {
		return o, fmt.Errorf("setting up the authorization server: a token life of %s is shorter than a second", o.TTL)
	}
	for i, client := range o.Clients {
		if client.ID == "" {
			return o, fmt.Errorf("setting up the authorization server: client %d of %d has no ID", i+1, len(o.Clients))
		}
	}
	return o, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	if s.manner != nil {
		s.routeManner(mux, s.manner)
	} else {
		mux.HandleFunc("/token", s.serveToken(plainEndpoint))
		mux.HandleFunc("/{tenant}/token", s.serveToken(plainEndpoint))
		mux.HandleFunc("/{tenant}/oauth2/v2.0/token", s.serveToken(entraEndpoint))
		s.routeDiscovery(mux)
		s.routeSignals(mux)
	}
	mux.HandleFunc("POST /introspect", s.serveIntrospection)
	mux.HandleFunc("GET /resource", s.serveResource)
	if s.options.Control {
		s.routeControl(mux)
	}
	return mux
}

// Start listens on Options.Listen and serves in the background until [Server.Close].
func (s *Server) Start() error {
	if s.started.Swap(true) {
		return fmt.Errorf("starting the authorization server on %q: it has been started already", s.options.Listen)
	}
	listener, err := net.Listen("tcp", s.options.Listen)
	if err != nil {
		return fmt.Errorf("starting the authorization server on %q: %w", s.options.Listen, err)
	}
	s.setBase(reachable(listener.Addr()))
	if err := s.serve(listener); err != nil {
		return fmt.Errorf("starting the authorization server on %q: %w", s.options.Listen, err)
	}
	return nil
}

// Close stops serving, closes every connection, even a stalled one, and releases waiters.
func (s *Server) Close() error {
	var err error
	s.closeOnce.Do(func() {
		s.closing.Lock()
		close(s.closed)
		s.closing.Unlock()
		err = errors.Join(s.http.Close(), s.pipe.Close())
		s.serving.Wait()
		s.journal.close()
	})
	return err
}

// URL is the server's address and, without a manner, its issuer. Before [Server.Start]
// and without Options.URL its host is 127.0.0.1, without a port.
func (s *Server) URL() string { return *s.base.Load() }

// TokenURL is the token endpoint: the plain one, or the manner's, of the tenant "demo" where it has tenants.
func (s *Server) TokenURL() string { return s.URL() + s.shown().path }

// Issuer is the issuer that belongs to [Server.TokenURL].
func (s *Server) Issuer() string { return s.URL() + s.shown().issuerPath }

func (s *Server) shown() endpoint {
	if s.manner == nil {
		return plainEndpoint("")
	}
	return s.manner.sample()
}

// Handler is the whole server as a handler, for calls without a network. A fault that breaks
// the connection panics with [http.ErrAbortHandler] where there is no connection to break.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// CAPEM returns the server's CA certificate; nil without TLS.
func (s *Server) CAPEM() []byte { return s.identity.caPEM }

func (s *Server) setBase(host string) {
	base := s.options.URL
	if base == "" && s.options.TLS {
		base = "https://" + host
	}
	if base == "" {
		base = "http://" + host
	}
	s.base.Store(&base)
}
