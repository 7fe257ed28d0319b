package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

// bill is a CycloneDX bill of materials (ECMA-424).
type bill struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref      string    `json:"bom-ref"`
	Type     string    `json:"type"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Hashes   []hash    `json:"hashes,omitempty"`
	Licenses []license `json:"licenses,omitempty"`
	PURL     string    `json:"purl"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type license struct {
	Expression string `json:"expression"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// writeSBOM prints what a binary was built from, which the linker has noted in it.
func writeSBOM(version, binary string, out io.Writer) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("reading what %q was built from: %w", binary, err)
	}
	info.Main.Version = "v" + version // the linker knows the commit, not the release
	bom, err := newBill(info, sha256.Sum256(content))
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(bom)
}

func newBill(info *debug.BuildInfo, digest [sha256.Size]byte) (bill, error) {
	program := moduleComponent(info.Main.Path, info.Main.Version)
	program.Type = "application"
	program.Hashes = []hash{{"SHA-256", hex.EncodeToString(digest[:])}}
	program.Licenses = []license{{"Apache-2.0"}}
	bom := bill{
		Format: "CycloneDX", SpecVersion: "1.6", Serial: "urn:uuid:" + uuid(digest), Version: 1,
		Metadata:   metadata{program},
		Components: []component{moduleComponent("std", strings.TrimPrefix(info.GoVersion, "go"))},
	}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		next := moduleComponent(module.Path, module.Version)
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
		if err != nil || len(sum) != sha256.Size {
			return bill{}, fmt.Errorf("module %s: its checksum %q is none", module.Path, module.Sum)
		}
		next.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
		bom.Components = append(bom.Components, next)
	}
	all := dependency{Ref: program.Ref}
	for _, c := range bom.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	bom.Dependencies = []dependency{all}
	return bom, nil
}

func moduleComponent(path, version string) component {
	url := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Ref: url, Type: "library", Name: path, Version: version, PURL: url}
}

// uuid makes a UUID (RFC 9562, version 8) of a digest, so that the same binary has the same bill.
func uuid(digest [sha256.Size]byte) string {
	u := digest
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
