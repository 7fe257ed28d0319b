package gate

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestLineServesInOrder compares the line with one that is searched from end to end, at random.
func TestLineServesInOrder(t *testing.T) {
	now := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	var l line
	var all []queued
	for n := range 5_000 {
		switch random.IntN(4) {
		case 0, 1:
			ctx, leave := context.WithCancel(t.Context())
			q := queued{Request: Request{Ctx: ctx, Token: strconv.Itoa(n), Due: now.Add(time.Duration(random.IntN(50)) * time.Second), Urgent: &atomic.Bool{}}, leave: leave}
			q.Urgent.Store(random.IntN(20) == 0)
			all = append(all, q)
			l.push(q.Request)
		case 2:
			if len(all) == 0 {
				continue
			}
			if one := all[random.IntN(len(all))]; random.IntN(2) == 0 {
				one.leave()
			} else {
				one.Urgent.Store(true)
				l.sort()
			}
		case 3:
			all = slices.DeleteFunc(all, func(q queued) bool { return q.Ctx.Err() != nil })
			got := l.first()
			if (got != nil) != (len(all) > 0) {
				t.Fatalf("first() = %v with %d in line", got, len(all))
			}
			if got != nil {
				l.pop()
				i := searched(all)
				if got.Token != all[i].Token {
					t.Fatalf("first() is %s, want %s", got.Token, all[i].Token)
				}
				all[i].leave()
				all = slices.Delete(all, i, i+1)
			}
		}
	}
}

type queued struct {
	Request
	leave context.CancelFunc
}

// searched is the index of the first urgent one, else of the first that is due longest.
func searched(all []queued) int {
	if i := slices.IndexFunc(all, func(q queued) bool { return q.Urgent.Load() }); i >= 0 {
		return i
	}
	longest := 0
	for i, q := range all {
		if q.Due.Before(all[longest].Due) {
			longest = i
		}
	}
	return longest
}

// TestLineForgetsWhoLeft: reloads behind a gate that is closed for a day must not fill the memory.
func TestLineForgetsWhoLeft(t *testing.T) {
	var l line
	l.push(Request{Ctx: t.Context(), Due: time.Now()}) // stays in front
	for range 10_000 {
		ctx, leave := context.WithCancel(t.Context())
		l.push(Request{Ctx: ctx, Due: time.Now().Add(time.Hour)})
		leave()
	}
	if len(l.waiting) > 50 {
		t.Errorf("%d requests are kept, of which somebody waits for one", len(l.waiting))
	}
}
