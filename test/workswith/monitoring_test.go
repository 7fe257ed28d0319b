package workswith_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// TestVMAgent has vmagent scrape with the token, and write what it scraped with it.
func TestVMAgent(t *testing.T) {
	needs(t, "victoria-metrics", "vmagent")
	s := newStage(t, "vmagent", life)
	s.names = []string{"/etc/vmagent", s.dir}
	s.start("api.token")
	s.adapted("prometheus.yml")
	s.write("prometheus.yml", strings.ReplaceAll(s.read("prometheus.yml"), "scrape_interval: 15s", "scrape_interval: 500ms"))
	args := strings.Fields(s.read(s.name("vmagent.args")))
	args = append(args, "-httpListenAddr="+agentprocess.FreeAddress(t), "-remoteWrite.tmpDataPath="+s.path("queue"), "-promscrape.configCheckInterval=0")
	written := s.counted("/api/v1/write")
	s.serves(exec.Command("vmagent", args...))
	s.presents(func() {})
	before := written()
	s.until("vmagent writes on with the second token", func() bool { return written() >= before+3 })
	if refused := s.api.refusals(); refused != 0 {
		t.Errorf("%d requests were refused", refused)
	}
}

// counted counts the requests for a path that had a good token.
func (s *stage) counted(path string) func() int {
	requests := make(chan struct{}, 1<<16)
	s.api.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			requests <- struct{}{}
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprintln(w, "up_and_running 1")
	})
	return func() int { return len(requests) }
}

// TestAlertmanager has Alertmanager notify a webhook of an alert, and of another after a refresh.
func TestAlertmanager(t *testing.T) {
	needs(t, "prometheus-alertmanager", "prometheus-alertmanager")
	s := newStage(t, "alertmanager", life)
	s.start("api.token")
	notified := s.counted("/alerts")
	at := agentprocess.FreeAddress(t)
	s.serves(exec.Command("prometheus-alertmanager", "--config.file="+s.adapted("alertmanager.yml"),
		"--storage.path="+s.path("alerts"), "--web.listen-address="+at, "--cluster.listen-address="))
	sent := 0
	s.presents(func() {
		if sent > notified() { // the one before is not there yet
			return
		}
		body := fmt.Sprintf(`[{"labels":{"alertname":"alert-%d"}}]`, sent)
		response, err := http.Post("http://"+at+"/api/v2/alerts", "application/json", strings.NewReader(body))
		if err != nil {
			return // it does not listen yet
		}
		if response.Body.Close(); response.StatusCode == http.StatusOK {
			sent++
		}
	})
}

// TestBlackbox has the blackbox exporter probe the api.
func TestBlackbox(t *testing.T) {
	needs(t, "prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
	s := newStage(t, "blackbox", life)
	s.start("api.token")
	at := agentprocess.FreeAddress(t)
	s.serves(exec.Command("prometheus-blackbox-exporter", "--config.file="+s.adapted("blackbox.yml"), "--web.listen-address="+at))
	s.presents(func() {
		response, err := http.Get("http://" + at + "/probe?module=api&target=" + s.api.URL)
		if err != nil {
			return // it does not listen yet
		}
		_ = response.Body.Close()
	})
}
