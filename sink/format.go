package sink

// Format is how a file shows a token, by the name that a configuration has for it.
type Format string

// The formats. All but [FormatTemplate] show one token.
const (
	FormatRaw            Format = "raw"
	FormatJSON           Format = "json"
	FormatHeader         Format = "header"
	FormatTemplate       Format = "template"
	FormatExecCredential Format = "exec_credential"
	FormatEnvoySDS       Format = "envoy_sds"
)

// Formats returns all formats, in the order in which they are shown to people.
func Formats() []Format {
	return []Format{FormatRaw, FormatJSON, FormatHeader, FormatTemplate, FormatExecCredential, FormatEnvoySDS}
}

// Of returns what shows a token in the format; nil for [FormatTemplate], which has a text of its own, and
// for a format that is none.
func (f Format) Of(token string) Renderer {
	switch f {
	case FormatRaw:
		return Raw(token)
	case FormatJSON:
		return JSON(token)
	case FormatHeader:
		return Header(token)
	case FormatExecCredential:
		return ExecCredential(token)
	case FormatEnvoySDS:
		return EnvoySDS(token)
	}
	return nil
}
