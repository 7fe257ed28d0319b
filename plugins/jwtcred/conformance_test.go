package jwtcred

import (
	"fmt"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/plugintest"
)

func TestConformance(t *testing.T) {
	fresh := func(id string) []byte {
		return []byte(signed("RS256", fmt.Sprintf(`{"sub":"system:serviceaccount:a:b","jti":%q,"exp":%d}`, id, time.Now().Add(time.Hour).Unix())))
	}
	plugintest.Run(t, plugintest.Config{
		Provider: Provider{},
		Config:   map[string]any{"assertion_file": credtest.File(t, "assertion", fresh("one"))},
		Rotated:  map[string]any{"assertion_file": credtest.File(t, "next", fresh("two"))},
		Bad:      []map[string]any{{}},
		Secrets:  []string{signature},
	})
}
