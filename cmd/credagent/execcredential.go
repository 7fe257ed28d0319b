package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	// execInfoVariable is where kubectl and client-go put their request to a credential plugin.
	execInfoVariable = "KUBERNETES_EXEC_INFO"

	execGroup   = "client.authentication.k8s.io/"
	execVersion = "v1" // the version in a sink of this format
)

// inVersion converts an ExecCredential to the version that the caller asks for, because it refuses any other. If the
// caller does not ask, it is unchanged. v1 and v1beta1 have the same fields.
func inVersion(credential []byte, info string) ([]byte, error) {
	if info == "" {
		return credential, nil
	}
	var asked struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal([]byte(info), &asked); err != nil {
		return nil, fmt.Errorf("reading $%s: it is not JSON", execInfoVariable)
	}
	version, ours := strings.CutPrefix(asked.APIVersion, execGroup)
	if !ours || version != execVersion && version != "v1beta1" || asked.Kind != "" && asked.Kind != "ExecCredential" {
		return nil, fmt.Errorf("reading $%s: apiVersion %q is not known\n    hint: let the kubeconfig's exec say apiVersion: %s%s",
			execInfoVariable, printable(asked.APIVersion), execGroup, execVersion)
	}
	return bytes.Replace(credential, []byte(execGroup+execVersion+`"`), []byte(execGroup+version+`"`), 1), nil
}
