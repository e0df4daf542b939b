// Command subject is what the tests of faults break. It counts, answers on the
// network, and does what it is told through a socket in the folder it is given:
//
//	subject serve DIR ADDRESS WEB   DIR/count is how often it has counted, DIR/socket
//	                                takes commands; it gives back at ADDRESS what it is
//	                                sent (TCP and UDP), and answers HTTP at WEB
//	subject sleep                   does nothing
//	subject hog BYTES               takes memory, and ends
//	subject mark FILE               makes a file
//	subject unmark FILE             removes it
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	switch os.Args[1] {
	case "serve":
		if err := serve(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "subject:", err)
			os.Exit(1)
		}
	case "sleep":
		select {}
	case "mark":
		if os.WriteFile(os.Args[2], nil, 0o644) != nil {
			os.Exit(1)
		}
	case "unmark":
		if err := os.Remove(os.Args[2]); err != nil && !os.IsNotExist(err) {
			os.Exit(1)
		}
	case "hog":
		if _, err := alloc(os.Args[2:]); err != nil {
			os.Exit(1)
		}
	}
}

func serve(dir, address, web string) error {
	warm()
	count, err := counter(filepath.Join(dir, "count"))
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1) // PID 1 of a container has no default for it
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		for {
			count.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if err := answer(address, web); err != nil {
		return err
	}
	path := filepath.Join(dir, "socket")
	_ = os.Remove(path) // of an earlier life
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go listen(l)
	go orphaned(ended)
	<-ended
	return nil
}

// warm has the runtime make threads that it may need when it can't make more.
func warm() {
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			ts := syscall.Timespec{Nsec: 20e6}
			_ = syscall.Nanosleep(&ts, nil)
		})
	}
	wg.Wait()
}

// orphaned ends it when who started it has died, where its input is a pipe from
// there.
func orphaned(ended chan<- os.Signal) {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return
	}
	_, err = os.Stdin.Read(make([]byte, 1))
	if !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "subject: what it reads from has not ended:", err)
	}
	ended <- syscall.SIGTERM
}

// counter maps a file that others read while this process can't answer.
func counter(path string) (*atomic.Uint64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		return nil, err
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	_ = binary.NativeEndian.Uint64(page)
	return (*atomic.Uint64)(unsafe.Pointer(&page[0])), nil
}

// listen does a command for each connection.
func listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(time.Millisecond) // there may be no descriptor left
			continue
		}
		go func() {
			defer c.Close()
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			said, err := obey(strings.Fields(line))
			if err != nil {
				said = "error: " + err.Error()
			}
			fmt.Fprintln(c, said)
		}()
	}
}

// answer opens the ports.
func answer(address, at string) error {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	go echoTCP(tcp)
	go echoUDP(udp)
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "hello from", r.URL.Path)
		}))
	}()
	return nil
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			b := make([]byte, 64)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				_, _ = c.Write(b[:n])
			}
		}()
	}
}

func echoUDP(p net.PacketConn) {
	for b := make([]byte, 64); ; {
		n, from, err := p.ReadFrom(b)
		if err == nil {
			_, _ = p.WriteTo(b[:n], from)
		}
	}
}
