package sink_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/sink"
)

// twoTokens alternate, so that every write has something to write.
var twoTokens = [2]string{strings.Repeat("x", 2000), strings.Repeat("y", 2000)}

// BenchmarkWrite measures a write beside the system calls that replace a file at all.
func BenchmarkWrite(b *testing.B) {
	benchmarkWrite(b, func(b *testing.B) string { return b.TempDir() })
}

// BenchmarkWriteInMemory is [BenchmarkWrite] on a tmpfs, where nothing is waited for.
func BenchmarkWriteInMemory(b *testing.B) {
	benchmarkWrite(b, func(b *testing.B) string {
		dir, err := os.MkdirTemp("/dev/shm", "credagent-bench-")
		if err != nil {
			b.Skip(err)
		}
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	})
}

func benchmarkWrite(b *testing.B, directory func(*testing.B) string) {
	b.Run("by=credagent", func(b *testing.B) {
		f := newSink(b, sink.Options{Path: filepath.Join(directory(b), "token"), Mode: 0o640})
		lookups := [2]sink.Lookup{having(graph(twoTokens[0])), having(graph(twoTokens[1]))}
		measureWrites(b, func(i int) error {
			_, err := f.Write(lookups[i%2])
			return err
		})
	})
	b.Run("by=syscalls", func(b *testing.B) {
		dir := directory(b)
		measureWrites(b, func(i int) error { return bareWrite(dir, []byte(twoTokens[i%2])) })
	})
}

// measureWrites measures the processor time of a write too, which what else runs disturbs less.
func measureWrites(b *testing.B, write func(i int) error) {
	b.ReportAllocs()
	before, n := processorTime(b), 0
	for ; b.Loop(); n++ {
		must(b, write(n))
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(n), "cpu-ns/op")
}

// processorTime is what this process has used, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var used unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return unix.TimevalToNsec(used.Utime) + unix.TimevalToNsec(used.Stime)
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
