package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// TestCommittedDiagramsAreDrawn compares what is committed with what make diagrams would write.
func TestCommittedDiagramsAreDrawn(t *testing.T) {
	for name, want := range diagrams() {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what is drawn: run make diagrams, and look at it", name)
		}
	}
}

// TestDiagramsStandAlone looks for what a picture in a README needs: it is well-formed, has a title
// and a description, a look in the dark, and nothing from anywhere else.
func TestDiagramsStandAlone(t *testing.T) {
	for name, text := range diagrams() {
		decoder := xml.NewDecoder(strings.NewReader(text))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, part := range []string{"<title ", "<desc ", "prefers-color-scheme: dark", `class="page"`} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s", name, part)
			}
		}
		for _, part := range []string{"href=", "@import", "<script", "src="} {
			if strings.Contains(text, part) {
				t.Errorf("%s has %s", name, part)
			}
		}
	}
}

func TestWriteSaysWhere(t *testing.T) {
	if err := write("missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("writing into a missing directory: %v", err)
	}
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(diagrams()) {
		t.Errorf("%d files were written, want %d: %v", len(entries), len(diagrams()), err)
	}
}
