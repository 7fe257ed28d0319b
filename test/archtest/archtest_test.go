// Package archtest holds the house to its plan: which package may import which, who may call what
// is dangerous, and how large a piece of code may grow. Each rule carries its reason, which is
// shown when it is broken. A package that no rule names is an error: every line of code has a
// room. Rules about imports are for the program; tests may import what they need.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/credagent/credagent"
	root   = "../.."
)

// file is one parsed Go file.
type file struct {
	name      string // from the module's root, with slashes
	dir       string
	test      bool
	generated bool
	syntax    *ast.File
	set       *token.FileSet
}

// program returns the files that are neither tests nor generated.
func program(files []file) []file {
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.test || f.generated })
}

func load(t *testing.T) []file {
	t.Helper()
	var files []file
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && at != root && isForeign(entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(at) != ".go":
			return nil
		}
		f, err := parse(set, at)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no Go files under %s", root)
	}
	return files
}

// isForeign reports whether a directory holds something other than the program's source.
func isForeign(dir string) bool {
	return strings.HasPrefix(dir, ".") || slices.Contains([]string{"testdata", "node_modules", "bin", "dist"}, dir)
}

func parse(set *token.FileSet, at string) (file, error) {
	source, err := os.ReadFile(at)
	if err != nil {
		return file{}, err
	}
	syntax, err := parser.ParseFile(set, at, source, parser.ParseComments)
	if err != nil {
		return file{}, err
	}
	relative, err := filepath.Rel(root, at)
	if err != nil {
		return file{}, err
	}
	name := filepath.ToSlash(relative)
	return file{
		name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(syntax), syntax: syntax, set: set,
	}, nil
}

func (f file) imports(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, spec := range f.syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		paths = append(paths, imported)
	}
	return paths
}

// uses returns the lines where a file mentions a member of an imported package, such as os.Exit.
func (f file) uses(pkg string, members ...string) []int {
	var lines []int
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && x.Name == pkg && slices.Contains(members, selector.Sel.Name) {
			lines = append(lines, f.line(n))
		}
		return true
	})
	return lines
}

func (f file) line(n ast.Node) int { return f.set.Position(n.Pos()).Line }

// isStandard reports whether an import path is the standard library's: its first element is no
// host name.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// within reports whether an import path is a package or below it.
func within(imported, pkg string) bool {
	return imported == pkg || strings.HasPrefix(imported, pkg+"/")
}
