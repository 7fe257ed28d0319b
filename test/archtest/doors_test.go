package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// doors is how many exported names of one of agent's packages another one may use: types, functions
// and methods; fields are values. Past fifteen something may be in the wrong room: a larger number has
// its reason, and is not to grow.
var doors = []struct {
	from, to string
	most     int
	reason   string
}{
	{"agent", "agent/gate", 18, "the agent makes and ends clients, has their credentials checked, compared and given up, and asks which files they read"},
	{"agent", "agent/keeper", 20, "the agent makes, starts and ends keepers, and passes on what callers ask of them and signals say"},
	{"agent", "agent/delivery", 15, ""},
	{"agent", "agent/metrics", 16, "the agent counts what happens, and has the counters of what is gone removed"},
	{"agent", "agent/signals", 15, ""},
	{"agent/signals", "agent/metrics", 15, ""},
	{"agent/keeper", "agent/gate", 15, ""},
	{"agent/gate", "agent/exchange", 15, ""},
	{"agent/keeper", "agent/exchange", 15, ""},
	{"agent", "agent/exchange", 15, ""},
	{"agent/gate", "agent/metrics", 15, ""},
	{"agent/keeper", "agent/metrics", 15, ""},
	{"agent/delivery", "agent/metrics", 15, ""},
}

// TestDoorsBetweenAgentsPackages counts what the packages use of each other.
func TestDoorsBetweenAgentsPackages(t *testing.T) {
	exports := exportData(t)
	files := program(load(t))
	for _, d := range doors {
		used := usedNames(t, files, exports, d.from, d.to)
		if len(used) == 0 {
			t.Errorf("%s uses nothing of %s: take the pair out of doors", d.from, d.to)
		}
		if len(used) > d.most {
			t.Errorf("%s uses %d names of %s, want at most %d: %s", d.from, len(used), d.to, d.most, strings.Join(used, ", "))
		}
		if d.most > 15 && d.reason == "" {
			t.Errorf("that %s uses more than 15 names of %s needs a reason", d.from, d.to)
		}
	}
}

// exportData asks the go command where the compiled packages are that agent needs.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-C", root, "-export", "-deps", "-json=ImportPath,Export", "./agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct{ ImportPath, Export string }
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return exports
		} else if err != nil {
			t.Fatal(err)
		}
		exports[pkg.ImportPath] = pkg.Export
	}
}

// usedNames returns the exported names of one package that another one mentions, sorted.
func usedNames(t *testing.T, files []file, exports map[string]string, from, to string) []string {
	t.Helper()
	var syntax []*ast.File
	for _, f := range files {
		if f.dir == from {
			syntax = append(syntax, f.syntax)
		}
	}
	set := files[0].set
	config := types.Config{
		Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }),
		Error:    func(error) {}, // files of other systems declare things twice
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	_, _ = config.Check(module+"/"+from, set, syntax, &info)
	var used []string
	for _, object := range info.Uses {
		if v, ok := object.(*types.Var); ok && v.IsField() {
			continue
		}
		if object.Pkg() != nil && object.Pkg().Path() == module+"/"+to && token.IsExported(object.Name()) {
			used = append(used, qualified(object))
		}
	}
	slices.Sort(used)
	return slices.Compact(used)
}

// qualified is an object's name, with that of its receiver.
func qualified(object types.Object) string {
	if f, ok := object.(*types.Func); ok {
		if recv := f.Signature().Recv(); recv != nil {
			return types.TypeString(recv.Type(), func(*types.Package) string { return "" }) + "." + f.Name()
		}
	}
	return object.Name()
}
