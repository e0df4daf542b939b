#include "textflag.h"

// func cloneIdle(flags uintptr) (tid int)
TEXT ·cloneIdle(SB), NOSPLIT, $0-16
	MOVD	flags+0(FP), R0
	MOVD	ZR, R1 // the stack stays the parent's: it is not used
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8 // clone(2)
	SVC
	CBZ	R0, idle
	MOVD	R0, tid+8(FP)
	RET
idle:
	MOVD	ZR, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$73, R8 // ppoll(2) of nothing, for ever
	SVC
	B	idle
