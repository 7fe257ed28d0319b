package hoststate

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"
)

// record is the content of a file.
type record struct {
	Until     time.Time     `json:"until"`                // by the wall clock
	Saved     time.Time     `json:"saved"`                // the wall clock's time when it was saved
	Boot      string        `json:"boot_id,omitempty"`    // which boot BootUntil counts from
	BootUntil time.Duration `json:"boot_until,omitempty"` // nanoseconds after boot
}

func encode(r record) []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic("hoststate: encoding a record: " + err.Error()) // a year of five digits, which no clock shows
	}
	return append(text, '\n')
}

func decode(content []byte) (record, error) {
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return record{}, errors.New("it is not a wait; remove it")
	}
	if r.Until.IsZero() || r.Saved.IsZero() {
		return record{}, errors.New("it names no instant; remove it")
	}
	return r, nil
}

func readFile(dir *os.Root, name string, limit int64) ([]byte, error) {
	file, err := dir.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file; remove it")
	}
	return io.ReadAll(io.LimitReader(file, limit))
}
