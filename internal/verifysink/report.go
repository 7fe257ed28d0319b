package verifysink

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report has the observations of a trial.
type Report struct {
	Path       string
	FileSystem string
	Remote     bool
	Took       time.Duration
	Readers    int
	Seen       tally // by all readers
	Scan       tally // of temporary files
	Apart      apart
	Writes     writes
	Notices    notices
	Hung       []string // parts with a call that never returned
}

// level is the severity of a line.
type level string

const (
	well    level = "ok"
	warning level = "warning"
	problem level = "problem"
)

// line is one checked property.
type line struct {
	level level
	what  string
	fix   string
}

const (
	elsewhere  = "put the sink on a tmpfs, such as /run, or on a local file system that replaces files in one step"
	modesFixed = "mount it so that it keeps modes and owners (not with umask=, fmask=, uid= or force mode options), or put the sink on a tmpfs"
	openAnew   = "have workloads open the file for each use instead of waiting to be told"
)

// Holds reports whether there were enough observations, and none that breaks the promise of a sink.
func (r *Report) Holds() bool { return !r.tooLittle() && count(r.lines(), problem) == 0 }

// String returns the report for people, with a verdict at the end.
func (r *Report) String() string {
	var text strings.Builder
	on := ""
	if r.FileSystem != "" {
		on = " on " + r.FileSystem
	}
	fmt.Fprintf(&text, "%s%s: %s in %v, %s by %s\n", r.Path, on, several(r.Writes.Done, "write"),
		r.Took.Round(time.Millisecond), several(r.Seen.Looks, "read"), r.readers())
	lines := r.lines()
	for i, l := range lines {
		if i == 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "%-8s %s\n", l.level+":", l.what)
		if l.fix != "" {
			fmt.Fprintf(&text, "    fix: %s\n", l.fix)
		}
	}
	fmt.Fprintf(&text, "\n%s\n", r.verdict(lines))
	return text.String()
}

func (r *Report) readers() string {
	if r.Apart.Err == nil && r.Apart.Seen.Looks > 0 {
		return several(r.Readers, "reader") + ", one of them a process of its own"
	}
	return several(r.Readers, "reader")
}

func (r *Report) verdict(lines []line) string {
	problems, warnings := count(lines, problem), count(lines, warning)
	switch {
	case problems > 0:
		return fmt.Sprintf("verdict: it does not hold (%s): keep no sink here until it is fixed", several(problems, "problem"))
	case r.tooLittle():
		return "verdict: none: too little was seen; try it for longer, with --for"
	case warnings > 0:
		return fmt.Sprintf("verdict: it holds, with %s: whoever opens a sink here reads a whole token", several(warnings, "warning"))
	default:
		return "verdict: it holds: a reader that opens a sink here gets a whole token, and is notified of each new one"
	}
}

