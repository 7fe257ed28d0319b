package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/demo"
)

// lifeWidth is how many characters show a token's life.
const lifeWidth = 24

// The control sequences of ECMA-48 that every terminal knows.
const (
	clearScreen = "\x1b[H\x1b[2J"
	goHome      = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
	plain       = "\x1b[0m"
	bold        = "\x1b[1m"
	red         = "\x1b[31m"
	green       = "\x1b[32m"
	yellow      = "\x1b[33m"
)

// display shows a status: to a person with a terminal in colors, and again and again in the same
// place; to everything else as plain text.
type display struct {
	out    io.Writer
	screen *demo.Screen // nil where there is none
	watch  bool
	shown  int
}

// cell is a piece of text with a color.
type cell struct{ text, color string }

// show shows one snapshot.
func (d *display) show(s status.Status) error {
	lines := statusLines(s, d.screen != nil)
	var text strings.Builder
	switch {
	case !d.watch || d.screen == nil:
		if d.shown > 0 {
			text.WriteByte('\n')
		}
		for _, l := range lines {
			text.WriteString(strings.TrimRight(d.paint(l, -1), " ") + "\n")
		}
	default:
		width, height := d.screen.Size()
		text.WriteString(map[bool]string{true: clearScreen, false: goHome}[d.shown == 0])
		for _, l := range lines[:min(len(lines), max(0, height-1))] {
			text.WriteString(d.paint(l, width) + eraseLine + "\n")
		}
		text.WriteString(eraseBelow)
	}
	d.shown++
	_, err := io.WriteString(d.out, text.String())
	return err
}

// paint joins cells to a line of a width at most; a negative one does not matter. Whatever was
// answered, no control character reaches a terminal.
func (d *display) paint(line []cell, width int) string {
	var text strings.Builder
	for _, c := range line {
		r := []rune(strings.Map(visible, c.text))
		if width >= 0 {
			r = r[:min(len(r), width)]
			width -= len(r)
		}
		if c.color == "" || len(r) == 0 || d.screen == nil || !d.screen.Color {
			text.WriteString(string(r))
			continue
		}
		text.WriteString(c.color + string(r) + plain)
	}
	return text.String()
}

