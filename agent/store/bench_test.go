package store

import (
	"fmt"
	"testing"
)

func BenchmarkSave(b *testing.B) {
	s, r := newStore(b), sample("graph")
	for b.Loop() {
		must(b, s.Save("graph", r))
	}
}

func BenchmarkLoadAll(b *testing.B) {
	for _, tokens := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d tokens", tokens), func(b *testing.B) {
			s := newStore(b)
			for i := range tokens {
				name := fmt.Sprintf("token%d", i)
				must(b, s.Save(name, sample(name)))
			}
			for b.Loop() {
				if all, failed := s.LoadAll(); len(all) != tokens {
					b.Fatal(failed)
				}
			}
		})
	}
}
