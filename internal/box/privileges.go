package box

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// callByte is stage.CallByte, as a number that do takes.
const callByte = stage.CallByte

// privileges are what a process may do.
type privileges struct {
	caps       []string
	seccomp    []unix.SockFilter
	noNewPrivs bool
	host       host
}

// maxGroups is how many supplementary groups a container's files may give its
// user.
const maxGroups = 1024

// homeSize holds HOME=, the longest path there is, and a zero byte.
const homeSize = 4096 + 8

// userAnswer is where the answer goes to who the user is: uid, gid, the number
// of groups and the groups, 32 bits each, then HOME=…, or an empty string.
type userAnswer struct{ at address }

// userAnswerSize is its length in bytes.
const userAnswerSize = 4*(3+maxGroups) + homeSize

func (u userAnswer) groups() address { return u.at + 12 }
func (u userAnswer) home() address   { return u.at + 4*(3+maxGroups) }

// encodeUser is the answer for u.
func encodeUser(u user) []byte {
	b := make([]byte, userAnswerSize)
	binary.NativeEndian.PutUint32(b, u.uid)
	binary.NativeEndian.PutUint32(b[4:], u.gid)
	binary.NativeEndian.PutUint32(b[8:], uint32(len(u.groups)))
	for i, gid := range u.groups {
		binary.NativeEndian.PutUint32(b[12+4*i:], gid)
	}
	copy(b[4*(3+maxGroups):len(b)-1], "HOME="+u.home)
	return b
}

// askUser asks the launcher who the user is, by the files of the root that is
// in place now.
func (a *assembler) askUser(u *userAnswer) {
	u.at = a.bytes(make([]byte, userAnswerSize))
	a.do("ask who its user is", unix.SYS_WRITE, status, string(rune(stage.Ask)), 1)
	a.do("hear who its user is", unix.SYS_RECVFROM, status, u.at, userAnswerSize, unix.MSG_WAITALL, 0, 0).flag(stage.NonZero)
}

// become takes on the user and drops every privilege that is not given, as
// runc does (libcontainer/init_linux.go, finalizeNamespace). Without
// no_new_privs a filter can be installed only as long as CAP_SYS_ADMIN is
// there, so it comes first then.
func (a *assembler) become(p privileges, u *userAnswer) {
	uid := a.do("load uid", stage.CallLoad, u.at).out()
	gid := a.do("load gid", stage.CallLoad, u.at+4).out()
	groups := a.do("load groups", stage.CallLoad, u.at+8).out()
	a.do("set umask", unix.SYS_UMASK, 0o022)
	if !p.noNewPrivs {
		a.filter(p.seccomp)
	}
	a.bound(p.caps, p.host.lastCap)
	a.do("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	a.do("set groups", unix.SYS_SETGROUPS, groups, u.groups())
	a.do("set gid", unix.SYS_SETRESGID, gid, gid, gid)
	a.do("set uid", unix.SYS_SETRESUID, uid, uid, uid)
	a.do("forget capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	a.setCapabilities(p.caps)
	a.diesWithLauncher() // a change of credentials has undone it
	if p.noNewPrivs {
		a.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		a.filter(p.seccomp)
	}
}

// capabilities leaves caps in all sets but the inheritable and ambient ones.
func (a *assembler) capabilities(caps []string, last int) {
	a.bound(caps, last)
	a.setCapabilities(caps)
}

// bound takes all capabilities but caps out of the bounding set.
func (a *assembler) bound(caps []string, last int) {
	keep, err := capSet(caps)
	if err != nil {
		a.fail(err)
	}
	for n := range last + 1 {
		if keep&(1<<n) == 0 {
			a.do("drop "+capName(n), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0)
		}
	}
}

// setCapabilities sets what the process holds itself: caps and no more, none
// of them inheritable (CVE-2022-24769) or ambient.
func (a *assembler) setCapabilities(caps []string) {
	set, err := capSet(caps)
	if err != nil {
		a.fail(err)
	}
	a.do("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	a.holdCapabilities("set capabilities "+strings.Join(caps, " "), set)
}

// holdCapabilities sets the permitted and effective capabilities (capset(2)).
func (a *assembler) holdCapabilities(words string, set uint64) {
	var head, data []byte
	for _, n := range []uint32{unix.LINUX_CAPABILITY_VERSION_3, 0} {
		head = binary.NativeEndian.AppendUint32(head, n)
	}
	for _, half := range []uint32{uint32(set), uint32(set >> 32)} {
		for _, n := range []uint32{half, half, 0} {
			data = binary.NativeEndian.AppendUint32(data, n)
		}
	}
	a.do(words, unix.SYS_CAPSET, a.bytes(head), a.bytes(data))
}

// filter installs a seccomp filter; nil is none.
func (a *assembler) filter(f []unix.SockFilter) {
	if f == nil {
		return
	}
	var b []byte
	for _, i := range f {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	list := a.bytes(b)
	head := a.words64(uint64(len(f)), uint64(list)) // struct sock_fprog: the length, then a pointer at a multiple of 8
	a.Relocations = append(a.Relocations, uint32(head)+8)
	a.do("install seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, head)
}
