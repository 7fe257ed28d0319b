package oauth

import (
	"errors"
	"testing"
	"time"
)

// What an exchange brings need not be an access token; its token_type then says nothing (RFC 8693, 2.2.1).
func TestExchangedTokens(t *testing.T) {
	for body, usable := range map[string]bool{
		`{"access_token":"t","token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:id_token"}`:        true,
		`{"access_token":"t","token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}`:             true,
		`{"access_token":"t","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`: true,
		`{"access_token":"t","token_type":"N_A","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`:    false,
		`{"access_token":"t","token_type":"N_A"}`:                                                             false,
		`{"access_token":"t","token_type":"N_A","issued_token_type":7}`:                                       false,
		`{"access_token":"t","token_type":"DPoP","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}`: false,
	} {
		grant, err := ParseGrant([]byte(body), time.Now())
		var unusable *UnusableTypeError
		if usable != (err == nil) || !usable && !errors.As(err, &unusable) || usable && grant.TokenType != "Bearer" {
			t.Errorf("%s: %+v, %v", body, grant, err)
		}
	}
}

func TestExchangeForm(t *testing.T) {
	form := Request{GrantType: TokenExchange, SubjectTokenType: "urn:a", RequestedTokenType: "urn:b", Audience: "//iam", Params: map[string]string{"subject_token": "x", "connector_id": "c"}}.Form()
	const want = "audience=%2F%2Fiam&connector_id=c&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&requested_token_type=urn%3Ab&subject_token_type=urn%3Aa"
	if got := form.Encode(); got != want {
		t.Errorf("form %s, want %s", got, want)
	}
}
