package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/process"
)

// consumers checks whether a sink's intended readers can read it.
func (e *exam) consumers(context.Context) []Finding {
	var all []Finding
	for _, s := range e.files() {
		found := e.declared(s)
		for _, action := range s.OnChange {
			if action.Signal != nil {
				found = append(found, e.signalled(s, *action.Signal)...)
			}
			if action.Command != nil {
				found = append(found, runnable(*action.Command)...)
			}
		}
		all = append(all, about(label(s), found...)...)
	}
	return all
}

// runnable checks whether an on_change command can be run.
func runnable(c config.Command) []Finding {
	why, fix := process.Unrunnable(c.Run)
	if why == "" {
		return nil
	}
	return []Finding{{Level: Problem, What: "on_change: " + why, Why: "whoever it is to tell goes on with the old token", Fix: fix}}
}

// declared checks the owner, the group and the readers in the configuration.
func (e *exam) declared(s config.Sink) []Finding {
	var all []Finding
	var named []config.Principal
	if s.Owner != "" {
		named = append(named, config.Principal{User: s.Owner})
	}
	if s.Group != "" {
		named = append(named, config.Principal{Group: s.Group})
		if s.Mode&0o040 == 0 {
			all = append(all, Finding{
				Level: Problem, What: fmt.Sprintf("mode %04o gives group %q nothing", s.Mode, s.Group),
				Why: "its members cannot read the token", Fix: `mode: "0640"`,
			})
		}
	}
	named = append(named, s.Readers...)
	if len(named) == 0 && s.Mode&0o044 == 0 {
		all = append(all, Finding{
			Level: Note, What: "only the agent's user can read it", Fix: "to let others read it, set group and mode, readers or owner",
		})
	}
	for _, principal := range named {
		who, err := personOf(principal)
		if errors.Is(err, errNobody) {
			all = append(all, Finding{
				Level: Problem, What: err.Error(), Why: "the agent does not start", Fix: "check the name, or give a number",
			})
			continue
		}
		all = append(all, who.reach(filepath.Dir(s.Path))...)
	}
	return all
}

// reach checks whether a person can reach a directory.
func (p person) reach(dir string) []Finding {
	at, mode, barred := p.barred(dir)
	if !barred {
		return nil
	}
	f := Finding{
		Level: Problem, What: fmt.Sprintf("%s cannot enter directory %q (mode %04o)", p.name, at, mode),
		Why: "nobody can read its files without entering it", Fix: "chmod o+x " + quote(at),
	}
	if strings.HasPrefix(at, "/run/") {
		f.Fix += ", in the agent's unit RuntimeDirectoryMode=0755"
	}
	return []Finding{f}
}

// asWritten returns the attributes that the sink's file will have.
func (e *exam) asWritten(s config.Sink) facts {
	f := facts{owner: owner{e.uid, os.Getegid()}, mode: s.Mode}
	if dir, ok := ownerOf(filepath.Dir(s.Path)); ok {
		if info, err := os.Stat(filepath.Dir(s.Path)); err == nil && info.Mode()&fs.ModeSetgid != 0 {
			f.gid = dir.gid
		}
	}
	if uid, err := host.User(s.Owner); s.Owner != "" && err == nil {
		f.uid = uid
	}
	if gid, err := groupID(s.Group); s.Group != "" && err == nil {
		f.gid = gid
	}
	if len(s.Readers) == 0 {
		return f
	}
	group := uint16(s.Mode >> 3 & 7)
	f.mode |= mayRead << 3 // the group bits show the ACL's mask
	f.acl = append(f.acl, entry{tag: aclGroupObj, perm: group}, entry{tag: aclMask, perm: group | mayRead})
	for _, reader := range s.Readers {
		if uid, err := host.User(reader.User); reader.User != "" && err == nil {
			f.acl = append(f.acl, entry{aclUser, mayRead, uint32(uid)})
		}
		if gid, err := groupID(reader.Group); reader.Group != "" && err == nil {
			f.acl = append(f.acl, entry{aclGroup, mayRead, uint32(gid)})
		}
	}
	return f
}

// signalled checks a process that is signalled after a change and then reads the sink.
func (e *exam) signalled(s config.Sink, signal config.Signal) []Finding {
	pid, err := readPID(signal.PIDFile)
	if err != nil {
		return []Finding{{
			Level: Warning, What: fmt.Sprintf("no process can be told of changes: pid_file %q %v", signal.PIDFile, err),
			Why: "it goes on with the old token", Fix: "start it, or give the file that it writes its number to",
		}}
	}
	who, err := e.personIn(pid)
	if err != nil {
		return []Finding{{
			Level: Warning, What: fmt.Sprintf("pid_file %q names process %d, which does not run", signal.PIDFile, pid),
			Why: "the signal reaches no process, or one day another process that reuses the id", Fix: "start it, and have it remove the file when it ends",
		}}
	}
	var all []Finding
	if !maySignal(pid) {
		all = append(all, Finding{
			Level: Problem, What: fmt.Sprintf("%s may not send a signal to %s", userName(os.Geteuid()), who.name),
			Why: "it is never told of a new token", Fix: "run both as one user, or reload it by a command that may",
		})
	}
	if e.elsewhere(pid) {
		return append(all, Finding{
			Level: Note, What: who.name + " is in a mount namespace of its own", Why: "what it sees of the sink cannot be told from here",
			Fix: fmt.Sprintf("mount the directory %q into it, not the file", filepath.Dir(s.Path)),
		})
	}
	if !who.may(mayRead, e.asWritten(s)) {
		all = append(all, Finding{
			Level: Problem, What: fmt.Sprintf("%s, which runs as %s, will not be allowed to read it", who.name, userName(who.uid)),
			Why: "it is told of a token that it cannot use", Fix: fmt.Sprintf("readers: [{ user: %s }]", strings.TrimPrefix(userName(who.uid), "#")),
		})
	}
	return append(all, who.reach(filepath.Dir(s.Path))...)
}

func readPID(file string) (int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("is not there")
	}
	if err != nil {
		return 0, fmt.Errorf("cannot be read (%w)", atomicfile.Cause(err))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 1 {
		return 0, errors.New("does not hold the number of a process")
	}
	return pid, nil
}

// personIn returns the user as which a process opens files.
func (e *exam) personIn(pid int) (person, error) {
	dir := strconv.Itoa(pid)
	file, err := os.Open(filepath.Join(e.proc, dir, "status"))
	if err != nil {
		return person{}, err
	}
	defer file.Close()
	who := person{name: e.process(dir), uid: nobody}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		numbers := atois(strings.Fields(value))
		switch {
		case key == "Uid" && len(numbers) == 4: // real, effective, saved, for files
			who.uid = numbers[3]
		case key == "Gid" && len(numbers) == 4:
			who.gids = append(who.gids, numbers[3])
		case key == "Groups":
			who.gids = append(who.gids, numbers...)
		}
	}
	if who.uid == nobody {
		return person{}, errors.New("its status does not say who it is")
	}
	return who, lines.Err()
}

func atois(fields []string) []int {
	var numbers []int
	for _, field := range fields {
		if n, err := strconv.Atoi(field); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// elsewhere reports whether a process sees other mounts than this one.
func (e *exam) elsewhere(pid int) bool {
	own, err := os.Readlink(filepath.Join(e.proc, "self", "ns", "mnt"))
	if err != nil {
		return false
	}
	its, err := os.Readlink(filepath.Join(e.proc, strconv.Itoa(pid), "ns", "mnt"))
	return err == nil && own != its
}
