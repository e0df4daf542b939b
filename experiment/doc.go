// Package experiment holds the words that all of Simian is written in: the
// experiment file and what it decodes into, and the small interfaces at the
// seams between what breaks, what finds, what measures and what runs.
//
//	file ─Load▶ Experiment ─Select▶ []Target ─Limit▶ []Target ─Plan▶ []Step ─Run▶ []Event ─Fold▶ Result
//
// The rule of effects: selectors, probes and Plan read; Op.Apply writes;
// everything else is pure. This package imports nothing else of Simian.
package experiment