func count(lines []line, of level) int {
	n := 0
	for _, l := range lines {
		if l.level == of {
			n++
		}
	}
	return n
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// lines judges the observations.
func (r *Report) lines() []line {
	if len(r.Hung) > 0 {
		return []line{{problem, fmt.Sprintf("the file system does not answer: waited in vain for %s; %q may be left there", strings.Join(r.Hung, ", "), r.Path), elsewhere}}
	}
	lines := r.contents()
	lines = append(lines, r.access(), r.writing(), r.visibility(), r.notifications(), r.times())
	if r.Remote {
		lines = append(lines, line{warning, "only this host was tested: another host may see a new file later, and is not notified of it", "run it on that host too, or put the sink on a tmpfs of each host"})
	}
	if r.Apart.Err != nil {
		lines = append(lines, line{warning, "there was no reader in a process of its own: " + r.Apart.Err.Error(), ""})
	}
	if r.tooLittle() {
		lines = slices.DeleteFunc(lines, func(l line) bool { return l.level == well })
	}
	return lines
}

// tooLittle reports whether there are too few observations for a verdict.
func (r *Report) tooLittle() bool { return r.Writes.Done < enough || r.Seen.Looks < enough }

// contents judges what readers found at the path.
func (r *Report) contents() []line {
	var lines []line
	for _, kind := range []struct {
		name string
		seen finding
	}{
		{"torn", r.Seen.Torn}, {"empty", r.Seen.Empty}, {"no file", r.Seen.Missing}, {"failed", r.Seen.Failed}, {"older than the read before", r.Seen.Back},
	} {
		if kind.seen.Count == 0 {
			lines = append(lines, line{well, fmt.Sprintf("%s: 0 of %s", kind.name, several(r.Seen.Looks, "read")), ""})
			continue
		}
		lines = append(lines, line{problem, fmt.Sprintf("%s: %d of %s; the first: %s", kind.name, kind.seen.Count, several(r.Seen.Looks, "read"), kind.seen.First), elsewhere})
	}
	return lines
}

// access judges who could read or write the file and its temporary file.
func (r *Report) access() line {
	wide := r.Seen.Wide
	wide.merge(r.Scan.Wide)
	switch {
	case wide.Count > 0:
		return line{problem, fmt.Sprintf("mode and owner: wider than configured %s; the first: %s", several(wide.Count, "time"), wide.First), modesFixed}
	case r.Seen.Narrow.Count > 0:
		return line{problem, fmt.Sprintf("mode and owner: readers shut out %s; the first: %s", several(r.Seen.Narrow.Count, "time"), r.Seen.Narrow.First), modesFixed}
	}
	return line{well, fmt.Sprintf("mode and owner: as configured in %s, and never wider in %s of temporary files", several(r.Seen.Looks, "read"), several(r.Scan.Looks, "check")), ""}
}

func (r *Report) writing() line {
	if failed := r.Writes.Failed; failed.Count > 0 {
		return line{problem, fmt.Sprintf("writing, with fsync: %d of %s failed; the first: %s", failed.Count, several(r.Writes.Done+failed.Count, "write"), failed.First), "see that there is space, and that nothing else replaces the file; " + elsewhere}
	}
	return line{well, fmt.Sprintf("writing, with fsync: no error in %s, the slowest took %s", several(r.Writes.Done, "write"), short(r.Writes.Slowest)), ""}
}

// visibility judges how soon readers get new content.
func (r *Report) visibility() line {
	if r.Seen.Stale.Count == 0 {
		return line{well, fmt.Sprintf("rename visibility: at once: every read after a write found it or a newer one, the slowest took %s", short(r.Seen.Slowest)), ""}
	}
	return line{warning, fmt.Sprintf("rename visibility: %s found an older content than was written, for up to %s; the first: %s", several(r.Seen.Stale.Count, "read"), short(r.Seen.Late), r.Seen.Stale.First),
		"shorten how long the mount caches names and attributes (NFS: lookupcache=none, acregmin=0), or put the sink on a tmpfs"}
}

// notifications judges what a workload that waits for notifications sees.
func (r *Report) notifications() line {
	n, expected := r.Notices, r.Writes.Done-1
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(n.Kinds)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n.Kinds[kind]))
	}
	switch {
	case n.Failed.Count > 0:
		return line{warning, fmt.Sprintf("notifications: %d of %s were reported: %s", n.Told, several(expected, "write"), n.Failed.First), openAnew}
	case n.Told < expected:
		return line{warning, fmt.Sprintf("notifications: %d of %s were reported", n.Told, several(expected, "write")), openAnew}
	case n.Early.Count > 0:
		return line{warning, fmt.Sprintf("notifications: %d came before the content could be read; the first: %s", n.Early.Count, n.Early.First), openAnew}
	}
	return line{well, fmt.Sprintf("notifications: %d of %s were reported (%s), with the new content in place, within %s", n.Told, several(expected, "write"), strings.Join(kinds, ", "), short(n.Late)), ""}
}

// times judges what a workload that compares modification times sees.
func (r *Report) times() line {
	if same := r.Writes.SameTime; same.Count > 0 {
		return line{warning, fmt.Sprintf("modification time: %s did not change it; the first: %s", several(same.Count, "write"), same.First),
			"have workloads read the file for each use instead of comparing its time"}
	}
	return line{well, fmt.Sprintf("modification time: changed with each of %s", several(r.Writes.Done, "write")), ""}
}

func short(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Microsecond)
}
