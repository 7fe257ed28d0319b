package oauth_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/oauth"
)

func TestParseError(t *testing.T) {
	tests := []struct {
		name, body string
		want       oauth.Error
		ok         bool
	}{
		{
			"Entra's answer",
			`{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired.\r\nTrace ID: t",
			  "error_codes":[7000222],"timestamp":"2030-01-01 00:00:00Z","trace_id":"t-1","correlation_id":"c-1","error_uri":"https://e/?code=7000222"}`,
			oauth.Error{
				Code: "invalid_client", Description: "AADSTS7000222: The provided client secret keys are expired.  Trace ID: t",
				URI: "https://e/?code=7000222", AADSTS: []int{7000222}, TraceID: "t-1", CorrelationID: "c-1",
			}, true,
		},
		{"the error alone", `{"error":"invalid_scope"}`, oauth.Error{Code: "invalid_scope"}, true},
		{"a number in the description", `{"error":"e","error_description":"AADSTS90033: wait"}`, oauth.Error{Code: "e", Description: "AADSTS90033: wait", AADSTS: []int{90033}}, true},
		{"numbers win over the description", `{"error":"e","error_codes":[1,2],"error_description":"AADSTS3"}`, oauth.Error{Code: "e", Description: "AADSTS3", AADSTS: []int{1, 2}}, true},
		{"a number further on does not count", `{"error":"e","error_description":"see AADSTS3"}`, oauth.Error{Code: "e", Description: "see AADSTS3"}, true},
		{"AADSTS without a number", `{"error":"e","error_description":"AADSTS: x"}`, oauth.Error{Code: "e", Description: "AADSTS: x"}, true},
		{"a number too large", `{"error":"e","error_description":"AADSTS99999999999999999999"}`, oauth.Error{Code: "e", Description: "AADSTS99999999999999999999"}, true},
		{"codes as strings", `{"error":"e","error_codes":["7000222"]}`, oauth.Error{Code: "e"}, true},
		{"codes partly of the wrong type", `{"error":"e","error_codes":[7,"x"],"error_description":"AADSTS8"}`, oauth.Error{Code: "e", Description: "AADSTS8", AADSTS: []int{8}}, true},
		{"codes that are null", `{"error":"e","error_codes":null}`, oauth.Error{Code: "e"}, true},
		{"no codes", `{"error":"e","error_codes":[]}`, oauth.Error{Code: "e", AADSTS: nil}, true},
		{"as many codes as are read", `{"error":"e","error_codes":[1,2,3,4,5,6,7,8]}`, oauth.Error{Code: "e", AADSTS: []int{1, 2, 3, 4, 5, 6, 7, 8}}, true},
		{"codes without end", `{"error":"e","error_codes":[1,2,3,4,5,6,7,8,9]}`, oauth.Error{Code: "e"}, true},
		{"other fields of the wrong type", `{"error":"e","error_description":{"a":1},"error_uri":7,"trace_id":[],"correlation_id":true}`, oauth.Error{Code: "e"}, true},
		{"control characters", `{"error":"e","error_description":"a\u0000b\u001b[31m\u202ec\u2028d"}`, oauth.Error{Code: "e", Description: "a b [31m c d"}, true},
		{"text in another script", `{"error":"e","error_description":"ungültig: Schlüssel – 期限切れ"}`, oauth.Error{Code: "e", Description: "ungültig: Schlüssel – 期限切れ"}, true},
		{"no error", `{"error_description":"d"}`, oauth.Error{Description: "d"}, false},
		{"an empty error", `{"error":""}`, oauth.Error{}, false},
		{"an error that is null", `{"error":null}`, oauth.Error{}, false},
		{"an error that is a number", `{"error":401}`, oauth.Error{}, false},
		{"a web page", `<html>`, oauth.Error{}, false},
		{"nothing", ``, oauth.Error{}, false},
		{"null", `null`, oauth.Error{}, false},
		{"a list", `[]`, oauth.Error{}, false},
		{"a string", `"invalid_client"`, oauth.Error{}, false},
		{"cut off", `{"error":"invalid_client"`, oauth.Error{}, false},
		{"nested beyond reason", strings.Repeat(`{"error":`, 20_000), oauth.Error{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := oauth.ParseError([]byte(test.body))
			if ok != test.ok || !reflect.DeepEqual(got, test.want) {
				t.Errorf("ParseError = %+v, %v, want %+v, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"a line", "all is well", "all is well"},
		{"as long as may be", strings.Repeat("x", 600), strings.Repeat("x", 600)},
		{"longer", strings.Repeat("x", 601), strings.Repeat("x", 600) + "…"},
		{"a letter on the edge is left out", strings.Repeat("x", 599) + "é", strings.Repeat("x", 599) + "…"},
		{"a letter that ends on the edge", strings.Repeat("x", 598) + "é", strings.Repeat("x", 598) + "é"},
		{"a forged line", "a\nlevel=ERROR", "a level=ERROR"},
		{"bytes that are no UTF-8", "a\xff\xfeb", "a  b"},
		{"an escape sequence", "\x1b[2J", " [2J"},
		{"no-break space and soft hyphen", "a\u00a0b\u00adc", "a b c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := oauth.Printable(test.in); got != test.want {
				t.Errorf("Printable = %q, want %q", got, test.want)
			}
		})
	}
}

// Every vendor has a form of its own.
func TestParseErrorInOtherForms(t *testing.T) {
	tests := []struct {
		name, body string
		want       oauth.Error
		ok         bool
	}{
		{"an error that is an object", `{"error":{"code":500,"message":"m"}}`, oauth.Error{Description: "500: m"}, false},
		{"a code within an object", `{"error":{"code":"invalid_client","message":"m"}}`, oauth.Error{Code: "invalid_client", Description: "m"}, true},
		{"Google's object", `{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED"}}`, oauth.Error{Description: "403: m"}, false},
		{"code and description", `{"code":"invalid_request","description":"m"}`, oauth.Error{Code: "invalid_request", Description: "m"}, true},
		{"problem details", `{"type":"about:blank","title":"Forbidden","status":403,"detail":"m"}`, oauth.Error{Description: "403: m"}, false},
		{"Okta", `{"errorCode":"E0000022","errorSummary":"m","errorCauses":[]}`, oauth.Error{Description: "E0000022: m"}, false},
		{"Apigee", `{"fault":{"faultstring":"m","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}`, oauth.Error{Code: "invalid_client", Description: "m"}, true},
		{"a code beside a sentence", `{"ErrorCode":"invalid_client","Error":"Client credentials are invalid"}`, oauth.Error{Code: "invalid_client", Description: "Client credentials are invalid"}, true},
		{"Salesforce's list", `[{"message":"m","errorCode":"INACTIVE_ORG"}]`, oauth.Error{Description: "INACTIVE_ORG: m"}, false},
		{"Spring", `{"timestamp":"t","status":404,"error":"Not Found","message":"m","path":"/token"}`, oauth.Error{Description: "404: m"}, false},
		{"WeChat", `{"errcode":40013,"errmsg":"m"}`, oauth.Error{Description: "40013: m"}, false},
		{"IBM", `{"httpCode":"401","httpMessage":"Unauthorized","moreInformation":"m"}`, oauth.Error{Description: "m"}, false},
		{"SAP", `{"error":{"code":"X/1","message":{"lang":"en","value":"m"}}}`, oauth.Error{Description: "X/1: m"}, false},
		{"a list of errors", `{"errors":[{"code":"c","detail":"m"},{"detail":"n"}]}`, oauth.Error{Description: "c: m"}, false},
		{"AWS", `{"__type":"NotAuthorizedException","message":"m"}`, oauth.Error{Description: "NotAuthorizedException: m"}, false},
		{"in capitals", `{"error":"INVALID_CLIENT"}`, oauth.Error{Code: "invalid_client"}, true},
		{"in one word", `{"error":"invalidClient"}`, oauth.Error{Code: "invalid_client"}, true},
		{"a status in words", `{"error":"Bad Request"}`, oauth.Error{}, false},
		{"a form", `error=invalid_client&error_description=a+b`, oauth.Error{Code: "invalid_client", Description: "a b"}, true},
		{"a byte order mark", "\xef\xbb\xbf{\"error\":\"e\"}", oauth.Error{Code: "e"}, true},
		{"claims", `{"error":"interaction_required","claims":"{\"access_token\": {}}"}`, oauth.Error{Code: "interaction_required", Claims: `{"access_token":{}}`}, true},
		{"claims that are none", `{"error":"e","claims":"no"}`, oauth.Error{Code: "e"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := oauth.ParseError([]byte(test.body))
			if ok != test.ok || !reflect.DeepEqual(got, test.want) {
				t.Errorf("ParseError = %+v, %v, want %+v, %v", got, ok, test.want, test.ok)
			}
		})
	}
}

func TestWords(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", " \r\n", ""},
		{"text", "no such\n client\r\n", "no such client"},
		{"a byte order mark", "\xef\xbb\xbfno", "no"},
		{"a JSON string", `"no\tway"`, "no way"},
		{"broken JSON", `{"error": `, `{"error":`},
		{"a web page", "<!DOCTYPE html><html><head><meta charset=x><title>403 &ndash; Forbidden</title></head><body><h1>no", "403 – Forbidden"},
		{"a web page without a title", "<html><script>var a=1<2</script><body><h1>Access <b>denied</b></h1>", "Access denied"},
		{"XML", "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>", "AccessDenied no"},
		{"binary", "\x1f\x8b\x00abc", ""},
		{"bytes that are no UTF-8", "a\xff", ""},
		{"an escape sequence", "\x1b[2Ja", "[2Ja"},
		{"long", strings.Repeat("x", 5000), strings.Repeat("x", 600) + "…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := oauth.Words([]byte(test.in)); got != test.want {
				t.Errorf("Words = %q, want %q", got, test.want)
			}
		})
	}
}

