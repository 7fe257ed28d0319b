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

// lifeWidth is the width of a token's lifetime bar in characters.
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

// display shows a status: on a terminal in colors, and redrawn in place; elsewhere as plain text.
type display struct {
	out    io.Writer
	screen *demo.Screen // nil if there is none
	watch  bool
	raw    bool // the terminal does not add carriage returns
	shown  int
}

// cell is a piece of text with a color.
type cell struct{ text, color string }

// show shows one snapshot.
func (d *display) show(s status.Status) error {
	var text strings.Builder
	if !d.watch || d.screen == nil {
		if d.shown > 0 {
			text.WriteByte('\n')
		}
		for _, l := range statusLines(s, d.screen != nil) {
			text.WriteString(strings.TrimRight(d.paint(l, -1), " ") + "\n")
		}
	} else {
		width, height := d.screen.Size()
		text.WriteString(map[bool]string{true: clearScreen, false: goHome}[d.shown == 0])
		for _, l := range watchLines(s, width, max(0, height-1)) {
			text.WriteString(d.paint(l, width) + eraseLine + d.newline())
		}
		text.WriteString(eraseBelow)
	}
	d.shown++
	_, err := io.WriteString(d.out, text.String())
	return err
}

func (d *display) newline() string {
	if d.raw {
		return "\r\n"
	}
	return "\n"
}

// paint joins cells to a line of at most width; a negative width means no limit. No control character from an answer
// reaches a terminal.
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

// statusLines returns the lines of a snapshot: what needs a person, what waits, and then everything. On a screen,
// lifetimes are drawn with line characters.
func statusLines(s status.Status, drawn bool) [][]cell {
	triage := s.Triage()
	lines := [][]cell{headLine(s)}
	for _, level := range []status.Level{status.Act, status.Soon, status.Wait} {
		matters := triage.Of(level)
		if len(matters) == 0 {
			continue
		}
		lines = append(lines, nil, levelHead(level, len(matters)))
		for _, m := range matters {
			lines = append(lines, matterLines(s.Now, m, 0)...)
		}
	}
	for _, t := range [][][]cell{tokenRows(s, triage, drawn), clientRows(s), sinkRows(s), streamRows(s)} {
		if len(t) > 1 {
			lines = append(append(lines, nil), table(t)...)
		}
	}
	return lines
}

func headLine(s status.Status) []cell {
	verdict := cell{"ready", green}
	if !s.Ready {
		verdict = cell{"not ready", red}
	}
	text := ", " + tally(s.Brief()) + "; credagent " + s.Version
	if s.Source != "" { // not shown to callers that see only a part
		text += ", " + s.Source
	}
	return []cell{verdict, {text, ""}}
}

// colorOf returns the color of a level.
func colorOf(level status.Level) string {
	return map[status.Level]string{status.Act: red, status.Soon: yellow, status.Wait: yellow, status.Well: green}[level]
}

func levelHead(level status.Level, n int) []cell {
	head := map[status.Level]string{
		status.Act: "NEEDS A PERSON", status.Soon: "NEEDS A PERSON SOON", status.Wait: "WAITS",
	}[level]
	return []cell{{fmt.Sprintf("%s (%d)", head, n), bold + colorOf(level)}}
}

