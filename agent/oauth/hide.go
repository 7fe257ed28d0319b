package oauth

import (
	"regexp"
	"sync"
)

// hidden replaces what looks like a token.
const hidden = "[redacted]"

// tokenLike matches a JWT (RFC 7515, 7516), and the value of a name such as access_token or clientSecret: in quotes,
// in a form, or after a colon in prose, where only a long word counts.
var tokenLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\beyJ[\w-]{6,}(?:\.[\w-]*){1,4}` +
		`|(?i)(\b[\w.-]*(?:token|assertion|secret|password)\\?["']?\s*(?:[:=]\s*\\?["'][^"']+|=[^\s"'&,;}<]+|:\s*[^\s"'&,;}<]{16,}))`)
})

var valueStart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[:=]\s*\\?["']?`) })

// hideTokens hides what looks like a token in a server's text. A refusal should contain none, but a server may send a
// valid token with a failure status, or repeat one, and its text is shown.
func hideTokens(s string) string {
	return tokenLike().ReplaceAllStringFunc(s, func(found string) string {
		at := valueStart().FindStringIndex(found)
		if at == nil {
			return hidden
		}
		return found[:at[1]] + hidden
	})
}
