package main

import (
	"cmp"
	"slices"
)

// order is that of backends on the page.
func order(name string) int {
	return slices.Index([]string{none, netem, queue, nft, tc, toxiproxy}, name)
}

// ordered sorts what was measured in random order.
func ordered[T any](v []T, by func(T) (string, float64)) []T {
	sorted := slices.Clone(v)
	slices.SortStableFunc(sorted, func(a, b T) int {
		nameA, numberA := by(a)
		nameB, numberB := by(b)
		return cmp.Or(cmp.Compare(order(nameA), order(nameB)), cmp.Compare(numberA, numberB))
	})
	return sorted
}
