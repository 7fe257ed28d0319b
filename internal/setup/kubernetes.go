package setup

import "path/filepath"

// Where things are in a pod.
const (
	podCredential = "/run/secrets/credagent"
	podFile       = "/run/credagent/tokens/app.token"
)

// inPod changes answers to what holds in a pod: credentials are mounted, and the token is in a
// directory below the shared volume, because in the volume itself everybody may write.
func (a Answers) inPod() Answers {
	a.Dir, a.Reader, a.User = podCredential, "", "65532"
	if a.File == defaultFile {
		a.File = podFile
	}
	if mount := filepath.Dir(filepath.Dir(a.File)); mount == "/" || mount == "/run" {
		a.File = filepath.Join(filepath.Dir(a.File), "tokens", filepath.Base(a.File))
	}
	return a
}