// matterLines returns the lines for a problem: what it is, its cause, and what to do. A nonzero width wraps them.
func matterLines(now time.Time, m status.Matter, width int) [][]cell {
	head := string(m.Subject) + " " + nameList(m.Names)
	if m.Subject == status.AboutToken {
		if len(m.Names) > 1 {
			head = fmt.Sprintf("%d tokens: %s", len(m.Names), nameList(m.Names))
		}
		head += " of client " + m.Client
	}
	color := colorOf(m.Level)
	lines := wrapped(cell{head + ": " + standing(now, m), color}, 0, width)
	if m.Cause != "" {
		text := m.Cause
		if m.At != nil {
			text += ", " + ago(now, m.At)
		}
		lines = append(lines, wrapped(cell{text, ""}, 4, width)...)
	}
	if len(m.Sinks) > 0 {
		lines = append(lines, wrapped(cell{"no valid token in " + nameList(m.Sinks), ""}, 4, width)...)
	}
	if m.Level == status.Wait && width > 0 {
		return lines // there is nothing to do
	}
	lines = append(lines, wrapped(cell{"hint: " + m.Step, ""}, 4, width)...)
	switch {
	case m.Doc == "" || m.Level != status.Act:
	case width > 0:
		lines = append(lines, wrapped(cell{"see: docs/operations.md#" + m.Doc, ""}, 4, width)...)
	default:
		lines = append(lines, wrapped(cell{"see: " + status.DocURL(m.Doc), ""}, 4, width)...)
	}
	return lines
}

// mostNames is the maximum number of names listed for a problem.
const mostNames = 4

func nameList(names []string) string {
	if len(names) <= mostNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNames-1], ", "), len(names)-mostNames+1)
}

// standing describes the state of a problem, its token and its next request.
func standing(now time.Time, m status.Matter) string {
	text := m.What
	token := m.Subject == status.AboutToken
	switch {
	case m.Expiry == nil && token:
		text += ", no token yet"
	case m.Expiry == nil:
	case !m.Expiry.After(now) && token:
		text += ", expired " + ago(now, m.Expiry)
	case token:
		text += ", valid for " + until(now, m.Expiry)
	default:
		text += ", " + m.Expiry.Format(time.DateOnly)
		if m.Expiry.After(now) {
			text += ", in " + until(now, m.Expiry)
		}
	}
	if m.Failures > 1 {
		text += fmt.Sprintf(", %d failures", m.Failures)
	}
	if m.Next != nil && m.Next.After(now) {
		text += ", next try in " + until(now, m.Next)
	}
	return text
}

// wrapped wraps a text into indented lines of a width; zero means no limit.
func wrapped(c cell, indent, width int) [][]cell {
	margin := strings.Repeat(" ", indent)
	room := width - indent
	if width <= 0 || room < 10 || utf8.RuneCountInString(c.text) <= room {
		return [][]cell{{{margin, ""}, c}}
	}
	var lines [][]cell
	rest := []rune(c.text)
	for len(rest) > 0 {
		n := min(room, len(rest))
		if n < len(rest) {
			if at := strings.LastIndex(string(rest[:n+1]), " "); at > 0 {
				n = utf8.RuneCountInString(string(rest[:n+1])[:at])
			}
		}
		lines = append(lines, []cell{{margin, ""}, {string(rest[:n]), c.color}})
		rest = []rune(strings.TrimLeft(string(rest[n:]), " "))
		if indent == 0 { // indent continuation lines
			indent, margin, room = 2, "  ", width-2
		}
	}
	return lines
}

func tokenRows(s status.Status, triage status.Triage, drawn bool) [][]cell {
	rows := [][]cell{heads("TOKEN", "STATE", "EXPIRES", "NEXT REQUEST", "LIFE", "CLIENT", "LAST OUTCOME", "FAILURES")}
	for _, t := range triage.Tokens {
		color := colorOf(t.Level)
		rows = append(rows, []cell{
			{t.Name, ""}, {stateOf(t.Token), color}, {expires(s.Now, t.Token), ""}, {plan(s, t), ""}, {life(s, t, drawn), color},
			{t.Client, ""}, {dash(t.LastOutcome), ""}, {fmt.Sprint(t.ConsecutiveFailures), ""},
		})
	}
	return rows
}

// stateOf returns a token's state in one word.
func stateOf(t status.Token) string {
	switch t.Phase() {
	case status.PhaseExpired:
		return "expired"
	case status.PhaseNone:
		if t.Valid {
			return "valid"
		}
		return "no token yet"
	}
	return "valid"
}

