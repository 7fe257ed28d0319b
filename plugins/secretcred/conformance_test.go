package secretcred

import (
	"testing"

	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/plugintest"
)

func TestConformance(t *testing.T) {
	t.Setenv("SECRETCRED_TEST", canary)
	bad := []map[string]any{{}, {"secret_file": "/s", "secret_env": "S"}, {"secret_file": "/s", "auth_method": "none"}}
	for _, method := range []string{methodBasic, methodPost} {
		t.Run(method, func(t *testing.T) {
			plugintest.Run(t, plugintest.Config{
				Provider: Provider{},
				Config:   map[string]any{"secret_file": credtest.File(t, "secret", []byte(canary+"\n")), "auth_method": method},
				Rotated:  map[string]any{"secret_file": credtest.File(t, "next", []byte("next-"+canary+"\n")), "auth_method": method},
				Bad:      bad,
				Secrets:  []string{canary},
			})
		})
	}
	t.Run("variable", func(t *testing.T) {
		plugintest.Run(t, plugintest.Config{
			Provider: Provider{},
			Config:   map[string]any{"secret_env": "SECRETCRED_TEST"},
			Bad:      bad,
			Secrets:  []string{canary},
		})
	})
}
