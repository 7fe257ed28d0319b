package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are the values of each benchmark and unit, in the order of the rounds: "sink.Write/by=credagent sec/op".
type results map[string][]float64

// of returns what was measured of a benchmark.
func (r results) of(g group, name, unit string) []float64 {
	if name == "" {
		return nil
	}
	return r[g.pkg+"."+g.benchmark+"/"+name+" "+unit]
}

// read reads what benchmarks printed.
func read(from io.Reader, name string) (results, error) {
	all := results{}
	lines := benchfmt.NewReader(from, name)
	for lines.Scan() {
		switch line := lines.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, line
		case *benchfmt.Result:
			base, parts := line.Name.Parts()
			name := line.GetConfig("pkg") + "." + string(base)
			for _, part := range parts {
				if part[0] == '/' { // else it is the number of processors
					name += string(part)
				}
			}
			for _, v := range line.Values {
				key := name + " " + v.Unit
				all[key] = append(all[key], v.Value)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return all, nil
}

// tests are the test programs of packages, each built once.
type tests struct {
	root, dir string
	built     map[string]string
}

// measure runs the groups in rounds, one after another, so that what comes and goes on the machine
// befalls both sides of a comparison. It returns what was printed.
func measure(ctx context.Context, root string, groups []group, rounds int) ([]byte, error) {
	dir, err := os.MkdirTemp("", "credagent-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	t := tests{root: root, dir: dir, built: map[string]string{}}
	var printed bytes.Buffer
	for round := range rounds {
		for _, g := range groups {
			if g.rounds > 0 && round >= g.rounds {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, g.benchmark)
			if err := t.run(ctx, g, &printed); err != nil {
				return nil, err
			}
		}
	}
	return printed.Bytes(), nil
}

func (t tests) run(ctx context.Context, g group, printed io.Writer) error {
	program, err := t.build(ctx, g.pkg)
	if err != nil {
		return err
	}
	args := append([]string{"-test.run=^$", "-test.bench=^Benchmark" + g.benchmark + "$", "-test.benchmem", "-test.benchtime=" + g.benchtime, "-test.timeout=1h"}, g.args...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Join(t.root, g.pkg)
	out, err := cmd.CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("\nPASS")) {
		err = errors.New("it did not pass")
	}
	if err != nil {
		return fmt.Errorf("running %s of %s: %w\n%s", g.benchmark, g.pkg, err, out)
	}
	fmt.Fprintf(printed, "pkg: %s\n", g.pkg)
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			if _, err := io.WriteString(printed, line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t tests) build(ctx context.Context, pkg string) (string, error) {
	if program, built := t.built[pkg]; built {
		return program, nil
	}
	program := filepath.Join(t.dir, strings.ReplaceAll(pkg, "/", "-")+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./"+pkg)
	cmd.Dir = t.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the tests of %s: %w\n%s", pkg, err, out)
	}
	t.built[pkg] = program
	return program, nil
}
