package delivery

import (
	"errors"
	"testing"
)

func TestLatestIsTheLastFailureOfARun(t *testing.T) {
	no := errors.New("no")
	var last *result
	for _, step := range []struct {
		result result
		action string
		err    error
	}{
		{result{run: 1, action: "a"}, "a", nil},
		{result{run: 1, action: "b"}, "b", nil},
		{result{run: 1, action: "c", err: no}, "c", no},
		{result{run: 1, action: "d"}, "c", no},
		{result{run: 2, action: "a"}, "a", nil},
	} {
		if last = latest(last, step.result); last.action != step.action || !errors.Is(last.err, step.err) || last.run != step.result.run {
			t.Errorf("after %+v it is %+v", step.result, last)
		}
	}
}
