package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/simianhq/simian/experiment"
)

// Client asks API servers, as the kubeconfig tells, or from inside a cluster.
// No file is read and no connection made before something is asked.
type Client struct {
	mu    sync.Mutex
	conns map[experiment.Cluster]*conn
	alive map[string]aliveness // by UID
}

// New returns a client.
func New() *Client {
	return &Client{conns: map[experiment.Cluster]*conn{}, alive: map[string]aliveness{}}
}

// Close ends all watches.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.conns {
		one.close()
	}
	clear(c.conns)
}

// accounts is where a pod finds who it is.
const accounts = "/var/run/secrets/kubernetes.io/serviceaccount"

// Cluster returns which cluster is meant by the name of a context, "" for the
// current one: the kubeconfig's files (KUBECONFIG, else ~/.kube/config) and the
// context's own name; both empty inside a cluster. It is what another process
// finds the same cluster by.
func (c *Client) Cluster(context string) (experiment.Cluster, error) {
	files := kubeconfig()
	if files == "" {
		_, err := os.Stat(accounts + "/token")
		switch {
		case err == nil && context == "":
			return experiment.Cluster{}, nil
		case err == nil:
			return experiment.Cluster{}, fmt.Errorf("there is no context %q: inside a cluster, without a kubeconfig, leave context out", context)
		}
		return experiment.Cluster{}, fmt.Errorf("find a cluster: no kubeconfig: set KUBECONFIG, or have one in ~/.kube/config (this is no pod either: no %s/token): %w", accounts, experiment.ErrUnsupported)
	}
	config, err := loadingRules(files).Load()
	if err != nil {
		return experiment.Cluster{}, fmt.Errorf("read kubeconfig: %w", err)
	}
	if context == "" {
		context = config.CurrentContext
	}
	if context == "" {
		return experiment.Cluster{}, fmt.Errorf("kubeconfig %s has no current context: say context", files)
	}
	if _, ok := config.Contexts[context]; !ok {
		names := make([]string, 0, len(config.Contexts))
		for name := range config.Contexts {
			names = append(names, name)
		}
		hint := ""
		if near := experiment.Nearest(context, names); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return experiment.Cluster{}, fmt.Errorf("kubeconfig %s has no context %q%s", files, context, hint)
	}
	return experiment.Cluster{Kubeconfig: files, Context: context}, nil
}

// kubeconfig returns the files that are there, as KUBECONFIG lists them; "" for
// none.
func kubeconfig() string {
	files := filepath.SplitList(os.Getenv(clientcmd.RecommendedConfigPathEnvVar))
	if len(files) == 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		files = []string{filepath.Join(home, ".kube", "config")}
	}
	var there []string
	for _, f := range files {
		f, err := filepath.Abs(f)
		if err != nil {
			continue
		}
		if _, err := os.Stat(f); err == nil {
			there = append(there, f)
		}
	}
	return strings.Join(there, string(filepath.ListSeparator))
}

func loadingRules(files string) *clientcmd.ClientConfigLoadingRules {
	return &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(files)}
}

// restConfig tells how the API server of a cluster is reached.
func restConfig(where experiment.Cluster) (*rest.Config, error) {
	if where == (experiment.Cluster{}) {
		config, err := rest.InClusterConfig()
		if err != nil {
			err = fmt.Errorf("find the cluster that this pod is in: %w", err)
		}
		return config, err
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		loadingRules(where.Kubeconfig), &clientcmd.ConfigOverrides{CurrentContext: where.Context}).ClientConfig()
	if err != nil {
		err = fmt.Errorf("read context %s of kubeconfig %s: %w", where.Context, where.Kubeconfig, err)
	}
	return config, err
}

// conn returns the connection to a cluster, which is made once.
func (c *Client) conn(where experiment.Cluster) (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, ok := c.conns[where]; ok {
		return one, nil
	}
	config, err := restConfig(where)
	if err != nil {
		return nil, err
	}
	one, err := newConn(config)
	if err != nil {
		return nil, err
	}
	c.conns[where] = one
	return one, nil
}

// aliveness is what was found of an object, a moment ago.
type aliveness struct {
	alive bool
	at    time.Time
}

// aliveFor is for how long it is taken to be so still: it is asked many times a
// second.
const aliveFor = 250 * time.Millisecond

// Alive tells whether an object is there still: a pod that runs or will, and is
// not about to go. Where the API server can't be asked, nothing says that it is
// gone.
func (c *Client) Alive(o experiment.ObjectRef) bool {
	c.mu.Lock()
	known, ok := c.alive[o.UID]
	c.mu.Unlock()
	if ok && time.Since(known.at) < aliveFor {
		return known.alive
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	now := aliveness{c.look(ctx, o), time.Now()}
	c.mu.Lock()
	c.alive[o.UID] = now
	c.mu.Unlock()
	return now.alive
}

func (c *Client) look(ctx context.Context, o experiment.ObjectRef) bool {
	if o.Kind != "Pod" {
		_, err := c.meta(ctx, o)
		return !isGone(err)
	}
	pod, err := c.Pod(ctx, o)
	if err != nil {
		return !isGone(err)
	}
	return pod.Running() || pod.Phase == "Pending" && !pod.Ending
}
