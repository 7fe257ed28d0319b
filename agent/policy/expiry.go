package policy

import "time"

// ExpiryNotice describes how near a credential's end is.
type ExpiryNotice int

// The notices, each nearer than the one before.
const (
	NoNotice ExpiryNotice = iota
	Within30Days
	Within7Days
	WithinADay
	Expired
)

const day = 24 * time.Hour

// NoticeOf returns the notice due for a credential that lives from notBefore to
// notAfter; zero for an instant that is not known. A credential that never lives long, because
// something renews it every hour or week, is not reported by a notice of half its life or more.
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
