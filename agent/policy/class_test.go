package policy_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/credagent/credagent/agent/policy"
)

// statuses are those that a token endpoint, or something in front of it, answers with; 0 is none.
func statuses() []int {
	return []int{0, 200, 204, 301, 302, 400, 401, 403, 404, 405, 406, 408, 410, 413, 415, 422, 429, 451, 499, 500, 501, 502, 503, 504, 529, 599}
}

// byName is the class of each error on an answer whose status says nothing.
func byName() map[string]policy.Class {
	return map[string]policy.Class{
		"":                        policy.Transient,
		"invalid_client":          policy.Credential,
		"invalid_grant":           policy.Credential,
		"invalid_client_id":       policy.Credential,
		"invalid_credentials":     policy.Credential,
		"rate_limit_exceeded":     policy.Transient,
		"internal_failure":        policy.Transient,
		"temporarily_unavailable": policy.Transient,
		"server_error":            policy.Transient,
		"slow_down":               policy.Transient,
		"access_denied":           policy.Refused,
		"interaction_required":    policy.Refused,
		"consent_required":        policy.Refused,
		"invalid_scope":           policy.Configuration,
		"unauthorized_client":     policy.Configuration,
		"invalid_request":         policy.Configuration,
		"unsupported_grant_type":  policy.Configuration,
		"invalid_target":          policy.Configuration,
		"invalid_tenant":          policy.Configuration,
		"an error of its own":     policy.Configuration,
	}
}

// wanted is the contract's order: status first, then error.
func wanted(status int, name, words string, retryAfter bool) policy.Class {
	noEndpoint := []int{403, 404, 405, 406, 410, 415}
	switch {
	case status == 429, retryAfter && status >= 500:
		return policy.Throttled
	case status == 0, status == 408, status >= 500:
		return policy.Transient
	case status == 401:
		return policy.Credential
	case name == "" && retryAfter:
		return policy.Throttled
	case name == "" && (slices.Contains(noEndpoint, status) || status/100 == 3):
		return policy.Configuration
	case name == "" && words != "" && status >= 400 && status != 499:
		return policy.Configuration
	}
	return byName()[name]
}

func TestClassifyEveryStatusAndError(t *testing.T) {
	for _, status := range statuses() {
		for name := range byName() {
			for _, retryAfter := range []bool{false, true} {
				for _, words := range []string{"", "the client is unknown"} {
					refusal := policy.Refusal{Status: status, Error: name, RetryAfter: retryAfter, Words: words}
					if got, want := policy.Classify(refusal), wanted(status, name, words, retryAfter); got != want {
						t.Errorf("Classify(%+v) = %v, want %v", refusal, got, want)
					}
				}
			}
		}
	}
}

func TestClassifyRefinesByEntrasNumber(t *testing.T) {
	tests := []struct {
		class      policy.Class
		clientWide bool
		codes      []int
	}{
		{policy.Transient, true, []int{50033, 90006, 90012, 90024, 90033, 90055, 90090}},
		{policy.Throttled, true, []int{50196}},
		{policy.Credential, true, []int{
			7000215, 7000222, 700030, 7000218, 70002, 50012, 700025, 700027, 700024,
			7000214, 1000502, 7000274, 7000277, 70021, 700211, 700212, 700213, 7002138, 7002139,
		}},
		{policy.Configuration, true, []int{90002, 700016, 700011, 7000112, 70001, 7000114, 7000229, 9001023}},
		{policy.Configuration, false, []int{70011, 700022, 1002012, 500011, 650057, 100007, 501051, 65001, 65005, 650052, 650056}},
		{policy.Refused, false, []int{53003, 530032, 530034, 530035}},
	}
	for _, test := range tests {
		for _, code := range test.codes {
			t.Run(strconv.Itoa(code), func(t *testing.T) {
				refusal := policy.Refusal{Status: 400, Error: "invalid_request", Codes: []int{1, code, 90033}}
				if got := policy.Classify(refusal); got != test.class {
					t.Errorf("Classify = %v, want %v", got, test.class)
				}
				if got := refusal.ClientWide(); got != test.clientWide {
					t.Errorf("ClientWide = %v, want %v", got, test.clientWide)
				}
				if advice, known := policy.Advise(refusal.Codes); !known || advice.Do == "" {
					t.Error("there is no advice")
				}
				refusal.Status = 503
				if got := policy.Classify(refusal); got != policy.Transient {
					t.Errorf("with status 503 it is %v, want the status to come first", got)
				}
				refusal.Status, refusal.RetryAfter = 400, true
				if got := policy.Classify(refusal); got != test.class {
					t.Errorf("with Retry-After it is %v, want %v still", got, test.class)
				}
			})
		}
	}
}

