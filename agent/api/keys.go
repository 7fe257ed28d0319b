package api

// The keys of log attributes. They are those of package agent.
const (
	keyStatus        = "status"
	keyError         = "error"
	keyCorrelationID = "correlation_id"
)
