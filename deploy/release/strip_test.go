package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestStrip strips a program as it is built for a release: it runs, is smaller, and has one symbol, which
// is where it was.
func TestStrip(t *testing.T) {
	dir := t.TempDir()
	source := "package main\n\nimport \"os/signal\"\n\nfunc main() { signal.Reset(); print(\"it runs\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	buildIn(t, dir, path, "-w")
	before, size := symbolsOf(t, path), sizeOf(t, path)
	if err := strip(path); err != nil {
		t.Fatal(err)
	}
	after := symbolsOf(t, path)
	if len(after) != 1 || after[kept] != before[kept] || after[kept] == 0 {
		t.Errorf("symbols are %v, and %s was at %#x", after, kept, before[kept])
	}
	if now := sizeOf(t, path); now > size*19/20 {
		t.Errorf("%d bytes have become %d", size, now)
	}
	if runtime.GOOS == "linux" {
		if out, err := exec.CommandContext(t.Context(), path).CombinedOutput(); err != nil || string(out) != "it runs" {
			t.Errorf("%v: %s", err, out)
		}
	}
	if err := strip(path); err != nil {
		t.Errorf("stripped twice: %v", err)
	}
	buildIn(t, dir, path, "-s -w")
	if err := strip(path); err == nil || !strings.Contains(err.Error(), "build it without -ldflags=-s") {
		t.Errorf("without symbols: %v", err)
	}
}

func buildIn(t *testing.T, dir, to, flags string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags="+flags, "-o", to, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func symbolsOf(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	symbols, err := program.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]uint64{}
	for _, s := range symbols {
		all[s.Name] = s.Value
	}
	return all
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
