package op

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/vdso"
)

// reading is what a victim sees, at one moment, in nanoseconds or seconds.
type reading struct {
	GoNow                      int64 // time.Now
	Realtime, Coarse, TAI      int64 // by the vDSO
	Monotonic, Boottime        int64
	Micros, MicrosNull, Second int64 // gettimeofday, the same with a time zone only, time
	SecondNull                 int64 // time(NULL)
	Direct, DirectMicros       int64 // clock_gettime and gettimeofday by a system call
	Rounds                     int64 // of all its threads
	Wrong                      int64 // times that ran backwards
}

const readingForm = "%d %d %d %d %d %d %d %d %d %d %d %d %d %d\n"

func (r *reading) fields() []any {
	return []any{
		&r.GoNow, &r.Realtime, &r.Coarse, &r.TAI, &r.Monotonic, &r.Boottime, &r.Micros, &r.MicrosNull,
		&r.Second, &r.SecondNull, &r.Direct, &r.DirectMicros, &r.Rounds, &r.Wrong,
	}
}

// clockVictim reads the clock in so many threads, gets signals meanwhile, and
// says what it reads when it is asked. It never ends by itself.
func clockVictim(role []string) error {
	threads, err := strconv.Atoi(role[0])
	if err != nil {
		return err
	}
	call, err := newVDSOCalls()
	if err != nil {
		return err
	}
	var rounds, wrong atomic.Int64
	tids := make(chan int, threads)
	for range threads {
		go hot(call, &rounds, &wrong, tids)
	}
	if len(role) > 1 && role[1] == "signals" { // interrupted wherever it stands
		go interrupt(tids)
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		r := call.read()
		r.Rounds, r.Wrong = rounds.Load(), wrong.Load()
		values := r.fields()
		for i := range values {
			values[i] = *values[i].(*int64)
		}
		fmt.Printf(readingForm, values...)
	}
	select {}
}

// execVictim becomes the same program again all the time, by a thread that need
// not be the main one, while others read the time.
func execVictim() error {
	for range 6 {
		go func() {
			runtime.LockOSThread()
			for {
				_ = time.Now()
			}
		}()
	}
	time.Sleep(3 * time.Millisecond)
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// interrupt sends signals to all threads, without end.
func interrupt(tids chan int) {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGALRM)
	for tid := range tids {
		tids <- tid
		_ = unix.Tgkill(os.Getpid(), tid, unix.SIGALRM)
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
		select {
		case <-ignored:
		default:
		}
	}
}

// hot reads clocks as fast as it can. What runs since the start must never run
// backwards.
func hot(call vdsoCalls, rounds, wrong *atomic.Int64, tids chan<- int) {
	runtime.LockOSThread()
	tids <- unix.Gettid()
	for last := int64(0); ; rounds.Add(1) {
		_ = time.Now()
		call.gettimeofday(true)
		call.time(true)
		now := call.clockGettime(unix.CLOCK_MONOTONIC)
		if now < last || call.clockGettime(unix.CLOCK_REALTIME) <= 0 {
			wrong.Add(1)
		}
		last = now
	}
}

// vdsoCalls calls the functions of this process's own vDSO, as a C library
// does.
type vdsoCalls struct {
	base  uintptr
	image vdso.Image
	call  func(a, b, fn uintptr) uintptr
}

// newVDSOCalls makes a few instructions that turn Go's way to pass arguments
// into C's:
//
//	push rbp; mov rbp, rsp; and rsp, -16; mov rdi, rax; mov rsi, rbx
//	call rcx; mov rsp, rbp; pop rbp; ret
func newVDSOCalls() (c vdsoCalls, err error) {
	m, err := vdso.Open("/proc", os.Getpid())
	if err != nil {
		return c, err
	}
	defer m.Close()
	if c.image, err = parseVDSO(m.At); err != nil {
		return c, err
	}
	c.base = uintptr(m.Base)
	page, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return c, err
	}
	copy(page, "\x55\x48\x89\xe5\x48\x83\xe4\xf0\x48\x89\xc7\x48\x89\xde\xff\xd1\x48\x89\xec\x5d\xc3")
	code := unsafe.Pointer(unsafe.SliceData(page))
	closure := unsafe.Pointer(&code)
	c.call = *(*func(a, b, fn uintptr) uintptr)(unsafe.Pointer(&closure))
	return c, nil
}

