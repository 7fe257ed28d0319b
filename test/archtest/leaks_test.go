package archtest

import (
	"go/ast"
	"slices"
	"testing"
)

// apart are programs in modules of their own, which stand for users'.
var apart = []string{"test/sdktest/azidentity"}

// TestPackagesThatStartGoroutinesLookForLeaks: a package that starts goroutines has to test that they end.
func TestPackagesThatStartGoroutinesLookForLeaks(t *testing.T) {
	starts, looks := map[string]string{}, map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			looks[f.dir] = looks[f.dir] || slices.Contains(f.imports(t), module+"/testkit/leaktest")
		} else if startsGoroutines(f) && !slices.Contains(f.imports(t), "testing") { // helpers of tests run in those
			starts[f.dir] = f.name
		}
	}
	if len(starts) == 0 {
		t.Error("nothing starts a goroutine")
	}
	for dir, name := range starts {
		if !looks[dir] && !slices.Contains(apart, dir) {
			t.Errorf("%s starts goroutines, but no test of %s looks for those that are left: add a TestMain with leaktest.Main", name, dir)
		}
	}
}

// startsGoroutines finds go statements, and calls of Go, such as those of a sync.WaitGroup.
func startsGoroutines(f file) bool {
	found := false
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = true
		case *ast.CallExpr:
			selector, ok := n.Fun.(*ast.SelectorExpr)
			found = found || ok && selector.Sel.Name == "Go"
		}
		return !found
	})
	return found
}
