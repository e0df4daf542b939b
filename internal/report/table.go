package report

import (
	"io"
	"strings"
)

// Table writes rows below header, each column as wide as its widest cell.
// Cells are made fit to be shown (control characters escaped); a row may have
// fewer cells than the header. An empty header is left out.
func Table(w io.Writer, header []string, rows [][]string) error {
	var style Style
	all := rows
	if len(header) > 0 {
		all = append([][]string{header}, rows...)
	}
	clean := make([][]string, len(all))
	var widths []int
	for i, cells := range all {
		for j, cell := range cells {
			cell = style.clean(cell)
			clean[i] = append(clean[i], cell)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], columns(cell))
		}
	}
	var b strings.Builder
	for _, cells := range clean {
		line := ""
		for j, cell := range cells {
			line += left(cell, widths[j]+gutter)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
