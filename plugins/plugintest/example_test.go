package plugintest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/credagent/credagent/plugins/plugintest"
	"github.com/credagent/credagent/plugins/secretcred"
)

// In a provider's own tests this is a call of [plugintest.Run], and every rule is a subtest.
func ExampleTest() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			panic(err)
		}
		return path
	}
	err = plugintest.Test(context.Background(), plugintest.Config{
		Provider: secretcred.Provider{},
		Config:   map[string]any{"secret_file": file("secret", "open sesame\n")},
		Rotated:  map[string]any{"secret_file": file("next", "open barley\n")},
		Bad:      []map[string]any{{}, {"secret_file": "/s", "auth_method": "none"}},
	})
	fmt.Println(err)
	// Output: <nil>
}
