package examples_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
)

// table returns the rows of all tables of a document whose first column is headed so. A row is
// its cells.
func table(t *testing.T, name, head string) [][]string {
	t.Helper()
	var rows [][]string
	inside := false
	for line := range strings.Lines(read(t, name)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case cells[0] == head:
			inside = true
		case inside && strings.Trim(cells[0], "-") != "":
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table that begins with %q", name, head)
	}
	return rows
}

var code = regexp.MustCompile("`([^`]+)`")

// names returns what stands as code in the first cells.
func names(rows [][]string) []string {
	var all []string
	for _, row := range rows {
		all = append(all, codes(row[0])...)
	}
	return all
}

func codes(cell string) []string {
	var all []string
	for _, match := range code.FindAllStringSubmatch(cell, -1) {
		all = append(all, match[1])
	}
	return all
}

// same compares what the program has with what is documented.
func same(t *testing.T, what string, program, documented []string) {
	t.Helper()
	for _, name := range program {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: %s is not documented", what, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(program, name) {
			t.Errorf("%s: %s is documented, but the program does not have it", what, name)
		}
	}
	if len(program) == 0 {
		t.Errorf("%s: the program has none", what)
	}
}

// shape is the part of a JSON Schema that names keys.
type shape struct {
	Properties           map[string]shape
	Items                *shape
	AdditionalProperties json.RawMessage
}

func (s shape) keys(path string) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		at := strings.TrimPrefix(path+"."+key, ".")
		all = append(append(all, at), s.Properties[key].keys(at)...)
	}
	if s.Items != nil {
		all = append(all, s.Items.keys(path+"[]")...)
	}
	var values shape
	if json.Unmarshal(s.AdditionalProperties, &values) == nil {
		all = append(all, values.keys(path+".NAME")...)
	}
	return all
}

func TestEveryKeyIsDocumented(t *testing.T) {
	text, _ := run(t, 0, environment(), "schema")
	var schema shape
	if err := json.Unmarshal([]byte(text), &schema); err != nil {
		t.Fatal(err)
	}
	same(t, "keys", schema.keys(""), names(table(t, "docs/configuration.md", "key")))
}

// TestWholeFormatIsValid asks for everything that the format has.
func TestWholeFormatIsValid(t *testing.T) {
	everything := strings.NewReplacer("watch: false", "watch: true", "cae: false", "cae: true").
		Replace(read(t, "agent/config/testdata/full.yaml"))
	if _, err := config.Parse("full.yaml", []byte(everything), func(string) (string, bool) { return "/x", true }); err != nil {
		t.Error(err)
	}
}

func TestEveryVariableIsDocumented(t *testing.T) {
	tag := regexp.MustCompile(`envconfig:"([A-Z0-9_]+)"`)
	variables := []string{"CREDAGENT_CONFIG"}
	for _, match := range tag.FindAllStringSubmatch(read(t, "agent/config/environment.go"), -1) {
		variables = append(variables, match[1])
	}
	same(t, "variables", variables, names(table(t, "docs/configuration.md", "variable")))
}

func TestEveryProviderKeyIsDocumented(t *testing.T) {
	_, sections, _ := strings.Cut(read(t, "docs/providers.md"), "## The built-in providers")
	sections, _, _ = strings.Cut(sections, "\n## ")
	known := regexp.MustCompile(`bogus: unknown key; known are ([a-z0-9_, ]+)`)
	for _, provider := range []string{"secretcred", "certcred", "jwtcred"} {
		t.Run(provider, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, config, strings.NewReplacer("secretcred", provider, "secret_file: /etc/credagent/payments.secret", "bogus: 1").Replace(complete("")))
			_, stderr := run(t, 78, environment(), "validate", "-c", config)
			match := known.FindStringSubmatch(stderr)
			if match == nil {
				t.Fatalf("the provider does not list its keys: %s", stderr)
			}
			_, section, _ := strings.Cut(sections, "### "+provider+"\n")
			section, _, _ = strings.Cut(section, "\n### ")
			for _, key := range strings.Split(strings.TrimSpace(match[1]), ", ") {
				if !strings.Contains(section, "\n| `"+key+"` |") {
					t.Errorf("%s is not documented", key)
				}
			}
		})
	}
}

func TestExitStatusesAreDocumented(t *testing.T) {
	constant := regexp.MustCompile(`(?m)^\texit[A-Z]\w*\s*= (\d+)`)
	var statuses []string
	for _, match := range constant.FindAllStringSubmatch(read(t, "cmd/credagent/exit.go"), -1) {
		statuses = append(statuses, match[1])
	}
	for document, head := range map[string]string{"docs/exit-status.md": "exit status", "docs/operations.md": "status"} {
		var documented []string
		for _, row := range table(t, document, head) {
			documented = append(documented, row[0])
		}
		same(t, document, statuses, documented)
	}
}

