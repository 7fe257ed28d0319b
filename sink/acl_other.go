//go:build !linux

package sink

import (
	"errors"
	"io/fs"
)

func readersACL(fs.FileMode, []int, []int) ([]byte, fs.FileMode, error) {
	return nil, 0, errors.New("readers need Linux; use group and mode")
}
