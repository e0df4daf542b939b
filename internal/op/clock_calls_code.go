package op

import (
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Of struct pt_regs (arch/x86/include/asm/ptrace.h): the first two arguments of
// a system call, its number, and the instruction behind it. They are one
// behind the other: si, di, orig_ax, ip.
const (
	regsArguments = 104
	regsRead      = 32
)

// Where the program keeps things below its frame pointer.
const (
	atArg2, atArg1, atCall, atIP = -32, -24, -16, -8
	atKey                        = -40
	atTime                       = -56 // two words: seconds, and a fraction
	atCode                       = -64
)

// syscallInstruction is what stands before where a system call of 64 bits
// returns to. A call of 32 bits (int 0x80) has other numbers.
const syscallInstruction = 0x050f

// clockCallsCode is the program. R6 holds the registers of the process, then
// the address of what the kernel wrote; R7 its entry of the map; R8 how many
// units of the fraction are a second; R9 the fraction's part of the offset.
func clockCallsCode(shifts, count int) asm.Instructions {
	return slices.Concat(
		clockCallsWhich(),
		clockCallsWho(shifts),
		clockCallsWhat(),
		clockCallsShift(count),
	)
}

// clockCallsWhich goes on for calls that have told the time, and nothing else:
// of each call on this host it runs some twenty instructions.
func clockCallsWhich() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord), // struct pt_regs *regs
		asm.LoadMem(asm.R7, asm.R1, 8, asm.DWord), // long ret
		asm.JNE.Imm(asm.R7, 0, "out"),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, atArg2),
		asm.Mov.Imm(asm.R2, regsRead),
		asm.Mov.Reg(asm.R3, asm.R6),
		asm.Add.Imm(asm.R3, regsArguments),
		asm.FnProbeReadKernel.Call(),
		asm.JNE.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.RFP, atCall, asm.DWord),
		asm.JEq.Imm(asm.R1, unix.SYS_CLOCK_GETTIME, "who"),
		asm.JNE.Imm(asm.R1, unix.SYS_GETTIMEOFDAY, "out"),
	}
}

// clockCallsWho goes on for processes in the map, where the call is none of
// their vDSO's, nor one of 32 bits.
func clockCallsWho(shifts int) asm.Instructions {
	return asm.Instructions{
		asm.FnGetCurrentPidTgid.Call().WithSymbol("who"),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, atKey, asm.R0, asm.Word),
		asm.LoadMapPtr(asm.R1, shifts),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, atKey),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadMem(asm.R1, asm.RFP, atIP, asm.DWord),
		asm.LoadMem(asm.R2, asm.R7, 16, asm.DWord), // callShift.VDSO
		asm.JLT.Reg(asm.R1, asm.R2, "elsewhere"),
		asm.LoadMem(asm.R2, asm.R7, 24, asm.DWord), // callShift.BehindEnd
		asm.JLT.Reg(asm.R1, asm.R2, "out"),
		asm.Mov.Reg(asm.R3, asm.R1).WithSymbol("elsewhere"),
		asm.Sub.Imm(asm.R3, 2),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, atCode),
		asm.Mov.Imm(asm.R2, 2),
		asm.FnProbeReadUser.Call(),
		asm.JNE.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.RFP, atCode, asm.Half),
		asm.JNE.Imm(asm.R1, syscallInstruction, "out"),
	}
}

// clockCallsWhat finds what was written: a struct timespec, of a clock that
// tells the time of day, or a struct timeval.
func clockCallsWhat() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R9, asm.R7, 8, asm.DWord), // callShift.Nsec
		asm.LoadMem(asm.R1, asm.RFP, atCall, asm.DWord),
		asm.JEq.Imm(asm.R1, unix.SYS_GETTIMEOFDAY, "timeval"),
		asm.LoadMem(asm.R1, asm.RFP, atArg1, asm.Word), // clockid_t
		asm.LoadMem(asm.R6, asm.RFP, atArg2, asm.DWord),
		asm.Mov.Imm(asm.R8, 1e9),
		asm.JEq.Imm(asm.R1, unix.CLOCK_REALTIME, "shift"),
		asm.JEq.Imm(asm.R1, unix.CLOCK_REALTIME_COARSE, "shift"),
		asm.JEq.Imm(asm.R1, unix.CLOCK_TAI, "shift"),
		asm.Ja.Label("out"),
		asm.LoadMem(asm.R6, asm.RFP, atArg1, asm.DWord).WithSymbol("timeval"),
		asm.JEq.Imm(asm.R6, 0, "out"), // it wanted the time zone alone
		asm.Mov.Imm(asm.R8, 1e6),
		asm.Div.Imm(asm.R9, 1000),
	}
}

// clockCallsShift adds the offset to what was written, and counts.
func clockCallsShift(count int) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP).WithSymbol("shift"),
		asm.Add.Imm(asm.R1, atTime),
		asm.Mov.Imm(asm.R2, 16),
		asm.Mov.Reg(asm.R3, asm.R6),
		asm.FnProbeReadUser.Call(),
		asm.JNE.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.RFP, atTime, asm.DWord),
		asm.LoadMem(asm.R2, asm.R7, 0, asm.DWord), // callShift.Sec
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R2, asm.RFP, atTime+8, asm.DWord),
		asm.Add.Reg(asm.R2, asm.R9),
		asm.JLT.Reg(asm.R2, asm.R8, "write"),
		asm.Sub.Reg(asm.R2, asm.R8),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, atTime, asm.R1, asm.DWord).WithSymbol("write"),
		asm.StoreMem(asm.RFP, atTime+8, asm.R2, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, atTime),
		asm.Mov.Imm(asm.R3, 16),
		asm.FnProbeWriteUser.Call(),
		asm.JNE.Imm(asm.R0, 0, "out"),
		asm.LoadMapValue(asm.R1, count, 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}
