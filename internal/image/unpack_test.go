package image

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestUnpackKeeps checks owner, mode, time, attributes and links.
func TestUnpackKeeps(t *testing.T) {
	needRoot(t)
	// version 2, effective, CAP_NET_BIND_SERVICE: linux/capability.h
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ping := withXattr(file("bin/ping", "ping"), capabilityAttr, capability)
	ping.h.Mode, ping.h.Uid, ping.h.Gid = 0o4755, 12, 34
	home := withXattr(dir("home"), "user.note", "hi")
	home.h.PAXRecords[xattrPrefix+"trusted.overlay.redirect"] = "/etc"
	home.h.PAXRecords[xattrPrefix+"user.overlay.opaque"] = "y"
	home.h.PAXRecords[xattrPrefix+"security.selinux"] = "x"
	home.h.Mode, home.h.Uid = 0o1700, 1<<32-2
	old := file("old", "x")
	old.h.ModTime = time.Unix(-5, 0)
	dirPath := t.TempDir()
	s, err := unpack(t.Context(), bytes.NewReader(pack(t,
		dir("bin"), ping, hardlink("bin/ping6", "./bin/ping"), symlink("p", "bin/ping"), hardlink("q", "p"),
		home, file("home/x", "x"), old, node(tar.TypeFifo, "fifo"), file("implied/folder/x", ""),
	)), dirPath, small)
	if err != nil {
		t.Fatal(err)
	}
	if s.Files != 12 {
		t.Errorf("%d files, want 12", s.Files)
	}
	want := `drwxr-xr-x .
drwxr-xr-x bin
urwxr-xr-x bin/ping "ping"
urwxr-xr-x bin/ping6 "ping"
prw-rw-rw- fifo
dtrwx------ home
-rw-r--r-- home/x "x"
drwxr-xr-x implied
drwxr-xr-x implied/folder
-rw-r--r-- implied/folder/x ""
-rw-r--r-- old "x"
Lrwxrwxrwx p -> bin/ping
Lrwxrwxrwx q -> bin/ping
`
	if diff := cmp.Diff(want, tree(t, dirPath)); diff != "" {
		t.Error(diff)
	}
	checkStat(t, dirPath, "bin/ping", 12, 34, then)
	checkStat(t, dirPath, "home", 1<<32-2, 0, then)
	checkStat(t, dirPath, "bin", 0, 0, then)
	checkStat(t, dirPath, "p", 0, 0, then)
	checkStat(t, dirPath, "fifo", 0, 0, then)
	checkStat(t, dirPath, "old", 0, 0, time.Unix(0, 0))
	if got := xattr(filepath.Join(dirPath, "bin/ping6"), capabilityAttr); got != capability {
		t.Errorf("capability %q", got)
	}
	for attr, want := range map[string]string{"user.note": "hi", "trusted.overlay.redirect": "", "user.overlay.opaque": "", "security.selinux": ""} {
		if got := xattr(filepath.Join(dirPath, "home"), attr); got != want {
			t.Errorf("%s %q", attr, got)
		}
	}
}

func checkStat(t *testing.T, dir, name string, uid, gid uint32, changed time.Time) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
		t.Fatal(err)
	}
	if st.Uid != uid || st.Gid != gid || st.Mtim.Sec != changed.Unix() {
		t.Errorf("%s: owner %d:%d, changed %d; want %d:%d, %d", name, st.Uid, st.Gid, st.Mtim.Sec, uid, gid, changed.Unix())
	}
}

func TestWhiteouts(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name   string
		list   []e
		want   string
		opaque bool
	}{
		{"of a file", []e{dir("etc"), file("etc/.wh.motd", "")}, "drwxr-xr-x .\ndrwxr-xr-x etc\nDc--------- etc/motd\n", false},
		{"then the name anew, a folder", []e{file(".wh.d", ""), dir("d")}, "drwxr-xr-x .\ndrwxr-xr-x d opaque\n", false},
		{"then the name anew, a file", []e{file(".wh.d", ""), file("d", "x")}, "drwxr-xr-x .\n-rw-r--r-- d \"x\"\n", false},
		{"after this layer's folder", []e{file("d/x", "x"), file(".wh.d", "")}, "drwxr-xr-x .\ndrwxr-xr-x d opaque\n-rw-r--r-- d/x \"x\"\n", false},
		{"after this layer's file", []e{file("d", "x"), file(".wh.d", "")}, "drwxr-xr-x .\n-rw-r--r-- d \"x\"\n", false},
		{"opaque folder", []e{file("d/.wh..wh..opq", "")}, "drwxr-xr-x .\ndrwxr-xr-x d opaque\n", false},
		{"opaque root", []e{file(".wh..wh..opq", ""), file("x", "")}, "drwxr-xr-x .\n-rw-r--r-- x \"\"\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := unpack(t.Context(), bytes.NewReader(pack(t, c.list...)), dir, small)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
			if s.Opaque != c.opaque {
				t.Errorf("opaque %v", s.Opaque)
			}
		})
	}
}

func TestUnpackHeedsCancel(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := unpack(ctx, bytes.NewReader(pack(t, file("a", "x"))), t.TempDir(), small)
	checkError(t, err, "context canceled")
}

// FuzzUnpack unpacks anything: outside the layer nothing changes, and the
// layer can be removed.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	for _, c := range hostile {
		f.Add(pack(f, c.list...))
	}
	f.Add(hugeHeader())
	f.Add(gnuSparse())
	f.Fuzz(func(t *testing.T, data []byte) {
		dir, outside := victim(t)
		_, _ = unpack(t.Context(), bytes.NewReader(data), dir, limits{bytes: 1 << 16, files: 100})
		outside()
		if strays, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(strays) > 100 {
			t.Errorf("%d files, %v", len(strays), err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkUnpack unpacks a layer of 2000 files of 8 KiB in 100 folders.
func BenchmarkUnpack(b *testing.B) {
	needRoot(b)
	var list []e
	content := string(bytes.Repeat([]byte("0123456789abcdef"), 512))
	for i := range 100 {
		name := "usr/share/" + string(rune('a'+i/10)) + string(rune('a'+i%10))
		list = append(list, dir(name))
		for j := range 20 {
			list = append(list, file(name+"/"+string(rune('a'+j)), content))
		}
	}
	archive := pack(b, list...)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		if _, err := unpack(b.Context(), bytes.NewReader(archive), b.TempDir(), limits{1 << 30, 1 << 20}); err != nil {
			b.Fatal(err)
		}
	}
}
