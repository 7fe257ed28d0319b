package peer

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:24F9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 51 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 52 1 0 100 0 0 10 0
   2: 0100007F:24F9 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 53 1 0 20 4 0 10 -1
   3: nonsense
   4: 0100007F:ZZZZ 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 54 1
   5: 00000000000000000000000001000000:24F9 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 55 1
   6: 0000000000000000FFFF00000100007F:24FA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 56 1
   8: 0100007F:D431 0100007F:24F9 01 00000000:00000000 00:00000000 00000000  1004        0 58 1 0 20 4 0 10 -1
   9: 0100007F:D432 0100007F:24F9 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 0 10 -1
  10: 0000000000000000FFFF00000100007F:D433 0000000000000000FFFF00000100007F:24F9 01 00000000:00000000 00:00000000 00000000  1005        0 59 1
  11: 0100007F:D434 0100007F:24F9 01 00000000:00000000 00:00000000 00000000  many        0 60 1
   7: 00000000000000000000000000000000:24FB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 57 1
`

func TestWhoListens(t *testing.T) {
	all := parseListeners(strings.NewReader(table))
	for address, want := range map[string]int{
		"127.0.0.1:9465":          1000,
		"[::1]:9465":              1001,
		"[::ffff:127.0.0.1]:9465": 1000,
		"127.0.0.1:22":            0,
		"10.0.0.1:22":             0,
		"127.0.0.1:9466":          1002,
		"127.0.0.1:9467":          1003,
		"10.0.0.1:9465":           -1,
		"127.0.0.1:23":            -1,
	} {
		got := -1
		if found := at(all, netip.MustParseAddrPort(address)); len(found) == 1 {
			got = found[0].UID
		} else if len(found) > 1 {
			t.Errorf("%s: %v", address, found)
		}
		if got != want {
			t.Errorf("%s belongs to %d, want %d", address, got, want)
		}
	}
	if found := at(all, netip.MustParseAddrPort("0.0.0.0:9465")); len(found) != 2 {
		t.Errorf("at any address: %v", found)
	}
}

func TestWhoListensHere(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("listening at %s: %v", address, err)
		}
		port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
		at := netip.AddrPortFrom(listener.Addr().(*net.TCPAddr).AddrPort().Addr(), port)
		got, err := At(at)
		if err != nil || len(got) != 1 || got[0].UID != os.Geteuid() {
			t.Errorf("%s: %v, %v", address, got, err)
		}
		listener.Close()
		if got, err := At(at); err != nil || len(got) != 0 {
			t.Errorf("after its end: %v, %v", got, err)
		}
	}
}

func TestWhoOwnsAnEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		local, remote string
		want          int // -1 for nobody
	}{
		"a connection":                   {"127.0.0.1:54321", "127.0.0.1:9465", 1004},
		"its other end":                  {"127.0.0.1:9465", "127.0.0.1:54321", 0},
		"one that was closed":            {"127.0.0.1:54322", "127.0.0.1:9465", -1},
		"one of IPv6 to IPv4":            {"127.0.0.1:54323", "127.0.0.1:9465", 1005},
		"written as IPv6":                {"[::ffff:127.0.0.1]:54321", "[::ffff:127.0.0.1]:9465", 1004},
		"to another port":                {"127.0.0.1:54321", "127.0.0.1:9466", -1},
		"from another address":           {"127.0.0.2:54321", "127.0.0.1:9465", -1},
		"of a user that makes no number": {"127.0.0.1:54324", "127.0.0.1:9465", -1},
		"a listener":                     {"127.0.0.1:9465", "0.0.0.0:0", 1000},
	} {
		uid, found := parseOwner(strings.NewReader(table), netip.MustParseAddrPort(tc.local), netip.MustParseAddrPort(tc.remote))
		if found != (tc.want >= 0) || found && uid != tc.want {
			t.Errorf("%s: %d, %t, want %d", name, uid, found, tc.want)
		}
	}
}

func FuzzListeners(f *testing.F) {
	f.Add(table)
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range parseListeners(strings.NewReader(text)) {
			if !l.Address.IsValid() || l.UID < 0 {
				t.Errorf("%+v", l)
			}
		}
		if uid, found := parseOwner(strings.NewReader(text), netip.MustParseAddrPort("127.0.0.1:54321"), netip.MustParseAddrPort("127.0.0.1:9465")); found && uid < 0 {
			t.Errorf("user %d", uid)
		}
	})
}
