package main

import (
	"bufio"
	"os"

	"golang.org/x/sys/unix"
)

// hideInput turns the terminal's echo off. Call it before the prompt: after a Ctrl-C at the prompt nothing may turn
// it off later.
func hideInput(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag = t.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// readHidden reads a line from the terminal, whose echo is off.
func readHidden(terminal *os.File) ([]byte, error) {
	line, err := bufio.NewReader(terminal).ReadBytes('\n')
	if len(line) > 0 {
		err = nil
	}
	return line, err
}
