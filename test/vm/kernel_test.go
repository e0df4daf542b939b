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
		"cgroup v2 alone": `test "$(grep -c cgroup /proc/mounts)" = 1 && test "$(cat /proc/self/cgroup)" = 0::/system.slice/tests.service`,
		"controllers":     `for c in cpuset cpu io memory hugetlb pids; do grep -qw $c /sys/fs/cgroup/cgroup.subtree_control || exit 1; done`,
		"modules on demand": `ip link add v0 type veth peer name v1; ip link add i0 type ifb; ip link add d0 type dummy; ip link add b0 type bridge; ip link set i0 up
			test "$(sed -n 's/: .*//p' /proc/net/dev | sort | xargs)" = "b0 d0 i0 lo v0 v1"
			ip tuntap add t0 mode tap; test -c /dev/net/tun && test -c /dev/fuse`,
		"qdiscs": `ip link add v0 type veth peer name v1; for q in "netem delay 1ms 1ms distribution normal" prio sfq fq fq_codel "tbf rate 1mbit burst 10k latency 1s" "htb default 1"; do
			tc qdisc replace dev v0 root $q; tc qdisc show dev v0 | grep -w "${q%% *}"; tc qdisc del dev v0 root; done
			ip link add i0 type ifb; tc qdisc add dev v0 clsact
			tc filter add dev v0 ingress matchall action mirred egress redirect dev i0
			tc filter add dev v0 egress protocol ip u32 match ip dport 80 0xffff action gact drop
			tc filter add dev v0 egress protocol ip flower ip_proto tcp action pass`,
		"rules": `ip link add v0 type veth peer name v1; ip link add i0 type ifb; nft -f - <<-END
			table inet a {
				chain o { type filter hook output priority 0; ct state established meta mark set numgen inc mod 2; limit rate 1/second reject with tcp reset; }
				chain p { type filter hook postrouting priority 0; jhash ip saddr mod 2 == 1 meta priority set 1:2 counter; }
				chain q { type filter hook input priority 0; queue num 1 bypass; }
			}
			table netdev b { chain i { type filter hook ingress device v0 priority 0; fwd to i0; }; chain e { type filter hook egress device v0 priority 0; dup to i0; }; }
			END
			nft list ruleset`,
		"AppArmor": `grep -q apparmor /sys/kernel/security/lsm`,
		"loopback": `nsenter -t 1 -n ping -c 1 127.0.0.1 && nsenter -t 1 -n ping -c 1 ::1`,
		"users":    `id nobody && test "$(id -u)" = 0`,
		"overlay": `grep -q " /tmp ext4" /proc/mounts && mkdir $D/lower $D/upper $D/work $D/all && echo a >$D/lower/a &&
			mount -t overlay -o lowerdir=$D/lower,upperdir=$D/upper,workdir=$D/work o $D/all && rm $D/all/a && test -c $D/upper/a`,
		"pivot_root":      `mkdir $D/new && mount -t tmpfs new $D/new && mkdir $D/new/old && mount --make-rprivate / && pivot_root $D/new $D/new/old`,
		"user namespaces": `unshare -Ur true`,
	} {
		t.Run(name, func(t *testing.T) {
			c := exec.Command("unshare", "-mn", "sh", "-exc", script)
			c.Env = append(os.Environ(), "D="+t.TempDir())
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, strings.TrimSpace(string(out)))
			}
		})
	}
}
