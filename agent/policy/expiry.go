package policy

import "time"

// ExpiryNotice describes how close a credential is to its expiry.
type ExpiryNotice int

// The notices, each closer than the one before.
const (
	NoNotice ExpiryNotice = iota
	Within30Days
	Within7Days
	WithinADay
	Expired
)

const day = 24 * time.Hour

// NoticeOf returns the notice due for a credential that is valid from notBefore to notAfter; zero for an unknown
// instant. For a short-lived credential, which is renewed every hour or week, a notice of half its lifetime or more
// is omitted.
func NoticeOf(now, notBefore, notAfter time.Time) ExpiryNotice {
	if notAfter.IsZero() {
		return NoNotice
	}
	left, life := notAfter.Sub(now), notAfter.Sub(notBefore)
	notice := NoNotice
	for _, step := range []struct {
		notice ExpiryNotice
		within time.Duration
	}{{Within30Days, 30 * day}, {Within7Days, 7 * day}, {WithinADay, day}, {Expired, 0}} {
		if left <= step.within && (notBefore.IsZero() || life >= 2*step.within) {
			notice = step.notice
		}
	}
	return notice
}
