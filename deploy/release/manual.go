package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeManual writes credagent(1), a page for each command, and credagent.yaml(5).
func writeManual(binary, dir string) error {
	version, err := ask(binary, "version")
	if err != nil {
		return err
	}
	version, _, _ = strings.Cut(version, " (") // the toolchain is no matter of the manual
	all, err := commands(binary)
	if err != nil {
		return err
	}
	for _, c := range all {
		file := filepath.Join(dir, "man1", strings.ReplaceAll(c.name, " ", "-")+".1")
		if err := writeFile(file, c.page(version)); err != nil {
			return err
		}
	}
	schema, err := ask(binary, "schema")
	if err != nil {
		return err
	}
	page, err := configurationPage(version, schema)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "man5", "credagent.yaml.5"), page)
}

func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(content), 0o644)
}

// page is the manual page of a command, in the man macros of roff.
func (c command) page(version string) string {
	var p page
	title := strings.ReplaceAll(c.name, " ", "-")
	p.title(title, "1", version)
	p.section("NAME")
	p.text(title + " - " + lowerFirst(c.short))
	p.section("SYNOPSIS")
	p.verbatim(c.usage)
	p.section("DESCRIPTION")
	p.prose(c.long)
	if len(c.commands) > 0 {
		p.section("COMMANDS")
	}
	for _, listed := range c.commands {
		p.item(c.name+"-"+listed[0]+"(1)", listed[1])
	}
	p.section("OPTIONS")
	for _, flag := range c.flags {
		p.item(flag[0], flag[1])
	}
	p.section("EXAMPLES")
	p.verbatim(c.examples)
	p.section("SEE ALSO")
	p.text("credagent(1), credagent.yaml(5)")
	return p.String()
}

// lowerFirst makes a sentence the description of a page's name.
func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// page is a manual page that is being written.
type page struct{ strings.Builder }

// escaped keeps a text from being taken for roff: a line that begins with a dot or a quote is a
// request, and a hyphen that is meant as a minus is written so.
func escaped(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func (p *page) title(name, section, version string) {
	fmt.Fprintf(p, ".\\\" Generated from the program itself.\n.TH %s %s \"\" %q \"credagent\"\n", escaped(strings.ToUpper(name)), section, escaped(version))
}

func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", name) }

func (p *page) text(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(p, escaped(strings.TrimSuffix(line, "\n")))
	}
}

func (p *page) verbatim(text string) {
	fmt.Fprintln(p, ".nf")
	p.text(text)
	fmt.Fprintln(p, ".fi")
}

func (p *page) item(name, text string) {
	fmt.Fprintln(p, ".TP")
	fmt.Fprintf(p, "\\fB%s\\fR\n", escaped(name))
	p.text(text)
}

// prose is paragraphs, of which indented ones keep their lines.
func (p *page) prose(text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			fmt.Fprintln(p, ".PP")
		}
		if strings.HasPrefix(paragraph, " ") {
			p.verbatim(paragraph)
			continue
		}
		p.text(paragraph)
	}
}