func expires(now time.Time, t status.Token) string {
	switch {
	case t.Expiry == nil:
		return "-"
	case t.Expiry.After(now):
		return "in " + until(now, t.Expiry)
	}
	return ago(now, t.Expiry)
}

// life draws the elapsed part of a token's lifetime, with marks for now and for the next request.
func life(s status.Status, t status.Ranked, drawn bool) string {
	if t.Phase() == status.PhaseNone {
		return "-"
	}
	past, now, ahead, mark, after := '=', '>', '-', '|', '.'
	if drawn {
		past, now, ahead, mark, after = '━', '●', '─', '┃', '┄'
	}
	at := func(share float64) int { return min(lifeWidth-1, int(share*lifeWidth)) }
	here, there := at(t.Share(s.Now)), at(t.Share(t.NextAt))
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

// plan describes when a token's next request is made, and why, if not to refresh it.
func plan(s status.Status, t status.Ranked) string {
	wait := "in " + status.Span(t.NextAt.Sub(s.Now))
	switch t.Next {
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
		return cell{"closed by the server for " + until(now, g.BlockedUntil), yellow}
	case g.RetryAt != nil && g.RetryAt.After(now):
		return cell{"backing off for " + until(now, g.RetryAt), yellow}
	}
	return cell{"open", green}
}

func sinkRows(s status.Status) [][]cell {
	rows := [][]cell{heads("SINK", "TOKENS", "STATE", "LAST WRITTEN", "NEXT TRY")}
	for _, k := range s.Sinks {
		rows = append(rows, []cell{
			{k.Path, ""}, {strings.Join(k.Tokens, ","), ""}, sinkState(s.Now, k), {ago(s.Now, k.LastSuccess), ""}, {until(s.Now, k.RetryAt), ""},
		})
	}
	return rows
}

func streamRows(s status.Status) [][]cell {
	rows := [][]cell{heads("STREAM", "STATE", "VERIFIED", "LAST POLL", "LAST EVENT", "RECEIVED", "NEXT TRY")}
	for _, stream := range s.Signals {
		last := "-"
		if e := stream.LastEvent; e != nil {
			last = e.Event + " " + e.Outcome + " " + ago(s.Now, &e.At)
		}
		rows = append(rows, []cell{
			{stream.Name, ""}, streamState(stream), {ago(s.Now, stream.VerifiedAt), ""}, {ago(s.Now, stream.LastPollAt), ""},
			{last, ""}, {fmt.Sprint(stream.Received), ""}, {until(s.Now, stream.RetryAt), ""},
		})
	}
	return rows
}

// streamState says whether a stream works, and if not, why.
func streamState(s status.Stream) cell {
	switch {
	case s.Healthy:
		return cell{"healthy", green}
	case s.LastError == "":
		return cell{"being set up", yellow}
	}
	return cell{s.LastError, red}
}

// sinkState returns the state of a sink's file.
func sinkState(now time.Time, k status.Sink) cell {
	switch k.State() {
	case status.SinkHolds:
		return cell{"holds the newest", green}
	case status.SinkExpired:
		return cell{"token expired " + ago(now, k.ExpiredAt), red}
	case status.SinkWaits:
		return cell{"waits for " + nameList(k.WaitsFor), yellow}
	case status.SinkFailing:
		return cell{"cannot be written", red}
	}
	return cell{"behind", yellow}
}
func heads(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		row[i] = cell{name, bold}
	}
	return row
}

// table pads the columns of rows to their width.
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
	if b.Tokens == 1 {
		text = fmt.Sprintf("%d of 1 token valid", b.Valid)
	}
	if b.Next.After(b.Now) {
		text += ", next request in " + status.Span(b.Next.Sub(b.Now))
	}
	return text
}

// summary returns the state in one line, for the service manager.
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

// end describes when a credential expires.
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
