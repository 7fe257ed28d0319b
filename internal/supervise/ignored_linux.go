package supervise

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// highestSignal is the highest signal that can be ignored.
const highestSignal = 64

// ignoredAtStart returns the signals that were ignored when this process started. Before any code of a program runs,
// Go's runtime installs handlers for all but two of them, and keeps the previous dispositions in a table, which is
// read here. In a program without the table's symbol, which released ones keep, only the signals that the runtime leaves
// alone are known.
func ignoredAtStart() []syscall.Signal {
	table := dispositions()
	var ignored []syscall.Signal
	for n := 1; n <= highestSignal; n++ {
		s := syscall.Signal(n)
		if s == syscall.SIGKILL || s == syscall.SIGSTOP || s == syscall.SIGURG || s == syscall.SIGCHLD {
			continue // the first two cannot be ignored, the others are used by the runtime and here
		}
		if table[n] == sigIgnore || signal.Ignored(s) || isIgnoredNow(n) {
			ignored = append(ignored, s)
		}
	}
	return ignored
}

// sigIgnore is SIG_IGN of sigaction(2), in place of a handler's address.
const sigIgnore = 1

// dispositions returns the runtime's table of previous handlers; zeroes if it is unknown.
func dispositions() (table [highestSignal + 1]uint64) {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return table
	}
	defer program.Close()
	symbols, err := program.Symbols()
	if err != nil || program.Type != elf.ET_EXEC { // the address is unknown in a position-independent program
		return table
	}
	for _, symbol := range symbols {
		if symbol.Name == "runtime.fwdSig" && symbol.Size == 8*uint64(len(table)) {
			return readTable(uintptr(symbol.Value))
		}
	}
	return table
}

// readTable reads a table from this process's memory. It is used only if it is possible for a new process: each
// signal at its default or ignored.
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