func visible(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// statusLines are the lines of a snapshot. On a screen, lives are drawn with the characters for it.
func statusLines(s status.Status, drawn bool) [][]cell {
	verdict := cell{"ready", green}
	if !s.Ready {
		verdict = cell{"not ready", red}
	}
	lines := [][]cell{{{"credagent " + s.Version + ", " + s.Source + ": ", ""}, verdict, {", " + tally(s.Brief()), ""}}}
	for _, reason := range s.NotReady {
		lines = append(lines, []cell{{"    " + reason, red}})
	}
	for _, t := range [][][]cell{tokenRows(s, drawn), clientRows(s), sinkRows(s)} {
		if len(t) > 1 {
			lines = append(append(lines, nil), table(t)...)
		}
	}
	if trouble := troubleLines(s); len(trouble) > 0 {
		lines = append(append(lines, nil), trouble...)
	}
	return lines
}

func tokenRows(s status.Status, drawn bool) [][]cell {
	rows := [][]cell{heads("TOKEN", "CLIENT", "VALID", "LIFE", "EXPIRES IN", "NEXT REQUEST", "LAST OUTCOME", "FAILURES")}
	for _, t := range s.Tokens {
		color := map[status.Phase]string{status.PhaseGood: green, status.PhaseFailing: yellow}[t.Phase()]
		if !t.Valid {
			color = red
		}
		rows = append(rows, []cell{
			{t.Name, ""}, {t.Client, ""}, {yesNo(t.Valid), color}, {life(s, t, drawn), color}, {until(s.Now, t.Expiry), ""},
			{plan(s, t), ""}, {dash(t.LastOutcome), ""}, {fmt.Sprint(t.ConsecutiveFailures), ""},
		})
	}
	return rows
}

// life draws what has passed of a token's life, with marks for now and for the next request.
func life(s status.Status, t status.Token, drawn bool) string {
	if t.Phase() == status.PhaseNone {
		return "-"
	}
	past, now, ahead, mark, after := '=', '>', '-', '|', '.'
	if drawn {
		past, now, ahead, mark, after = '━', '●', '─', '┃', '┄'
	}
	_, next := s.Next(t)
	at := func(share float64) int { return min(lifeWidth-1, int(share*lifeWidth)) }
	here, there := at(t.Share(s.Now)), at(t.Share(next))
	cells := make([]rune, lifeWidth)
	for i := range cells {
		switch {
		case i < here:
			cells[i] = past
		case i == here:
			cells[i] = now
		case i < there:
			cells[i] = ahead
		case i == there:
			cells[i] = mark
		default:
			cells[i] = after
		}
	}
	return "[" + string(cells) + "]"
}

// plan says when a token's next request is made, and what for if not to refresh it.
func plan(s status.Status, t status.Token) string {
	next, at := s.Next(t)
	wait := "in " + status.Span(at.Sub(s.Now))
	switch next {
	case status.NextDue:
		wait = "now"
	case status.NextThrottled:
		return wait + ", held back by the server"
	case status.NextRetry:
		return wait + ", trying again"
	}
	if t.ChallengePending {
		return wait + ", answering a claims challenge"
	}
	return wait
}

func clientRows(s status.Status) [][]cell {
	rows := [][]cell{heads("CLIENT", "GATE", "CREDENTIAL", "IN USE", "PROVIDER", "NOT AFTER", "TOKEN ENDPOINT")}
	for _, c := range s.Clients {
		for _, credential := range c.Credentials {
			rows = append(rows, []cell{
				{c.Name, ""}, gate(s.Now, c.Gate), {credential.Name, ""}, {yesNo(credential.InUse), ""},
				{credential.Provider, ""}, end(s.Now, credential), {dash(c.TokenEndpoint), ""},
			})
		}
	}
	return rows
}

func gate(now time.Time, g status.Gate) cell {
	switch {
	case g.BlockedUntil != nil && g.BlockedUntil.After(now):
		return cell{"closed by the server for " + until(now, g.BlockedUntil), red}
	case g.RetryAt != nil && g.RetryAt.After(now):
		return cell{"backing off for " + until(now, g.RetryAt), yellow}
	}
	return cell{"open", green}
}

func sinkRows(s status.Status) [][]cell {
	rows := [][]cell{heads("SINK", "TOKENS", "HOLDS", "LAST WRITTEN", "NEXT TRY")}
	for _, k := range s.Sinks {
		color := green
		if !k.Holds {
			color = red
		}
		rows = append(rows, []cell{
			{k.Path, ""}, {strings.Join(k.Tokens, ","), ""}, {yesNo(k.Holds), color}, {ago(s.Now, k.LastSuccess), ""}, {until(s.Now, k.RetryAt), ""},
		})
	}
	return rows
}

// troubleLines are the last errors, with what to do about them.
func troubleLines(s status.Status) [][]cell {
	var lines [][]cell
	if r := s.Reload; r != nil && !r.Successful {
		lines = append(lines, []cell{{fmt.Sprintf("the configuration was not reloaded %s, the running one stays: %s", ago(s.Now, &r.At), r.Error), ""}})
	}
	for _, t := range s.Tokens {
		if t.LastError != "" {
			lines = append(lines, []cell{{fmt.Sprintf("token %s, %s: %s", t.Name, ago(s.Now, t.LastErrorAt), t.LastError), ""}})
		}
		if t.Advice != "" {
			lines = append(lines, []cell{{"    hint: " + t.Advice, ""}})
		}
	}
	for _, c := range s.Clients {
		if clocks := c.Clocks(); clocks != "" {
			lines = append(lines, []cell{{fmt.Sprintf("client %s, clocks: %s", c.Name, clocks), ""}})
		}
		for _, credential := range c.Credentials {
			if credential.Problem != "" {
				lines = append(lines, []cell{{fmt.Sprintf("client %s, %s credential: %s", c.Name, credential.Name, credential.Problem), ""}})
			}
		}
	}
	for _, k := range s.Sinks {
		if k.LastError != "" {
			lines = append(lines, []cell{{fmt.Sprintf("sink, %s: %s", ago(s.Now, k.LastErrorAt), k.LastError), ""}})
		}
		if hook := k.OnChange; hook != nil && hook.LastError != "" {
			lines = append(lines, []cell{{fmt.Sprintf("on_change of %s, %s: %s: %s", k.Path, ago(s.Now, hook.LastRun), hook.LastAction, hook.LastError), ""}})
		}
	}
	return lines
}

func heads(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		row[i] = cell{name, bold}
	}
	return row
}

// table makes the columns of rows as wide as they have to be.
func table(rows [][]cell) [][]cell {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	lines := make([][]cell, len(rows))
	for n, row := range rows {
		for i, c := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2)
			lines[n] = append(lines[n], c, cell{text: gap})
		}
	}
	return lines
}

// tally counts the tokens.
func tally(b status.Brief) string {
	text := fmt.Sprintf("%d of %d tokens valid", b.Valid, b.Tokens)
	if b.Next.After(b.Now) {
		text += ", next request in " + status.Span(b.Next.Sub(b.Now))
	}
	return text
}

// summary is the state in one line, for the service manager.
func summary(b status.Brief) string {
	text := tally(b)
	if !b.Ready {
		text += ", not ready: " + strings.Join(b.NotReady[:min(3, len(b.NotReady))], ", ")
	}
	return text
}

func until(now time.Time, at *time.Time) string {
	if at == nil || !at.After(now) {
		return "-"
	}
	return status.Span(at.Sub(now))
}

func ago(now time.Time, at *time.Time) string {
	if at == nil {
		return "never"
	}
	return status.Span(now.Sub(*at)) + " ago"
}

// end is the end of a credential.
func end(now time.Time, c status.Credential) cell {
	if c.NotAfter == nil {
		return cell{"-", ""}
	}
	day := c.NotAfter.Format(time.DateOnly)
	switch {
	case !c.NotAfter.After(now):
		return cell{day + ", over", red}
	case c.EndsSoon:
		return cell{day + ", in " + until(now, c.NotAfter), yellow}
	}
	return cell{day + ", in " + until(now, c.NotAfter), ""}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
