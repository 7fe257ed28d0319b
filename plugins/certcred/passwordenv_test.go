package certcred

import (
	"strings"
	"testing"
)

func TestPasswordOfAVariable(t *testing.T) {
	t.Setenv("CERTCRED_TEST_PASSWORD", "canary password")
	t.Setenv("CERTCRED_TEST_EMPTY", "")
	for name, tc := range map[string]struct {
		source source
		want   string
		fails  bool
	}{
		"set":      {source{PasswordEnv: "CERTCRED_TEST_PASSWORD"}, "canary password", false},
		"empty":    {source{PasswordEnv: "CERTCRED_TEST_EMPTY"}, "", true},
		"not set":  {source{PasswordEnv: "CERTCRED_TEST_NOWHERE"}, "", true},
		"a secret": {source{PasswordEnv: "hunter2!"}, "", true},
		"none":     {source{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.source.password()
			if (err != nil) != tc.fails || got.Reveal() != tc.want {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), tc.source.PasswordEnv) {
				t.Errorf("it shows what may be the password itself: %v", err)
			}
		})
	}
}