func (c vdsoCalls) at(i int) uintptr { return c.base + uintptr(c.image.Sites[i].At) }

func (c vdsoCalls) clockGettime(clock int) int64 {
	ts := new(unix.Timespec)
	if e := int32(c.call(uintptr(clock), uintptr(unsafe.Pointer(ts)), c.at(0))); e != 0 {
		return int64(e)
	}
	if ts.Nsec < 0 || ts.Nsec >= 1e9 {
		return -1
	}
	return ts.Nano()
}

func (c vdsoCalls) gettimeofday(fill bool) int64 {
	tv, zone := new(unix.Timeval), new([2]int32)
	to := uintptr(unsafe.Pointer(tv))
	if !fill {
		to = 0
	}
	if e := int32(c.call(to, uintptr(unsafe.Pointer(zone)), c.at(1))); e != 0 {
		return int64(e)
	}
	if tv.Usec < 0 || tv.Usec >= 1e6 {
		return -1
	}
	return tv.Nano()
}

func (c vdsoCalls) time(fill bool) int64 {
	t := new(int64)
	if !fill {
		return int64(c.call(0, 0, c.at(2)))
	}
	if got := int64(c.call(uintptr(unsafe.Pointer(t)), 0, c.at(2))); got != *t {
		return -1
	}
	return *t
}

func (c vdsoCalls) read() reading {
	var direct syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&direct)), 0)
	var micros syscall.Timeval
	_, _, _ = syscall.Syscall(syscall.SYS_GETTIMEOFDAY, uintptr(unsafe.Pointer(&micros)), 0, 0)
	return reading{
		GoNow: time.Now().UnixNano(), Realtime: c.clockGettime(unix.CLOCK_REALTIME), Coarse: c.clockGettime(unix.CLOCK_REALTIME_COARSE),
		TAI: c.clockGettime(unix.CLOCK_TAI), Monotonic: c.clockGettime(unix.CLOCK_MONOTONIC), Boottime: c.clockGettime(unix.CLOCK_BOOTTIME),
		Micros: c.gettimeofday(true), MicrosNull: c.gettimeofday(false), Second: c.time(true), SecondNull: c.time(false), Direct: direct.Nano(),
		DirectMicros: micros.Nano(),
	}
}

// clockPrey is a victim that can be asked.
type clockPrey struct {
	*prey
	ask func() (reading, error)
}

func newClockPrey(t testing.TB, role ...string) *clockPrey {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"=clock "+strings.Join(role, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	must(t, err)
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return &clockPrey{&prey{cmd, id}, func() (r reading, err error) {
		if _, err := in.Write([]byte("now\n")); err != nil {
			return r, err
		}
		line, err := lines.ReadString('\n')
		if err == nil {
			_, err = fmt.Sscanf(line, readingForm, r.fields()...)
		}
		return r, err
	}}
}

// shiftOf is a step on processes, as the fault plans it.
func shiftOf(t testing.TB, h *Host, offset time.Duration, ids ...experiment.ProcessID) experiment.Step {
	t.Helper()
	image, err := PlanClock(host, ids[0], "web")
	must(t, err)
	id := ClockID("abcd23", experiment.Target{ID: ids[0].Handle()})
	c := Clock{ID: id, Name: "web", Processes: ids, Offset: offset, Image: image}
	if CanCatchClockCalls(h) == nil {
		c.Program = ClockProgram("abcd23", id)
	}
	return NewClock(h, c)
}
