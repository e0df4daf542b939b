package burn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/simianhq/simian/internal/helper"
)

// Memory is how much memory is held.
type Memory struct {
	Bytes  int64  `json:"bytes"`           // pages of the process; with OOM all that is to be had
	RampNs int64  `json:"rampNs,omitzero"` // until all of it is held
	OOM    bool   `json:"oom,omitzero"`    // until the kernel kills
	Events string `json:"events"`          // the file that counts what the kernel kills: memory.events, or version 1's memory.oom_control
	Limit  int64  `json:"limit,omitzero"`  // bytes, for the report; 0 is none
	Cgroup string `json:"cgroup"`          // of this process
}

const (
	pageSize   = 4096 // touched one by one; larger pages are touched more than once
	memoryStep = 4 << 20
	memoryTick = 5 * time.Millisecond
	atOnce     = 500 * time.Millisecond // that whoever asked waits for it

	memfdCloexec = 1
	sysMemfd     = sysMemfdArch
)

// held is the work of BeginMemory.
type held struct {
	Memory
	began int64 // clockMonotonic
	own   int64 // bytes of this process itself
	bytes atomic.Int64
	over  atomic.Bool
	kills int64 // counted when it began
	fail  atomic.Pointer[string]
}

// BeginMemory implements helper.Begin. The first file is a pidfd of the target.
func BeginMemory(args json.RawMessage, files []int) (helper.Work, error) {
	h := &held{began: clock(clockMonotonic)}
	if err := json.Unmarshal(args, &h.Memory); err != nil {
		return nil, err
	}
	if len(files) != 1 || h.Bytes <= 0 {
		return nil, errors.New("an order that can't be met")
	}
	h.kills = h.killed()
	helper.EndWith(files[0])
	if h.OOM {
		spare()
		fd, _, errno := syscall.Syscall(sysMemfd, uintptr(unsafe.Pointer(&[]byte("simian\x00")[0])), memfdCloexec, 0)
		if errno != 0 {
			return nil, fmt.Errorf("make a file in memory: %w", errno)
		}
		go h.grow(func(from, to int64) error { return fillFile(int(fd), from, to) })
		return h, nil
	}
	h.own = min(h.ownBytes(), h.Bytes-pageSize)
	rest := h.Bytes - h.own
	pages, err := syscall.Mmap(-1, 0, int(rest), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes: %w", h.Bytes, err)
	}
	_ = syscall.Madvise(pages, syscall.MADV_NOHUGEPAGE) // a large page would be more than was asked for
	h.bytes.Store(h.own)
	go h.grow(func(from, to int64) error {
		for at := from - h.own; at < to-h.own; at += pageSize {
			pages[at] = 1
		}
		return nil
	})
	for end := clock(clockMonotonic) + int64(atOnce); h.RampNs == 0 && h.bytes.Load() < h.Bytes && clock(clockMonotonic) < end; {
		time.Sleep(time.Millisecond)
	}
	return h, nil
}

// ownBytes is what this process holds already: a part of what is asked for. Its
// cgroup tells, where that counts by itself: what a process has when it is moved
// into one of version 1 does not count there. Else the kernel's count of this
// process does (RssAnon of proc_pid_status(5)).
func (h *held) ownBytes() int64 {
	if data, err := os.ReadFile(h.Cgroup + "/memory.stat"); err == nil {
		return max(field(data, "anon "), field(data, "rss ")) / pageSize * pageSize
	}
	data, _ := os.ReadFile("/proc/self/status")
	return field(data, "RssAnon:") << 10 / pageSize * pageSize
}

// field returns the first number of the line that begins with name.
func field(data []byte, name string) int64 {
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				n, _ := strconv.ParseInt(words[0], 10, 64)
				return n
			}
		}
	}
	return 0
}

// spare makes this process as unlikely as it may be to be the one that is
// killed: without CAP_SYS_RESOURCE, as it was before it was made a helper. What
// is held in a file is not counted as this process's.
func spare() {
	for _, score := range []string{"-1000", "-500", "0"} {
		if os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0) == nil {
			return
		}
	}
}

// fillFile has the kernel find pages for a part of a file in memory.
func fillFile(fd int, from, to int64) error {
	if err := syscall.Fallocate(fd, 0, from, to-from); err != nil {
		return fmt.Errorf("take memory: %w", err)
	}
	return nil
}

// grow holds more and more, along the ramp.
func (h *held) grow(take func(from, to int64) error) {
	for at := h.own; at < h.Bytes && !h.over.Load(); {
		if h.OOM && h.killed() > h.kills {
			return // it stays as it is until the end: what is killed again is the policy's doing
		}
		due := h.due()
		if at >= due {
			time.Sleep(memoryTick)
			continue
		}
		to := min(due, at+memoryStep)
		if err := take(at, to); err != nil {
			text := err.Error()
			h.fail.Store(&text)
			return
		}
		at = to
		h.bytes.Store(at)
	}
}

// due is how much is to be held by now.
func (h *held) due() int64 {
	passed := clock(clockMonotonic) - h.began
	if passed >= h.RampNs {
		return h.Bytes
	}
	return int64(float64(h.Bytes)*float64(passed)/float64(h.RampNs)) / pageSize * pageSize
}

// killed reads how many processes the kernel has killed in the target's cgroup
// for want of memory.
func (h *held) killed() int64 {
	data, _ := os.ReadFile(h.Events)
	return field(data, "oom_kill ")
}

// Report implements helper.Work.
func (h *held) Report() (any, error) {
	n := h.bytes.Load()
	r := helper.Report{Felt: "yes", What: fmt.Sprintf("%.1f MiB held", float64(n)/(1<<20))}
	if h.Limit > 0 {
		r.What += fmt.Sprintf(", %.1f %% of the limit of %.1f MiB", 100*float64(n)/float64(h.Limit), float64(h.Limit)/(1<<20))
	}
	if why := h.fail.Load(); why != nil {
		r.Failed, r.Hint = true, *why
	}
	if h.OOM {
		if kills := h.killed() - h.kills; kills > 0 {
			r.What += fmt.Sprintf("; the kernel killed %d", kills)
		} else {
			r.Felt, r.Hint = "nothing", "the kernel has killed nothing yet"
		}
	} else if n < h.Bytes && clock(clockMonotonic)-h.began > h.RampNs {
		r.What += fmt.Sprintf(" of %.1f", float64(h.Bytes)/(1<<20))
	}
	return r, nil
}

// End implements helper.Work.
func (h *held) End() { h.over.Store(true) }
