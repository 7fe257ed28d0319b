// Package status defines the agent's status: the JSON of /v1/status, which probes, metrics and the command line use
// too. Agent.Status returns a [Status], in which Ready and NotReady come first. It holds nothing secret.
package status

import "time"

// Status is one snapshot.
type Status struct {
	Version   string    `json:"version"`
	Source    string    `json:"source,omitempty"` // the configuration's file, or "environment"; hidden from callers that see only a part
	StartedAt time.Time `json:"started_at"`
	Now       time.Time `json:"now"`
	Reload    *Reload   `json:"last_reload,omitempty"` // none before the first
	Ready     bool      `json:"ready"`
	NotReady  []string  `json:"not_ready,omitempty"` // the reasons, one sentence each
	Tokens    []Token   `json:"tokens"`
	Clients   []Client  `json:"clients"`
	Sinks     []Sink    `json:"sinks"`
	Signals   []Stream  `json:"signals,omitempty"` // none where no stream is configured
}

// Reload is the result of the last reload of the configuration.
type Reload struct {
	At         time.Time `json:"at"`
	Successful bool      `json:"successful"`
	Error      string    `json:"error,omitempty"` // why the running configuration was kept
}

// Token is the state of a token. Instants that do not apply are left out.
type Token struct {
	Name                string     `json:"name"`
	Client              string     `json:"client"`
	Valid               bool       `json:"valid"`
	Scope               string     `json:"scope,omitempty"`
	AcquiredAt          *time.Time `json:"acquired_at,omitempty"`
	Expiry              *time.Time `json:"expiry,omitempty"`
	ExpiresOn           int64      `json:"expires_on,omitempty"` // Expiry in epoch seconds
	RefreshAt           *time.Time `json:"refresh_at,omitempty"` // when the next request is planned
	LastOutcome         string     `json:"last_outcome,omitempty"`
	LastError           string     `json:"last_error,omitempty"`
	LastErrorAt         *time.Time `json:"last_error_at,omitempty"`
	Advice              string     `json:"advice,omitempty"` // what to do about the error
	ConsecutiveFailures int        `json:"consecutive_failures"`
	Requests            int        `json:"requests"` // sent; with a state, also by earlier processes

	CAE                  bool       `json:"cae"`                              // continuous access evaluation
	ChallengePending     bool       `json:"challenge_pending,omitempty"`      // the next request answers a claims challenge
	LastChallengeAt      *time.Time `json:"last_challenge_at,omitempty"`      // when one was received
	LastChallengeOutcome string     `json:"last_challenge_outcome,omitempty"` // accepted, duplicate or invalid
}

// Refresh is the result of a requested refresh: the answer of /v1/tokens/NAME/refresh. After a success, error, advice
// and refused are empty.
type Refresh struct {
	Token     string     `json:"token"`
	Outcome   string     `json:"outcome"` // as in LastOutcome, or Pending
	Error     string     `json:"error,omitempty"`
	Advice    string     `json:"advice,omitempty"`
	Refused   bool       `json:"refused,omitempty"` // the server does not accept the credential or the client
	Expiry    *time.Time `json:"expiry,omitempty"`  // of the current token
	ExpiresOn int64      `json:"expires_on,omitempty"`
	RefreshAt *time.Time `json:"refresh_at,omitempty"` // when the next request is planned
}

// The outcomes of a claims challenge.
const (
	ChallengeAccepted  = "accepted"  // the next request asks for its claims
	ChallengeDuplicate = "duplicate" // it is being answered, or was answered, without it
	ChallengeInvalid   = "invalid"   // it was refused
)

// Pending is the outcome of a refresh that has no answer yet.
const Pending = "pending"

// Client is the state of a client: its gate and its credential.
type Client struct {
	Name          string  `json:"name"`
	ClientID      string  `json:"client_id"`
	TokenEndpoint string  `json:"token_endpoint,omitempty"`     // once known
	ClockSkew     float64 `json:"clock_skew_seconds,omitempty"` // the server's clock is ahead by
	Gate          Gate    `json:"gate"`
	// Credentials are the client's one credential, or the first and its fallback.
	Credentials []Credential `json:"credentials"`
}

// InUse is the credential that authenticates the client's requests now.
func (c Client) InUse() Credential {
	for _, credential := range c.Credentials {
		if credential.InUse {
			return credential
		}
	}
	return Credential{}
}

// Gate shows whether requests of the client are held back.
type Gate struct {
	BlockedUntil *time.Time `json:"blocked_until,omitempty"` // the server's Retry-After
	RetryAt      *time.Time `json:"retry_at,omitempty"`      // credagent's own backoff
	Failures     int        `json:"failures"`
	// The reason why requests are held back. Clients that are the same client to the server share the gate, so the
	// failed request may be another client's, which is then named.
	LastOutcome  string     `json:"last_outcome,omitempty"`
	LastError    string     `json:"last_error,omitempty"`
	LastErrorAt  *time.Time `json:"last_error_at,omitempty"`
	Advice       string     `json:"advice,omitempty"` // what to do about the error
	FailedClient string     `json:"failed_client,omitempty"`
}

// The names of a client's credentials.
const (
	Primary  = "primary"
	Fallback = "fallback"
)

// Credential describes one of a client's credentials.
type Credential struct {
	Name     string     `json:"name"` // primary or fallback
	InUse    bool       `json:"in_use"`
	Provider string     `json:"provider"`
	Identity string     `json:"identity,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
	EndsSoon bool       `json:"ends_soon,omitempty"` // expires so soon that a person should know
	Problem  string     `json:"problem,omitempty"`   // why it cannot be used: it does not load, or is refused
}

// Sink is the state of a sink.
type Sink struct {
	Path        string     `json:"path"`
	Tokens      []string   `json:"tokens"`
	Holds       bool       `json:"holds"`                // the file holds the newest of every token, or is being updated
	Expired     bool       `json:"expired,omitempty"`    // one of its tokens has expired, so the file is left alone
	ExpiredAt   *time.Time `json:"expired_at,omitempty"` // when the first of its tokens without a successor expired
	WaitsFor    []string   `json:"waits_for,omitempty"`  // its tokens that were never acquired
	LastSuccess *time.Time `json:"last_success,omitempty"`
	LastChange  *time.Time `json:"last_change,omitempty"` // when its content was last replaced
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	RetryAt     *time.Time `json:"retry_at,omitempty"`
	OnChange    *OnChange  `json:"on_change,omitempty"` // nil without actions
}

// OnChange is the result of a sink's last actions: that of the last failed one, or of the last one.
type OnChange struct {
	Running     bool       `json:"running"`
	LastAction  string     `json:"last_action,omitempty"`
	LastRun     *time.Time `json:"last_run,omitempty"`     // when it had ended
	LastOutcome string     `json:"last_outcome,omitempty"` // success or failed
	LastError   string     `json:"last_error,omitempty"`
}

// Instant returns a pointer to the wall-clock instant, or nil for the zero time.
func Instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	wall := t.Round(0).UTC()
	return &wall
}
