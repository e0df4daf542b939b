package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the programs of a lab's containers listen on, and keep.
const (
	boxPort = "7000"
	boxData = "/data"
)

// box is the program of a container. It answers on boxPort; what it is told
// besides makes it harder to end:
//
//	stubborn   heeds no SIGTERM
//	forks      has children now and then, and leaves grandchildren behind
//	data       writes to its volume
//	ends=50ms  ends by itself after so long, as one does that is broken
func box(args []string) error {
	term := make(chan os.Signal, 1)
	if signal.Notify(term, unix.SIGTERM); slices.Contains(args, "stubborn") {
		term = nil
	}
	if slices.Contains(args, "forks") {
		go bear()
	}
	if slices.Contains(args, "data") {
		go keepWriting()
	}
	go work()
	failed := make(chan error, 1)
	go func() { failed <- answer() }()
	select {
	case <-term:
		return nil
	case err := <-failed:
		return err
	case <-time.After(endsAfter(args)):
		return errors.New("ends by itself")
	}
}

func endsAfter(args []string) time.Duration {
	for _, a := range args {
		if d, err := time.ParseDuration(strings.TrimPrefix(a, "ends=")); err == nil {
			return d
		}
	}
	return time.Hour
}

// bear has a child every 100 ms. Each leaves a child of its own behind, which
// PID 1 of the container inherits.
func bear() {
	for {
		_ = exec.Command("/proc/self/exe", roleOrphan).Run()
		time.Sleep(100 * time.Millisecond)
	}
}

// orphan leaves a child behind that is in no session of this container's.
func orphan([]string) error {
	c := exec.Command("/proc/self/exe", roleChild)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c.Start()
}

func keepWriting() {
	for n := 0; ; n++ {
		_ = os.WriteFile(filepath.Join(boxData, strconv.Itoa(n%10)), make([]byte, 4096), 0o644)
		time.Sleep(10 * time.Millisecond)
	}
}

// answer serves HTTP and echoes datagrams, both on boxPort.
func answer() error {
	udp, err := net.ListenPacket("udp", ":"+boxPort)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			if n, from, err := udp.ReadFrom(b); err == nil {
				_, _ = udp.WriteTo(b[:n], from)
			}
		}
	}()
	s := &http.Server{Addr: ":" + boxPort, ReadHeaderTimeout: 5 * time.Second}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well\n") })
	return s.ListenAndServe()
}

// healthy is the health check of box.
func healthy([]string) error {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+boxPort, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// once does its work, and ends.
func once([]string) error {
	return os.WriteFile(filepath.Join(boxData, "seeded"), []byte("seeded\n"), 0o644)
}
