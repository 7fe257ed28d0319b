// Package keyfile reads keys, certificates and secrets in the formats that people have: PEM and DER, also as modified
// by editors, shells, CI variables and download pages. It repairs only what is unambiguous. For anything else it
// reports what the file is and which command converts it. It opens no file, and its errors show nothing of what it
// read.
package keyfile

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns a text as UTF-8 without a byte order mark. UTF-16, which PowerShell's > writes, is recognized by its
// byte order mark, or by every other byte being NUL.
func Text(data []byte) []byte {
	if text, ok := bytes.CutPrefix(data, []byte("\ufeff")); ok {
		return text
	}
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return fromUTF16(data[2:], binary.LittleEndian)
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return fromUTF16(data[2:], binary.BigEndian)
	case everyOtherIsNUL(data, 1):
		return fromUTF16(data, binary.LittleEndian)
	case everyOtherIsNUL(data, 0):
		return fromUTF16(data, binary.BigEndian)
	}
	return data
}

func everyOtherIsNUL(data []byte, first int) bool {
	if len(data) < 4 || len(data)%2 != 0 {
		return false
	}
	for i, b := range data {
		if (b == 0) != (i%2 == first) {
			return false
		}
	}
	return true
}

// fromUTF16 returns data that is not UTF-16 unchanged.
func fromUTF16(data []byte, order binary.ByteOrder) []byte {
	if len(data)%2 != 0 {
		return data
	}
	out := make([]byte, 0, len(data)*3/2) // the maximum, so that no smaller copy is left behind
	for i := 0; i < len(data); i += 2 {
		r := rune(order.Uint16(data[i:]))
		if utf16.IsSurrogate(r) && i+4 <= len(data) {
			r = utf16.DecodeRune(r, rune(order.Uint16(data[i+2:])))
			i += 2
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}
