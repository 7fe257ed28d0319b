package clockwatch

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Watch reports when the wall clock jumps.
type Watch struct {
	timer *os.File
	jumps chan struct{}
	ended chan struct{}
}

// New starts watching the wall clock. Its error wraps [ErrNotTold].
//
// It sets a timer that is never due, which the kernel cancels when the clock is set, or read again after a sleep
// (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func New() (*Watch, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: making a timer: %w", ErrNotTold, err)
	}
	timer := os.NewFile(uintptr(fd), "timer")
	never := unix.ItimerSpec{Value: unix.NsecToTimespec(math.MaxInt64)}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		_ = timer.Close()
		return nil, fmt.Errorf("%w: setting a timer: %w", ErrNotTold, err)
	}
	w := &Watch{timer: timer, jumps: make(chan struct{}, 1), ended: make(chan struct{})}
	go w.run()
	return w, nil
}

// Jumps receives a value when the clock has jumped since the last receive.
func (w *Watch) Jumps() <-chan struct{} { return w.jumps }

// Close ends the watch.
func (w *Watch) Close() error {
	err := w.timer.Close()
	<-w.ended
	return err
}

func (w *Watch) run() {
	defer close(w.ended)
	var expirations [8]byte
	for {
		_, err := w.timer.Read(expirations[:])
		if err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
		select {
		case w.jumps <- struct{}{}:
		default:
		}
	}
}
