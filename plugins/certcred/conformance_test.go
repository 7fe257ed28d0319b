package certcred

import (
	"testing"

	"github.com/credagent/credagent/plugins/plugintest"
)

func TestConformance(t *testing.T) {
	for name, method := range map[string]string{"assertion": "private_key_jwt", "TLS": "tls_client_auth"} {
		t.Run(name, func(t *testing.T) {
			plugintest.Run(t, plugintest.Config{
				Provider: Provider{},
				Config:   with(pairFiles(t, "P-256"), "auth_method", method),
				Rotated:  with(pairFiles(t, "RSA"), "auth_method", method),
				Bad: []map[string]any{
					{}, {"certificate_file": "/c", "signing_alg": "none"}, {"certificate_file": "/c", "assertion_lifetime": "2h"},
				},
			})
		})
	}
}
