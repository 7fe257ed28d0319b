package kubeapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// WatchTime is for how long a stream is asked for. Another one then goes on where it ended.
	WatchTime = 5 * time.Minute
	// watchGrace is how much longer than that a stream may stay open.
	watchGrace = 30 * time.Second
	// maxEvent is more than the metadata of any object.
	maxEvent = 2 << 20
)

// Event is what happened to an object that is watched.
type Event struct {
	Type    string // ADDED, MODIFIED, DELETED; BOOKMARK has a Version alone
	Name    string
	Version string // the resourceVersion
}

// Watching describes what is watched: all objects of a path, or those that a selector leaves.
type Watching struct {
	Path   string
	Fields string // such as metadata.name=NAME
	Labels string // such as app=NAME
	From   string // the resourceVersion to go on from; "" for each object that there is, and then all changes
}

// Watch reports what happens to objects until the API server ends the stream, which is no error. That
// what happened since From is not known any more is an [*Error] with status 410 (Gone). opened is called
// when the stream has begun.
func (c *Client) Watch(ctx context.Context, w Watching, opened func(), each func(Event)) error {
	ctx, cancel := context.WithTimeout(ctx, WatchTime+watchGrace)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	query := url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {strconv.Itoa(int(WatchTime.Seconds()))},
	}
	for key, value := range map[string]string{"fieldSelector": w.Fields, "labelSelector": w.Labels, "resourceVersion": w.From} {
		if value != "" {
			query.Set(key, value)
		}
	}
	// The answer's head has its time like any other request; the stream that follows has its own.
	slow := time.AfterFunc(RequestTimeout, func() { giveUp(context.DeadlineExceeded) })
	response, err := c.send(ctx, Request{Method: http.MethodGet, Path: w.Path, Query: query, Accept: MetadataOnly})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if !slow.Stop() {
		return c.failed(explain(context.DeadlineExceeded), 0)
	}
	c.answered()
	opened()
	return readEvents(response.Body, each)
}

// readEvents reads events, one JSON object a line, until the stream ends.
func readEvents(stream io.Reader, each func(Event)) error {
	reader := bufio.NewReader(stream)
	for {
		line, err := readLine(reader)
		if len(line) > 0 {
			event, failure := parseEvent(line)
			if failure != nil {
				return failure
			}
			each(event)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the API server's stream: %w", err)
		}
	}
}

// readLine returns the next line, of bounded length. The end of the stream comes with what is left.
func readLine(reader *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		if len(line)+len(part) > maxEvent {
			return nil, fmt.Errorf("an event is larger than %d MiB", maxEvent>>20)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// parseEvent reads an event. The one that ends a stream is an [*Error].
func parseEvent(line []byte) (Event, error) {
	var wire struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &wire); err != nil {
		return Event{}, errors.New("an event of the API server's stream is not JSON")
	}
	switch wire.Type {
	case "ERROR":
		return Event{}, parseStatus(wire.Object)
	case "ADDED", "MODIFIED", "DELETED", "BOOKMARK":
	default:
		return Event{}, fmt.Errorf("unknown event %q in the API server's stream", clean(wire.Type))
	}
	m, err := ParseMetadata(wire.Object)
	if err != nil {
		return Event{}, err
	}
	if m.Version == "" || m.Name == "" && wire.Type != "BOOKMARK" {
		return Event{}, errors.New("an event of the API server's stream has no name or no resourceVersion")
	}
	return Event{Type: wire.Type, Name: m.Name, Version: m.Version}, nil
}

// Metadata is what identifies an object's state.
type Metadata struct {
	Name        string            `json:"name"`
	Version     string            `json:"resourceVersion"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// ParseMetadata reads the metadata of an object.
func ParseMetadata(object []byte) (Metadata, error) {
	var wire struct {
		Metadata Metadata `json:"metadata"`
	}
	if err := json.Unmarshal(object, &wire); err != nil {
		return Metadata{}, errors.New("an object of the API server is not JSON") // the cause could show a part of it
	}
	return wire.Metadata, nil
}
