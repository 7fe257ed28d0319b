package doctor

import (
	"context"
	"fmt"
	"path/filepath"
)

// fileSystem has the relevant properties of a file system. The zero value is an unknown one.
type fileSystem struct {
	name   string
	remote bool // other hosts can change it without notice
	disk   bool // its content can be read from the disk
	layer  bool // it belongs to a container
	memory bool // it is in memory
}

// FileSystem names the file system of a path, which need not exist; "" if unknown. On a remote one, other hosts can
// change files without notice.
func FileSystem(path string) (name string, remote bool) {
	at := fileSystemOf(path)
	if at == (fileSystem{}) {
		at = fileSystemOf(filepath.Dir(path))
	}
	return at.name, at.remote
}

// fileSystems checks the file systems of files that others read or change.
func (e *exam) fileSystems(context.Context) []Finding {
	var all []Finding
	for _, s := range e.files() {
		all = append(all, about(label(s), forSink(fileSystemOf(filepath.Dir(s.Path)))...)...)
	}
	if s := e.Config.State; s != nil && s.Dir != "" {
		all = append(all, about("state", forState(fileSystemOf(s.Dir))...)...)
	}
	return all
}

func forSink(at fileSystem) []Finding {
	switch {
	case at.remote:
		return []Finding{{
			Level: Warning, What: fmt.Sprintf("its directory is on %s, which tells of no change that another machine makes", at.name),
			Why: "a reader elsewhere that waits for inotify keeps the old token",
			Fix: "put it on a tmpfs of each host, or see that its readers open the file anew for each use",
		}}
	case at.layer:
		return []Finding{{
			Level: Note, What: "its directory is in the container's own layer (" + at.name + ")",
			Why: "no other container sees it, and tokens stay in the layer", Fix: "mount a volume in memory there (emptyDir with medium: Memory, or --tmpfs)",
		}}
	case at.disk:
		return []Finding{{
			Level: Note, What: "its directory is on a disk (" + at.name + ")",
			Why: "old tokens stay in free blocks, snapshots and backups", Fix: "put it on a tmpfs, such as /run",
		}}
	}
	return nil
}

func forState(at fileSystem) []Finding {
	switch {
	case at.remote:
		return []Finding{{
			Level: Note, What: "its directory is on " + at.name,
			Why: "a save waits for the network, and is not certain to be whole after a crash of the server", Fix: "put it on a disk of the host",
		}}
	case at.memory:
		return []Finding{{
			Level: Note, What: "its directory is in memory (" + at.name + ")",
			Why: "tokens and waits survive a restart of the agent, and not one of the machine",
		}}
	}
	return nil
}
