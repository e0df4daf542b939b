package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	dockertest "github.com/simianhq/simian/test/docker"
)

// beside tells whether Docker's subjects can be had: under test/docker/with.sh.
func beside() bool { return os.Getenv("SIMIAN_DOCKER") == "1" }

// bridge is the network of Docker's subjects, each of which has an address of
// its own there over all its lives, and the image they are made from.
type bridge struct {
	once    sync.Once
	name    string
	image   string
	address atomic.Int64
}

var docker bridge

func (b *bridge) make(t testing.TB) {
	t.Helper()
	file, err := program()
	must(t, err)
	b.name = fmt.Sprintf("simian-faults-%d", os.Getpid())
	dockertest.Docker.Command(t, "network", "create", "--subnet", "10.81.0.0/16", b.name)
	b.image = dockertest.Docker.Image(t, file)
}

// next is an address that no other subject has.
func (b *bridge) next() string {
	n := b.address.Add(1) + 1
	return fmt.Sprintf("10.81.%d.%d", n/250, n%250+1)
}

// startDocker starts the subject and its peer as containers of Docker, limited
// as those of a lab are.
func (s *subject) startDocker(t testing.TB) {
	t.Helper()
	docker.once.Do(func() { docker.make(t) })
	s.dir, s.peer = filepath.Join(s.base, "web"), filepath.Join(s.base, "peer")
	web, peer := dockertest.Name(), dockertest.Name()
	self, far := docker.next(), docker.next()
	run := func(name, dir, address string, options ...string) {
		must(t, os.MkdirAll(dir, 0o755))
		t.Cleanup(func() { dockertest.Docker.Remove(t, name) })
		args := append([]string{"run", "-d", "--name", name, "--network", docker.name, "--ip", address, "-v", dir + ":/shared"}, options...)
		dockertest.Docker.Command(t, append(args, docker.image, "/subject", "serve", "/shared", ":7001", ":7002")...)
	}
	data := filepath.Join(s.base, "data")
	must(t, os.MkdirAll(data, 0o755))
	run(peer, s.peer, far)
	run(web, s.dir, self, "--restart", "always", "--stop-timeout", "1", "--cpus", "1", "--memory", "64m", "--pids-limit", "64",
		"--ulimit", "nofile=1024:1024", "-v", data+":/data", "--tmpfs", "/scratch:size=16m")
	s.pick = "type: docker, names: " + web
	s.words = map[string]string{
		"$PEER": far, "$SELF": self, "$PORT": "7001", "$WEB": "7002",
		"$DATA": "/data", "$SCRATCH": "/scratch", "$SUBJECT": "/subject", "$TO": "type: docker, names: " + peer, "$FAR": peer,
	}
	s.answers(t)
	s.feels(t, "at first", dials("udp"), "answered") // a link takes a moment
}
