package experiment

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// How the second lines of messages are laid out.
const (
	messageIndent = 8
	messageWidth  = 100
)

// valid is the end of a message about a word that is none of those known: the
// nearest, and below it all of them. Where there is more to read about them,
// list is what to give `simian list`.
func valid(what, word string, known []string, list ...string) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(known)))
	var b strings.Builder
	near := Nearest(word, sorted)
	if near != "" {
		b.WriteString(` (did you mean "` + near + `"?)`)
	}
	if len(sorted) == 0 || len(sorted) == 1 && near != "" {
		return b.String()
	}
	words := sorted
	if hint := strings.Join(list, ""); hint != "" {
		words = append(words, " (simian list "+hint+")")
	}
	b.WriteString(wrap(what+":", words))
	return b.String()
}

// wrap lays out words on lines of their own behind a heading.
func wrap(heading string, words []string) string {
	var b strings.Builder
	b.WriteString("\n" + strings.Repeat(" ", messageIndent) + heading)
	margin := messageIndent + utf8.RuneCountInString(heading)
	width := margin
	for _, w := range words {
		n := 1 + utf8.RuneCountInString(w)
		if width+n > messageWidth && width > margin {
			b.WriteString("\n" + strings.Repeat(" ", margin))
			width, w = margin, strings.TrimLeft(w, " ")
		}
		b.WriteString(" " + w)
		width += n
	}
	return b.String()
}

// quote puts s into quotes as Go does, without what would upset a terminal,
// and cuts it short.
func quote(s string) string { return strconv.Quote(short(s)) }

// short cuts s where it is too long for a message.
func short(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// Nearest returns the known word that word was probably meant to be, or "".
func Nearest(word string, known []string) string {
	if len(word) > 64 {
		return ""
	}
	best, distance := "", len(word)/3+2
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// edits is the optimal string alignment distance: letters inserted, left out,
// changed, or two neighbours swapped.
func edits(a, b string) int {
	row := func(n int) []int { return make([]int, n+1) }
	older, last, cur := row(len(b)), row(len(b)), row(len(b))
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(last[j]+1, cur[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], older[j-2]+1)
			}
		}
		older, last, cur = last, cur, older
	}
	return last[len(b)]
}
