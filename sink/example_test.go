package sink_test

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	tmpl, err := sink.Template("[auth]\nbearer = {{ (token \"graph\").AccessToken | quote }}\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := sink.New(sink.Options{Path: filepath.Join(dir, "app.ini"), Mode: 0o640, Renderer: tmpl})
	if err != nil {
		fmt.Println(err)
		return
	}
	lookup := func(name string) (token.Token, bool) {
		return token.Token{Name: name, AccessToken: secret.New("opaque"), Expiry: time.Now().Add(time.Hour)}, true
	}
	for range 2 {
		outcome, err := file.Write(lookup)
		fmt.Println(outcome, err)
	}
	content, _ := os.ReadFile(file.Path())
	fmt.Printf("%s", content)
	// Output:
	// written <nil>
	// unchanged <nil>
	// [auth]
	// bearer = "opaque"
}
