// Command vm runs the tests of packages again, under a second kernel: Debian's
// kernel for clouds in QEMU, with cgroup v2 and nothing else, netem, overlay
// and AppArmor, none of which need be there on the machine it runs on.
//
//	make lab                                        once: QEMU and the kernel
//	go run ./test/vm ./internal/op ./internal/proc
//	go run ./test/vm -v -run 'TestFreeze/v2' ./internal/op
//	go run ./test/vm -with bin/simian -exec 'simian list'   a program instead of tests
//
// Each package's test binary, its testdata and a few programs of the host go
// into an initramfs; its /init runs the binaries one after the other, each in
// its package's directory, and the machine ends with the last. Nothing of the
// host's disk or network is in reach.
//
// It ends with 0 where all passed, 1 where a test failed or the machine broke,
// 2 where it could not be done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	runtime.LockOSThread() // QEMU dies with the thread that started it: this one
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm: "+err.Error())
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	verbose  bool
	run      string        // which tests, as for go test
	skip     string        // which not
	kernel   string        // its folder in the lab
	accel    string        // what runs the machine's instructions
	memory   int           // MiB
	boot     time.Duration // until the first test
	timeout  time.Duration // for all of it
	again    bool          // a test that failed is run once more
	maySkip  *regexp.Regexp
	with     []string // files to take along
	exec     string   // a shell's command instead of tests
	out      string   // where that one's output goes
	packages []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("vm", flag.ContinueOnError)
	f.BoolVar(&o.verbose, "v", false, "show all tests, as they run")
	f.StringVar(&o.run, "run", "", "run only the tests that match the `regexp`")
	f.Func("skip", "do not run the tests that match the `regexp`; may be given several times", func(s string) error {
		o.skip = either(o.skip, s)
		return nil
	})
	f.Func("may-skip", "fail where a test is skipped for a reason that does not match the `regexp`; may be given several times", func(s string) (err error) {
		if o.maySkip != nil {
			s = either(o.maySkip.String(), s)
		}
		o.maySkip, err = regexp.Compile(s)
		return err
	})
	f.StringVar(&o.exec, "exec", "", "run this `command` instead of tests, in a shell in the repository's folder")
	f.StringVar(&o.out, "out", "", "write to this `file` what the command of -exec prints on its standard output")
	f.Func("with", "take this `file` along: one of the repository to its own place, such as bin/simian, another one into bin", func(s string) error {
		o.with = append(o.with, s)
		return nil
	})
	f.StringVar(&o.kernel, "kernel", "linux-image-cloud-amd64", "boot this one of the `kernels` in bin/vm/kernels")
	// A /dev/kvm inside a virtual machine may be there and not work. With a thread
	// for each processor, QEMU may go on to execute the breakpoint by which the
	// kernel patches its own code (the first nft hook of a kind is such a patch)
	// long after it is gone, and the machine hangs: "soft lockup".
	f.StringVar(&o.accel, "accel", "tcg,thread=single", "QEMU's `accelerator`: kvm, where it works, is the faster one")
	f.IntVar(&o.memory, "m", 1536, "the machine's memory in `MiB`")
	f.DurationVar(&o.boot, "boot", 2*time.Minute, "how long it may take to boot")
	f.DurationVar(&o.timeout, "timeout", 8*time.Minute, "how long all of it may take")
	f.BoolVar(&o.again, "again", false, "run tests that failed once more, alone, in another machine; what passes then is named, and is no failure")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.packages = f.Args()
	switch {
	case o.exec == "" && len(o.packages) == 0:
		return o, errors.New("want packages: go run ./test/vm ./internal/op")
	case o.exec != "" && len(o.packages) > 0:
		return o, errors.New("want packages or -exec, not both")
	case o.exec == "" && o.out != "":
		return o, errors.New("-out is for the output of -exec")
	}
	return o, nil
}

// either joins two regular expressions, of which the first may not be there.
func either(a, b string) string {
	if a == "" {
		return b
	}
	return a + "|" + b
}

// run does it all; it is true where every test passed.
func run(ctx context.Context, args []string, out io.Writer) (bool, error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	root, err := repository(ctx)
	if err != nil {
		return false, err
	}
	lab, err := findLab(root, o.kernel)
	if err != nil {
		return false, err
	}
	r, ok, err := start(ctx, o, lab, out)
	if failed := r.flaky(); err == nil && !ok && o.again && len(failed) > 0 {
		return startAgain(ctx, o, lab, out, failed)
	}
	return ok, err
}

// start boots a machine and has it run what o says.
func start(ctx context.Context, o options, lab lab, out io.Writer) (*report, bool, error) {
	r := newReport(out, o.verbose, o.maySkip)
	dir, err := os.MkdirTemp("", "simian-vm-")
	if err != nil {
		return r, false, err
	}
	defer os.RemoveAll(dir)
	m := machine{options: o, lab: lab, dir: dir}
	if err := m.prepare(ctx, r); err != nil {
		return r, false, err
	}
	err = m.boot(ctx, r)
	return r, r.conclude(errors.Join(err, m.keep())), nil
}

// startAgain runs tests that failed once more, by package.
func startAgain(ctx context.Context, o options, lab lab, out io.Writer, failed map[string][]string) (bool, error) {
	var names []string
	o.packages = slices.Sorted(maps.Keys(failed))
	for _, pkg := range o.packages {
		names = append(names, failed[pkg]...)
	}
	list := strings.Join(names, " ")
	fmt.Fprintf(out, "vm    once more: %s\n", list)
	o.run = "^(" + strings.Join(names, "|") + ")$"
	_, ok, err := start(ctx, o, lab, out)
	if ok && err == nil {
		fmt.Fprintf(out, "vm    flaky: failed, and passed when run once more: %s\n", list)
	}
	return ok, err
}

// prepare makes the files that the machine boots from, and tells the report
// what is to run.
func (m machine) prepare(ctx context.Context, r *report) error {
	binaries, err := m.build(ctx)
	if err != nil {
		return err
	}
	for _, b := range binaries {
		r.expect(b)
	}
	if m.exec != "" {
		r.missing = append(r.missing, m.exec)
	}
	return errors.Join(m.pack(binaries), m.format(ctx))
}
