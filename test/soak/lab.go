package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// labKit is what all labs are made of: a folder with this very binary in it,
// and the same as an image.
type labKit struct {
	rootfs string
	image  string // "" where none could be made
}

// mostBoxes is how many containers of a lab stay: seven, one of which is down
// now and then.
const mostBoxes = 6

// program is where the binary stands in a container.
const program = "/soak"

// newLabKit makes the folder and the image in dir.
func newLabKit(dir string) (*labKit, error) {
	k := &labKit{rootfs: filepath.Join(dir, "rootfs"), image: filepath.Join(dir, "image.tar")}
	if err := os.MkdirAll(k.rootfs+boxData, 0o755); err != nil {
		return nil, err
	}
	if err := copyProgram(k.rootfs + program); err != nil {
		return nil, err
	}
	return k, k.writeImage()
}

// noLabs says why no lab can be launched here, "" where one can.
func noLabs() string {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "this binary needs libraries (build it with CGO_ENABLED=0)"
		}
	}
	if os.Geteuid() != 0 {
		return "labs need root"
	}
	return ""
}

func copyProgram(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Chmod(0o755), f.Close())
}

// lab is what a trial launches.
type lab struct {
	t      *trial
	file   string
	port   int           // of the host's loopback, for TCP and UDP
	imaged bool          // made of an image, and not of a folder
	length time.Duration // of its coming up, roughly
}

// newLab writes a Compose file with seven services that stay and one that
// does its work, each in its own way hard to end.
func (t *trial) newLab() (*lab, error) {
	port, err := freePort(20000 + (os.Getpid()*31+t.number*7+t.try)%12000)
	if err != nil {
		return nil, err
	}
	l := &lab{t: t, file: filepath.Join(t.work, "compose.yaml"), port: port, length: 500 * time.Millisecond, imaged: t.rng.IntN(4) == 0}
	return l, os.WriteFile(l.file, []byte(l.compose()), 0o600)
}

// freePort finds a port that no connection is given by itself
// (ip_local_port_range), so that nobody takes it who does not want it.
func freePort(from int) (int, error) {
	for port := from; port < from+200; port++ {
		if portTaken(port) == "" {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port is free from %d on", from)
}

// portTaken says who listens on a port, "" where nobody does.
func portTaken(port int) string {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return err.Error()
	}
	defer p.Close()
	return ""
}

// compose is the text of the Compose file.
func (l *lab) compose() string {
	rng, grace := l.t.rng, []string{"50ms", "300ms"}
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nservices:\n", l.name())
	add := func(name, command, more string) {
		fmt.Fprintf(&b, "  %s:\n    %s\n    entrypoint: [%s]\n    command: [%s]\n    environment: {SIMIAN_SOAK: %s}\n    stop_grace_period: %s\n%s",
			name, l.root(), program, command, l.t.dir, grace[rng.IntN(2)], more)
	}
	add("store", roleBox+", data", always+volume+health)
	add("seed", roleOnce, volume+after("store", "service_healthy"))
	add("bus", roleBox+", forks", always+"    init: true\n    pids_limit: 200\n")
	add("api", roleBox, always+health+after("store", "service_healthy", "seed", "service_completed_successfully")+
		fmt.Sprintf("    networks: [front, back]\n    ports: [\"127.0.0.1:%d:%s\", \"127.0.0.1:%d:%s/udp\"]\n", l.port, boxPort, l.port, boxPort))
	add("web", roleBox, always+"    networks: [front]\n    mem_limit: 64m\n"+after("api", "service_started"))
	add("flaky", fmt.Sprintf("%s, ends=%dms", roleBox, 30+rng.IntN(200)), always)
	add(notRestarted, roleBox+", stubborn, forks", "    init: true\n    read_only: true\n    tmpfs: [/tmp]\n")
	add("plain", roleBox+", stubborn", "    restart: on-failure\n    cpus: 0.5\n")
	b.WriteString("networks: {front: {}, back: {}, default: {}}\nvolumes: {store: {}}\n")
	return b.String()
}

// notRestarted is a service that is not started again where it is killed.
const notRestarted = "deep"

// Parts of a service.
const (
	always = "    restart: always\n"
	volume = "    volumes: [\"store:" + boxData + "\"]\n"
	health = "    healthcheck: {test: [CMD, " + program + ", " + roleHealthy + "], interval: 100ms, timeout: 5s, retries: 50}\n"
)

func after(pairs ...string) string {
	var b strings.Builder
	b.WriteString("    depends_on:\n")
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "      %s: {condition: %s}\n", pairs[i], pairs[i+1])
	}
	return b.String()
}

// name is the lab's, which no other has.
func (l *lab) name() string { return l.t.tag }

// root says what a service's root is made of.
func (l *lab) root() string {
	k := l.t.soak.kit
	if l.imaged {
		return "image: docker-archive:" + k.image
	}
	return "x-simian: {rootfs: " + k.rootfs + "}"
}
