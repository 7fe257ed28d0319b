package examples_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testName = regexp.MustCompile(`^Test[A-Z]\w+$`)

// TestTestsNamedInTheDocumentsExist looks for every test that docs/resilience.md names, and for a
// test in every row of its tables.
func TestTestsNamedInTheDocumentsExist(t *testing.T) {
	const document = "docs/resilience.md"
	there := testFunctions(t)
	named := 0
	for _, name := range codes(read(t, document)) {
		if !testName.MatchString(name) {
			continue
		}
		named++
		if !there[name] {
			t.Errorf("%s names %s, but there is no such test", document, name)
		}
	}
	if named == 0 {
		t.Errorf("%s names no test", document)
	}
	for _, head := range []string{"advice", "fault"} {
		for _, row := range table(t, document, head) {
			if !strings.Contains(row[len(row)-1], "`Test") {
				t.Errorf("%s: no test shows %q", document, row[0])
			}
		}
	}
}

// testFunctions returns the names of all tests of the module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil {
				names[function.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
