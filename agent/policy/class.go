package policy

// Class is the kind of a token request's outcome. The zero value is success.
type Class int

// The classes.
const (
	Success       Class = iota
	Throttled           // the server asked for time
	Transient           // waiting may help
	Credential          // the client's credential was refused or cannot be used
	Configuration       // the request asks for something that does not exist
	Refused             // policy: refused by a rule of the tenant, such as conditional access
)

// String returns the class's name in logs and metrics.
func (c Class) String() string {
	switch c {
	case Success:
		return "success"
	case Throttled:
		return "throttled"
	case Transient:
		return "transient"
	case Credential:
		return "credential"
	case Configuration:
		return "configuration"
	case Refused:
		return "policy"
	}
	return "unknown"
}

// Lasting reports whether a person has to act: waiting alone does not help.
func (c Class) Lasting() bool { return c == Credential || c == Configuration || c == Refused }

// Classes returns every class, for metrics that start at zero.
func Classes() []Class {
	return []Class{Success, Throttled, Transient, Credential, Configuration, Refused}
}

// Refusal has the facts about an answer without a token.
type Refusal struct {
	Status     int    // the HTTP status; 0 without an answer
	Error      string // error of RFC 6749, 5.2; "" if the body has none
	Codes      []int  // AADSTS numbers, Entra's refinement
	RetryAfter bool   // whether it has a readable Retry-After
	Words      string // the server's other text
}

// Classify returns the class of a refusal: by HTTP status first, then by error, then refined by
// Entra's numbers. A Retry-After turns a server error into a request to wait, but a refusal with one is still a
// refusal.
func Classify(r Refusal) Class {
	switch {
	case r.Status == 429, r.RetryAfter && r.Status >= 500:
		return Throttled
	case r.Status == 0 || r.Status == 408 || r.Status >= 500:
		return Transient
	}
	if advice, known := r.Advice(); known {
		return advice.Class
	}
	switch {
	case r.Status == 401: // RFC 6749, 5.2: failed client authentication, whatever the error
		return Credential
	case r.Error != "":
		return byError(r.Error)
	case r.RetryAfter:
		return Throttled
	case r.refusesEndpoint():
		return Configuration
	}
	return Transient // an unreadable answer proves nothing permanent
}

// refusesEndpoint reports whether an answer without an OAuth error is a refusal and not an outage: there is no token
// endpoint, only a person can open it to this client, or the server refuses in its own words.
func (r Refusal) refusesEndpoint() bool {
	switch {
	case r.Error != "" || r.Status == 425 || r.Status == 499: // too early; client closed the connection
		return false
	case r.Status >= 300 && r.Status < 400: // never followed, because the credential would go with it
		return true
	}
	switch r.Status {
	case 403, 404, 405, 406, 410, 415:
		return true
	}
	return r.Words != "" && r.Status >= 400
}

// byError follows RFC 6749, 5.2, RFC 8707, 2 and OpenID Connect, and knows some servers' own codes for the same
// errors.
func byError(name string) Class {
	switch name {
	case "invalid_client", "invalid_grant", "invalid_client_assertion",
		"invalid_client_id", "invalid_client_secret", "invalid_client_credentials", "invalid_credentials":
		return Credential
	case "temporarily_unavailable", "server_error", "slow_down",
		"internal_error", "internal_failure", "internal_server_error", "service_unavailable",
		"too_many_requests", "rate_limit_exceeded":
		return Transient
	case "access_denied", "interaction_required", "consent_required", "login_required":
		return Refused
	}
	return Configuration
}

// ClientWide reports whether the failure concerns every token of the client, or only the requested one.
func (r Refusal) ClientWide() bool {
	class := Classify(r)
	if advice, known := r.Advice(); known && class.Lasting() {
		return advice.ClientWide
	}
	return class == Throttled || class == Transient || class == Credential || r.refusesEndpoint()
}

// RefusesClient reports whether the server refuses the credential or the client, rather than what the client asked
// for.
func (r Refusal) RefusesClient() bool {
	switch Classify(r) {
	case Credential, Refused:
		return true
	case Configuration:
		advice, known := r.Advice()
		return r.Error == "unauthorized_client" || known && advice.ClientWide
	}
	return false
}
