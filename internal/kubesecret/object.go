package kubesecret

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
)

// has reports whether an object has all that would be applied. What it has beside that is others'.
func (o object) has(want object) bool {
	if o.Type != want.Type {
		return false
	}
	for key, value := range want.Data {
		if got, there := o.Data[key]; !there || !bytes.Equal(got, value) {
			return false
		}
	}
	return hasAll(o.Metadata.Labels, want.Metadata.Labels) && hasAll(o.Metadata.Annotations, want.Metadata.Annotations)
}

func hasAll(got, want map[string]string) bool {
	for name, value := range want {
		if have, there := got[name]; !there || have != value {
			return false
		}
	}
	return true
}

// digestOf tells objects apart without keeping tokens.
func digestOf(o object) []byte {
	text, _ := json.Marshal(o) // it is made of strings
	sum := sha256.Sum256(text)
	return sum[:]
}
