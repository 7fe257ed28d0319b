package policy_test

import (
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestSkew(t *testing.T) {
	received := time.Date(2030, 6, 1, 12, 0, 0, 400_000_000, time.UTC)
	tests := []struct {
		name, date string
		ahead      time.Duration
		ok, far    bool
	}{
		{"none", "", 0, false, false},
		{"unreadable", "noon", 0, false, false},
		{"the same", "Sat, 01 Jun 2030 12:00:00 GMT", 0, true, false},
		{"a little ahead", "Sat, 01 Jun 2030 12:01:00 GMT", time.Minute, true, false},
		{"far ahead", "Sat, 01 Jun 2030 12:10:00 GMT", 10 * time.Minute, true, true},
		{"far behind", "Fri, 31 May 2030 12:00:00 GMT", -24 * time.Hour, true, true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			ahead, ok := policy.Skew(tc.date, received)
			if ahead != tc.ahead || ok != tc.ok || policy.Skewed(ahead) != tc.far {
				t.Errorf("skew %v, %v, too far %v; want %v, %v, %v", ahead, ok, policy.Skewed(ahead), tc.ahead, tc.ok, tc.far)
			}
		})
	}
}

func TestAnOutageOfDaysIsAPageOfLog(t *testing.T) {
	told := 0
	for failures := 1; failures <= 10*24*12; failures++ { // ten days at a probe every five minutes
		if policy.ShouldLog(failures) {
			told++
		}
	}
	if told > 50 || !policy.ShouldLog(1) || !policy.ShouldLog(2) || policy.ShouldLog(5) {
		t.Errorf("%d lines", told)
	}
}
