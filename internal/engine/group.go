package engine

import "github.com/simianhq/simian/experiment"

// groups cuts the method into runs of actions that start together.
func groups(method []experiment.Action) [][]int {
	var out [][]int
	for i, a := range method {
		if a.Parallel && len(out) > 0 {
			out[len(out)-1] = append(out[len(out)-1], i)
			continue
		}
		out = append(out, []int{i})
	}
	return out
}
