package keyfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

func utf16Of(text string, order binary.AppendByteOrder) []byte {
	var out []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

func TestText(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":                    {"sesame", "sesame"},
		"empty":                    {"", ""},
		"byte order mark":          {"\ufeffsesame", "sesame"},
		"UTF-16, little end first": {string(utf16Of("\ufeffsesäme😀", binary.LittleEndian)), "sesäme😀"},
		"UTF-16, big end first":    {string(utf16Of("\ufeffsesäme😀", binary.BigEndian)), "sesäme😀"},
		"without its mark":         {string(utf16Of("sesame", binary.LittleEndian)), "sesame"},
		"without its mark, big":    {string(utf16Of("sesame", binary.BigEndian)), "sesame"},
		"half a character":         {"\xff\xfea\x00b", "a\x00b"},
		"half a pair":              {string(utf16Of("\ufeff", binary.LittleEndian)) + "\x00\xd8", "\ufffd"},
		"a NUL at its end":         {"ses\x00", "ses\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(Text([]byte(tc.in))); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// key is a block of PEM as OpenSSL writes it, of 150 bytes.
func key() (text string, der []byte) {
	der = append([]byte{0x30, 0x81, 147, 0x02, 1, 0, 0x30, 3, 0x06, 1, 42, 0x04, 0x81, 136}, bytes.Repeat([]byte{0xa5}, 136)...)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), der
}

// wrappings are what becomes of PEM on the way into a file.
func wrappings() map[string]func(string) string {
	encode := base64.StdEncoding.EncodeToString
	lines := func(before, after string) func(string) string {
		return func(text string) string {
			return before + strings.ReplaceAll(strings.TrimSpace(text), "\n", after+before) + after
		}
	}
	return map[string]func(string) string{
		"as it is":               func(s string) string { return s },
		"Windows' line breaks":   func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"the Mac's":              func(s string) string { return strings.ReplaceAll(s, "\n", "\r") },
		"UTF-16":                 func(s string) string { return string(utf16Of("\ufeff"+s, binary.LittleEndian)) },
		"UTF-16, big end first":  func(s string) string { return string(utf16Of("\ufeff"+s, binary.BigEndian)) },
		`\n`:                     func(s string) string { return strings.ReplaceAll(s, "\n", `\n`) },
		`\r\n`:                   func(s string) string { return strings.ReplaceAll(s, "\n", `\r\n`) },
		`\\n in quotes`:          func(s string) string { return `"` + strings.ReplaceAll(s, "\n", `\\n`) + `"` },
		"blanks":                 func(s string) string { return strings.ReplaceAll(s, "\n", " ") },
		"no line breaks":         func(s string) string { return strings.ReplaceAll(s, "\n", "") },
		"indented":               lines("    ", "\n"),
		"indented with tabs":     lines("\t", "\n"),
		"blanks at the end":      lines("", "  \r\n"),
		"blank lines":            lines("", "\n\n"),
		"no-break spaces":        lines("\u00a0", "\n"),
		"strings of a program":   lines(`"`, `\n"`+"\n"),
		"JSON":                   func(s string) string { return `{"key":"` + strings.ReplaceAll(s, "\n", `\n`) + `"}` },
		"a variable":             func(s string) string { return "KEY='" + s + "'\n" },
		"base64":                 encodeWith(encode),
		"base64 twice":           func(s string) string { return encode([]byte(encode([]byte(s)))) },
		"base64 in UTF-16":       func(s string) string { return string(utf16Of("\ufeff"+encode([]byte(s)), binary.LittleEndian)) },
		"base64 of UTF-16":       func(s string) string { return encode(utf16Of("\ufeff"+s, binary.LittleEndian)) },
		"base64 in lines":        func(s string) string { return broken(encode([]byte(s)), 76) },
		"base64 without padding": func(s string) string { return strings.TrimRight(encode([]byte(s)), "=") },
		"base64 of one line":     func(s string) string { return encode([]byte(strings.ReplaceAll(s, "\n", `\n`))) },
	}
}

func encodeWith(encode func([]byte) string) func(string) string {
	return func(s string) string { return encode([]byte(s)) }
}

func broken(text string, at int) string {
	var out strings.Builder
	for len(text) > at {
		out.WriteString(text[:at] + "\r\n")
		text = text[at:]
	}
	return out.String() + text
}

func TestReadFindsWhatIsWrapped(t *testing.T) {
	text, der := key()
	for name, wrap := range wrappings() {
		t.Run(name, func(t *testing.T) {
			c := Read([]byte(wrap(text)))
			if len(c.Blocks) != 1 || c.Blocks[0].Type != "PRIVATE KEY" || !bytes.Equal(c.Blocks[0].Bytes, der) {
				t.Errorf("read %+v", c)
			}
			two := Read([]byte(wrap(text + strings.ReplaceAll(text, "PRIVATE KEY", "OTHER"))))
			if len(two.Blocks) != 2 {
				t.Errorf("of two blocks %d", len(two.Blocks))
			}
		})
	}
}

// A zero is also the byte that DER begins with, and what follows it is a length there.
func TestTextThatBeginsWithAZero(t *testing.T) {
	text, der := key()
	encode := base64.StdEncoding.EncodeToString
	for name, in := range map[string]string{
		"openssl s_client -showcerts": "0 s:CN = x\n   i:CN = x\n" + text,
		"a number":                    "01 my certificate\n" + text,
		"a serial number":             "00:9a:3c:51\n" + text,
		"hexadecimal":                 "0x1f2e\n" + text,
		"Windows' line breaks":        "0\r\n" + text,
		"Latin-1":                     "0 Schl\xfcssel des Dienstes\n" + text,
		"UTF-16 without its mark":     string(utf16Of("0 s:CN = x\n"+text, binary.LittleEndian)),
		"in base64":                   encode([]byte("0 s:CN = x\n" + text)),
		"base64 that begins with one": encode([]byte("Сертификат\n" + text)),
	} {
		t.Run(name, func(t *testing.T) {
			c := Read([]byte(in))
			if len(c.Blocks) != 1 || !bytes.Equal(c.Blocks[0].Bytes, der) {
				t.Errorf("read %+v", c)
			}
		})
	}
}

func TestReadKeepsEncryption(t *testing.T) {
	_, der := key()
	block := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,0011223344556677"}, Bytes: der}
	for name, wrap := range wrappings() {
		if name == "no line breaks" {
			continue // where its headers end nobody can know
		}
		t.Run(name, func(t *testing.T) {
			c := Read([]byte(wrap(string(pem.EncodeToMemory(block)))))
			if len(c.Blocks) != 1 || c.Blocks[0].Headers["DEK-Info"] != block.Headers["DEK-Info"] || !bytes.Equal(c.Blocks[0].Bytes, der) {
				t.Errorf("read %+v", c)
			}
		})
	}
}

func TestOdd(t *testing.T) {
	text, _ := key()
	for name, tc := range map[string]struct{ in, want string }{
		"nothing known": {"canary", ""},
		"JCEKS":         {"\xce\xce\xce\xce\x00\x00\x00\x02", "but a Java keystore"},
		"a page":        {"\n <html>", "but HTML or XML"},
		"a ZIP archive": {"PK\x03\x04", "unpack it"},
		"gzip":          {"\x1f\x8b\x08", "gunzip -c OLD > NEW"},
		"cut off":       {text[:len(text)/2], "it is cut off"},
		"end alone":     {text[len(text)/2:], "five hyphens"},
		"em dashes":     {strings.ReplaceAll(text, "-----", "—–"), "five hyphens"},
		"damaged":       {strings.Replace(text, "pa", "?!", 1), "its PEM is damaged"},
		"other end":     {strings.Replace(text, "END PRIVATE", "END PUBLIC", 1), "its PEM is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Read([]byte(tc.in)).Odd(); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Whatever it reads, it neither changes it nor shows it, and what is whole is found in each wrapping.
func FuzzRead(f *testing.F) {
	text, der := key()
	for _, wrap := range wrappings() {
		f.Add([]byte(wrap(text)))
	}
	f.Add(der)
	if p12, err := os.ReadFile("../../plugins/certcred/testdata/bundle.p12"); err == nil {
		f.Add(p12)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		c := Read(data)
		if c.DER != nil && len(c.Blocks) > 0 {
			t.Error("blocks and something else")
		}
		if _, err := c.Certificates(); err != nil && len(data) > 40 && strings.Contains(err.Error(), string(data)) {
			t.Errorf("error %q", err)
		}
		c.Clear()
		if !bytes.Equal(data, before) {
			t.Error("the data was changed")
		}
		if block := (&pem.Block{Type: "PRIVATE KEY", Bytes: data}); len(data) > 0 && len(data) < 200 {
			for name, wrap := range wrappings() {
				if again := Read([]byte(wrap(string(pem.EncodeToMemory(block))))); len(again.Blocks) != 1 || !bytes.Equal(again.Blocks[0].Bytes, data) {
					t.Errorf("%s: not found", name)
				}
			}
		}
	})
}
