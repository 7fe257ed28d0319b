package policy

// Class is what kind of outcome a token request had. The zero value is success.
type Class int

// The classes.
const (
	Success       Class = iota
	Throttled           // the server asked for time
	Transient           // waiting may help
	Credential          // the client's credential was refused or cannot be used
	Configuration       // the request asks for something that is not there
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

// Refusal is what there is to know of an answer that brought no token.
type Refusal struct {
	Status     int    // the HTTP status; 0 where there was no answer
	Error      string // error of RFC 6749, 5.2; "" where the body is not such an answer
	Codes      []int  // AADSTS numbers, Entra's refinement
	RetryAfter bool   // whether it carries a Retry-After that can be read
	Words      string // what else the server says
}

// Classify returns the class of a refusal: by HTTP status first, then by error, then refined by
// Entra's numbers. A Retry-After makes a fault of the server's a request to wait, but a refusal that
// carries one stays a refusal.
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
	case r.Status == 401: // RFC 6749, 5.2: for a failed client authentication, whatever word comes with it
		return Credential
	case r.Error != "":
		return byError(r.Error)
	case r.RetryAfter:
		return Throttled
	case r.refusesEndpoint():
		return Configuration
	}
	return Transient // an answer that cannot be read says nothing lasting
}

// refusesEndpoint reports whether the answer, without an OAuth error, is no outage: there is no token
// endpoint, nobody but a person can open it to this client, or the server refuses in words of its own.
func (r Refusal) refusesEndpoint() bool {
	switch {
	case r.Error != "" || r.Status == 425 || r.Status == 499: // too early; this side had closed the connection
		return false
	case r.Status >= 300 && r.Status < 400: // never followed, as the credential would go along
		return true
	}
	switch r.Status {
	case 403, 404, 405, 406, 410, 415:
		return true
	}
	return r.Words != "" && r.Status >= 400
}

// byError follows RFC 6749, 5.2, RFC 8707, 2 and OpenID Connect, with the words of servers that have
// their own for the same.
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

// ClientWide reports whether a failure of this class concerns every token of the client, or only
// the one that was asked for.
func (r Refusal) ClientWide() bool {
	class := Classify(r)
	if advice, known := r.Advice(); known && class.Lasting() {
		return advice.ClientWide
	}
	return class == Throttled || class == Transient || class == Credential || r.refusesEndpoint()
}

// RefusesClient reports whether it is the credential or the client that the server does not
// accept, rather than what the client asked for.
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
