package filter

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func TestResolution(t *testing.T) {
	t.Parallel()
	self, err := proc.Host().Target(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self.Root = t.TempDir()
	for name, text := range map[string]string{
		"hosts":       "10.0.0.1 Cache cache.example.org\n",
		"resolv.conf": "nameserver 127.0.0.11\nsearch shop.internal example.org\noptions ndots:1\n",
	} {
		path := filepath.Join(self.Root, "etc", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := ReadResolution(proc.Host(), self)
	if err != nil {
		t.Fatal(err)
	}
	got := [][]string{r.Asked("DB"), r.Asked("db.eu"), r.Asked("db.")}
	want := [][]string{{"db.shop.internal", "db.example.org", "db"}, {"db.eu", "db.eu.shop.internal", "db.eu.example.org"}, {"db"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r.Servers[0] != netip.MustParseAddr("127.0.0.11") || !r.InHosts("cache.") || r.InHosts("db") {
		t.Errorf("%+v", r)
	}
	if _, err := ReadResolution(proc.Host(), experiment.Target{}); !errors.Is(err, experiment.ErrUnsupported) {
		t.Errorf("without files: %v", err)
	}
}
