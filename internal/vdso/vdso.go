// Package vdso shifts the time of day that a process reads: it changes the
// code that the kernel has mapped into the process for that (vdso(7)), through
// ptrace(2), and puts the old code back. Processors of x86-64 only.
//
// The first instructions of clock_gettime, gettimeofday and time become a jump
// to code of ours, which stands where the vDSO's pages have nothing: behind its
// last byte. It calls the kernel's code, and adds to what that gives.
//
//	┌ [vdso] ─────────────────────────────────────────────┬─ room ──────────────┐
//	│ ELF header … clock_gettime: jmp ────────────────────┼─▶ our code           │
//	│                             (rest of it) ◀──────────┼── moved instructions │
//	└─────────────────────────────────────────────────────┴──────────────────────┘
//
// So nothing is mapped into the process, no system call is made in its name,
// and it makes none that it would not make by itself: a seccomp filter sees no
// difference. The pages become the process's own as they are written (copy on
// write); a child forked from it has them too, a program that it becomes does
// not.
//
// The package imports the standard library only: a helper uses it.
package vdso

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// What can be in the way.
var (
	ErrGone      = errors.New("the process is gone")
	ErrNone      = errors.New("it has no vDSO")
	ErrOther     = errors.New("its vDSO was changed by somebody else")
	ErrTraced    = errors.New("it is traced already")
	ErrRestless  = errors.New("its threads do not come to a stop")
	ErrInside    = errors.New("a thread of it stands in the code that is to be changed")
	ErrProcessor = errors.New("this processor's vDSO is not known (x86-64 is)")
)

// Image is what is known of this kernel's vDSO, which is the same in each
// process. Places are counted in bytes from its start.
type Image struct {
	Sites []Site `json:"sites"`
	Room  int    `json:"room"` // from here on it is zeros
	Size  int    `json:"size"` // its pages' end
}

// Site is a function of the vDSO.
type Site struct {
	Name string `json:"name"` // clock_gettime, gettimeofday or time
	At   int    `json:"at"`
	Was  []byte `json:"was"` // its first instructions, five bytes or more
}

// jump is how long the instruction is that leads to our code.
const jump = 5

// Shift is what is added to the time of day, and in whose name: an ID of zero
// is nobody's.
type Shift struct {
	ID     uint64        `json:"id"`
	Offset time.Duration `json:"offset"` // whole microseconds
}

// Memory is the memory of a process, to be read.
type Memory struct {
	fd   int
	Base uint64 // of its vDSO
}

// Open opens the memory of a process, or of a thread, that has a vDSO.
func Open(proc string, pid int) (Memory, error) {
	fd, err := open(proc, pid, "mem")
	if err != nil {
		return Memory{}, err
	}
	// What is open stays the memory that it was, also where the process becomes
	// another program: the base is read after it, and what is found there shows
	// whether it is the right one.
	base, err := base(proc, pid)
	if err != nil {
		syscall.Close(fd)
		return Memory{}, err
	}
	return Memory{fd, base}, nil
}

// Close closes it.
func (m Memory) Close() { syscall.Close(m.fd) }

// open opens a file of /proc/PID, without what os.Open does besides: where a
// shift is looked for, all processes are.
func open(proc string, pid int, name string) (int, error) {
	fd, err := syscall.Open(proc+"/"+strconv.Itoa(pid)+"/"+name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	switch err {
	case nil:
		return fd, nil
	case syscall.ENOENT, syscall.ESRCH:
		return -1, fmt.Errorf("open %s of pid %d: %w", name, pid, ErrGone)
	}
	return -1, fmt.Errorf("open %s of pid %d: %w", name, pid, err)
}

// base returns where the vDSO of a process or thread begins, from its auxiliary
// vector (getauxval(3)).
func base(proc string, pid int) (uint64, error) {
	const sysinfoEHDR = 33 // AT_SYSINFO_EHDR
	fd, err := open(proc, pid, "auxv")
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	var buffer [1024]byte
	n, err := syscall.Read(fd, buffer[:])
	if err != nil {
		return 0, fmt.Errorf("read auxv of pid %d: %w", pid, err)
	}
	for b := buffer[:n]; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == sysinfoEHDR {
			return binary.LittleEndian.Uint64(b[8:]), nil
		}
	}
	return 0, ErrNone
}

// read reads memory at an address, as much as there is.
func (m Memory) read(b []byte, at uint64) int {
	n, _ := syscall.Pread(m.fd, b, int64(at))
	return max(n, 0)
}

// At reads n bytes of the vDSO.
func (m Memory) At(at, n int) ([]byte, error) {
	b := make([]byte, n)
	if m.read(b, m.Base+uint64(at)) != n {
		return nil, fmt.Errorf("read the vDSO at %#x: there is none", m.Base)
	}
	return b, nil
}

// Owner returns the ID of the shift that the process has, 0 for none.
func (m Memory) Owner(image Image) (uint64, error) {
	b, err := m.At(image.Room, 8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// State tells how much of a shift stands in a process.
type State struct {
	Owner   uint64 // whose; 0 for nobody's
	Entered int    // functions that lead to our code
	Foreign int    // functions that are neither as they were nor as we make them
	Offset  time.Duration
}

// In tells whether all of the shift with this ID stands.
func (s State) In(id uint64, image Image) bool { return s.Owner == id && s.Entered == len(image.Sites) }

// Look reads how much of a shift stands.
func (m Memory) Look(image Image) (State, error) {
	head, err := m.At(image.Room, headSize)
	if err != nil {
		return State{}, err
	}
	s := State{Owner: binary.LittleEndian.Uint64(head), Offset: offsetOf(head)}
	c := assemble(image, Shift{ID: s.Owner})
	for i, site := range image.Sites {
		now, err := m.At(site.At, len(site.Was))
		if err != nil {
			return State{}, err
		}
		switch string(now) {
		case string(c.entries[i]):
			s.Entered++
		case string(site.Was):
		default:
			s.Foreign++
		}
	}
	return s, nil
}
