// Package stage is what runs before the rest of the binary is initialised: the
// guardian, the server that forks containers, and the helpers, which must be
// small and quick. It imports the standard library, and what the helpers do,
// which does so too; its path sorts before most of what Simian
// links in, so that its init comes before theirs (Go initialises packages by
// import path among those whose imports are ready).
package stage

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/simianhq/simian/internal/burn"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/exhaust"
	"github.com/simianhq/simian/internal/helper"
	"github.com/simianhq/simian/internal/httprelay"
	"github.com/simianhq/simian/internal/queue"
)

// GuardianName is argv[0] of a guardian.
const GuardianName = "simian-guardian"

// Socket is the file descriptor on which a guardian and its runner talk:
// the guardian says Ready once it watches, the runner says Disarm once
// nothing is left to take back. Each is one packet of one byte.
const Socket = 3

// What is said on Socket.
const (
	Ready  = 'R'
	Disarm = 'D'
)

// Order is what a guardian is told.
type Order struct {
	RunnerPID      int
	DeadlineBootNs int64    // on CLOCK_BOOTTIME: the runner is killed then
	Died           []string // the command that takes back when the runner has died
	Late           []string // the command that takes back when it had to be killed
}

// Args returns the guardian's argument list. Its process is started from
// /proc/self/exe with Socket open.
func (o Order) Args() []string {
	args := []string{GuardianName, strconv.Itoa(o.RunnerPID), strconv.FormatInt(o.DeadlineBootNs, 10), strconv.Itoa(len(o.Died))}
	return append(append(args, o.Died...), o.Late...)
}

func parseOrder(args []string) (o Order, ok bool) {
	if len(args) < 4 {
		return o, false
	}
	pid, err1 := strconv.Atoi(args[1])
	deadline, err2 := strconv.ParseInt(args[2], 10, 64)
	n, err3 := strconv.Atoi(args[3])
	rest := args[4:]
	if err1 != nil || err2 != nil || err3 != nil || n < 1 || n >= len(rest) {
		return o, false
	}
	return Order{pid, deadline, rest[:n], rest[n:]}, true
}

// helpers are what goes on beside Simian while a fault is in force, by argv[0].
func helpers() map[string]helper.Begin {
	return map[string]helper.Begin{
		httprelay.HelperName: httprelay.Begin,
		dnsrelay.HelperName:  dnsrelay.Begin,
		queue.HelperName:     queue.Begin,
		burn.CPUName:         burn.BeginCPU,
		burn.MemoryName:      burn.BeginMemory,
		burn.IOName:          burn.BeginIO,

		exhaust.PIDsName:        exhaust.BeginPIDs,
		exhaust.ConnectionsName: exhaust.BeginConnections,
	}
}

func init() {
	if len(os.Args) == 0 {
		return
	}
	if begin := helpers()[os.Args[0]]; begin != nil {
		os.Exit(helper.Main(begin))
	}
	if os.Args[0] != GuardianName {
		return
	}
	order, ok := parseOrder(os.Args)
	if !ok {
		os.Exit(2)
	}
	os.Exit(guard(order))
}

// takeOver turns this process into the one that takes the run back. It does
// not give up at once where memory is short.
func takeOver(command []string) int {
	for wait := 10 * time.Millisecond; wait < 10*time.Second; wait *= 2 {
		_ = syscall.Exec("/proc/self/exe", command, os.Environ()) // it returns only where it failed
		time.Sleep(wait)
	}
	return 1
}
