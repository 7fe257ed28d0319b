package process

import (
	"bytes"
	"os"
	"strconv"
)

// Stat is a process's entry in /proc.
type Stat struct {
	State                  byte // a letter, see proc_pid_stat(5)
	Parent, Group, Session int
	Start                  uint64 // in ticks since boot; distinguishes it from a later process with the same id
}

// Ended reports whether a process has ended but was not reaped.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// ReadStat reads the entry of a process. It reports false if there is none.
func ReadStat(pid int) (Stat, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, false
	}
	return parseStat(text)
}

// parseStat reads proc_pid_stat(5). A program's name, in parentheses, may hold anything.
func parseStat(text []byte) (Stat, bool) {
	const state, parent, group, session, start = 0, 1, 2, 3, 19 // counted from the field after the name
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return Stat{}, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) <= start || len(fields[state]) != 1 {
		return Stat{}, false
	}
	s := Stat{State: fields[state][0]}
	var errs [4]error
	s.Parent, errs[0] = strconv.Atoi(string(fields[parent]))
	s.Group, errs[1] = strconv.Atoi(string(fields[group]))
	s.Session, errs[2] = strconv.Atoi(string(fields[session]))
	s.Start, errs[3] = strconv.ParseUint(string(fields[start]), 10, 64)
	return s, errs == [4]error{}
}
