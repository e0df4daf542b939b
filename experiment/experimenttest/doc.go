// Package experimenttest holds what tests of Simian share: a small world of
// files to break (World), with a fault, selector, probes and inspector for it,
// and the suites that every real fault, op, selector, probe and inspector must
// pass (Fault, Op, Selector, Probe, Inspector).
package experimenttest
