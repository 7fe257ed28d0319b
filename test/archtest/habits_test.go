package archtest

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxLines      = 60
	maxParameters = 5
	maxMain       = 120
)

// calls are what only a few files may do.
var calls = []struct {
	pkg     string
	members []string
	in      []string // files, or packages
	reason  string
}{
	{"os", []string{"Args", "Exit"}, []string{"cmd/credagent", "docs/images", "examples/embed", "examples/watch-file", "bench/baseline", "bench/baseline/loop", "bench", "deploy/release", "test/sdktest/azidentity", "bench/sidebyside", "bench/sidebyside/loop", "plugins/serve.go"},
		"a library neither reads the command line nor ends the process; plugins.Serve is a provider's whole main function"},
	{"os", []string{"Getenv", "LookupEnv", "Environ"}, []string{
		"agent/config", "agent/delivery/command.go", "agent/provider/start.go", "cmd/credagent", "examples/embed", "internal/host/getent.go", "internal/kubeapi/kubeapi.go", "internal/demo", "testkit/nodetest", "internal/transport/proxy.go", "plugins/serve.go", "plugins/certcred/pair.go", "plugins/secretcred/secretcred.go", "plugins/internal/assertion/sources.go", "plugins/certcred/svid.go",
	}, "the environment is configuration, and what a provider inherits of it is decided in one place"},
	{"time", []string{"Sleep"}, nil, "nothing that waits may be deaf meanwhile: use a timer beside ctx.Done()"},
	{"rand", []string{"Float64"}, []string{"agent", "agent/keeper/recorder.go"}, "jitter is rolled once, by the daemon, and handed to policy"},
}

func TestDangerousCallsStayWhereTheyAreLookedAt(t *testing.T) {
	for _, f := range program(load(t)) {
		for _, rule := range calls {
			if slices.Contains(rule.in, f.dir) || slices.Contains(rule.in, f.name) {
				continue
			}
			for _, line := range f.uses(rule.pkg, rule.members...) {
				t.Errorf("%s:%d uses %s.%s: %s", f.name, line, rule.pkg, strings.Join(rule.members, " or "), rule.reason)
			}
		}
	}
}

func TestPolicyHasNoClock(t *testing.T) {
	for _, f := range program(load(t)) {
		if f.dir != "agent/policy" {
			continue
		}
		for _, line := range f.uses("time", "Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep") {
			t.Errorf("%s:%d looks at the clock: policy is handed the time, so that every decision can be tested", f.name, line)
		}
	}
}

// revealers are the only files that may see what a secret.Value holds.
var revealers = map[string]string{
	"sink/render.go":                           "the file is where the token goes",
	"agent/access.go":                          "who may have the token gets it",
	"agent/keeper/challenge.go":                "a challenge names the token it rejects by its SHA-256",
	"agent/api/header.go":                      "the file is where workloads read the value of the identity header",
	"agent/api/identity.go":                    "the answer is where the token goes, and what a caller sends is compared with the header",
	"agent/api/sidecar.go":                     "the answer is where the token goes",
	"plugins/certcred/encrypted.go":            "the password opens the key",
	"plugins/certcred/pkcs12.go":               "the password opens the key",
	"plugins/pkcs11cred/pin.go":                "the PIN opens the token",
	"plugins/secretcred/secretcred.go":         "the request carries the secret",
	"plugins/jwtcred/jwtcred.go":               "the request carries the assertion",
	"plugins/internal/assertion/jwt.go":        "whether it is a JWT, and until when, shows only in it",
	"plugins/internal/assertion/subject.go":    "the request carries the subject token, unless it cannot be a token",
	"plugins/internal/assertion/kubernetes.go": "the pod's own token asks for another one",
	"agent/store/wire.go":                      "the file is encrypted, and a restart needs the token",
	"cmd/credagent/keygen.go":                  "the new key is what was asked for",
	"internal/setup/make.go":                   "the secret is written to the file that a provider reads",
	"internal/demo/serve.go":                   "the secret is written to a file for who tries the server",
	"internal/demo/world.go":                   "the demo writes its own credential, which a provider then reads",
	"internal/devserver/authenticate.go":       "the server compares the secret with the one it is sent",
	"agent/delivery/command.go":                "what a command prints is searched for the token",
	"agent/signals/link.go":                    "the token authorizes the stream's requests, and what the transmitter says is searched for it",
	"agent/gate/client.go":                     "what a server says is searched for the token",
	"plugins/internal/credfile/credfile.go":    "a secret is searched for what no secret holds",
}

