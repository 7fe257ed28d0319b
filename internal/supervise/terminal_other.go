//go:build !unix

package supervise

import (
	"os"
	"syscall"
)

// passed are the signals that a command is sent when this process gets them.
func passed() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// terminal is nothing that a program here would have to know of.
type terminal struct{}

func openTerminal() terminal { return terminal{} }

func (terminal) attributes() *syscall.SysProcAttr { return nil }

// reaches is true of what the console sends: it does so to every program in it.
func (terminal) reaches(s os.Signal) bool { return s == os.Interrupt }
