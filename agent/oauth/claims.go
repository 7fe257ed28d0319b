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
	// MaxClaims limits the claims of a challenge, in bytes of JSON.
	MaxClaims = 16 << 10
	// maxClaimsDepth limits their nesting; a claims request needs four levels.
	maxClaimsDepth = 16
)

// ClientCapability is the claims request of a client that can answer claims challenges.
const ClientCapability = `{"access_token":{"xms_cc":{"values":["cp1"]}}}`

// MergeClaims merges several claims requests (OpenID Connect Core, 5.5) into one. Objects are merged member by
// member, and the later value wins; client capabilities (the values of xms_cc) are combined. An invalid claims
// request is ignored; without any it returns "".
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

// merge merges the members of the object at from[name] into into.
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

// unite returns each value once, in order of appearance.
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

// checkClaims checks that the claims of a challenge are a claims request. Its error describes what they are instead.
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

// parseClaims reads one JSON object. Its numbers keep their spelling.
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

// depth returns the nesting of objects and lists.
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

// write returns deterministic JSON.
func write(value any) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // it was JSON: it can be written
	return strings.TrimSuffix(text.String(), "\n")
}
