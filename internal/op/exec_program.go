package op

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// stageProgram is what the process of a command does before it becomes the command
// (internal/stage). It is a copy of a process that has one thread left: so it
// can join a user namespace, and take on a seccomp filter, which no thread of
// a Go program could bear.
type stageProgram struct {
	stage.Program
	words []string // of each op: what an error begins with
	files []int    // that are sent along, after its end of the socket
	err   error
}

// stageReg is a register, at an address in its data.
type (
	stageReg  uint8
	stageAddr uint64
)

// file sends a file along.
func (p *stageProgram) file(fd int) stageReg {
	p.files = append(p.files, fd)
	return stageReg(stage.Status + len(p.files))
}

// do adds a system call.
func (p *stageProgram) do(words string, call int, args ...any) *stage.Op {
	it := stage.Op{Call: uint32(call)}
	for i, arg := range args {
		switch v := arg.(type) {
		case stageReg:
			it.Kinds[i], it.Args[i] = stage.Register, uint64(v)
		case stageAddr:
			it.Kinds[i], it.Args[i] = stage.Address, uint64(v)
		case string:
			it.Kinds[i], it.Args[i] = stage.Address, uint64(p.string(v))
		case int:
			it.Args[i] = uint64(v)
		}
	}
	p.Ops, p.words = append(p.Ops, it), append(p.words, words)
	return &p.Ops[len(p.Ops)-1]
}

func (p *stageProgram) string(s string) stageAddr {
	if strings.ContainsRune(s, 0) {
		p.err = errors.New("a zero byte is in a word of the command, or of its environment")
	}
	return p.bytes(append([]byte(s), 0))
}

// bytes puts b into the data, at a multiple of 8.
func (p *stageProgram) bytes(b []byte) stageAddr {
	for len(p.Data)%8 != 0 {
		p.Data = append(p.Data, 0)
	}
	at := stageAddr(len(p.Data))
	p.Data = append(p.Data, b...)
	return at
}

func (p *stageProgram) words64(v ...uint64) stageAddr {
	var b []byte
	for _, n := range v {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return p.bytes(b)
}

// list puts strings into the data, and an array of their addresses with a zero
// after it, as execve(2) wants it.
func (p *stageProgram) list(values []string) stageAddr {
	array := make([]uint64, len(values)+1)
	for i, v := range values {
		array[i] = uint64(p.string(v))
	}
	at := p.words64(array...)
	for i := range values {
		p.Relocations = append(p.Relocations, uint32(at)+uint32(8*i))
	}
	return at
}

const stageStatus = stageReg(stage.Status)

// diesWithUs has the kernel kill it when the thread ends that it is a child of.
// Where that has happened already, the socket's other end is closed.
func (p *stageProgram) diesWithUs() {
	p.do("be killed with Simian", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	peek := p.do("look whether Simian lives", unix.SYS_RECVFROM, stageStatus, p.bytes(make([]byte, 1)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	peek.Allow[0], peek.Flags = uint16(unix.EAGAIN), stage.NonZero
}

// streams puts the standard streams in place; all other files are closed when
// the command is executed.
func (p *stageProgram) streams(in, out stageReg) {
	for i, from := range []stageReg{in, out, out} {
		p.do("set standard streams", unix.SYS_DUP3, from, i, 0)
	}
	p.do("close other files", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
}

// joinCgroups moves it into cgroups of version 1: their tasks files. In one of
// version 2 it is born.
func (p *stageProgram) joinCgroups(tasks []int) {
	for _, fd := range tasks {
		p.do("join a cgroup", unix.SYS_WRITE, p.file(fd), "0", 1)
	}
}

// become takes on the user and the privileges of the target's first process.
// Without no_new_privs a filter can be installed only as long as CAP_SYS_ADMIN
// is there, so it comes first then (seccomp(2)).
func (p *stageProgram) become(c *confined) {
	p.do("set umask", unix.SYS_UMASK, c.umask)
	if !c.noNewPrivs {
		p.filters(c.filters)
	}
	for n := range c.lastCap + 1 {
		if c.bound&(1<<n) == 0 {
			p.do(fmt.Sprintf("drop capability %d", n), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0)
		}
	}
	p.do("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	var groups []byte
	for _, g := range c.groups {
		groups = binary.NativeEndian.AppendUint32(groups, g)
	}
	p.do("set groups", unix.SYS_SETGROUPS, len(c.groups), p.bytes(groups))
	p.do("set gid", unix.SYS_SETRESGID, c.gids[0], c.gids[1], c.gids[2])
	p.do("set uid", unix.SYS_SETRESUID, c.uids[0], c.uids[1], c.uids[2])
	p.do("forget capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	p.capabilities(c)
	p.diesWithUs() // a change of users has undone it
	if c.noNewPrivs {
		p.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		p.filters(c.filters)
	}
}

func (p *stageProgram) capabilities(c *confined) {
	var head, data []byte
	for _, n := range []uint32{unix.LINUX_CAPABILITY_VERSION_3, 0} {
		head = binary.NativeEndian.AppendUint32(head, n)
	}
	for shift := 0; shift < 64; shift += 32 {
		for _, set := range []uint64{c.effective, c.permitted, c.inheritable} {
			data = binary.NativeEndian.AppendUint32(data, uint32(set>>shift))
		}
	}
	p.do("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	p.do("set capabilities", unix.SYS_CAPSET, p.bytes(head), p.bytes(data))
	for n := range c.lastCap + 1 {
		if c.ambient&(1<<n) != 0 {
			p.do(fmt.Sprintf("set ambient capability %d", n), unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0)
		}
	}
}

// filters installs seccomp filters, the oldest first.
func (p *stageProgram) filters(list []seccompFilter) {
	for _, f := range list {
		head := p.words64(uint64(len(f.program)), uint64(p.bytes(encodeFilter(f.program)))) // struct sock_fprog: the length, then a pointer at a multiple of 8
		p.Relocations = append(p.Relocations, uint32(head)+8)
		p.do("install the target's seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, int(f.flags), head)
	}
}

// failure says which op failed: its index, and an errno (stage.Failed).
func (p *stageProgram) failure(word [8]byte) error {
	at, errno := int(binary.NativeEndian.Uint32(word[:])), unix.Errno(binary.NativeEndian.Uint32(word[4:]))
	words := "become the command"
	if at < len(p.words) {
		words = p.words[at]
	}
	return gone(fmt.Errorf("%s: %w", words, errno))
}

// execute ends it: the command takes over.
func (p *stageProgram) execute(command, env []string) {
	argv, envp := p.list(command), p.list(env)
	p.do("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.words64(0), 0, 8)
	p.do("say that all is ready", unix.SYS_WRITE, stageStatus, string(rune(stage.Execute)), 1)
	for _, file := range candidates(command[0], env) {
		try := p.do("execute the command", unix.SYS_EXECVE, file, argv, envp)
		try.Allow, try.Flags = [2]uint16{uint16(unix.ENOENT), uint16(unix.EACCES)}, stage.Remember
	}
	p.do("execute the command", stage.CallStop)
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// candidates are the files that a command's name may mean, in the order of the
// last PATH of its environment.
func candidates(name string, env []string) (list []string) {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := defaultPath
	for _, pair := range env {
		if v, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		list = append(list, dir+"/"+name)
	}
	return list
}
