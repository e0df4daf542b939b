// The program of the pods that tests run: it waits, answers by HTTP where it is
// told a port (as PORT, or its first argument), and ends when it is asked to.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) > 1 {
		name, _ := os.Hostname()
		go func() {
			err := http.ListenAndServe(":"+os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, name) }))
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}()
	}
	reap := make(chan os.Signal, 1)
	signal.Notify(reap, syscall.SIGCHLD) // as the pause container does for a pod that shares its pids
	for {
		select {
		case <-ask:
			return
		case <-reap:
			for pid := 1; pid > 0; {
				pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			}
		}
	}
}
