package agent

// The keys of log attributes. They are a contract with whoever searches the logs.
const (
	keyToken         = "token"
	keyClient        = "client"
	keySink          = "sink"
	keyProvider      = "provider"
	keyClass         = "class"
	keyError         = "error"
	keyStatus        = "status"
	keyErrorCode     = "error_code"
	keyAADSTS        = "aadsts"
	keyCorrelationID = "correlation_id"
	keyTraceID       = "trace_id"
	keyAdvice        = "advice"
	keyAttempt       = "attempt"
	keyRetryIn       = "retry_in"
	keyRetryAfter    = "retry_after"
	keyExpiry        = "expiry"
	keyRefreshAt     = "refresh_at"
	keyIssuer        = "issuer"
	keyStep          = "step"
	keyCredential    = "credential"
	keyIdentity      = "identity"
	keyNotAfter      = "not_after"
	keyLeft          = "left"
)