func TestSecretsAreRevealedWhereTheyAreUsed(t *testing.T) {
	revealed := map[string]bool{}
	for _, f := range program(load(t)) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok || selector.Sel.Name != "Reveal" {
				return true
			}
			revealed[f.name] = true
			if revealers[f.name] == "" {
				t.Errorf("%s:%d reveals a secret; only those files may that put it where it belongs: add it to revealers with its reason", f.name, f.line(n))
			}
			return true
		})
	}
	for name := range revealers {
		if !revealed[name] {
			t.Errorf("%s reveals nothing any more: take it out of revealers", name)
		}
	}
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	documented, generated := map[string][]string{}, map[string]bool{}
	for _, f := range load(t) {
		if _, seen := documented[f.dir]; !seen {
			documented[f.dir], generated[f.dir] = nil, true
		}
		generated[f.dir] = generated[f.dir] && f.generated
		if f.syntax.Doc != nil {
			documented[f.dir] = append(documented[f.dir], f.name)
		}
	}
	for dir, files := range documented {
		if len(files) != 1 && !generated[dir] {
			t.Errorf("package %s has %d doc comments %v, want one that says what it owns, what it promises and one caveat", dir, len(files), files)
		}
	}
}

func TestNoInit(t *testing.T) {
	for _, f := range program(load(t)) {
		for _, function := range functions(f) {
			if function.Recv == nil && function.Name.Name == "init" {
				t.Errorf("%s:%d has an init function: importing a package must do nothing", f.name, f.line(function))
			}
		}
	}
}

func TestFunctionsStaySmall(t *testing.T) {
	for _, f := range load(t) {
		if f.generated {
			continue
		}
		for _, function := range functions(f) {
			length := f.set.Position(function.End()).Line - f.line(function) + 1
			if length > maxLines {
				t.Errorf("%s:%d: %s has %d lines, want at most %d", f.name, f.line(function), function.Name.Name, length, maxLines)
			}
			if n := function.Type.Params.NumFields(); n > maxParameters {
				t.Errorf("%s:%d: %s has %d parameters, want at most %d", f.name, f.line(function), function.Name.Name, n, maxParameters)
			}
		}
	}
}

func TestMainIsShort(t *testing.T) {
	for _, f := range load(t) {
		if f.name != "cmd/credagent/main.go" {
			continue
		}
		if n := f.set.Position(f.syntax.End()).Line; n > maxMain {
			t.Errorf("%s has %d lines, want at most %d: a command has a file of its own", f.name, n, maxMain)
		}
		return
	}
	t.Error("there is no cmd/credagent/main.go")
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range load(t) {
		if !f.test {
			continue
		}
		for _, line := range f.uses("time", "Sleep") {
			t.Errorf("%s:%d sleeps: wait for what is expected, or use testing/synctest", f.name, line)
		}
	}
}

// TestScriptsSayWhyTheySkip: the output of a run has to show what was skipped, and what it needs.
func TestScriptsSayWhyTheySkip(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root, "cmd/credagent/testdata/script/*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if line = strings.TrimSpace(line); line == "skip" || strings.HasPrefix(line, "[") && strings.HasSuffix(line, "] skip") {
				t.Errorf("%s:%d skips without a reason: write it behind, in quotes", script, i+1)
			}
		}
	}
}

// TestMakefileKnowsEveryModule: its targets loop over one list.
func TestMakefileKnowsEveryModule(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(makefile), "\nMODULES := ")
	list, _, _ = strings.Cut(list, "\n")
	listed := strings.Fields(strings.ReplaceAll(list, "$(PKCS11)", "plugins/pkcs11cred"))
	var found []string
	err = filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && at != root && isForeign(entry.Name()):
			return filepath.SkipDir
		case entry.Name() != "go.mod":
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(at))
		found = append(found, filepath.ToSlash(dir))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	slices.Sort(listed)
	if !slices.Equal(found, listed) {
		t.Errorf("the modules are %v, but the Makefile lists %v", found, listed)
	}
}

func functions(f file) []*ast.FuncDecl {
	var all []*ast.FuncDecl
	for _, declaration := range f.syntax.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok {
			all = append(all, function)
		}
	}
	return all
}
