package vdso

import "syscall"

// Able tells whether this processor's vDSO is known.
const Able = true

// registers returns where a thread that stands still executes, and where its
// stack ends.
func registers(tid int) (ip, sp uint64, err error) {
	var r syscall.PtraceRegs
	err = syscall.PtraceGetRegs(tid, &r)
	return r.Rip, r.Rsp, err
}
