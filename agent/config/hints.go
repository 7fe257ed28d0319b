package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// slip is a common mistake in YAML.
type slip struct {
	looks *regexp.Regexp // how to recognize it
	right string         // its replacement, to test whether it was the mistake
	hint  string
}

// slips returns them in the order in which they are tried in a line.
func slips() []slip {
	re := regexp.MustCompile
	return []slip{
		{re(`^( *)\t\s*`), "$1", "YAML is indented with spaces; there is a tab here"},
		{re(`^(\s*)[\x{00a0}\x{2000}-\x{200b}\x{3000}][\s\x{00a0}\x{2000}-\x{200b}\x{3000}]*`), "$1", "the blanks here are none that YAML knows (from a web page or a word processor?); use spaces"},
		{re(`(:[ \t]+|[\[,][ \t]*|-[ \t]+)(\$\{?[^"'\s,}\]]*\}[^"'\s,}\]]*)`), `${1}"${2}"`, `put it in quotes: "${NAME}"; between { } YAML takes the brace for its own`},
		{re(`(:[ \t]+|[\[,][ \t]*|-[ \t]+)(\$\{[^"'\s,}\]]*)`), `${1}"${2}"`, `close the variable and put it in quotes: "${NAME}"`},
		{re(`(:[ \t]+|-[ \t]+)(\{\{.*)$`), `${1}'${2}'`, `put a template in quotes, or on lines of its own after "template: |"`},
		{re("(:[ \\t]+|[\\[,{][ \\t]*|-[ \\t]+)([@`%][^\\s,}\\]]*)"), `${1}"${2}"`, "put it in quotes: a value does not begin with @, ` or % in YAML"},
		{re(`(:[ \t]+|-[ \t]+)([*&!][^\s"'][^\n]*)$`), `${1}"x"`, "put it in quotes: a value that begins with *, & or ! means something else in YAML"},
		{re(`[“”„]([^“”„]*)[“”„]`), `"$1"`, `use plain quotes: "`},
		{re(`(:[ \t]+)"((?:[^"\\]|\\.)*\\[^"\n](?:[^"\\]|\\.)*)"`), `${1}'x'`, "in double quotes a backslash begins an escape; use single quotes, or two backslashes"},
		{re(`(:[ \t]+)"([^"\n]*)$`), `$1"$2"`, "the quote is not closed in its line"},
		{re(`(:[ \t]+)'([^'\n]*)$`), `$1'$2'`, "the quote is not closed in its line"},
		{re(`(:[ \t]+)("[^"]*"|'[^']*')[ \t]*[^ \t,}\]#\n][^\n]*$`), `$1$2`, "something follows the closing quote; put the whole value in one pair of quotes"},
		{re(`(:[ \t]+)([^"'{\[|>&*!\s][^"'\n]*:[ \t][^\n]*)$`), `$1"x"`, "put a value with a colon and a space in quotes"},
		{re(`(:[ \t]+)([^"'{\[|>&*!\s][^"'\n]*:)$`), `$1"x"`, "put a value that ends in a colon in quotes, or begin a new line"},
		{re(`(:[ \t]*[{\[][^}\]\n]*)$`), `$1}`, "the brace or bracket is not closed"},
		{re(`(:[ \t]*\[[^}\]\n]*)$`), `$1]`, "the brace or bracket is not closed"},
		{re(`^(\s*(?:- )?[A-Za-z_]+):([^\s:/][^\n]*)$`), `$1: $2`, "a space is missing after the colon"},
		{re(`^(\s*(?:- )?[A-Za-z_]+)[ \t]*=[ \t]*([^\n]*)$`), `$1: $2`, "YAML has KEY: VALUE, not KEY = VALUE"},
		{re(`^(\s*)-([A-Za-z{"][^\n]*)$`), `$1- $2`, "a space is missing after the dash"},
		{re(`^(\s*[A-Za-z_]+)[ \t]*$`), `$1:`, "a colon is missing after the key"},
	}
}

// maxLines limits the search, because each try parses the file again.
const maxLines = 400

// findSlip searches a file that is not valid YAML for the mistake, which is often not in the line where the parser
// gave up: it is one whose repair gets the parser further.
func findSlip(data []byte, gaveUp int) (at Position, hint string, found bool) {
	lines := strings.Split(string(data), "\n")
	if len(lines) > maxLines {
		return Position{}, "", false
	}
	before := parsed(data)
	all := slips()
	for i := min(gaveUp, len(lines)-1); i >= max(0, gaveUp-maxLines); i-- {
		if !strings.HasPrefix(strings.TrimSpace(lines[i]), "#") {
			for _, s := range all {
				where := s.looks.FindStringSubmatchIndex(lines[i])
				if where == nil {
					continue
				}
				repaired := strings.Join(lines[:i], "\n") + "\n" + s.looks.ReplaceAllString(lines[i], s.right) + "\n" + strings.Join(lines[i+1:], "\n")
				if i == 0 {
					repaired = strings.TrimPrefix(repaired, "\n")
				}
				if further(parsed([]byte(repaired)), before) {
					return Position{Line: i + 1, Column: column(lines[i], where)}, s.hint, true
				}
			}
		}
	}
	return Position{}, "", false
}

// column returns where the value begins, if the mistake is in a value.
func column(line string, where []int) int {
	at := where[0]
	if len(where) > 3 && where[2] == where[0] && where[3] > 0 && where[3] < len(line) && strings.ContainsAny(line[where[2]:where[3]], ":[,-") && where[2] > 0 {
		at = where[3]
	}
	return len([]rune(line[:at])) + 1
}

// parsed returns the line in which the parser gives up; 0 for a valid file.
func parsed(data []byte) int {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var node yaml.Node
	err := decoder.Decode(&node)
	if err == nil || errors.Is(err, io.EOF) {
		return 0
	}
	return syntaxLine(err)
}

// further reports whether a repair helped: the file is valid, or the error is further down.
func further(after, before int) bool { return after == 0 || after > before+1 }
