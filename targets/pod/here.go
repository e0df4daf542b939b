package pod

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/runtime"
)

// here finds out which node this is: the one whose pods the runtime here runs.
// A kubelet may call its node otherwise than the host is called.
type here struct {
	local Local

	mu   sync.Mutex
	node string // once it is known
}

// asksOf is of how many pods of a node it is asked whether they run here, until
// it is taken for another: a cluster has thousands of pods, and to ask for each
// takes seconds.
const asksOf = 3

// search looks for pods in one go.
type search struct {
	*here
	asked map[string]int // by node
	deaf  bool           // there is nobody to ask
}

func (h *here) search() *search { return &search{here: h, asked: map[string]int{}} }

// containers returns the running containers of a pod where it is on this node.
// Who is not allowed to ask, and where no runtime of pods is, has none: what the
// API server does needs none.
func (s *search) containers(ctx context.Context, pod *kube.Pod) ([]runtime.Container, error) {
	if s.local == nil || s.deaf || !pod.Running() || !s.may(pod.Node) {
		return nil, nil
	}
	found, err := s.local.Containers(ctx, pod.UID)
	if errors.Is(err, experiment.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		s.deaf = true
		return nil, nil
	}
	if errors.Is(err, experiment.ErrGone) { // one has just ended
		return nil, nil
	}
	if len(found) > 0 {
		s.mu.Lock()
		s.node = pod.Node
		s.mu.Unlock()
	}
	return found, err
}

// may tells whether a node may be this one.
func (s *search) may(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.node != "" {
		return node == s.node
	}
	if name, err := os.Hostname(); err == nil && strings.EqualFold(name, node) {
		return true
	}
	s.asked[node]++
	return s.asked[node] <= asksOf
}
