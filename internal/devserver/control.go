package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
)

// state is the answer to GET /control.
type state struct {
	URL        string        `json:"url"`
	Requests   int           `json:"requests"`
	Issued     int           `json:"tokens_issued"`
	Violations int           `json:"retry_after_violations"`
	Clients    []string      `json:"clients"`
	Faults     []faultNotice `json:"faults"`
}

// faultNotice is a fault on the control endpoint, in requests and answers.
type faultNotice struct {
	Fault  string `json:"fault"`
	Client string `json:"client,omitempty"`
}

func (s *Server) routeControl(mux *http.ServeMux) {
	mux.HandleFunc("GET /control", local(s.serveState))
	mux.HandleFunc("GET /control/requests", local(s.serveRequests))
	mux.HandleFunc("GET /control/faults", local(s.serveFaults))
	mux.HandleFunc("POST /control/faults", local(s.serveInject))
	mux.HandleFunc("DELETE /control/faults", local(s.serveClear))
	mux.HandleFunc("POST /control/revoke", local(s.serveRevoke))
	mux.HandleFunc("GET /control/signals", local(s.serveStreams))
	mux.HandleFunc("POST /control/signals", local(s.serveSignal))
}

// local keeps web pages from controlling the server through a browser on this machine: DNS rebinding shows in the
// Host, and another page's request in its Origin.
func local(next http.HandlerFunc) http.HandlerFunc {
	crossOrigin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) || crossOrigin.Check(r) != nil {
			writeJSON(w, http.StatusForbidden, map[string]string{"error": "the control endpoint answers only requests to a loopback host, from no other site"})
			return
		}
		next(w, r)
	}
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}

func (s *Server) serveState(w http.ResponseWriter, _ *http.Request) {
	requests, _ := s.journal.seen()
	writeJSON(w, http.StatusOK, state{
		URL:        s.URL(),
		Requests:   requests,
		Issued:     s.tokens.issued(),
		Violations: s.RetryAfterViolations(),
		Clients:    s.clients.ids(),
		Faults:     s.notices(),
	})
}

func (s *Server) notices() []faultNotice {
	notices := []faultNotice{}
	for _, fault := range s.faults.all() {
		notices = append(notices, faultNotice{Fault: fault.String(), Client: fault.Client})
	}
	return notices
}

func (s *Server) serveRequests(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, append([]Request{}, s.Requests()...))
}

// serveInject injects all of a request's faults or none.
func (s *Server) serveInject(w http.ResponseWriter, r *http.Request) {
	faults, err := readFaults(w, r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	s.faults.add(faults...)
	writeJSON(w, http.StatusOK, map[string]any{"faults": s.notices()})
}

func (s *Server) serveFaults(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"faults": s.notices()})
}

func (s *Server) serveClear(w http.ResponseWriter, _ *http.Request) {
	s.Clear()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) serveStreams(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"streams": append([]Stream{}, s.Streams()...)})
}

// serveSignal sends the event of ?event=...&client=..., or one as JSON.
func (s *Server) serveSignal(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	signal := Signal{Event: query.Get("event"), Client: query.Get("client")}
	if signal.Event == "" {
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&signal); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": `reading the event: neither ?event=NAME&client=ID nor a body such as {"event": "session-revoked", "client": "demo"}`})
			return
		}
	}
	jti, err := s.Signal(signal)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"jti": jti})
}

// readFaults reads ?fault=...&fault=...&client=..., or one fault as JSON.
func readFaults(w http.ResponseWriter, r *http.Request) ([]Fault, error) {
	query := r.URL.Query()
	texts, client := query["fault"], query.Get("client")
	if len(texts) == 0 {
		var notice faultNotice
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&notice); err != nil {
			return nil, errors.New(`reading the faults: neither ?fault=NAME nor a body such as {"fault": "throttle=7*2"}`)
		}
		texts, client = []string{notice.Fault}, notice.Client
	}
	var faults []Fault
	for _, text := range texts {
		fault, err := ParseFault(text)
		if err != nil {
			return nil, fmt.Errorf("injecting nothing: %w", err)
		}
		fault.Client = client
		faults = append(faults, fault)
	}
	return faults, nil
}
