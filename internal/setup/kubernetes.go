package setup

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Where things are in a pod.
const (
	podCredential = "/run/secrets/credagent"
	podFile       = "/run/credagent/tokens/app.token"
	podDirectory  = "tokens"
)

// inPod changes answers to what holds in a pod: credentials are mounted, and the token is in a
// directory below the shared volume, because in the volume itself everybody may write.
func (a Answers) inPod() Answers {
	a.Dir, a.Reader, a.User = podCredential, "", "65532"
	a.File = path.Join(podMount(a.File), podDirectory, path.Base(a.File))
	return a
}

// podMount is where the volume is mounted for a token's file: the file's own directory, which becomes
// empty, or the one above it where the file already is in a directory of the agent's making.
func podMount(file string) string {
	dir := path.Dir(file)
	if path.Base(dir) == podDirectory {
		return path.Dir(dir)
	}
	return dir
}

// checkPodFile refuses a file whose volume would hide what others have in a container.
func checkPodFile(file string) error {
	mount := podMount(file)
	needed := []string{podCredential, defaultDir, "/etc/ssl"} // what the agent reads
	if !shared(mount) && !slices.ContainsFunc(needed, func(dir string) bool { return overlap(mount, dir) }) {
		return nil
	}
	return fmt.Errorf("--file %q would have an empty volume mounted over %s in the containers: give a file in a directory of its own, such as --file %s", file, mount, podFile)
}

// shared reports whether a directory is one that an image and its programs have in common, such as
// /etc, /var/lib or /home/app.
func shared(dir string) bool {
	elements := strings.Split(strings.Trim(dir, "/"), "/")
	return len(elements) < 2 || len(elements) < 3 && slices.Contains([]string{"home", "usr", "var"}, elements[0])
}

// overlap reports whether one directory is the other, or is in it.
func overlap(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}
