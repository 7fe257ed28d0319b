package doctor

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/testkit/kubefake"
)

func TestSecrets(t *testing.T) {
	for name, tc := range map[string]struct {
		denied []string
		there  bool
		down   bool
		want   []string // the beginnings of what is found
	}{
		"all rights":       {there: true},
		"made by us":       {},
		"not there":        {denied: []string{"create"}, want: []string{"problem: it does not exist, and the pod's service account may not create it"}},
		"minimal rights":   {denied: []string{"create"}, there: true},
		"may not write":    {denied: []string{"patch"}, there: true, want: []string{"problem: the pod's service account may not write it"}},
		"may not watch":    {denied: []string{"watch"}, there: true, want: []string{"warning: the pod's service account may not watch it"}},
		"may not read":     {denied: []string{"get"}, there: true, want: []string{"warning: the pod's service account may not read it"}},
		"nobody to ask":    {down: true, want: []string{"problem: the API server cannot be asked: the API server cannot be reached"}},
		"nothing at all":   {denied: []string{"patch", "get", "watch", "create"}, want: []string{"problem: the pod's", "warning: the pod's", "warning: the pod's"}},
		"nothing but read": {denied: []string{"patch", "watch", "create"}, want: []string{"problem: the pod's", "warning: the pod's", "problem: it does not exist"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := kubefake.New()
			for _, verb := range tc.denied {
				server.Denied[verb] = true
			}
			if tc.there {
				server.Put("shop/graph", "kubectl", kubefake.Secret{Type: "Opaque"})
			}
			if tc.down {
				server.Fault = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
			}
			e := newExam(config.Config{Sinks: []config.Sink{
				{Type: config.SinkKubernetesSecret, Path: "shop/graph", Secret: &config.Secret{Namespace: "shop", Name: "graph", Type: "Opaque"}},
			}})
			e.Cluster = server.Client(t)
			found := e.secrets(t.Context())
			fits := slices.EqualFunc(found, tc.want, func(f Finding, want string) bool {
				return strings.HasPrefix(string(f.Level)+": "+f.What, want) && slices.Equal(f.About, []string{`sink "shop/graph"`}) && f.Fix != "" && f.Why != ""
			})
			if !fits {
				t.Errorf("found %+v", found)
			}
			if slices.ContainsFunc(server.Seen(), func(r string) bool { return strings.HasPrefix(r, "PATCH") }) {
				t.Error("it changes the Secret")
			}
		})
	}
}
