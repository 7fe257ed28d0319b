package verifysink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	// longest is more than any token, and more than a page, so that a partial write is visible.
	longest = 20000
	// maxContent limits what is read of a file that another program has put there.
	maxContent = longest + 200
)

// seal returns the content of a write, of varying length, in which truncation is detectable.
func seal(nonce string, number int) []byte {
	return withSum(fmt.Sprintf("%s.%d.%s", nonce, number, strings.Repeat("x", number*7919%longest)))
}

func withSum(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(body + "." + hex.EncodeToString(sum[:]))
}

// unseal returns the number of the write that wrote content; false if it is incomplete or foreign.
func unseal(nonce string, content []byte) (number int, whole bool) {
	cut := bytes.LastIndexByte(content, '.')
	if cut < 0 {
		return 0, false
	}
	sum := sha256.Sum256(content[:cut])
	if string(content[cut+1:]) != hex.EncodeToString(sum[:]) {
		return 0, false
	}
	of, rest, _ := strings.Cut(string(content[:cut]), ".")
	digits, _, _ := strings.Cut(rest, ".")
	number, err := strconv.Atoi(digits)
	return number, err == nil && number > 0 && of == nonce
}
