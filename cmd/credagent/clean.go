package main

import (
	"reflect"

	outside "github.com/credagent/credagent/internal/printable"
)

// maxText limits how much of one text from the running agent is shown.
const maxText = 4 << 10

// printable makes untrusted text safe for a terminal: one line, without control characters.
func printable(text string) string { return outside.Text(text, maxText) }

// clean makes every text in a value printable.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(printable(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clean(v.Field(i))
			}
		}
	}
}
