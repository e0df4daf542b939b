// Command subject is what bench/chaos breaks: it listens, and keeps one child
// alive.
//
//	subject serve         the above, until SIGTERM
//	subject sleep         does nothing: the child
//	subject mark FILE     makes a file
//	subject unmark FILE   removes it
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "serve":
		serve()
	case "sleep":
		for {
			time.Sleep(time.Hour)
		}
	case "mark":
		_ = os.WriteFile(os.Args[2], nil, 0o644)
	case "unmark":
		_ = os.Remove(os.Args[2])
	}
}

func serve() {
	ended := make(chan os.Signal, 1) // PID 1 of a container has no default for it
	signal.Notify(ended, syscall.SIGTERM)
	l, err := net.Listen("tcp", ":7001")
	if err != nil {
		fmt.Fprintln(os.Stderr, "subject:", err)
		os.Exit(1)
	}
	go listen(l)
	go func() {
		_ = http.ListenAndServe(":7002", http.NotFoundHandler())
	}()
	go keep()
	<-ended
}

// listen holds connections until the other end is closed.
func listen(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(time.Millisecond) // there may be no descriptor left
			continue
		}
		go func() {
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}()
	}
}

// keep starts the child again when it has ended.
func keep() {
	for {
		c := exec.Command("/proc/self/exe", "sleep")
		c.Args[0] = "child"
		_ = c.Run()
		time.Sleep(2 * time.Millisecond)
	}
}
