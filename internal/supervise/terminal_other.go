//go:build !unix

package supervise

import (
	"os"
	"syscall"
)

// passed returns the signals that are passed on to the command.
func passed() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// terminal is unused here.
type terminal struct{}

func openTerminal() terminal { return terminal{} }

func (terminal) attributes() *syscall.SysProcAttr { return nil }

// reaches reports true for what the console sends, because every program in it gets that.
func (terminal) reaches(s os.Signal) bool { return s == os.Interrupt }
