package setup

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Paths in a pod.
const (
	podCredential = "/run/secrets/credagent"
	podFile       = "/run/credagent/tokens/app.token"
	podDirectory  = "tokens"
)

// inPod adapts answers to a pod: credentials are mounted, and the token is in a directory below the shared volume,
// because the volume itself is writable by everybody.
func (a Answers) inPod() Answers {
	a.Dir, a.Reader, a.User = podCredential, "", "65532"
	a.File = path.Join(podMount(a.File), podDirectory, path.Base(a.File))
	return a
}

// podMount returns where the volume is mounted for a token's file: the file's own directory, which becomes empty, or
// its parent if the file is already in a directory that the agent creates.
func podMount(file string) string {
	dir := path.Dir(file)
	if path.Base(dir) == podDirectory {
		return path.Dir(dir)
	}
	return dir
}

// checkPodFile refuses a file whose volume would hide other programs' files in a container.
func checkPodFile(file string) error {
	mount := podMount(file)
	needed := []string{podCredential, defaultDir, "/etc/ssl"} // what the agent reads
	if !shared(mount) && !slices.ContainsFunc(needed, func(dir string) bool { return overlap(mount, dir) }) {
		return nil
	}
	return fmt.Errorf("--file %q would have an empty volume mounted over %s in the containers: give a file in a directory of its own, such as --file %s", file, mount, podFile)
}

// shared reports whether a directory may have other files of an image, such as /etc, /var/lib or /home/app.
func shared(dir string) bool {
	elements := strings.Split(strings.Trim(dir, "/"), "/")
	return len(elements) < 2 || len(elements) < 3 && slices.Contains([]string{"home", "usr", "var"}, elements[0])
}

// overlap reports whether one directory is the other, or is below it.
func overlap(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}
