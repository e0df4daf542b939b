package proc

import (
	"os"
	"slices"
	"testing"
)

func TestFreeDescriptor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		open []int
		n    int
		want int
	}{
		{nil, 0, 0},
		{nil, 3, 3},
		{[]int{0, 1, 2}, 0, 3},
		{[]int{0, 1, 2}, 2, 5},
		{[]int{1, 2}, 0, 0},
		{[]int{0, 1, 2, 10}, 0, 3},
		{[]int{0, 1, 2, 5, 10}, 2, 6},
		{[]int{0, 2, 4}, 3, 6},
	} {
		if got := FreeDescriptor(c.open, c.n); got != c.want {
			t.Errorf("%v, %d: %d, want %d", c.open, c.n, got, c.want)
		}
	}
}

func TestOpenFiles(t *testing.T) {
	t.Parallel()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open, err := Host().OpenFiles(os.Getpid())
	if err != nil || !slices.Contains(open, int(f.Fd())) || !slices.IsSorted(open) {
		t.Errorf("%v, %v", open, err)
	}
}

func TestListening(t *testing.T) {
	t.Parallel()
	const rest = " 00000000:00000000 00:00000000 00000000     0        0 812 1 0000000000000000 100 0 0 10 0\n"
	for line, want := range map[string]string{
		"   0: 0100007F:1F90 00000000:0000 0A" + rest:                                                         "127.0.0.1:8080 812",
		"   0: 00000000:0050 00000000:0000 0A" + rest:                                                         "0.0.0.0:80 812",
		"   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A" + rest:         "[::1]:8080 812",
		"   0: 0100007F:1F90 0100007F:9C40 01" + rest:                                                         "",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode \n": "",
		"   0: 0100007F": "",
	} {
		at, inode, ok := listening(line)
		if got := at.String() + " " + inode; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}
