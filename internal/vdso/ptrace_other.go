//go:build !amd64

package vdso

// Able tells whether this processor's vDSO is known.
const Able = false

func registers(int) (ip, sp uint64, err error) { return 0, 0, ErrProcessor }
