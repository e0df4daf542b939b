//go:build race

package guard

// mostResident is what a guardian may hold, in KiB: the race detector doubles
// what its program needs.
const mostResident = 40 << 10
