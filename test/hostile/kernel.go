package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	quotaSync = 0x800001 << 8 // QCMD(Q_SYNC, USRQUOTA)

	none = ^uintptr(0) // no file, no process
)

// kernel are parts of it that serve nobody in a container. Where a call has no
// capability to ask for, it is given what it would refuse itself.
func kernel() []attempt {
	return []attempt{
		call("init_module", unix.SYS_INIT_MODULE, text(""), 0, text("")),
		call("finit_module", unix.SYS_FINIT_MODULE, none, text(""), 0),
		call("delete_module", unix.SYS_DELETE_MODULE, text("hostile"), uintptr(unix.O_NONBLOCK)),
		call("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, keySession, 0),
		call("read the session's keys", unix.SYS_KEYCTL, unix.KEYCTL_READ, keySession, 0, 0),
		call("add_key", unix.SYS_ADD_KEY, text("user"), text("hostile"), text("x"), 1, keySession),
		call("request_key", unix.SYS_REQUEST_KEY, text("user"), text("simian-canary"), 0, 0),
		call("bpf", unix.SYS_BPF, unix.BPF_MAP_CREATE, text(""), 0),
		call("perf_event_open", unix.SYS_PERF_EVENT_OPEN, text(""), 0, none, none, 0),
		call("userfaultfd", unix.SYS_USERFAULTFD, uintptr(unix.O_CLOEXEC)),
		call("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, text("")),
		call("kcmp", unix.SYS_KCMP, 1, 1, 0, 0, 0),
		call("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, none),
		call("kexec_file_load", unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, none),
		call("reboot", unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF, 0),
		call("swapon", unix.SYS_SWAPON, text("/none"), 0),
		call("swapoff", unix.SYS_SWAPOFF, text("/none")),
		call("acct", unix.SYS_ACCT, text("/none")),
		call("quotactl", unix.SYS_QUOTACTL, quotaSync, 0, 0, 0),
		call("lookup_dcookie", unix.SYS_LOOKUP_DCOOKIE, 0, 0, 0),
		call("vhangup", unix.SYS_VHANGUP),
		call("fanotify_init", unix.SYS_FANOTIFY_INIT, 0, 0),
		call("set_mempolicy", unix.SYS_SET_MEMPOLICY, none, 0, 0),
		call("move_pages", unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, none),
		call("an unknown system call", 600),
		{name: "turn randomised addresses off", try: func() error { return raw(unix.SYS_PERSONALITY, 0x0040000) }},
		{name: "read the kernel's log (syslog)", try: func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil); return err }},
		{name: "set the host name", try: func() error { return setName(unix.SYS_SETHOSTNAME) }},
		{name: "set the domain name", try: func() error { return setName(unix.SYS_SETDOMAINNAME) }},
	}
}

const keySession = ^uintptr(2) // KEY_SPEC_SESSION_KEYRING, -3

func setName(number uintptr) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return raw(number, text(name), uintptr(len(name)))
}

// clocks are the machine's: no namespace has wall time of its own. They are
// set to what they show.
func clocks() []attempt {
	return []attempt{
		{name: "set the time (clock_settime)", try: func() error {
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
				return err
			}
			return raw(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)))
		}},
		{name: "set the time (settimeofday)", try: func() error {
			var now unix.Timeval
			if err := unix.Gettimeofday(&now); err != nil {
				return err
			}
			return unix.Settimeofday(&now)
		}},
		{name: "make the clock run faster (adjtimex)", try: func() error {
			const tick = 0x4000 // ADJ_TICK
			var t unix.Timex
			if _, err := unix.Adjtimex(&t); err != nil {
				return err
			}
			t.Modes = tick
			_, err := unix.Adjtimex(&t)
			return err
		}},
		{name: "wake the machine later", try: func() error {
			fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME_ALARM, unix.TFD_CLOEXEC)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}},
	}
}
