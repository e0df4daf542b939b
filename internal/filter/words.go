package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// quote puts s into quotes as Go does, and cuts it short.
func quote(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// word is s itself where it can be read as one word, in quotes otherwise.
func word(s string) string {
	if s == "" || len(s) > 40 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		return quote(s)
	}
	return s
}

// few lists the first of many.
func few[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return cut(words, ", ")
}

// cut joins the first of many words.
func cut(words []string, by string) string {
	const most = 4
	if len(words) <= most {
		return strings.Join(words, by)
	}
	return strings.Join(words[:most], by) + fmt.Sprintf(" and %d more", len(words)-most)
}
