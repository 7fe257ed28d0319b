// Command bench runs the benchmarks in which credagent stands beside something simpler, prints one
// table of them, and says what has become worse since a recorded run. It is a module of its own, so
// that credagent does not depend on what it reads benchmarks with.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

const (
	recordName   = "bench/recorded.txt"
	documentName = "docs/performance.md"
)

// errWorse says that something became worse; what, is printed.
var errWorse = errors.New("worse than recorded")

// options are what a developer asks for.
type options struct {
	root    string
	rounds  int
	only    *regexp.Regexp
	record  bool
	compare bool
}

func main() {
	o := options{}
	only := ""
	flag.StringVar(&o.root, "root", "..", "the root of the checkout")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each benchmark is run")
	flag.StringVar(&only, "only", "", "run only benchmarks whose names match this regular expression")
	flag.BoolVar(&o.record, "record", false, "record what is measured, and show it in "+documentName)
	flag.BoolVar(&o.compare, "compare", false, "say what has become worse than recorded, by more than noise")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(only); err == nil {
		err = o.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context) error {
	groups := chosen(plan, o.only)
	if len(groups) == 0 {
		return fmt.Errorf("no benchmark matches %q", o.only)
	}
	printed, err := measure(ctx, o.root, groups, o.rounds)
	if err != nil {
		return err
	}
	measured, err := read(bytes.NewReader(printed), "what was measured")
	if err != nil {
		return err
	}
	table(os.Stdout, groups, measured)
	if o.compare {
		if err := o.compared(groups, measured); err != nil {
			return err
		}
	}
	if o.record {
		return o.save(printed, groups)
	}
	return nil
}

// chosen are the groups whose benchmark matches.
func chosen(groups []group, only *regexp.Regexp) []group {
	var some []group
	for _, g := range groups {
		if only.MatchString(g.benchmark) {
			some = append(some, g)
		}
	}
	return some
}

func (o options) compared(groups []group, measured results) error {
	recorded, err := readFile(filepath.Join(o.root, recordName))
	if err != nil {
		return err
	}
	all := worse(groups, recorded, measured)
	for _, line := range all {
		fmt.Println(line)
	}
	if len(all) > 0 {
		return errWorse
	}
	fmt.Println("Nothing is worse than recorded.")
	return nil
}

// save records what was measured, in place of what was recorded of the same benchmarks.
func (o options) save(printed []byte, groups []group) error {
	path := filepath.Join(o.root, recordName)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	kept := without(old, groups)
	if err := os.WriteFile(path, append(kept, printed...), 0o644); err != nil {
		return err
	}
	recorded, err := readFile(path)
	if err != nil {
		return err
	}
	document := filepath.Join(o.root, documentName)
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	shown, err := showIn(string(text), recorded)
	if err != nil {
		return err
	}
	return os.WriteFile(document, []byte(shown), 0o644)
}

// without leaves the lines of the groups out.
func without(record []byte, groups []group) []byte {
	var kept []byte
	pkg := ""
	for line := range bytes.Lines(record) {
		if name, heads := bytes.CutPrefix(line, []byte("pkg: ")); heads {
			pkg = string(bytes.TrimSpace(name))
		}
		measuredAgain := false
		for _, g := range groups {
			measuredAgain = measuredAgain || g.pkg == pkg && bytes.HasPrefix(line, []byte("Benchmark"+g.benchmark+"/"))
		}
		if !measuredAgain {
			kept = append(kept, line...)
		}
	}
	return kept
}

func readFile(path string) (results, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(file, path)
}

// The table stands between these in the document.
const (
	tableBegins = "<!-- the table of make bench -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

// showIn puts the table of a record in the place of the document's.
func showIn(document string, recorded results) (string, error) {
	before, rest, begins := strings.Cut(document, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	if !begins || !ends {
		return "", fmt.Errorf("%s has no place for the table", documentName)
	}
	var text strings.Builder
	table(&text, plan, recorded)
	return before + tableBegins + "\n" + text.String() + "\n" + tableEnds + after, nil
}
