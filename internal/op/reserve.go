package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Ports keeps the ephemeral ports of a network namespace from being given out
// (net.ipv4.ip_local_reserved_ports, Documentation/networking/ip-sysctl.rst),
// or gives them back. Whoever connects, or binds to port 0, finds none, of
// IPv4 and IPv6, TCP and UDP. Ports in use stay so.
type Ports struct {
	Net   experiment.Namespace `json:"net"`
	Range [2]int               `json:"range"` // the ephemeral ports, both included
	Leave int                  `json:"leave,omitzero"`
	From  string               `json:"from"` // as the kernel writes it
	To    string               `json:"to"`
	Back  bool                 `json:"back,omitzero"` // To is what was before

	host *Host
}

const (
	reservedPorts  = "/proc/sys/net/ipv4/ip_local_reserved_ports"
	ephemeralPorts = "/proc/sys/net/ipv4/ip_local_port_range"
)

// PlanPorts returns the step that leaves so many ephemeral ports.
func PlanPorts(h *Host, ns experiment.Namespace, leave int) (experiment.Step, error) {
	do := &Ports{Net: ns, Leave: leave, host: h}
	err := h.FS.InNetwork(ns, func() error {
		text, err := os.ReadFile(ephemeralPorts)
		if err != nil {
			return fmt.Errorf("read the range of ephemeral ports: %w", err)
		}
		if _, err := fmt.Sscan(string(text), &do.Range[0], &do.Range[1]); err != nil {
			return fmt.Errorf("read the range of ephemeral ports: %w", err)
		}
		if do.From, err = readReserved(); err != nil {
			return err
		}
		if err := unix.Access(reservedPorts, unix.W_OK); err != nil {
			return fmt.Errorf("write %s: %w: it needs root", reservedPorts, err)
		}
		return do.choose()
	})
	undo := *do
	undo.From, undo.To, undo.Back = do.To, do.From, true
	return experiment.Step{Do: do, Undo: &undo}, err
}

// choose says which ports are to be reserved: those that are already, and of
// the ephemeral ones all but the last that are not.
func (p *Ports) choose() error {
	reserved := parsePorts(p.From)
	left := 0
	for n := p.Range[1]; n >= p.Range[0]; n-- {
		if reserved[n] {
			continue
		}
		if left < p.Leave {
			left++
			continue
		}
		reserved[n] = true
	}
	if p.To = formatPorts(&reserved); p.To == p.From {
		return fmt.Errorf("no more than %d of the ephemeral ports %d-%d are free already: %w", p.Leave, p.Range[0], p.Range[1], experiment.ErrBusy)
	}
	return nil
}

// parsePorts reads a list such as 80,8000-8099.
func parsePorts(text string) (set [1 << 16]bool) {
	for word := range strings.SplitSeq(text, ",") {
		var first, last int
		switch n, _ := fmt.Sscanf(word, "%d-%d", &first, &last); n {
		case 0:
			continue
		case 1:
			last = first
		}
		for n := max(first, 0); n <= last && n < len(set); n++ {
			set[n] = true
		}
	}
	return set
}

// formatPorts writes a list as the kernel does.
func formatPorts(set *[1 << 16]bool) string {
	var words []string
	for n := 0; n < len(set); n++ {
		if !set[n] {
			continue
		}
		first := n
		for n+1 < len(set) && set[n+1] {
			n++
		}
		if first == n {
			words = append(words, fmt.Sprint(n))
		} else {
			words = append(words, fmt.Sprintf("%d-%d", first, n))
		}
	}
	return strings.Join(words, ",")
}

// readReserved reads it for this thread's network namespace.
func readReserved() (string, error) {
	text, err := os.ReadFile(reservedPorts)
	if err != nil {
		return "", fmt.Errorf("read reserved ports: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// String implements experiment.Op.
func (p *Ports) String() string {
	if p.Back {
		return fmt.Sprintf("set reserved ports to %q, as before", p.To)
	}
	s := fmt.Sprintf("reserve the ephemeral ports %d-%d", p.Range[0], p.Range[1])
	if p.Leave > 0 {
		s += fmt.Sprintf(" but %d", p.Leave)
	}
	return s + fmt.Sprintf(" (reserved so far %q)", p.From)
}

// Backend implements experiment.Backed.
func (p *Ports) Backend() string { return "ip_local_reserved_ports" }

// Handles implements experiment.Handled.
func (p *Ports) Handles() []string {
	return []string{p.Net.Handle() + ":ip_local_reserved_ports"}
}

// Apply implements experiment.Op.
func (p *Ports) Apply(context.Context) error {
	return p.host.FS.InNetwork(p.Net, func() error {
		now, err := readReserved()
		switch {
		case err != nil:
			return err
		case now == p.To:
			return nil
		case now != p.From:
			return &experiment.SupersededError{Object: "net.ipv4.ip_local_reserved_ports", Read: p.was(), Wrote: p.wrote(), Present: now}
		}
		if err := os.WriteFile(reservedPorts, []byte(p.To+"\n"), 0); err != nil {
			return fmt.Errorf("reserve ports: %w", err)
		}
		return nil
	})
}

func (p *Ports) was() string {
	if p.Back {
		return p.To
	}
	return p.From
}

func (p *Ports) wrote() string {
	if p.Back {
		return p.From
	}
	return p.To
}

// Verify implements experiment.Verifier: the value stands, and it tells what
// whoever asks for a port is told.
func (p *Ports) Verify(context.Context) (e experiment.Evidence, err error) {
	err = p.host.FS.InNetwork(p.Net, func() error {
		now, err := readReserved()
		if err != nil {
			return err
		}
		e.InForce = now == p.To
		if p.Back {
			e.What = fmt.Sprintf("reserved ports are %q", now)
			return nil
		}
		v4, v6 := askPort(unix.AF_INET), askPort(unix.AF_INET6)
		e.What = fmt.Sprintf("connect: %s (IPv4), %s (IPv6)", given(v4), given(v6))
		if !e.InForce {
			e.Hint = fmt.Sprintf("somebody has set reserved ports to %q", now)
		} else if v4 == nil && p.Leave > 0 {
			e.Felt, e.Hint = experiment.FeltNo, fmt.Sprintf("of the %d ports that were left there is one still", p.Leave)
		}
		return nil
	})
	return e, err
}

func given(err error) string {
	if err == nil {
		return "there is a port"
	}
	return err.Error()
}

// askPort asks for an ephemeral port as connect(2) does, by TCP: the namespace
// itself is connected to, where hardly anybody listens (port 9, discard). Where
// there is no port, no packet is sent.
func askPort(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9})
	if family == unix.AF_INET6 {
		to = &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: 9}
	}
	err = unix.Connect(fd, to)
	for _, found := range []error{unix.EINPROGRESS, unix.ECONNREFUSED} {
		if errors.Is(err, found) {
			return nil
		}
	}
	return err
}
