package oauth

import (
	"regexp"
	"sync"
)

// hidden stands for what looked like a token.
const hidden = "[redacted]"

// tokenLike are a JWT (RFC 7515, 7516), and the value of a name such as access_token or clientSecret: in
// quotes, in a form, or behind a colon in prose, where only a long word is one.
var tokenLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\beyJ[\w-]{6,}(?:\.[\w-]*){1,4}` +
		`|(?i)(\b[\w.-]*(?:token|assertion|secret|password)\\?["']?\s*(?:[:=]\s*\\?["'][^"']+|=[^\s"'&,;}<]+|:\s*[^\s"'&,;}<]{16,}))`)
})

var valueStart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[:=]\s*\\?["']?`) })

// hideTokens hides in a server's text what looks like a token. A refusal has none to give, but a server may
// answer a good token with a status of failure, or repeat one, and what it says is shown.
func hideTokens(s string) string {
	return tokenLike().ReplaceAllStringFunc(s, func(found string) string {
		at := valueStart().FindStringIndex(found)
		if at == nil {
			return hidden
		}
		return found[:at[1]] + hidden
	})
}