func TestChallengeWords(t *testing.T) {
	tests := []struct {
		name              string
		values            []string
		code, description string
	}{
		{"none", nil, "", ""},
		{"no error", []string{`Basic realm="x"`}, "", ""},
		{"Bearer", []string{`Bearer error="invalid_client", error_description="m"`}, "invalid_client", "m"},
		{"the second header", []string{`Negotiate`, `Basic realm="x", error="INVALID_CLIENT"`}, "invalid_client", ""},
		{"words alone", []string{`Basic error_description="m"`}, "", "m"},
		{"broken", []string{`"`, `Bearer error=e`}, "e", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if code, description := oauth.ChallengeWords(test.values); code != test.code || description != test.description {
				t.Errorf("ChallengeWords = %q, %q, want %q, %q", code, description, test.code, test.description)
			}
		})
	}
}

func FuzzWords(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		code, description := oauth.ChallengeWords([]string{header})
		for _, text := range []string{oauth.Words(body), code, description} {
			checkOneLine(t, text)
			if len(text) > 600+len("…") {
				t.Errorf("text of %d bytes", len(text))
			}
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, ok := oauth.ParseError(body)
		if ok != (answer.Code != "") || len(answer.AADSTS) > 8 {
			t.Errorf("ParseError = %+v, %v", answer, ok)
		}
		for _, text := range []string{answer.Code, answer.Description, answer.URI, answer.TraceID, answer.CorrelationID} {
			checkOneLine(t, text)
			if len(text) > 600+len("…") {
				t.Errorf("text of %d bytes", len(text))
			}
		}
		wire, err := json.Marshal(map[string]any{
			"error": answer.Code, "error_description": answer.Description, "error_uri": answer.URI,
			"claims":      answer.Claims,
			"error_codes": answer.AADSTS, "trace_id": answer.TraceID, "correlation_id": answer.CorrelationID,
		})
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := oauth.ParseError(wire); !reflect.DeepEqual(again, answer) {
			t.Errorf("written and read again it is %+v, was %+v", again, answer)
		}
	})
}
