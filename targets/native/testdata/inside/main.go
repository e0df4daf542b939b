// Command inside is what the containers of the tests run: one static binary,
// alone in its root.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		fail("want a command")
	}
	commands := map[string]func(args []string){
		"serve": serve, "exit": exit, "get": get, "sleep": sleep, "write": write, "cat": cat,
		"crash-once": crashOnce, "stubborn": stubborn, "gentle": gentle, "lookup": lookup, "eat": eat, "env": env,
		"both": both, "flood": flood, "stat": stat, "there": there, "orphan": orphan, "crowd": crowd, "ended": ended,
		"mark": mark, "echo": echo, "head": head, "tty": tty,
		"chown": chown, "clocks": clocks,
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fail("no such command: " + os.Args[1])
	}
	run(os.Args[2:])
}

func fail(words string) {
	fmt.Fprintln(os.Stderr, words)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

// serve answers with the container's name; after a delay, if one is given.
func serve(args []string) {
	if len(args) > 1 {
		d, err := time.ParseDuration(args[1])
		check(err)
		time.Sleep(d)
	}
	name, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) })
	fmt.Println("serving on " + args[0])
	check(http.ListenAndServe(args[0], nil))
}

func exit(args []string) {
	code, err := strconv.Atoi(args[0])
	check(err)
	fmt.Println("goodbye")
	os.Exit(code)
}

func get(args []string) {
	r, err := http.Get(args[0])
	check(err)
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		fail(r.Status)
	}
	_, _ = io.Copy(os.Stdout, r.Body)
}

func sleep([]string) { time.Sleep(time.Hour) }

func write(args []string) {
	check(os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644))
}

func cat(args []string) {
	for _, path := range args {
		data, err := os.ReadFile(path)
		check(err)
		fmt.Print(string(data))
	}
	time.Sleep(time.Hour)
}

// crashOnce fails the first time that it is started, and stays the next.
func crashOnce(args []string) {
	if _, err := os.Stat(args[0]); err == nil {
		time.Sleep(time.Hour)
	}
	check(os.WriteFile(args[0], nil, 0o644))
	os.Exit(7)
}

// stubborn does not end when it is asked to.
func stubborn([]string) {
	signal.Ignore(syscall.SIGTERM)
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// gentle says which signal ended it.
func gentle([]string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("ready")
	fmt.Println("ended by", <-c)
}

func lookup(args []string) {
	list, err := net.LookupHost(args[0])
	check(err)
	fmt.Println(strings.Join(list, " "))
}

// eat takes memory until the kernel minds.
func eat([]string) {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
		if len(all)%16 == 0 {
			fmt.Println(len(all), "MiB")
		}
	}
}

func env([]string) {
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
}

// both writes to both streams, and a line that is longer than a log's.
func both(args []string) {
	n, err := strconv.Atoi(args[0])
	check(err)
	fmt.Println("to stdout")
	fmt.Fprintln(os.Stderr, "to stderr")
	fmt.Println(strings.Repeat("x", n))
	fmt.Print("without an end")
}

// flood writes so many MiB as fast as they are taken.
func flood(args []string) {
	n, err := strconv.Atoi(args[0])
	check(err)
	line := []byte(strings.Repeat("y", 1023) + "\n")
	for range n << 10 {
		_, err := os.Stdout.Write(line)
		check(err)
	}
	fmt.Println("done")
	time.Sleep(time.Hour)
}

// stat says whose each path is, and who may do what with it.
func stat(args []string) {
	for _, path := range args {
		info, err := os.Lstat(path)
		check(err)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Printf("%s %d:%d %o\n", path, st.Uid, st.Gid, st.Mode&0o7777)
	}
}

// there tells whether a file is there.
func there(args []string) {
	_, err := os.Stat(args[0])
	check(err)
}

// orphan ends well, and leaves a process that keeps its output open.
func orphan([]string) {
	c := exec.Command("/inside", "sleep")
	c.Stdout = os.Stdout
	check(c.Start())
}

// crowd is so many processes beside this one.
func crowd(args []string) {
	n, err := strconv.Atoi(args[0])
	check(err)
	for range n {
		check(exec.Command("/inside", "sleep").Start())
	}
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// ended ends the process that is named, with a signal.
func ended(args []string) {
	pid, err := strconv.Atoi(args[0])
	check(err)
	check(syscall.Kill(pid, syscall.SIGTERM))
}

// mark adds a line to a file, so that starts can be counted, and ends with a
// code, or stays where none is given.
func mark(args []string) {
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(err)
	_, err = fmt.Fprintln(f, "started")
	check(err)
	if len(args) > 1 {
		exit(args[1:])
	}
	time.Sleep(time.Hour)
}

// echo writes what it reads.
func echo([]string) { _, _ = io.Copy(os.Stdout, os.Stdin) }

// tty tells whether it has a terminal, how large that is, and what is typed.
func tty([]string) {
	var size struct{ rows, cols, x, y uint16 }
	_, _, bad := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if bad != 0 {
		fmt.Println("no terminal")
		return
	}
	fmt.Printf("terminal of %dx%d\n", size.cols, size.rows)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	check(err)
	fmt.Printf("typed %q\n", line)
	os.Exit(9)
}

// chown gives a file to somebody else, which takes CAP_CHOWN, and stays.
func chown(args []string) {
	check(os.WriteFile(args[0], nil, 0o644))
	check(os.Chown(args[0], 1000, 1000))
	check(os.Chown(args[0], 0, 0))
	fmt.Println("chowned")
	time.Sleep(time.Hour)
}

// clocks writes what monotonic, boottime and the time of day are, in seconds,
// and stays, or ends where it is told to do so once.
func clocks(args []string) {
	for _, clock := range []uintptr{1, 7} { // CLOCK_MONOTONIC, CLOCK_BOOTTIME
		var ts syscall.Timespec
		_, _, bad := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0)
		if bad != 0 {
			fail(bad.Error())
		}
		fmt.Println(ts.Sec)
	}
	fmt.Println(time.Now().Unix())
	if len(args) == 0 {
		time.Sleep(time.Hour)
	}
}

// head writes files, and ends.
func head(args []string) {
	for _, path := range args {
		data, err := os.ReadFile(path)
		check(err)
		fmt.Print(string(data))
	}
}
