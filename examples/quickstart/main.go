// Command quickstart is a small HTTP service to break: a supervisor, and
// workers that it starts again when they end.
//
//	quickstart serve      opens the socket and keeps the workers running
//	quickstart worker     answers requests; started by serve
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  quickstart serve [--listen 127.0.0.1:18080] [--workers 2]

serve opens the listening socket, starts the workers, and starts a worker
again when it ends. SIGTERM and SIGINT let the workers finish what they have
begun, then all of them end.
`

// errUsage says that the command line is wrong; what is wrong has been printed.
var errUsage = errors.New("wrong usage")

func main() {
	err := run(os.Args[1:], os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "serve":
		return runServe(args[1:], stderr)
	case "worker":
		return runWorker(args[1:])
	case "help", "-h", "--help":
		_, err := fmt.Fprint(stderr, usage)
		return err
	}
	fmt.Fprint(stderr, usage)
	return errUsage
}

func runServe(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("quickstart serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:18080", "the `address` to serve at; port 0 takes a free one")
	workers := flags.Int("workers", 2, "how many workers there are")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return errUsage
	}
	if flags.NArg() > 0 || *workers < 1 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	socket, addr, err := openSocket(*listen)
	if err != nil {
		return err
	}
	defer socket.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := &supervisor{socket: socket, addr: addr, workers: *workers, stderr: stderr, log: log.New(stderr, "quickstart: ", 0)}
	return s.run(ctx)
}

func runWorker(args []string) error {
	if len(args) != 1 {
		return errors.New("a worker is started by: quickstart serve")
	}
	// A signal that an experiment can send without any effect.
	signal.Ignore(syscall.SIGHUP)
	socket := os.NewFile(socketFD, "socket")
	listener, err := net.FileListener(socket) // a descriptor of its own
	if err != nil {
		return fmt.Errorf("take over the socket (a worker is started by: quickstart serve): %w", err)
	}
	socket.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		untilSupervisorEnds(os.NewFile(lifelineFD, "lifeline"))
		cancel()
	}()
	return serve(ctx, listener, newShop(os.Getpid(), args[0]))
}
