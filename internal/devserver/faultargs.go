package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// argument describes a fault's ARG. The zero value means no argument; write is the inverse of parse.
type argument struct {
	syntax string
	parse  func(fault *Fault, arg string) error
	write  func(fault Fault) string
}

// The arguments; they are never changed.
var (
	retryAfterArg = argument{"SECONDS", parseRetryAfter, writeRetryAfter}
	delayArg      = argument{"DURATION", parseDelay, func(f Fault) string { return f.Delay.String() }}
	outageArg     = argument{"STATUS[,SECONDS]", parseOutage, writeOutage}
	refuseArg     = argument{"ERROR[,STATUS[,AADSTS]]", parseRefuse, writeRefuse}
	redirectArg   = argument{"[STATUS,]URL", parseRedirect, writeRedirect}
	sizeArg       = argument{"BYTES", parseSize, func(f Fault) string { return strconv.FormatInt(f.Size, 10) }}
	textArg       = argument{"TEXT", parseText, writeBody}
	jsonArg       = argument{"JSON", parseJSON, writeBody}
	expiresInArg  = argument{"VALUE", parseExpiresIn, writeBody}
	eventArg      = argument{"EVENT", parseEvent, writeBody}
)

func (a argument) read(fault *Fault, arg string, given bool) error {
	if a.parse != nil {
		return a.parse(fault, arg)
	}
	if given {
		return fmt.Errorf("%s takes no argument", fault.Kind)
	}
	return nil
}

// checkValue checks a fault that was not parsed from text, with the same rules.
func (a argument) checkValue(fault Fault) error {
	if a.parse == nil {
		return nil
	}
	return a.parse(&Fault{Kind: fault.Kind}, a.write(fault))
}

func parseRetryAfter(fault *Fault, arg string) error {
	if arg == "none" {
		return nil
	}
	if arg == "" || strings.ContainsFunc(arg, notInHeader) || strings.TrimSpace(arg) != arg {
		return fmt.Errorf("%q cannot be sent as Retry-After: give seconds, an HTTP date, or none", arg)
	}
	fault.RetryAfter = arg
	return nil
}

func notInHeader(c rune) bool { return c < ' ' || c > '~' || c == '*' }

func writeRetryAfter(fault Fault) string {
	if fault.RetryAfter == "" {
		return "none"
	}
	return fault.RetryAfter
}

func parseDelay(fault *Fault, arg string) error {
	if isNumber(arg) {
		arg += "s"
	}
	delay, err := time.ParseDuration(arg)
	if err != nil || delay <= 0 {
		return fmt.Errorf("%q is not a duration above zero, such as 2s", arg)
	}
	fault.Delay = delay
	return nil
}

func parseStatus(text string) (int, error) {
	status, err := strconv.Atoi(text)
	if err != nil || !isNumber(text) {
		return 0, fmt.Errorf("%q is not an HTTP status", text)
	}
	return status, nil
}

func parseOutage(fault *Fault, arg string) error {
	status, retryAfter, given := strings.Cut(arg, ",")
	var err error
	if fault.Status, err = parseStatus(status); err != nil || !given {
		return err
	}
	return parseRetryAfter(fault, retryAfter)
}

func writeOutage(fault Fault) string {
	text := strconv.Itoa(fault.Status)
	if fault.RetryAfter == "" {
		return text
	}
	return text + "," + fault.RetryAfter
}

func parseRefuse(fault *Fault, arg string) error {
	parts := strings.Split(arg, ",")
	if len(parts) > 3 || parts[0] == "" || describable(parts[0]) != parts[0] {
		return fmt.Errorf("%q is not an OAuth error code with perhaps a status and an AADSTS number after it", arg)
	}
	fault.Error = parts[0]
	var err error
	if len(parts) > 1 {
		fault.Status, err = parseStatus(parts[1])
	}
	if len(parts) > 2 && err == nil {
		fault.AADSTS, err = strconv.Atoi(strings.TrimPrefix(parts[2], "AADSTS"))
	}
	if err != nil || fault.AADSTS < 0 {
		return fmt.Errorf("%q is not an HTTP status with perhaps an AADSTS number after it", strings.Join(parts[1:], ","))
	}
	return nil
}

func writeRefuse(fault Fault) string {
	text := fault.Error
	if fault.Status != 0 || fault.AADSTS != 0 {
		text += "," + strconv.Itoa(fault.Status)
	}
	if fault.AADSTS != 0 {
		text += "," + strconv.Itoa(fault.AADSTS)
	}
	return text
}

func parseRedirect(fault *Fault, arg string) error {
	status, location, _ := strings.Cut(arg, ",")
	if !isNumber(status) {
		status, location = "302", arg
	}
	if _, err := url.Parse(location); err != nil || strings.ContainsFunc(location, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("%q is not a URL", location)
	}
	fault.Location = location
	var err error
	fault.Status, err = parseStatus(status)
	return err
}

func writeRedirect(fault Fault) string {
	return fmt.Sprintf("%d,%s", fault.Status, fault.Location)
}

func parseSize(fault *Fault, arg string) error {
	size, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || size <= 0 {
		return fmt.Errorf("%q is not a number of bytes above zero", arg)
	}
	fault.Size = size
	return nil
}

func parseText(fault *Fault, arg string) error {
	if arg == "" {
		return errors.New("the text after = is missing")
	}
	fault.Body = arg
	return nil
}

func parseJSON(fault *Fault, arg string) error {
	if !json.Valid([]byte(arg)) {
		return fmt.Errorf("%q is not JSON", arg)
	}
	fault.Body = arg
	return nil
}

func parseExpiresIn(fault *Fault, arg string) error {
	switch arg {
	case "string", "negative", "huge", "garbage":
		fault.Body = arg
		return nil
	}
	if err := parseJSON(fault, arg); err != nil {
		return fmt.Errorf("%w, nor string, negative, huge or garbage", err)
	}
	return nil
}

func parseEvent(fault *Fault, arg string) error {
	if _, known := signalEvents[arg]; !known {
		return fmt.Errorf("%q is not an event: give one of %s", arg, strings.Join(SignalEvents(), ", "))
	}
	fault.Body = arg
	return nil
}

func writeBody(fault Fault) string { return fault.Body }
