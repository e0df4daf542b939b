package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// inventory gathers the processes of a host into what a person would name: a
// service of systemd, or a program that listens somewhere. The thousands of
// others are not listed; each can be a target all the same.
type inventory struct {
	*Process
	protected *proc.Protection
	listeners *listeners
	own       string                        // the container that this process is in itself
	rows      map[string]*experiment.Listed // by what makes them one
	count     map[string]int
	ports     map[string][]int
	oldest    map[string]uint64
	order     []string
}

// List implements experiment.Lister. Processes of containers are their
// runtimes' to list.
func (p *Process) List(ctx context.Context) ([]experiment.Listed, error) {
	if err := p.fs.OwnPIDNamespace(); err != nil {
		return nil, err
	}
	protected, err := p.fs.Protected()
	if err != nil {
		return nil, err
	}
	pids, err := p.fs.PIDs()
	if err != nil {
		return nil, err
	}
	v := &inventory{
		Process: p, protected: protected, listeners: newListeners(p.fs), rows: map[string]*experiment.Listed{},
		count: map[string]int{}, ports: map[string][]int{}, oldest: map[string]uint64{},
	}
	if paths, err := p.fs.CgroupPaths(os.Getpid()); err == nil {
		v.own = container(cgroupOf(paths))
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := v.add(pid); err != nil && !errors.Is(err, experiment.ErrGone) {
			return nil, err
		}
	}
	return v.list(), nil
}

// add puts a process into its row, if it is of one.
func (v *inventory) add(pid int) error {
	s, err := v.fs.Stat(pid)
	if err != nil || s.Kernel() || s.Exited() {
		return err
	}
	paths, err := v.fs.CgroupPaths(pid)
	if err != nil {
		return err
	}
	path := cgroupOf(paths)
	if id := container(path); id != "" && id != v.own {
		return nil
	}
	unit, ports := lastUnit(path), v.listeners.ports(pid)
	row := experiment.Listed{Kind: "process", PID: pid, Cgroup: path}
	key := unit
	switch {
	case strings.HasSuffix(unit, ".service"):
		row.Name, row.Workload = unit, unit
	case len(ports) > 0:
		row.Name, row.Workload = s.Comm, v.workload(pid, unit)
		key = row.Workload
	default:
		return nil
	}
	v.merge(key, row, s, ports)
	return nil
}

// merge keeps the oldest process of a row, and what protects any of them.
func (v *inventory) merge(key string, row experiment.Listed, s proc.Stat, ports []int) {
	if why := v.protected.Why(s.PID); why != "" {
		row.Protected, row.Out = why, "protected: pid "+strconv.Itoa(s.PID)+" is "+why
	}
	have := v.rows[key]
	switch {
	case have == nil:
		v.rows[key], v.oldest[key] = &row, s.Start
		v.order = append(v.order, key)
	case s.Start < v.oldest[key]:
		if row.Protected == "" {
			row.Protected, row.Out = have.Protected, have.Out
		}
		*have, v.oldest[key] = row, s.Start
	case have.Protected == "":
		have.Protected, have.Out = row.Protected, row.Out
	}
	v.count[key]++
	v.ports[key] = append(v.ports[key], ports...)
}

func (v *inventory) list() []experiment.Listed {
	all := make([]experiment.Listed, 0, len(v.order))
	for _, key := range v.order {
		row := *v.rows[key]
		ports := v.ports[key]
		slices.Sort(ports)
		for _, port := range slices.Compact(ports) {
			row.Name += fmt.Sprintf(" :%d", port)
		}
		if n := v.count[key]; n > 1 {
			row.Name += fmt.Sprintf(" (%d processes)", n)
		}
		all = append(all, row)
	}
	return all
}

// cgroupOf returns the path that says most of where a process stands.
func cgroupOf(paths map[string]string) string {
	best := ""
	for _, path := range paths {
		if path != "/" && (len(path) > len(best) || len(path) == len(best) && path < best) {
			best = path
		}
	}
	return best
}

// container returns the id of the container that a cgroup's path names, as
// Docker, containerd, CRI-O and Podman write it, "" where it names none.
//
//	/docker/3f1c…   /system.slice/docker-3f1c….scope   /kubepods/besteffort/pod…/3f1c…
//	…/cri-containerd-3f1c….scope   …/crio-3f1c….scope   …/libpod-3f1c….scope/container
func container(path string) string {
	for _, part := range slices.Backward(strings.Split(path, "/")) {
		part = strings.TrimSuffix(part, ".scope")
		if i := strings.LastIndexByte(part, '-'); i >= 0 {
			part = part[i+1:]
		}
		if i := strings.LastIndexByte(part, ':'); i >= 0 { // systemd's slice:prefix:id, as runc writes it
			part = part[i+1:]
		}
		if len(part) == 64 && !strings.ContainsFunc(part, notHex) {
			return part
		}
	}
	return ""
}

func readlink(path string) string {
	target, _ := os.Readlink(path)
	return target
}

func notHex(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }

// listeners knows which sockets of TCP listen, in each network namespace.
type listeners struct {
	fs   proc.FS
	held map[uint64]map[string]int // by namespace: "socket:[812]" and its port
}

func newListeners(fs proc.FS) *listeners {
	return &listeners{fs: fs, held: map[uint64]map[string]int{}}
}

// ports returns the TCP ports that a process listens on; none where its files
// may not be read.
func (l *listeners) ports(pid int) []int {
	ns, err := l.fs.NetNamespace(pid)
	if err != nil {
		return nil
	}
	if _, known := l.held[ns]; !known {
		l.held[ns] = l.listening(pid)
	}
	if len(l.held[ns]) == 0 {
		return nil
	}
	var ports []int
	links, _ := filepath.Glob(l.fs.Proc + "/" + strconv.Itoa(pid) + "/fd/*")
	for _, link := range links {
		if port, ok := l.held[ns][readlink(link)]; ok {
			ports = append(ports, port)
		}
	}
	return ports
}

func (l *listeners) listening(pid int) map[string]int {
	held := map[string]int{}
	for _, table := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(string(readPages(l.fs.Proc + "/" + strconv.Itoa(pid) + "/net/" + table))) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
				held["socket:["+fields[9]+"]"] = int(port)
			}
		}
	}
	return held
}
