package workswith_test

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/webdav"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// TestRclone has one rclone that runs on list a WebDAV server. It holds on to its token until the server refuses
// it, and then runs its command again, so these tokens live for seconds only.
func TestRclone(t *testing.T) {
	needs(t, "rclone", "rclone")
	s := newStage(t, "rclone", 12*time.Second)
	s.start("api.token")
	s.api.serve((&webdav.Handler{FileSystem: webdav.NewMemFS(), LockSystem: webdav.NewMemLS()}).ServeHTTP)
	at := agentprocess.FreeAddress(t)
	cmd := exec.Command("rclone", "rcd", "--rc-no-auth", "--rc-addr="+at, "--config="+s.adapted("rclone.conf"), "--ca-cert="+s.path("ca.pem"))
	cmd.Env = environment("HOME=" + s.dir)
	s.serves(cmd)
	s.until("rclone has presented a second token", func() bool {
		response, err := http.Post("http://"+at+"/operations/list", "application/json", strings.NewReader(`{"fs":"api:","remote":""}`))
		if err != nil {
			return false // it does not listen yet
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			t.Fatalf("rclone answers with %s", response.Status)
		}
		return s.api.seen() >= 2
	})
	if s.api.refusals() == 0 {
		t.Error("rclone reads the file before a 401, so the documents are out of date")
	}
}
