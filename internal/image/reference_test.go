package image

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		ref    string
		pull   string
		key    string
		places string
		err    string
	}{
		{ref: "nginx", key: "nginx:latest", places: "[docker containerd registry index.docker.io]"},
		{ref: "docker.io/library/nginx:1", key: "nginx:1", places: "[docker containerd registry index.docker.io]"},
		{ref: "me/app", key: "me/app:latest", places: "[docker containerd registry index.docker.io]"},
		{ref: "localhost:5000/a/b:1", key: "localhost:5000/a/b:1", places: "[docker containerd registry localhost:5000]"},
		{ref: "ghcr.io/a/b:1@" + someDigest, key: "ghcr.io/a/b@" + someDigest, places: "[docker containerd registry ghcr.io]"},
		{ref: "nginx", pull: "always", key: "nginx:latest", places: "[registry index.docker.io]"},
		{ref: "nginx", pull: "never", key: "nginx:latest", places: "[docker containerd]"},
		{ref: "nginx", pull: "often", err: `pull policy "often" is none of missing, always, never`},
		{ref: "docker:shop", key: "docker:shop:latest", places: "[docker]"},
		{ref: "containerd:shop", key: "containerd:shop:latest", places: "[containerd]"},
		{ref: "containerd:k8s.io/shop", key: "containerd:k8s.io/shop:latest", places: "[containerd]"},
		{ref: "containerd:mine/ghcr.io/a/b:1", key: "containerd:mine/ghcr.io/a/b:1", places: "[containerd]"},
		{ref: "containerd:me/app", key: "containerd:me/app:latest", places: "[containerd]"},
		{ref: "docker-archive:a.tar", key: "docker-archive:/base/a.tar", places: "[docker-archive:/base/a.tar]"},
		{ref: "docker-archive:/x/a.tar:shop:1", key: "docker-archive:/x/a.tar:shop:1", places: "[docker-archive:/x/a.tar]"},
		{ref: "oci-archive:../a.tar:1", key: "oci-archive:/a.tar:1", places: "[oci-archive:/a.tar]"},
		{ref: "oci:dir", key: "oci:/base/dir", places: "[oci:/base/dir]"},
		{ref: "oci:", err: "it names no file"},
		{ref: "", err: "read its name"},
		{ref: "UPPER", err: "read its name"},
		{ref: "a@sha256:12", err: "read its name"},
	} {
		t.Run(c.ref+" "+c.pull, func(t *testing.T) {
			w, err := parse(c.ref, Options{Pull: c.pull, Dir: "/base"})
			checkError(t, err, c.err)
			if err != nil {
				return
			}
			if got := fmt.Sprint(w.places); w.key != c.key || got != c.places {
				t.Errorf("%s, %s; want %s, %s", w.key, got, c.key, c.places)
			}
			again, err := parse(w.key, Options{})
			if err != nil || again.key != w.key {
				t.Errorf("what ls shows is read as %v, %v", again, err)
			}
		})
	}
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	list := []v1.Descriptor{
		{Size: 1, Platform: &v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}},
		{Size: 2, Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
		{Size: 3, Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}},
		{Size: 4, Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
		{Size: 5, Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{Size: 6, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
	}
	for _, c := range []struct {
		platform string
		want     int64
		err      string
	}{
		{"linux/amd64", 2, ""},
		{"linux/amd64/v3", 1, ""},
		{"linux/arm64", 3, ""},
		{"linux/arm", 5, ""},
		{"linux/arm/v6", 4, ""},
		{"linux/riscv64", 0, "it is not there for linux/riscv64, only for linux/amd64, linux/amd64/v3, linux/arm/v6, linux/arm/v7, linux/arm64/v8"},
		{"windows", 0, `platform "windows" is not os/arch[/variant]`},
		{"linux//v7", 0, `platform "linux//v7" is not os/arch[/variant]`},
	} {
		t.Run(c.platform, func(t *testing.T) {
			t.Parallel()
			p, err := parsePlatform(c.platform)
			var d v1.Descriptor
			if err == nil {
				d, err = p.choose(list)
			}
			checkError(t, err, c.err)
			if diff := cmp.Diff(c.want, d.Size); diff != "" {
				t.Error(diff)
			}
		})
	}
}
