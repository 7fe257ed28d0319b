//go:build unix

package sink_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/testkit/leaktest"
)

// writerPath and writerStart make the test binary a process that only writes a sink.
const (
	writerPath  = "SINK_TEST_WRITER_PATH"
	writerStart = "SINK_TEST_WRITER_START"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(writerPath); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(leaktest.Main(m))
}

// writeForEver reports each write with a line, and ends with an error or a kill.
func writeForEver(path string) error {
	start, err := strconv.Atoi(os.Getenv(writerStart))
	if err != nil {
		return err
	}
	f, err := sink.New(sink.Options{Path: path, Mode: 0o640, Renderer: sink.Raw("graph")})
	if err != nil {
		return err
	}
	for i := start; ; i++ {
		if _, err := f.Write(having(graph(sealed(i)))); err != nil {
			return err
		}
		if _, err := fmt.Println(i); err != nil {
			return err
		}
	}
}

// sealed makes a content that shows when it is not whole, of varying length.
func sealed(i int) string {
	body := fmt.Sprintf("%d.%s", i, strings.Repeat("x", i*7919%20000))
	sum := sha256.Sum256([]byte(body))
	return body + "." + hex.EncodeToString(sum[:])
}

func checkSealed(t *testing.T, path string) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("the file is missing: %v", err)
		return false
	}
	cut := strings.LastIndexByte(string(data), '.')
	if cut < 0 {
		t.Errorf("the file is torn: it has %d bytes", len(data))
		return false
	}
	sum := sha256.Sum256(data[:cut])
	if string(data[cut+1:]) != hex.EncodeToString(sum[:]) {
		t.Errorf("the file is torn: it has %d bytes", len(data))
		return false
	}
	return true
}

func readUntil(t *testing.T, path string, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			if !checkSealed(t, path) {
				return
			}
		}
	}
}

// TestKilledWriter kills writing processes at random moments while others read.
func TestKilledWriter(t *testing.T) {
	const writes = 1000
	path := filepath.Join(t.TempDir(), "token")
	write(t, newSink(t, sink.Options{Path: path, Mode: 0o640}), sealed(0), sink.Written)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readUntil(t, path, stop) })
	}
	kills, leftOvers := 0, 0
	for written := 0; written < writes && !t.Failed(); kills++ {
		written += writeAndKill(t, path, written+1, 1+rand.IntN(40))
		entries, err := os.ReadDir(filepath.Dir(path))
		must(t, err)
		leftOvers += len(entries) - 1
	}
	close(stop)
	readers.Wait()
	t.Logf("%d processes killed, %d of them left a temporary file", kills, leftOvers)
	if kills < writes/100 {
		t.Errorf("only %d processes were killed", kills)
	}
	newSink(t, sink.Options{Path: path, Mode: 0o640})
	wantEntries(t, filepath.Dir(path), "token")
}

// writeAndKill lets a process write about this often, kills it, and returns how often it did.
func writeAndKill(t *testing.T, path string, start, writes int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerPath+"="+path, writerStart+"="+strconv.Itoa(start))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	done := 0
	for done < writes && lines.Scan() {
		done++
	}
	// The writer goes on meanwhile, so that the kill falls anywhere in a write.
	for range rand.IntN(40) {
		checkSealed(t, path)
	}
	must(t, cmd.Process.Kill())
	for lines.Scan() {
		done++
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Errorf("the writer ended by itself: %v", err)
	}
	return done
}
