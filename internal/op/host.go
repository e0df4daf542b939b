package op

import (
	"io"
	"sync"

	"github.com/simianhq/simian/internal/proc"
)

// Host is what ops of the network need: the host's files, and what this
// process must hold open while they are in force, since the kernel takes it
// back when it is closed (an nft table with an owner, a helper's socket). Do
// and Undo of a step share one; another process, which takes back for a dead
// one, finds that the kernel has done so already.
type Host struct {
	FS proc.FS

	mu    sync.Mutex
	held  map[string]io.Closer  // by the name of what was made
	made  map[string]bool       // names that something was held under, ever
	tried map[string]error      // what the kernel has, nil, and what not: see can
	nft   map[string]nftAbility // by the shape of a table
}

// NewHost returns a Host that holds nothing.
func NewHost(fs proc.FS) *Host { return &Host{FS: fs, held: map[string]io.Closer{}} }

// hold keeps c open until it is dropped under the same name.
func (h *Host) hold(name string, c io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[name] = c
	if h.made == nil {
		h.made = map[string]bool{}
	}
	h.made[name] = true
}

// used tells whether something was held under a name, ever: its undo may be
// about to take back what has that name.
func (h *Host) used(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.made[name]
}

// holds returns what is held under a name, nil where nothing is.
func (h *Host) holds(name string) io.Closer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[name]
}

// drop gives up what is held under a name, and returns it, not closed yet.
func (h *Host) drop(name string) io.Closer {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.held[name]
	delete(h.held, name)
	return c
}
