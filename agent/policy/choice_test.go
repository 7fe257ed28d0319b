package policy

import (
	"testing"
	"time"
)

func TestChoiceTriesTheFallbackOnceAndKeepsIt(t *testing.T) {
	steps := []struct {
		what   string
		change func(Choice) (Choice, bool)
		want   Choice
		atOnce bool
	}{
		{"the first is refused", Choice.Refused, Choice{Fallback: true}, true},
		{"the fallback is accepted", always(Choice.Accepted), Choice{Fallback: true}, false},
		{"the fallback is accepted again", always(Choice.Accepted), Choice{Fallback: true}, false},
		{"the fallback is refused", Choice.Refused, Choice{Spent: true}, false},
		{"the first is still refused", Choice.Refused, Choice{Fallback: true, Spent: true}, false},
		{"and so is the fallback", Choice.Refused, Choice{Spent: true}, false},
		{"the fallback's files change", always(Choice.FallbackChanged), Choice{Fallback: true}, false},
		{"the fallback is refused", Choice.Refused, Choice{Spent: true}, false},
		{"the first is accepted", always(Choice.Accepted), Choice{}, false},
		{"the fallback's files change", always(Choice.FallbackChanged), Choice{}, false},
	}
	var choice Choice
	for _, step := range steps {
		var atOnce bool
		if choice, atOnce = step.change(choice); choice != step.want || atOnce != step.atOnce {
			t.Fatalf("%s: %+v, at once %v; want %+v, at once %v", step.what, choice, atOnce, step.want, step.atOnce)
		}
	}
}

func always(change func(Choice) Choice) func(Choice) (Choice, bool) {
	return func(c Choice) (Choice, bool) { return change(c), false }
}

func TestNoticeOf(t *testing.T) {
	now := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		life time.Duration // 0 where it is not known
		left time.Duration
		want ExpiryNotice
	}{
		{"a year's certificate, new", 365 * day, 364 * day, NoNotice},
		{"a little more than 30 days", 365 * day, 30*day + time.Second, NoNotice},
		{"30 days", 365 * day, 30 * day, Within30Days},
		{"8 days", 365 * day, 8 * day, Within30Days},
		{"7 days", 365 * day, 7 * day, Within7Days},
		{"1 day", 365 * day, day, WithinADay},
		{"its last second", 365 * day, time.Second, WithinADay},
		{"over", 365 * day, 0, Expired},
		{"long over", 365 * day, -100 * day, Expired},
		{"of 90 days, the last 30", 90 * day, 29 * day, Within30Days},
		{"of 30 days, new", 30 * day, 29 * day, NoNotice},
		{"of 30 days, the last 7", 30 * day, 6 * day, Within7Days},
		{"an assertion of an hour", time.Hour, time.Minute, NoNotice},
		{"an assertion of an hour, over", time.Hour, -time.Minute, Expired},
		{"of unknown life", 0, 6 * day, Within7Days},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			notAfter := now.Add(tc.left)
			notBefore := time.Time{}
			if tc.life != 0 {
				notBefore = notAfter.Add(-tc.life)
			}
			if got := NoticeOf(now, notBefore, notAfter); got != tc.want {
				t.Errorf("notice %d, want %d", got, tc.want)
			}
		})
	}
	if got := NoticeOf(now, time.Time{}, time.Time{}); got != NoNotice {
		t.Errorf("a credential without an end: notice %d", got)
	}
}
