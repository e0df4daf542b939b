// Package op is the only code that changes a Linux system. Each op is one
// small change, held as plain data: it compares the identity of its object
// right before it acts, and gives experiment.ErrGone where that is another.
package op

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// All returns the catalogue of ops. Journals are decoded with it.
func All(fs proc.FS) experiment.Catalog[experiment.Op] {
	return NewHost(fs).Ops()
}

// Ops is All for ops that share what h holds.
func (h *Host) Ops() experiment.Catalog[experiment.Op] {
	fs, host := h.FS, h
	return experiment.Catalog[experiment.Op]{
		"signal":   func() experiment.Op { return &Signal{fs: fs} },
		"signals":  func() experiment.Op { return &Signals{fs: fs} },
		"files":    func() experiment.Op { return &Files{fs: fs} },
		"ports":    func() experiment.Op { return &Ports{host: host} },
		"stop":     func() experiment.Op { return &Stop{fs: fs} },
		"cgroup":   func() experiment.Op { return &CgroupSet{fs: fs} },
		"devices":  func() experiment.Op { return &DeviceFilter{host: host} },
		"freezer":  func() experiment.Op { return &Freezer{fs: fs} },
		"end":      func() experiment.Op { return &End{fs: fs} },
		"keep":     func() experiment.Op { return &Keep{fs: fs} },
		"nft":      func() experiment.Op { return &Table{host: host} },
		"nft-gone": func() experiment.Op { return &NftGone{host: host} },
		"qdisc":    func() experiment.Op { return &Qdisc{host: host} },
		"link":     func() experiment.Op { return &Link{host: host} },
		"queue":    func() experiment.Op { return &Queue{host: host} },
		"fill":     func() experiment.Op { return &Fill{host: host} },
		"cover":    func() experiment.Op { return &Cover{host: host} },
		"unmount":  func() experiment.Op { return &Unmount{host: host} },
		"exec":     func() experiment.Op { return &Exec{host: host} },
		"routes":   func() experiment.Op { return &Routes{host: host} },
		"dns":      func() experiment.Op { return &DNS{host: host} },
		"clock":    func() experiment.Op { return &Clock{host: host} },
		"http":     func() experiment.Op { return &HTTP{host: host} },
		"helper":   func() experiment.Op { return &Helper{host: host} },
		"oom-kill": func() experiment.Op { return &OOMKill{host: host} },
	}
}
