package supervise

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// highestSignal is the last one that a program can have ignored.
const highestSignal = 64

// ignoredAtStart are the signals that this process was started with ignored. Go's runtime puts a
// handler in the place of all but two of them before any code of a program runs, and keeps what stood
// there before in a table of its own. That is read here; in a program without symbols only those are
// known that the runtime leaves alone.
func ignoredAtStart() []syscall.Signal {
	table := dispositions()
	var ignored []syscall.Signal
	for n := 1; n <= highestSignal; n++ {
		s := syscall.Signal(n)
		if s == syscall.SIGKILL || s == syscall.SIGSTOP || s == syscall.SIGURG || s == syscall.SIGCHLD {
			continue // the first two cannot be ignored, the others have a use in the runtime and here
		}
		if table[n] == sigIgnore || signal.Ignored(s) || isIgnoredNow(n) {
			ignored = append(ignored, s)
		}
	}
	return ignored
}

// sigIgnore is SIG_IGN of sigaction(2), where a handler's address would stand.
const sigIgnore = 1

// dispositions is the runtime's table of what stood before its handlers; zeroes where it is unknown.
func dispositions() (table [highestSignal + 1]uint64) {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return table
	}
	defer program.Close()
	symbols, err := program.Symbols()
	if err != nil || program.Type != elf.ET_EXEC { // of a program that can be anywhere, the place is not known
		return table
	}
	for _, symbol := range symbols {
		if symbol.Name == "runtime.fwdSig" && symbol.Size == 8*uint64(len(table)) {
			return readTable(uintptr(symbol.Value))
		}
	}
	return table
}

// readTable reads a table of this process's own memory. What is there is believed only if it is what a
// new process can have: each signal at its default or ignored.
func readTable(at uintptr) (table [highestSignal + 1]uint64) {
	memory := make([]byte, 8*len(table))
	local := []unix.Iovec{{Base: &memory[0]}}
	local[0].SetLen(len(memory))
	n, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: at, Len: len(memory)}}, 0)
	if err != nil || n != len(memory) {
		return table
	}
	for i := range table {
		table[i] = binary.NativeEndian.Uint64(memory[8*i:])
		if table[i] > sigIgnore {
			return [highestSignal + 1]uint64{}
		}
	}
	return table
}
