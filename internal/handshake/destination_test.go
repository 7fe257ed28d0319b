package handshake

import (
	"bufio"
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"https://login.example/a/token?x#y":   "https://login.example:443",
		"HTTPS://Login.Example:443/":          "https://login.example:443",
		"http://127.0.0.1/":                   "http://127.0.0.1:80",
		"https://[2001:DB8::1]:8443/x":        "https://[2001:db8::1]:8443",
		"https://user:p@login.example":        "https://login.example:443",
		"https://login.example@evil.example/": "https://evil.example:443",
		"":                                    "", "token": "", "https://": "", "https:///token": "", "https://[x": "",
	} {
		got, err := Origin(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestConnectionTellsWaysApart(t *testing.T) {
	seen := map[string]bool{}
	for _, way := range [][2]string{{"", ""}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab", ""}, {"", "ab"}} {
		seen[Connection([]byte(way[0]), way[1])] = true
	}
	if again := Connection([]byte("a"), "b"); len(seen) != 6 || !seen[again] {
		t.Errorf("%d ways", len(seen))
	}
}

// The pipe carries the keys, and after them destinations, one at a time.
func TestDestinationsFollowTheKeys(t *testing.T) {
	var pipe bytes.Buffer
	if err := mustKeys(t).Send(&pipe); err != nil {
		t.Fatal(err)
	}
	all := []Destination{{[]string{"https://a:443"}, "x"}, {[]string{"https://a:443", "https://b:443"}, "y"}}
	for _, d := range all {
		if err := d.Send(&pipe); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReaderSize(&pipe, PipeBuffer)
	side, err := Receive(r)
	if err != nil || !side.Bound {
		t.Fatalf("bound %t, %v", side.Bound, err)
	}
	for _, want := range all {
		if got, err := ReceiveDestination(r); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if d, err := ReceiveDestination(r); err == nil {
		t.Errorf("after the end: %v", d)
	}
}

// What is read is what would be sent, or an error that does not quote it.
func FuzzReceiveDestination(f *testing.F) {
	f.Add([]byte(`{"origins":["https://a:443"],"connection":"x"}` + "\n"))
	f.Add([]byte("{}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ReceiveDestination(bufio.NewReaderSize(bytes.NewReader(data), PipeBuffer))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := d.Send(&again); err != nil {
			t.Fatal(err)
		}
		got, err := ReceiveDestination(bufio.NewReaderSize(&again, PipeBuffer))
		if len(again.Bytes()) < PipeBuffer && (err != nil || strings.Join(got.Origins, " ") != strings.Join(d.Origins, " ") || got.Connection != d.Connection) {
			t.Errorf("%v became %v, %v", d, got, err)
		}
	})
}
