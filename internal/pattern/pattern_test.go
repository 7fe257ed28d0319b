package pattern_test

import (
	"slices"
	"testing"

	"github.com/credagent/credagent/internal/pattern"
)

func TestAPatternIsARegularExpression(t *testing.T) {
	p := pattern.New(`^(a+)b$`)
	if !p.MatchString("aab") || p.MatchString("aabb") || !p.Match([]byte("ab")) {
		t.Error("it matches something else")
	}
	if found := p.FindStringSubmatch("aab"); !slices.Equal(found, []string{"aab", "aa"}) {
		t.Errorf("found %q", found)
	}
	if p.String() != `^(a+)b$` {
		t.Errorf("its source is %s", p)
	}
}

func TestAPatternIsCompiledWhenUsed(t *testing.T) {
	broken := pattern.New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a broken pattern was used")
		}
	}()
	broken.MatchString("")
}

func TestMakingAPatternCostsNothingMuch(t *testing.T) {
	if allocations := testing.AllocsPerRun(100, func() { pattern.New(`^[a-z]{0,500}$`) }); allocations > 10 {
		t.Errorf("%v allocations", allocations)
	}
}
