package verifysink

import (
	"bytes"
	"testing"
)

func TestUnseal(t *testing.T) {
	whole := seal("nonce", 12)
	for name, tc := range map[string]struct {
		content []byte
		want    int
	}{
		"whole":              {whole, 12},
		"of another trial":   {seal("other", 12), 0},
		"nothing":            {nil, 0},
		"its first half":     {whole[:len(whole)/2], 0},
		"its second half":    {whole[len(whole)/2:], 0},
		"one byte short":     {whole[:len(whole)-1], 0},
		"one byte long":      {append(bytes.Clone(whole), 'x'), 0},
		"zeros in it":        {append(bytes.Clone(whole[:len(whole)-64]), make([]byte, 64)...), 0},
		"two halves":         {append(bytes.Clone(whole[:100]), seal("nonce", 13)[100:]...), 0},
		"no number":          {seal("nonce", 0), 0},
		"a negative number":  {withSum("nonce.-1.x"), 0},
		"a number that ends": {withSum("nonce.7"), 7},
	} {
		t.Run(name, func(t *testing.T) {
			number, ok := unseal("nonce", tc.content)
			if ok != (tc.want > 0) || ok && number != tc.want {
				t.Errorf("unseal() = %d, %t, want %d", number, ok, tc.want)
			}
		})
	}
}

// FuzzUnseal: what passes is what was sealed, and no part of it passes.
func FuzzUnseal(f *testing.F) {
	f.Add(seal("nonce", 1))
	f.Add(seal("other", 3)[:40])
	f.Add([]byte("nonce.7."))
	f.Add([]byte("."))
	f.Fuzz(func(t *testing.T, content []byte) {
		number, ok := unseal("nonce", content)
		if !ok {
			return
		}
		if number < 1 || !bytes.HasPrefix(content, []byte("nonce.")) {
			t.Errorf("unseal() = %d of %q", number, content)
		}
		if _, half := unseal("nonce", content[:len(content)-1]); half {
			t.Errorf("a part of %q passes", content)
		}
	})
}
