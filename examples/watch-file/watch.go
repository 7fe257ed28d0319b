// Command watch-file is a program that holds its token in memory and replaces it as soon as there is a new one:
// watch-file FILE. It watches the file's directory, since a watch of the file ends when the file is replaced. It also
// checks periodically, for file systems that do not report changes.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const lookEvery = 30 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: watch-file FILE")
		os.Exit(64)
	}
	if err := watch(ctx, os.Args[1], use); err != nil {
		fmt.Fprintln(os.Stderr, "watch-file:", err)
		os.Exit(1)
	}
}

// use is where a program would pass the token to the code that makes its requests.
func use(token []byte) {
	fmt.Printf("using token %x\n", sha256.Sum256(token))
}

// watch calls take with the file's content, and again whenever it changes.
func watch(ctx context.Context, file string, take func([]byte)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(file)); err != nil {
		return err
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last string
	for {
		// The first check comes after the watch has begun, so no change is missed between the two.
		token, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if string(token) != last {
			last = string(token)
			take(token)
		}
		if !next(ctx, watcher, ticker.C, filepath.Clean(file)) {
			return nil
		}
	}
}

// next returns true when the file may have changed, and false when ctx ends.
func next(ctx context.Context, watcher *fsnotify.Watcher, look <-chan time.Time, file string) bool {
	for {
		select {
		case event := <-watcher.Events:
			if event.Name == file {
				return true
			}
		case <-watcher.Errors: // changes may have been missed
			return true
		case <-look:
			return true
		case <-ctx.Done():
			return false
		}
	}
}
