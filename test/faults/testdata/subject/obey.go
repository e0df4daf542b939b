package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// obey does one command, and says what came of it in one line.
func obey(words []string) (string, error) {
	commands := map[string]func(args []string) (string, error){
		"ping":    func([]string) (string, error) { return "pong", nil },
		"time":    func([]string) (string, error) { return fmt.Sprint(wall()), nil },
		"dial":    dial,
		"get":     get,
		"resolve": resolve,
		"lookup":  lookup,
		"burn":    burn,
		"alloc":   alloc,
		"free":    func([]string) (string, error) { return free() },
		"open":    open,
		"fork":    fork,
		"hog":     hog,
		"try":     try,
		"write":   write,
		"room":    room,
		"read":    read,
		"list":    list,
		"status":  status,
		"bind":    bind,
	}
	if len(words) == 0 || commands[words[0]] == nil {
		return "", fmt.Errorf("no such command: %q", words)
	}
	return commands[words[0]](words[1:])
}

// wall is the time of day as the vDSO has it, and as a system call has it, and
// the monotonic and boot clocks, all in nanoseconds.
func wall() (vdso, call, monotonic, boot int64) {
	vdso = time.Now().UnixNano()
	clock := func(id uintptr) int64 {
		var ts syscall.Timespec
		_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
		return ts.Nano()
	}
	return vdso, clock(0), clock(1), clock(7)
}

const patience = 800 * time.Millisecond

// dial sends a word to NETWORK ADDRESS and wants it back: how many seconds that
// takes, a new connection included.
func dial(args []string) (string, error) {
	start := time.Now()
	c, err := net.DialTimeout(args[0], args[1], patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b := []byte("hello")
	if _, err := c.Write(b); err != nil {
		return "", err
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return "", err
	}
	return fmt.Sprintf("%.6f", time.Since(start).Seconds()), nil
}

// get gives the status of METHOD URL, how many seconds it took, and the body.
func get(args []string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequest(args[0], args[1], nil)
	if err != nil {
		return "", err
	}
	start := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 200))
	return fmt.Sprintf("%d %.6f %s", answer.StatusCode, time.Since(start).Seconds(), strings.TrimSpace(string(body))), err
}

// resolve asks the resolver for the addresses of a name, as files say.
func resolve(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	start := time.Now()
	r := net.Resolver{PreferGo: true}
	addresses, err := r.LookupHost(ctx, args[0])
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.6f %s", time.Since(start).Seconds(), strings.Join(addresses, " ")), nil
}

// lookup asks the name server SERVER, an address and a port, for the addresses
// of NAME, by TCP: that nobody is there is always told, and by UDP once a second
// (icmp_ratelimit).
func lookup(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", args[0])
	}}
	addresses, err := r.LookupHost(ctx, args[1]+".")
	return strings.Join(addresses, " "), err
}

// burn computes with so many threads for so long, and gives the CPUs it had.
func burn(args []string) (string, error) {
	threads, err1 := strconv.Atoi(args[0])
	long, err2 := time.ParseDuration(args[1])
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	before, start := used(), time.Now()
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for n := 0; time.Since(start) < long; n++ {
				_ = n * n
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%.3f", (used()-before).Seconds()/time.Since(start).Seconds()), nil
}

func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var hoard struct {
	sync.Mutex
	memory   [][]byte
	files    []*os.File
	children []*exec.Cmd
	bound    []net.Listener
}

// alloc takes BYTES of memory, which it keeps, and gives how many seconds that
// took.
func alloc(args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	start := time.Now()
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return "", err
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	hoard.Lock()
	defer hoard.Unlock()
	hoard.memory = append(hoard.memory, b)
	return fmt.Sprintf("%.6f", time.Since(start).Seconds()), nil
}

// free gives back all that was taken.
func free() (string, error) {
	hoard.Lock()
	defer hoard.Unlock()
	for _, b := range hoard.memory {
		_ = syscall.Munmap(b)
	}
	for _, f := range hoard.files {
		_ = f.Close()
	}
	for _, c := range hoard.children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	for _, l := range hoard.bound {
		_ = l.Close()
	}
	hoard.memory, hoard.files, hoard.children, hoard.bound = nil, nil, nil, nil
	return "done", nil
}

// open opens N files for a moment, and gives how many it got.
func open(args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	var files []*os.File
	for err == nil && len(files) < n {
		var f *os.File
		if f, err = os.Open("/proc/self/stat"); err == nil {
			files = append(files, f)
		}
	}
	for _, f := range files {
		_ = f.Close()
	}
	return tell(len(files), err), nil
}

// fork starts N processes for a moment, and gives how many it got.
func fork(args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	var children []*exec.Cmd
	for err == nil && len(children) < n {
		c := exec.Command("/proc/self/exe", "sleep")
		if err = c.Start(); err == nil {
			children = append(children, c)
		}
	}
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	return tell(len(children), err), nil
}

// hog has a child take BYTES of memory.
func hog(args []string) (string, error) {
	err := exec.Command("/proc/self/exe", "hog", args[0]).Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return "ate", nil
	case errors.As(err, &ended) && ended.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return "killed", nil
	}
	return "", err
}

// try opens a file, and closes it.
func try(args []string) (string, error) {
	f, err := os.Open(args[0])
	if err != nil {
		return "", err
	}
	return "opened", f.Close()
}

// bind opens a TCP port to listen on.
func bind(args []string) (string, error) {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return "", err
	}
	return "bound", l.Close()
}

// tell gives a number, and why it is not more.
func tell(n int, err error) string {
	if err == nil {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d %v", n, err)
}

// write writes BYTES to FILE in blocks of BLOCK, each of them synced where SYNC is "sync", and
// gives how many seconds that took. The file is removed.
func write(args []string) (string, error) {
	n, err1 := strconv.Atoi(args[1])
	block, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if len(args) > 3 && args[3] == "sync" {
		flags |= syscall.O_DSYNC
	}
	start := time.Now()
	f, err := os.OpenFile(args[0], flags, 0o644)
	if err != nil {
		return "", err
	}
	defer os.Remove(args[0])
	defer f.Close()
	for done := 0; done < n; done += block {
		if _, err := f.Write(make([]byte, block)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%.6f", time.Since(start).Seconds()), nil
}

// room gives the free bytes and inodes of the file system that DIR is on, and
// its size in bytes.
func room(args []string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(args[0], &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %d %d", st.Bavail*uint64(st.Bsize), st.Ffree, st.Blocks*uint64(st.Bsize)), nil
}

// read gives what is in a small file.
func read(args []string) (string, error) {
	data, err := os.ReadFile(args[0])
	return strings.Join(strings.Fields(string(data)), " "), err
}

// list gives the names in a folder.
func list(args []string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(args[0], "*"))
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	return strings.Join(paths, " "), err
}

// status gives one field of proc_pid_status(5).
func status(args []string) (string, error) {
	data, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); name == args[0] {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("there is no %s", args[0]))
}
