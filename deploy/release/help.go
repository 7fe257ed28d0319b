package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// rootName is the program, whose commands are documented.
const rootName = "credagent"

// command is the content of a command's --help.
type command struct {
	name     string // "credagent run"
	short    string
	long     string
	usage    string
	examples string
	commands [][2]string // a name and what it is for
	flags    [][2]string // a flag with its argument, and what it is for
}

// ask runs the program.
func ask(binary string, args ...string) (string, error) {
	out, err := exec.Command(binary, args...).Output()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w", binary, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// commands returns the program itself and all its commands.
func commands(binary string) ([]command, error) {
	text, err := ask(binary, "--help")
	if err != nil {
		return nil, err
	}
	root, err := parseHelp(rootName, text)
	if err != nil {
		return nil, err
	}
	root.short, _, _ = strings.Cut(strings.TrimPrefix(root.long, "credagent "), ".")
	all := []command{root}
	for _, listed := range root.commands {
		text, err := ask(binary, listed[0], "--help")
		if err != nil {
			return nil, err
		}
		c, err := parseHelp(rootName+" "+listed[0], text)
		if err != nil {
			return nil, err
		}
		c.short = listed[1]
		all = append(all, c)
	}
	return all, nil
}

// parseHelp reads the sections of a help text. One that it does not know is an error, so that
// nothing gets lost on the way to the manual.
func parseHelp(name, text string) (command, error) {
	c := command{name: name}
	text, _, _ = strings.Cut(text, "\nUse \"credagent [command] --help\"")
	long, rest, found := strings.Cut(text, "\nUsage:\n")
	if !found {
		return c, fmt.Errorf("reading the help of %q: it has no usage", name)
	}
	c.long = strings.TrimSpace(long)
	c.usage, rest = section(rest)
	for rest != "" {
		head, body, _ := strings.Cut(rest, "\n")
		body, rest = section(body)
		switch head {
		case "Examples:":
			c.examples = body
		case "Flags:":
			c.flags = pairs(body)
		default: // the program itself has its commands in groups, each with a heading of its own
			if name != rootName {
				return c, fmt.Errorf("reading the help of %q: unknown section %q", name, head)
			}
			c.commands = append(c.commands, pairs(body)...)
		}
	}
	return c, nil
}

// section returns the lines up to an empty one, and what follows.
func section(text string) (body, rest string) {
	body, rest, _ = strings.Cut(text, "\n\n")
	return strings.TrimRight(body, "\n"), strings.TrimLeft(rest, "\n")
}

// pairs reads lines of two columns, which at least two spaces part, or one after the longest command.
func pairs(body string) [][2]string {
	var all [][2]string
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		name, text, parted := strings.Cut(line, "  ")
		if !parted {
			name, text, _ = strings.Cut(line, " ")
		}
		all = append(all, [2]string{name, strings.TrimSpace(text)})
	}
	return all
}
