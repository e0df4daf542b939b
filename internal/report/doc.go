// Package report turns the events of a run into its result, and the result
// into something to read:
//
//	[]Event ─Fold▶ Result ─Text, JSON▶ a writer
//	each Event ─Progress▶ a line, while the run goes on
//
// Fold is pure: what happened is whatever the journal says, today or a year
// later, whole or cut short. Whatever a journal does not prove is not taken
// for granted: a check without samples does not hold, a step without its undo
// is residue.
package report
