//go:build !race

package guard

// mostResident is what a guardian may hold, in KiB.
const mostResident = 20 << 10
