// Command soak runs Simian hundreds of times on real processes, strikes each
// run at a random moment of its life, and then looks for anything that is
// left: a process, a stopped or frozen victim, a cgroup, a lock, an unfinished
// journal, a journal that does not add up; of a lab a container, its folder, a
// holder of its network namespaces, a port, a mount, a note on an image.
//
//	make soak
//	go run ./test/soak -simian bin/simian -runs 1000
//	go run ./test/soak -simian bin/simian -labs 100            labs only
//	go run ./test/soak -simian bin/simian -net 100             networks only
//	go run ./test/soak -simian bin/simian -blow "both killed"
//	go run ./test/soak -simian bin/simian -seed 7 -only 23     one run again
//
// The blows, in equal shares: SIGKILL to the runner, to its guardian, to both,
// to its process group or session, to its cgroup; SIGSTOP for longer than it
// may stand still; its terminal closed, or the shell above it killed.
//
// Of the runs, a share launches a lab of its own: eight containers, made to be
// hard to end. They are struck as above, and by a kill of their fork server.
// Others use a lab that stands; what keeps it up, its guardian and those who
// use it are killed. Now and then a part of a lab is frozen before.
//
// Another share makes the network between two processes bad, whose namespaces
// are their own, while they talk. Besides, the helper that holds packets is
// killed or stopped, an end of the wire is killed, its link deleted, its root
// qdisc replaced, its nft rules flushed. After it, all of either network is as
// it was before, as far as the blow has not changed it, and packets flow.
//
// Everything that is broken is a child of the soak, and dies with it, or is in
// a lab of a trial of its own. It sends signals to nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if code, ok := playRole(os.Args); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: "+err.Error())
	}
	os.Exit(code)
}

// run does it all, and returns the exit code: 0 where nothing was left, 1
// where something was, 2 where it could not be done.
func run(ctx context.Context, args []string) (int, error) {
	o, err := parse(args)
	if err != nil {
		return 2, err
	}
	s, err := newSoak(o, os.Stderr)
	if err != nil {
		return 2, err
	}
	defer s.close()
	if err := adoptOrphans(ctx); err != nil {
		return 2, err
	}
	fmt.Fprintf(s.stderr, "soak: %d runs, %d at a time, -seed %d\n", o.runs, o.parallel, o.seed)
	for _, line := range s.host.lacks {
		fmt.Fprintln(s.stderr, "soak: "+line)
	}
	s.all(ctx)
	s.checkHostNet()
	if err := s.tally.print(os.Stdout); err != nil {
		return 2, err
	}
	if ctx.Err() != nil {
		return 2, errors.New("interrupted; the table shows what was done")
	}
	if len(s.tally.leaks) > 0 {
		return 1, nil
	}
	return 0, nil
}

// soak is what all trials share.
type soak struct {
	options
	stderr  io.Writer
	dir     string // for all state directories
	host    host
	startup time.Duration // of a run, roughly
	service *service
	kit     *labKit
	tally   *tally
	blows   []blow   // that runs are struck with
	onLabs  []blow   // and labs; empty where none can be launched
	onNets  []blow   // and networks
	hostNet []string // this host's own network, before
}

func newSoak(o options, stderr io.Writer) (*soak, error) {
	dir, err := os.MkdirTemp("", "simian-soak-")
	if err != nil {
		return nil, err
	}
	h, err := lookAtHost()
	if err != nil {
		return nil, err
	}
	web, err := newService()
	if err != nil {
		return nil, err
	}
	s := &soak{options: o, stderr: stderr, dir: dir, host: h, service: web, blows: o.choose(blows(h))}
	if s.startup, err = o.startup(); err != nil {
		return nil, err
	}
	if err := errors.Join(s.addLabs(), s.addNets()); err != nil {
		return nil, err
	}
	if len(s.blows)+len(s.onLabs)+len(s.onNets) == 0 {
		return nil, fmt.Errorf("no blow has %q in its name", o.blow)
	}
	s.tally = newTally(o, slices.Concat(s.blows, s.onLabs, s.onNets))
	return s, nil
}

// startup measures how long the binary takes to start, and adds what a run does
// before its first action.
func (o options) startup() (time.Duration, error) {
	start := time.Now()
	if out, err := exec.Command(o.simian, "list", "faults").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("simian list faults: %w: %s", err, out)
	}
	return 3 * time.Since(start) / 2, nil
}

// addLabs makes what labs are made of, where they can be launched.
func (s *soak) addLabs() error {
	if why := noLabs(); why != "" {
		s.host.lacks = append(s.host.lacks, "no labs: "+why)
		return nil
	}
	if s.labs == 0 {
		return nil
	}
	var err error
	s.kit, err = newLabKit(filepath.Join(s.dir, "kit"))
	s.onLabs = s.choose(labBlows(s.host))
	return err
}

// choose returns the blows that are wanted.
func (o options) choose(list []blow) []blow {
	return slices.DeleteFunc(list, func(b blow) bool { return !strings.Contains(b.name, o.blow) })
}

// draw returns what befalls run n. Those of labs and of networks are spread
// evenly: of any hundred, so many.
func (s *soak) draw(n int) blow {
	list, before := s.sort(n), 0 // so many of its sort
	for k := range n {
		if other := s.sort(k); len(other) > 0 && &other[0] == &list[0] {
			before++
		}
	}
	return list[before%len(list)]
}

// sort returns the blows that one is drawn from for run n.
func (s *soak) sort(n int) []blow {
	const stride = 37 // which has no divisor in common with 100
	at := n * stride % 100
	switch none := len(s.blows) == 0; {
	case len(s.onLabs) > 0 && (at < s.labs || none && len(s.onNets) == 0):
		return s.onLabs
	case len(s.onNets) > 0 && (at >= s.labs && at < s.labs+s.net || none):
		return s.onNets
	}
	return s.blows
}

// close removes what is not needed to look into a leak.
func (s *soak) close() {
	s.service.close()
	if s.kit != nil && s.tally.countLeaks() == 0 {
		_ = os.RemoveAll(filepath.Join(s.dir, "kit"))
	}
	_ = os.Remove(s.dir) // it stays where a trial with a leak is kept in it
}

// all does the trials, so many at a time.
func (s *soak) all(ctx context.Context) {
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range s.parallel {
		wg.Go(func() {
			for n := range numbers {
				s.one(ctx, n)
			}
		})
	}
	first, last := 1, s.runs
	if s.only > 0 {
		first, last = s.only, s.only
	}
	p := newProgress(s.stderr, last-first+1)
	for n := first; n <= last && ctx.Err() == nil; n++ {
		numbers <- n
		p.show(n-first, s.tally)
	}
	close(numbers)
	wg.Wait()
	p.end(s.tally)
}

// mostTries is how often a run is done again because it ended before the blow.
const mostTries = 8

// one does trial n, and again where the run was over before the blow fell.
func (s *soak) one(ctx context.Context, n int) {
	for try := range mostTries {
		t := s.newTrial(n, try)
		t.do()
		s.tally.add(t)
		if len(t.leaks) > 0 && !s.verbose {
			fmt.Fprintf(s.stderr, "\nsoak: run %d (%s): %.300s\n", n, t.blow.name, t.leaks[0])
		}
		if s.verbose {
			fmt.Fprintf(s.stderr, "\n%s", t.said())
		}
		if t.struck || ctx.Err() != nil {
			return
		}
	}
}
