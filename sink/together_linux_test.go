package sink

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

// BenchmarkTogether writes a hundred sinks of one directory at the same time, as after a restart: each
// syncing the directory, and none. What lies between is the most that a common sync could save.
func BenchmarkTogether(b *testing.B) {
	for _, by := range []string{"credagent", "unsynced"} {
		b.Run("by="+by, func(b *testing.B) {
			dir := b.TempDir()
			var files []*File
			for i := range 100 {
				f, err := New(Options{Path: filepath.Join(dir, fmt.Sprint(i)), Renderer: Raw("graph")})
				if err != nil {
					b.Fatal(err)
				}
				if by == "unsynced" {
					f.syncDir = func(*os.Root) error { return nil }
				}
				files = append(files, f)
			}
			for i := 0; b.Loop(); i++ {
				content := secret.New(fmt.Sprint("token-", i))
				var writing sync.WaitGroup
				for _, f := range files {
					writing.Go(func() {
						_, err := f.Write(func(name string) (token.Token, bool) {
							return token.Token{Name: name, AccessToken: content}, true
						})
						if err != nil {
							b.Error(err)
						}
					})
				}
				writing.Wait()
			}
		})
	}
}
