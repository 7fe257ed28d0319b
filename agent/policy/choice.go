package policy

// Choice tells which of a client's two credentials is in use. It is a value; the methods return the
// next one. The zero value is the first credential.
type Choice struct {
	Fallback bool // the fallback is in use
	Spent    bool // the fallback was refused too, since the last change
}

// Refused records that the credential in use was refused. The fallback is tried at once, but only once: if it is
// refused too, the slow probes alternate, until either changes.
func (c Choice) Refused() (next Choice, atOnce bool) {
	if c.Fallback {
		return Choice{Spent: true}, false
	}
	return Choice{Fallback: true, Spent: c.Spent}, !c.Spent
}

// Accepted records that the credential in use was accepted.
func (c Choice) Accepted() Choice { return Choice{Fallback: c.Fallback} }

// FallbackChanged records that the fallback has been replaced. If both had been refused, it is next.
func (c Choice) FallbackChanged() Choice { return Choice{Fallback: c.Fallback || c.Spent} }
