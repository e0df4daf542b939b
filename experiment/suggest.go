package experiment

import (
	"slices"
	"strings"
)

// valid is the end of a message about a word that is none of those known: the
// nearest, and below it all of them.
func valid(what, word string, known []string) string {
	sorted := slices.Sorted(slices.Values(known))
	var b strings.Builder
	if near := Nearest(word, sorted); near != "" {
		b.WriteString(` (did you mean "` + near + `"?)`)
	}
	if len(sorted) > 0 {
		b.WriteString("\n        " + what + ": " + strings.Join(sorted, " "))
	}
	return b.String()
}

// Nearest returns the known word that word was probably meant to be, or "".
func Nearest(word string, known []string) string {
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
