package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestChangesLeaveTheReaderAlone has something change every millisecond. Whoever looks at everything
// then, for ten milliseconds, must still do so once a second only, and miss nothing.
func TestChangesLeaveTheReaderAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChanges()
		begun := time.Now()
		var looks []time.Duration
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-c.told:
					looks = append(looks, time.Since(begun))
					c.readIn(10 * time.Millisecond)
				}
			}
		}()
		for range 2_000 {
			c.tell()
			pass(time.Millisecond)
		}
		last := time.Since(begun)
		pass(restTime)
		close(stop)
		<-stopped
		if looks[0] != 0 || len(looks) > 4 || looks[len(looks)-1] < last-time.Millisecond {
			t.Errorf("looks after %v, of changes until %v", looks, last)
		}
	})
}

// TestChangesAreToldAtOnce: whose look takes no time need not rest.
func TestChangesAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChanges()
		for range 10 {
			c.tell()
			c.tell()
			<-c.told
		}
		select {
		case <-c.told:
			t.Error("two changes at once are told twice")
		default:
		}
	})
}

// TestALongLookDelaysNoNews: one that took long because the machine was busy must not make a change
// go unnoticed for long.
func TestALongLookDelaysNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChanges()
		c.readIn(time.Minute)
		c.tell()
		<-c.told
		begun := time.Now()
		c.tell()
		<-c.told
		if waited := time.Since(begun); waited != restTime {
			t.Errorf("told after %v, want %v", waited, restTime)
		}
	})
}
