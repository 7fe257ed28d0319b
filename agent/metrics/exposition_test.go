package metrics

import (
	"bytes"
	"errors"
	"testing"
)

func TestExposition(t *testing.T) {
	var text bytes.Buffer
	e := newExposition(&text)
	e.begin(family{"empty", "Not shown.", gauge, []string{"token"}})
	out := e.begin(family{"shown", "Two labels.", counter, []string{"token", "outcome"}})
	out.add(3, "a", "success")
	out.add(0.25, "b \\ \"c\"\nd é", "failed")
	out.add(1790000000, "e", "")
	out.add(1790000000.123, "f", "")
	out.add(-1, "g", "")
	out.add(1e300, "h", "")
	if err := e.end(); err != nil {
		t.Fatal(err)
	}
	const want = `# HELP shown Two labels.
# TYPE shown counter
shown{token="a",outcome="success"} 3
shown{token="b \\ \"c\"\nd é",outcome="failed"} 0.25
shown{token="e",outcome=""} 1790000000
shown{token="f",outcome=""} 1.790000000123e+09
shown{token="g",outcome=""} -1
shown{token="h",outcome=""} 1e+300
`
	if text.String() != want {
		t.Errorf("wrote\n%s\nwant\n%s", &text, want)
	}
}

func TestExpositionTellsWhatWentWrong(t *testing.T) {
	e := newExposition(gone{})
	e.begin(family{"shown", "One label.", counter, []string{"token"}}).add(1, "a")
	if err := e.end(); !errors.Is(err, errGone) {
		t.Errorf("end() = %v", err)
	}
}

var errGone = errors.New("gone")

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errGone }
