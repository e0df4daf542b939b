package report

// Printable makes text fit to be shown on one line of a terminal, whatever
// file or process it came from.
func Printable(text string) string { return Style{}.clean(text) }
