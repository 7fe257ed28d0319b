package main

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/credagent/credagent/agent/status"
)

// watchLines returns the lines of a snapshot in a window, at most height of them. What needs a person is never cut
// off in favour of what waits, nor what waits in favour of what is well; omitted entries are counted.
func watchLines(s status.Status, width, height int) [][]cell {
	triage := s.Triage()
	head := headLine(s)
	head[1].text = ", " + tally(s.Brief()) + "; q quits"
	lines := [][]cell{head}
	for _, level := range []status.Level{status.Act, status.Soon, status.Wait} {
		matters := triage.Of(level)
		if len(matters) == 0 {
			continue
		}
		after := 0 // the lines that the other levels need at least
		if level != status.Wait && len(triage.Of(status.Wait)) > 0 {
			after = 1
		}
		room := height - len(lines) - after
		switch {
		case room >= 3:
			lines = append(lines, nil, levelHead(level, len(matters)))
			lines = append(lines, fitMatters(s, matters, width, room-2)...)
		case room >= 1:
			lines = append(lines, levelHead(level, len(matters)))
		}
	}
	lines = append(lines, wellLines(s, triage, width, height-len(lines))...)
	return lines[:max(0, min(len(lines), height))]
}

// fitMatters fits problems into a number of lines: complete if there is room, else only their first line; the rest
// are counted.
func fitMatters(s status.Status, matters []status.Matter, width, room int) [][]cell {
	var lines [][]cell
	for i, m := range matters {
		left := len(matters) - i - 1
		all := matterLines(s.Now, m, width)
		switch free := room - len(lines); {
		case len(all)+left <= free:
			lines = append(lines, all...)
		case free > 1 || free == 1 && left == 0:
			lines = append(lines, all[0])
		default:
			return append(lines, []cell{{fmt.Sprintf("… and %d more: credagent status", left+1), colorOf(m.Level)}})
		}
	}
	return lines
}

// wellLines lists the tokens that are well, one a line, as many as fit.
func wellLines(s status.Status, triage status.Triage, width, room int) [][]cell {
	n := triage.Tally(status.Well)
	if n == 0 || room < 2 {
		return nil
	}
	head := []cell{{fmt.Sprintf("WELL (%d)", n), bold + green}}
	var well status.Triage
	for _, t := range triage.Tokens {
		if t.Level == status.Well {
			well.Tokens = append(well.Tokens, t)
		}
	}
	free := room - 3 // after a blank line, this head and the table's
	if free < 1 {
		return [][]cell{head}
	}
	if len(well.Tokens) > free {
		well.Tokens = well.Tokens[:free-1]
		head = append(head, cell{fmt.Sprintf(", %d of them shown", len(well.Tokens)), ""})
	}
	return append([][]cell{nil, head}, table(fitColumns(tokenRows(s, well, true), width))...)
}

// fitColumns omits the last columns that do not fit completely.
func fitColumns(rows [][]cell, width int) [][]cell {
	used, columns := 0, 0
	for i := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, utf8.RuneCountInString(row[i].text))
		}
		if used += widest; i > 0 && used > width {
			break
		}
		used += 2
		columns++
	}
	fitting := make([][]cell, len(rows))
	for n, row := range rows {
		fitting[n] = row[:columns]
	}
	return fitting
}

// interrupt is the byte of Ctrl-C on a terminal that does not turn it into a signal.
const interrupt = 3

// quitKeys returns a channel that closes when q or Ctrl-C is typed at a terminal, and a function that restores the
// terminal. If in is not a terminal, the channel is nil.
func quitKeys(in io.Reader) (quit <-chan struct{}, restore func(), err error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return nil, func() {}, nil
	}
	before, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("reading keys from the terminal: %w", err)
	}
	typed := make(chan struct{})
	go func() { // it ends with the process: a read of a terminal cannot be ended otherwise
		defer close(typed)
		awaitQuit(file)
	}()
	return typed, func() { _ = term.Restore(int(file.Fd()), before) }, nil
}

// awaitQuit reads keys until one that quits.
func awaitQuit(keys io.Reader) {
	var key [1]byte
	for {
		n, err := keys.Read(key[:])
		if err != nil || n == 1 && (key[0] == 'q' || key[0] == 'Q' || key[0] == interrupt) {
			return
		}
	}
}
