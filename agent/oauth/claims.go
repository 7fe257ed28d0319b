package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxClaims bounds the claims of a challenge, in bytes of JSON.
	MaxClaims = 16 << 10
	// maxClaimsDepth bounds how deep they are nested; a claims request needs four.
	maxClaimsDepth = 16
)

// ClientCapability is the claims request of a client that can answer claims challenges.
const ClientCapability = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`

// MergeClaims makes one claims request (OpenID Connect Core, 5.5) of several. Objects are merged
// member by member, and where two disagree the later one wins; client capabilities (the values of
// xms_cc) are united. What is no claims request counts as none; without any it returns "".
func MergeClaims(requests ...string) string {
	var merged map[string]any
	for _, request := range requests {
		claims, err := parseClaims([]byte(request))
		if err != nil {
			continue
		}
		if merged == nil {
			merged = map[string]any{}
		}
		merge(merged, claims, "")
	}
	if merged == nil {
		return ""
	}
	return write(merged)
}

// merge puts the members of an object, which is the member called name of another, into one.
func merge(into, from map[string]any, name string) {
	for key, value := range from {
		switch value := value.(type) {
		case map[string]any:
			object, ok := into[key].(map[string]any)
			if !ok {
				object = map[string]any{}
			}
			merge(object, value, key)
			into[key] = object
		case []any:
			if name == "xms_cc" && key == "values" {
				there, _ := into[key].([]any)
				value = unite(there, value)
			}
			into[key] = value
		default:
			into[key] = value
		}
	}
}

// unite returns each value once, in the order in which they came.
func unite(lists ...[]any) []any {
	united, seen := []any{}, map[string]bool{}
	for _, value := range slices.Concat(lists...) {
		if text := write(value); !seen[text] {
			seen[text] = true
			united = append(united, value)
		}
	}
	return united
}

// checkClaims holds the claims of a challenge to what a claims request is. Its error says what they
// are instead.
func checkClaims(data []byte) error {
	if len(data) > MaxClaims {
		return fmt.Errorf("longer than %d KiB", MaxClaims>>10)
	}
	claims, err := parseClaims(data)
	if err == nil && depth(claims) > maxClaimsDepth {
		err = fmt.Errorf("nested deeper than %d", maxClaimsDepth)
	}
	return err
}

// parseClaims reads one JSON object. Its numbers are handed on as they were written.
func parseClaims(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil || claims == nil || !utf8.Valid(data) {
		return nil, errors.New("not a JSON object")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("more than a JSON object")
	}
	return claims, nil
}

// depth is how many objects and lists are within one another.
func depth(value any) int {
	deepest := 0
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			deepest = max(deepest, depth(member))
		}
	case []any:
		for _, member := range value {
			deepest = max(deepest, depth(member))
		}
	default:
		return 0
	}
	return deepest + 1
}

// write returns JSON that is always the same for the same value.
func write(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // it was JSON: it can be written
	return strings.TrimSuffix(text.String(), "\n")
}