func TestClassifyWithoutAKnownNumber(t *testing.T) {
	for _, codes := range [][]int{nil, {}, {0}, {-7000215}, {1, 2, 3}} {
		refusal := policy.Refusal{Status: 400, Error: "invalid_scope", Codes: codes}
		if got := policy.Classify(refusal); got != policy.Configuration {
			t.Errorf("with codes %v it is %v, want configuration", codes, got)
		}
		if advice, known := policy.Advise(codes); known {
			t.Errorf("advice for %v: %+v", codes, advice)
		}
	}
}

func TestWhomARefusalConcerns(t *testing.T) {
	tests := []struct {
		name                string
		refusal             policy.Refusal
		clientWide, refuses bool
	}{
		{"no answer", policy.Refusal{}, true, false},
		{"an outage", policy.Refusal{Status: 503}, true, false},
		{"throttled", policy.Refusal{Status: 429}, true, false},
		{"invalid_client", policy.Refusal{Status: 401, Error: "invalid_client"}, true, true},
		{"401 and nothing more", policy.Refusal{Status: 401}, true, true},
		{"a wrong scope", policy.Refusal{Status: 400, Error: "invalid_scope"}, false, false},
		{"a wrong request", policy.Refusal{Status: 400, Error: "invalid_request"}, false, false},
		{"a client without the right", policy.Refusal{Status: 400, Error: "unauthorized_client"}, false, true},
		{"the same during an outage", policy.Refusal{Status: 503, Error: "unauthorized_client"}, true, false},
		{"the same while throttled", policy.Refusal{Status: 400, Error: "unauthorized_client", RetryAfter: true}, false, true},
		{"the same with 429", policy.Refusal{Status: 429, Error: "unauthorized_client"}, true, false},
		{"a wrong secret, Keycloak's word", policy.Refusal{Status: 401, Error: "unauthorized_client"}, true, true},
		{"no token endpoint", policy.Refusal{Status: 404}, true, false},
		{"forbidden, and nothing more", policy.Refusal{Status: 403}, true, false},
		{"forbidden for a while", policy.Refusal{Status: 403, RetryAfter: true}, true, false},
		{"a wrong scope with 403", policy.Refusal{Status: 403, Error: "invalid_scope"}, false, false},
		{"an unknown client", policy.Refusal{Status: 400, Error: "unauthorized_client", Codes: []int{700016}}, true, true},
		{"an unknown tenant", policy.Refusal{Status: 400, Error: "invalid_request", Codes: []int{90002}}, true, true},
		{"an unknown tenant during an outage", policy.Refusal{Status: 500, Codes: []int{90002}}, true, false},
		{"conditional access", policy.Refusal{Status: 400, Error: "invalid_grant", Codes: []int{53003}}, false, true},
		{"a passing fault", policy.Refusal{Status: 400, Error: "invalid_request", Codes: []int{90033}}, true, false},
		{"an unknown resource", policy.Refusal{Status: 400, Error: "invalid_resource", Codes: []int{500011}}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.refusal.ClientWide(); got != test.clientWide {
				t.Errorf("ClientWide = %v, want %v", got, test.clientWide)
			}
			if got := test.refusal.RefusesClient(); got != test.refuses {
				t.Errorf("RefusesClient = %v, want %v", got, test.refuses)
			}
		})
	}
}

func TestClassNames(t *testing.T) {
	want := []string{"success", "throttled", "transient", "credential", "configuration", "policy"}
	var got []string
	for _, class := range policy.Classes() {
		got = append(got, class.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the classes are %v, want %v", got, want)
	}
	if got := policy.Class(-1).String(); got != "unknown" {
		t.Errorf("a class out of range is %q", got)
	}
	lasting := []policy.Class{policy.Credential, policy.Configuration, policy.Refused}
	for _, class := range policy.Classes() {
		if class.Lasting() != slices.Contains(lasting, class) {
			t.Errorf("%v.Lasting() = %v", class, class.Lasting())
		}
	}
}

func ExampleClassify() {
	fmt.Println(policy.Classify(policy.Refusal{Status: 401, Error: "invalid_client"}))
	fmt.Println(policy.Classify(policy.Refusal{Status: 401, Error: "invalid_client", RetryAfter: true}))
	fmt.Println(policy.Classify(policy.Refusal{Status: 400, Error: "invalid_grant", Codes: []int{53003}}))
	// Output:
	// credential
	// credential
	// policy
}
