package kubesecret

import (
	"encoding/json"
	"testing"
)

// FuzzObject reads Secrets: what is taken for one is a Secret with a version, and has what it has.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"kind":"Secret","type":"Opaque","metadata":{"name":"graph","resourceVersion":"7","labels":{"a":"b"}},"data":{"token":"b25l"}}`))
	f.Add([]byte(`{"kind":"Secret","metadata":{"resourceVersion":"7"},"data":{"token":"!"}}`))
	f.Add([]byte(`{"kind":"Status","code":404}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := parseObject(answer)
		if err != nil {
			return
		}
		if got.Kind != "Secret" || got.Metadata.Version == "" || !got.has(got) {
			t.Errorf("it is %+v", got)
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseObject(again); err != nil || !back.has(got) {
			t.Errorf("written and read again it is %+v, %v", back, err)
		}
	})
}
