package faults

import (
	"os"
	"slices"
	"testing"

	"github.com/simianhq/simian/monkeys"
)

// TestFaults tests every case on every kind of subject, and holds what came of
// it against what is written down.
func TestFaults(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make the targets: containers, cgroups, network namespaces")
	}
	testOn(t, slices.DeleteFunc(kinds(), func(k kind) bool { return k == pod }))
}

// TestKubeFaults is TestFaults on pods: a kind of its own, as Docker's is.
func TestKubeFaults(t *testing.T) {
	pods.connect(t)
	testOn(t, []kind{pod})
}

// testOn tests every case on those kinds that it is for.
func testOn(t *testing.T, on []kind) {
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	b := newBook()
	t.Cleanup(func() { b.hold(t) }) // once all have ended
	byFault := map[string][]faultCase{}
	for _, c := range cases() {
		byFault[c.Name] = append(byFault[c.Name], c)
	}
	for name, forms := range byFault {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range forms {
				c := &forms[i]
				for _, k := range c.kinds() {
					if !slices.Contains(on, k) {
						continue
					}
					t.Run(c.form()+"/"+string(k), func(t *testing.T) {
						if k == adopted && !beside() {
							t.Skip("no Docker of its own runs beside this test (sh test/docker/with.sh starts one)")
						}
						t.Parallel()
						x := &cell{faultCase: c, kind: k}
						b.note(c.id(), k, x.run(t))
					})
				}
			}
		})
	}
}

// TestEveryFault wants a case for each fault that there is.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for _, c := range cases() {
		tested[c.Name] = true
	}
	for _, name := range monkeys.Faults(host).Names() {
		if !tested[name] {
			t.Errorf("the fault %s has no case here", name)
		}
	}
}
