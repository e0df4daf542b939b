package proc

import (
	"encoding/hex"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
)

// fact writes the fields of a struct, in their order, as "Name=value" words.
// Fields that are zero or among without are left out, at every depth.
func fact(v any, without ...string) string {
	return fields(reflect.Indirect(reflect.ValueOf(v)), without)
}

func fields(v reflect.Value, without []string) string {
	var b strings.Builder
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if v.Field(i).IsZero() || !field.IsExported() || slices.Contains(without, field.Name) {
			continue
		}
		b.WriteString(" " + field.Name + "=")
		writeValue(&b, v.Field(i), without)
	}
	return strings.TrimPrefix(b.String(), " ")
}

func writeValue(b *strings.Builder, v reflect.Value, without []string) {
	if s, ok := word(v); ok {
		b.WriteString(s)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			writeValue(b, v.Elem(), without)
		}
	case reflect.Struct:
		b.WriteString(v.Type().Name() + "{" + fields(v, without) + "}")
	case reflect.Slice, reflect.Array:
		writeList(b, v, without)
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	default:
		fmt.Fprintf(b, "%v", v.Interface())
	}
}

// word writes a value that has a form of its own. A struct has none but
// net.IPNet: it may only have got String from what is embedded in it.
func word(v reflect.Value) (string, bool) {
	inner := v.Kind()
	if inner == reflect.Pointer {
		inner = v.Type().Elem().Kind()
	}
	s, ok := v.Interface().(fmt.Stringer)
	if _, network := v.Interface().(*net.IPNet); !ok || !network && (inner == reflect.Struct || inner == reflect.Interface) {
		return "", false
	}
	return s.String(), true
}

func writeList(b *strings.Builder, v reflect.Value, without []string) {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		b.WriteString("0x" + hex.EncodeToString(v.Bytes()))
		return
	}
	b.WriteString("[")
	for i := range v.Len() {
		if i > 0 {
			b.WriteString(" ")
		}
		writeValue(b, v.Index(i), without)
	}
	b.WriteString("]")
}
