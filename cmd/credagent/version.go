package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of CHANGELOG.md's newest release. A test compares the two, and
// deploy/release.sh refuses to build if they differ.
const release = "0.2.0"

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  credagent version",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), versionLine())
			return err
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("credagent %s (%s, %s, %s/%s)", version(), commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func version() string { return release }

// commit returns the revision that go build stamped into the binary, with "+dirty" if files had changed.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown commit"
	}
	return commitOf(info.Settings)
}

func commitOf(settings []debug.BuildSetting) string {
	revision, dirty := "unknown commit", ""
	for _, setting := range settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = "commit " + setting.Value[:min(12, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "+dirty"
		}
	}
	return revision + dirty
}
