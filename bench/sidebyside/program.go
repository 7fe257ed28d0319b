package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const root = "../.." // of the checkout

// program is one of those that are compared.
type program struct {
	name   string // as a column is headed
	binary string
	args   func(*stage) ([]string, error)
}

// build builds the programs, all in the same way.
func build(ctx context.Context, dir string) ([]program, error) {
	sources := []struct {
		name, in, pkg, library string
		args                   func(*stage) ([]string, error)
	}{
		{"credagent", root, "./cmd/credagent", "", (*stage).agentArgs},
		{"loop around MSAL for Go", ".", "./msal", "github.com/AzureAD/microsoft-authentication-library-for-go", (*stage).loopArgs},
		{"loop around azidentity", ".", "./azidentity", "github.com/Azure/azure-sdk-for-go/sdk/azidentity", (*stage).loopArgs},
	}
	var programs []program
	for _, source := range sources {
		binary := filepath.Join(dir, filepath.Base(source.pkg))
		cmd := exec.CommandContext(ctx, "go", "build", "-C", source.in, "-trimpath", "-o", binary, source.pkg)
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w\n%s", source.pkg, err, out)
		}
		version, err := versionOf(binary, source.library)
		if err != nil {
			return nil, err
		}
		programs = append(programs, program{name: strings.TrimSpace(source.name + " " + version), binary: binary, args: source.args})
	}
	return programs, nil
}

// versionOf returns the version of a library that a binary was built with; "" for no library.
func versionOf(binary, library string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("reading the modules in %q: %w", binary, err)
	}
	for _, dep := range info.Deps {
		if dep.Path == library {
			return dep.Version, nil
		}
	}
	return "", nil
}
