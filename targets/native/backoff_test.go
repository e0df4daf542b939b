package native

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/internal/image"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		b    backoff
		ups  []time.Duration
		want []time.Duration
	}{
		"it doubles":            {backoff{}, []time.Duration{0, ms, ms, ms}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms}},
		"it starts over":        {backoff{}, []time.Duration{0, ms, 10 * time.Second, ms}, []time.Duration{100 * ms, 200 * ms, 100 * ms, 200 * ms}},
		"a delay of one's own":  {backoff{first: 3 * time.Second}, []time.Duration{0, ms}, []time.Duration{3 * time.Second, 6 * time.Second}},
		"a window of one's own": {backoff{window: time.Second}, []time.Duration{0, 0, time.Second}, []time.Duration{100 * ms, 200 * ms, 100 * ms}},
		"a minute at the most":  {backoff{}, slices.Repeat([]time.Duration{0}, 12), []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 51200 * ms, time.Minute, time.Minute}},
		"more than a minute":    {backoff{first: 2 * time.Minute}, []time.Duration{0, 0}, []time.Duration{2 * time.Minute, 2 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []time.Duration
			for _, up := range c.ups {
				got = append(got, c.b.next(up))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("waits (-want +got)\n%s", diff)
			}
		})
	}
}

func TestServiceCapabilities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		add, drop []string
		want      []string
	}{
		"drop all, add one": {[]string{"NET_BIND_SERVICE"}, []string{"ALL"}, []string{"CAP_NET_BIND_SERVICE"}},
		"none":              {nil, []string{"ALL"}, nil},
		"drop most": {
			[]string{"SYS_PTRACE"},
			[]string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT"},
			[]string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_SYS_PTRACE"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, (&Service{CapAdd: c.add, CapDrop: c.drop}).caps()); diff != "" {
				t.Errorf("capabilities (-want +got)\n%s", diff)
			}
		})
	}
	if n := len((&Service{}).caps()); n != 14 {
		t.Errorf("%d capabilities by default, want Docker's 14", n)
	}
	if all := (&Service{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}).caps(); !slices.Contains(all, "CAP_SYS_MODULE") || slices.Contains(all, "CAP_SYS_ADMIN") {
		t.Errorf("all but one: %v", all)
	}
}

func TestContainerEnvironment(t *testing.T) {
	t.Parallel()
	p := &Project{Name: "p", Services: []Service{{Name: "web", Replicas: 1, Env: []string{"B=file", "C=file"}}}}
	c := NewLab(p, Env{}).boxes[0]
	want := []string{"A=image", "B=file", "C=file", "HOSTNAME=web-1", "PATH=/bin"}
	if diff := cmp.Diff(want, c.env(image.Config{Env: []string{"A=image", "B=image", "PATH=/bin"}})); diff != "" {
		t.Errorf("environment (-want +got)\n%s", diff)
	}
}