func TestEntraNumbersAreDocumented(t *testing.T) {
	number := regexp.MustCompile(`\d{5,7}`)
	var known, documented []string
	for _, line := range strings.Split(read(t, "agent/policy/entra.go"), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "case ") {
			known = append(known, number.FindAllString(line, -1)...)
		}
	}
	for _, row := range table(t, "docs/operations.md", "AADSTS") {
		for _, text := range number.FindAllString(row[0], -1) {
			documented = append(documented, text)
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			advice, ok := policy.Advise([]int{n})
			if got := fmt.Sprintf("`%s` %s", advice.Class, advice.Do); ok && got != row[1]+" "+row[2] {
				t.Errorf("AADSTS%d: documented is %s %s, but it is %s", n, row[1], row[2], got)
			}
		}
	}
	same(t, "AADSTS", known, documented)
}

// TestWaitsAreDocumented compares the table of waits with what policy decides.
func TestWaitsAreDocumented(t *testing.T) {
	ladders := [][2]time.Duration{{policy.MinRetry, policy.MaxRetry}, {policy.MinProbe, policy.MaxProbe}}
	almostOne := math.Nextafter(1, 0)
	for i, row := range table(t, "docs/behaviour.md", "failure in a row") {
		for column, ladder := range ladders {
			least := policy.Backoff(i+1, ladder[0], ladder[1], 0)
			most := policy.Backoff(i+1, ladder[0], ladder[1], almostOne).Round(time.Millisecond)
			if got, want := waits(t, row[column+1]), [2]time.Duration{least, most}; got != want {
				t.Errorf("%s: documented is %q, but the wait is %v to %v", row[0], row[column+1], want[0], want[1])
			}
		}
	}
}

// waits reads "40 s to 2 min".
func waits(t *testing.T, cell string) [2]time.Duration {
	t.Helper()
	var both [2]time.Duration
	least, most, _ := strings.Cut(strings.NewReplacer(" s", "s", " min", "m").Replace(cell), " to ")
	for i, text := range []string{least, most} {
		wait, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("reading %q: %v", cell, err)
		}
		both[i] = wait.Round(time.Millisecond)
	}
	return both
}

func TestLogKeysAreDocumented(t *testing.T) {
	constant := regexp.MustCompile(`(?m)^\t[A-Z]\w+\s*= "(\w+)"`)
	var keys []string
	for _, match := range constant.FindAllStringSubmatch(read(t, "internal/logkey/logkey.go"), -1) {
		keys = append(keys, match[1])
	}
	same(t, "log keys", keys, names(table(t, "docs/operations.md", "key")))
}

// TestLogMessagesAreDocumented compares the events of the agent with the list in the document. An
// event may be chosen before it is logged, so each documented one need only be a string of the
// program.
func TestLogMessagesAreDocumented(t *testing.T) {
	documented := names(table(t, "docs/operations.md", "message"))
	logged, literals := logCalls(t, "agent", "agent/api", "agent/delivery", "agent/gate", "agent/keeper", "agent/provider", "agent/signals", "cmd/credagent", "internal/kubesecret", "internal/supervise")
	for _, message := range logged {
		if !slices.Contains(documented, message) {
			t.Errorf("log message %q is not documented", message)
		}
	}
	for _, message := range documented {
		if !literals[message] {
			t.Errorf("log message %q is documented, but the program does not log it", message)
		}
	}
}

// logCalls returns the messages of calls such as log.Info("…"), and every string of the packages.
func logCalls(t *testing.T, dirs ...string) (messages []string, literals map[string]bool) {
	t.Helper()
	literals = map[string]bool{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			// The demo's server logs for its user, not for the agent's operator.
			if base := filepath.Base(file); strings.HasSuffix(base, "_test.go") || base == "devserver.go" || base == "demo.go" {
				continue
			}
			syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(syntax, func(n ast.Node) bool {
				if text, ok := literal(n); ok {
					literals[text] = true
				}
				if message, ok := logMessage(n); ok {
					messages = append(messages, message)
				}
				return true
			})
		}
	}
	return messages, literals
}

func logMessage(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	switch name := method.Sel.Name; {
	case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name) && len(call.Args) > 0:
		return literal(call.Args[0])
	case name == "LogAttrs" && len(call.Args) > 2:
		return literal(call.Args[2])
	}
	return "", false
}

func literal(n ast.Node) (string, bool) {
	basic, ok := n.(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(basic.Value)
	return text, err == nil
}
