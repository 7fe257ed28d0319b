package sink_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/sink"
)

// twoTokens alternate, so that every write has something to write.
var twoTokens = [2]string{strings.Repeat("x", 2000), strings.Repeat("y", 2000)}

// BenchmarkWrite measures a write beside the system calls that the contract asks of it.
func BenchmarkWrite(b *testing.B) {
	b.Run("by=credagent", func(b *testing.B) {
		f := newSink(b, sink.Options{Path: filepath.Join(b.TempDir(), "token"), Mode: 0o640})
		lookups := [2]sink.Lookup{having(graph(twoTokens[0])), having(graph(twoTokens[1]))}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := f.Write(lookups[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by=syscalls", func(b *testing.B) {
		dir := b.TempDir()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			must(b, bareWrite(dir, []byte(twoTokens[i%2])))
		}
	})
}

func bareWrite(dir string, content []byte) error {
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	fd, err := unix.Openat(d, "temporary", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, 0o640); err != nil {
		return err
	}
	if n, err := unix.Write(fd, content); err != nil || n != len(content) {
		return fmt.Errorf("wrote %d bytes: %w", n, err)
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	if err := unix.Renameat(d, "temporary", d, "token"); err != nil {
		return err
	}
	return unix.Fsync(d)
}

func BenchmarkUnchanged(b *testing.B) {
	f := newSink(b, sink.Options{Path: filepath.Join(b.TempDir(), "token"), Mode: 0o640})
	lookup := having(graph(twoTokens[0]))
	write(b, f, twoTokens[0], sink.Written)
	b.ReportAllocs()
	for b.Loop() {
		if outcome, err := f.Write(lookup); err != nil || outcome != sink.Unchanged {
			b.Fatal(outcome, err)
		}
	}
}

// BenchmarkHolds measures a look at a file that nobody touched: by reading it, and by what the kernel
// says of it.
func BenchmarkHolds(b *testing.B) {
	f := newSink(b, sink.Options{Path: filepath.Join(b.TempDir(), "token"), Mode: 0o640})
	lookup := having(graph(twoTokens[0]))
	write(b, f, twoTokens[0], sink.Written)
	b.Run("look=read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ok, err := f.Holds(lookup); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}
	})
	untilUntouched(b, f, lookup)
	b.Run("look=stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !f.Untouched() {
				b.Fatal("it was touched")
			}
		}
	})
}
