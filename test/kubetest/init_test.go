package kubetest_test

import (
	"bytes"
	"os/exec"
	"testing"
)

// TestInitManifests holds what credagent init prints to what deploy/k8s is held to.
func TestInitManifests(t *testing.T) {
	for _, credential := range []string{"certificate", "secret", "assertion"} {
		t.Run(credential, func(t *testing.T) {
			printed, err := exec.CommandContext(t.Context(), credagent(t), "init", "entra", "--kubernetes",
				"--tenant", "contoso.onmicrosoft.com", "--client-id", "6731de76-14a6-49ae-97bc-6eba6914391e", "--credential", credential).Output()
			must(t, err)
			pods := 0
			for _, text := range bytes.Split(printed, []byte("\n---\n")) {
				object, err := decode(t, text)
				if err != nil {
					t.Fatalf("%v\n%s", err, text)
				}
				p, ok := podOf(object)
				if !ok {
					continue
				}
				pods++
				if got := violations(t, p); len(got) != 0 {
					t.Errorf("Pod Security is violated by %q", got)
				}
			}
			if pods != 1 {
				t.Errorf("%d objects make pods, want one", pods)
			}
		})
	}
}
