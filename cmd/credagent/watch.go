package main

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/credagent/credagent/agent/status"
)

// watchLines are the lines of a snapshot in a window, at most height of them. Nothing that needs a
// person is cut off for what waits, and nothing that waits for what is well; what has no room is
// counted.
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

// fitMatters are matters within a number of lines: whole where there is room, else their first line
// alone, and of those that have none even for that, how many they are.
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

// wellLines are the tokens that are well, one a line, as many as there is room for.
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

// fitColumns leaves out the last columns, as many as do not fit as a whole.
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

// interrupt is what Ctrl-C is to a terminal that does not make a signal of it.
const interrupt = 3

// quitKeys returns a channel that closes when q or Ctrl-C is typed at a terminal, and what sets the
// terminal back. Where in is none, the channel is nil.
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
	go func() { // it ends with the process: nothing else ends a read of a terminal
		defer close(typed)
		awaitQuit(file)
	}()
	return typed, func() { _ = term.Restore(int(file.Fd()), before) }, nil
}

// awaitQuit reads keys until one of those that quit.
func awaitQuit(keys io.Reader) {
	var key [1]byte
	for {
		n, err := keys.Read(key[:])
		if err != nil || n == 1 && (key[0] == 'q' || key[0] == 'Q' || key[0] == interrupt) {
			return
		}
	}
}
