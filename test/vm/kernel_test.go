package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What the other packages' tests rely on in the machine. This runs in there,
// by `go run ./test/vm ./test/vm`.
func TestMachine(t *testing.T) {
	if os.Getenv("SIMIAN_VM") == "" {
		t.Skip("runs in the machine only: go run ./test/vm ./test/vm")
	}
	for name, script := range map[string]string{
		"cgroup v2 alone":      `test "$(grep -c cgroup /proc/mounts)" = 1 && test "$(cat /proc/self/cgroup)" = 0::/system.slice/tests.service`,
		"controllers":          `for c in cpuset cpu io memory hugetlb pids; do grep -qw $c /sys/fs/cgroup/cgroup.subtree_control || exit 1; done`,
		"netem and classifier": `cd /sys/module && ls -d sch_netem sch_prio cls_flower act_mirred ifb veth nft_queue nfnetlink_queue tun`,
		"AppArmor":             `grep -q apparmor /sys/kernel/security/lsm`,
		"loopback":             `ping -c 1 127.0.0.1 && ping -c 1 ::1`,
		"users":                `id nobody && test "$(id -u)" = 0`,
		"overlay": `grep -q " /tmp ext4" /proc/mounts && mkdir $D/lower $D/upper $D/work $D/all && echo a >$D/lower/a &&
			mount -t overlay -o lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work o $D/all && rm $D/all/a && test -c $D/upper/a`,
		"pivot_root":      `mkdir $D/new && mount -t tmpfs new $D/new && mkdir $D/new/old && mount --make-rprivate / && pivot_root $D/new $D/new/old`,
		"user namespaces": `unshare -Ur true`,
	} {
		t.Run(name, func(t *testing.T) {
			c := exec.Command("unshare", "-m", "sh", "-exc", script)
			c.Env = append(os.Environ(), "D="+t.TempDir())
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, strings.TrimSpace(string(out)))
			}
		})
	}
}
