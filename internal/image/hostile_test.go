package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// hostile are archives made to do harm, what unpacking them says ("" for
// nothing), and what is then in the layer, where that matters.
var hostile = []struct {
	name string
	list []e
	err  string
	want string // lines of tree that must be there
}{
	{name: "traversal", list: []e{file("../victim", "evil")}, err: `entry "../victim" leads out of the layer`},
	{name: "traversal in the middle", list: []e{file("a/../../victim", "evil")}, err: `entry "a/../../victim" leads out of the layer`},
	{name: "the way back in", list: []e{file("a/../b", "fine")}, want: `-rw-r--r-- b "fine"`},
	{name: "absolute name", list: []e{file("/etc/passwd", "evil")}, want: `-rw-r--r-- etc/passwd "evil"`},
	{name: "absolute traversal", list: []e{file("/../../victim", "evil")}, err: `leads out of the layer`},
	{name: "no name", list: []e{file("", "evil")}, err: "an entry has no name"},
	{name: "root as a file", list: []e{file(".", "evil")}, err: `the layer's root is no folder`},
	{name: "root as a symlink", list: []e{symlink("./", "/")}, err: `the layer's root is no folder`},
	{
		name: "file below an absolute symlink", list: []e{dir("etc"), symlink("a", "/etc"), file("a/passwd", "evil")},
		want: `-rw-r--r-- etc/passwd "evil"`,
	},
	{name: "file below a symlink to what is not there", list: []e{symlink("a", "/etc"), file("a/passwd", "evil")}, err: `entry "a/passwd": make its folder: file exists`},
	{
		name: "file below a symlink out", list: []e{symlink("a", "../../../../.."), file("a/victim", "evil")},
		want: `-rw-r--r-- victim "evil"`,
	},
	{
		name: "links through links", list: []e{dir("d"), symlink("d/up", ".."), symlink("d/upup", "up/.."), file("d/upup/victim", "evil")},
		want: `-rw-r--r-- victim "evil"`,
	},
	{name: "symlink to itself", list: []e{symlink("a", "a"), file("a/b", "evil")}, err: "too many levels of symbolic links"},
	{name: "file below /proc", list: []e{symlink("a", "/proc/self/root"), file("a/victim", "evil")}, err: `entry "a/victim": make its folder: file exists`},
	{name: "file over a symlink out", list: []e{symlink("a", "../victim"), file("a", "evil")}, want: `-rw-r--r-- a "evil"`},
	{name: "folder over a symlink out", list: []e{symlink("a", ".."), dir("a"), file("a/victim", "evil")}, want: `-rw-r--r-- a/victim "evil"`},
	{
		name: "folder, symlink and back", list: []e{dir("a"), file("a/x", "1"), symlink("a", "/"), dir("a"), file("a/y", "2")},
		want: `-rw-r--r-- a/y "2"`,
	},
	{
		name: "folder replaced under an entry's feet", list: []e{dir("b"), file("a/x", "1"), symlink("a", "b"), file("a/y", "2")},
		want: `-rw-r--r-- b/y "2"`,
	},
	{name: "hard link out", list: []e{hardlink("a", "../victim")}, err: `link to "../victim": entry "../victim" leads out of the layer`},
	{name: "hard link to an absolute name", list: []e{hardlink("a", "/etc/passwd")}, err: `entry "a": link to "/etc/passwd": no such file or directory`},
	{name: "hard link through a symlink out", list: []e{symlink("s", ".."), hardlink("a", "s/victim")}, err: `link to "s/victim": it is not in this layer`},
	{
		name: "hard link to a symlink, then written through", list: []e{symlink("s", "../victim"), hardlink("a", "s"), file("a", "evil")},
		want: `-rw-r--r-- a "evil"`,
	},
	{name: "hard link to a folder", list: []e{dir("d"), hardlink("a", "d")}, err: "it is no file"},
	{name: "hard link to itself", list: []e{file("a", "x"), hardlink("a", "a")}, want: `-rw-r--r-- a "x"`},
	{name: "hard link to nothing", list: []e{hardlink("a", "a")}, err: "it is not in this layer"},
	{name: "hard link in place of its target's folder", list: []e{file("d/f", "x"), hardlink("d", "d/f")}, err: "no such file or directory"},
	{name: "character device", list: []e{node(tar.TypeChar, "dev/mem")}, want: "drwxr-xr-x dev"},
	{name: "block device over a file", list: []e{file("dev/sda", "x"), node(tar.TypeBlock, "dev/sda")}, want: "drwxr-xr-x dev"},
	{name: "device then file below it", list: []e{node(tar.TypeChar, "d"), file("d/x", "fine")}, want: `-rw-r--r-- d/x "fine"`},
	{name: "whiteout outside", list: []e{file("../.wh.victim", "")}, err: "leads out of the layer"},
	{name: "whiteout of the parent", list: []e{file(".wh...", "")}, err: "a whiteout of no name in its folder"},
	{name: "whiteout of the parent, deeper", list: []e{file("a/b/.wh...", "")}, err: "a whiteout of no name in its folder"},
	{name: "whiteout of the folder", list: []e{file("a/.wh..", "")}, err: "a whiteout of no name in its folder"},
	{name: "whiteout of nothing", list: []e{file(".wh.", "")}, err: "a whiteout of no name in its folder"},
	{name: "whiteout through a symlink", list: []e{symlink("s", ".."), file("s/.wh.victim", "")}, want: "Dc--------- victim"},
	{name: "opaque through a symlink", list: []e{symlink("s", ".."), file("s/.wh..wh..opq", "")}},
	{name: "file below a whiteout", list: []e{file(".wh.d", ""), file("d/x", "evil")}, err: "not a directory"},
	{name: "aufs's files", list: []e{file(".wh..wh.plnk/1", "x"), file(".wh..wh.aufs", "x")}},
	{name: "duplicates", list: []e{file("a", "1"), file("a", "2"), dir("a"), dir("a"), file("a", "3")}, want: `-rw-r--r-- a "3"`},
	{name: "folder where a file is", list: []e{file("a", "x"), file("a/b", "y")}, err: "not a directory"},
	{name: "long name", list: []e{file(strings.Repeat("x", 256), "")}, err: "file name too long"},
	{name: "long path", list: []e{file(strings.Repeat(strings.Repeat("x", 200)+"/", 21)+"x", "")}, err: "its name has"},
	{name: "deep path", list: []e{file(strings.Repeat("x/", 300)+"x", "")}, err: "more than 256 folders deep"},
	{
		name: "deeper by links", list: []e{
			file(strings.Repeat("x/", 200)+"y", ""), symlink("s", strings.Repeat("x/", 200)),
			file("s/"+strings.Repeat("x/", 200)+"y", ""), symlink("s/t", strings.Repeat("x/", 200)), file("s/t/z/y", ""),
		},
		err: "256 folders deep",
	},
	{name: "owner that is none", list: []e{{h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o4755, Uid: 1<<32 - 1, Format: tar.FormatGNU}}}, err: "owner 4294967295:0"},
	{name: "negative owner", list: []e{{h: tar.Header{Typeflag: tar.TypeReg, Name: "a", Gid: -5, Format: tar.FormatGNU}}}, err: "owner 0:-5"},
	{name: "overlay attributes", list: []e{withXattr(dir("a"), "trusted.overlay.redirect", "/")}},
	{name: "unknown kind", list: []e{{h: tar.Header{Typeflag: 'V', Name: "a"}}}, err: "a kind of entry that no layer has"},
}

func withXattr(x e, attr, value string) e {
	x.h.PAXRecords = map[string]string{xattrPrefix + attr: value}
	return x
}

var small = limits{bytes: 1 << 20, files: 1000}

// TestHostile unpacks archives that mean harm, beside a file and a folder
// that they would like to change.
func TestHostile(t *testing.T) {
	needRoot(t)
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, outside := victim(t)
			_, err := unpack(t.Context(), bytes.NewReader(pack(t, c.list...)), dir, small)
			checkError(t, err, c.err)
			if got := tree(t, dir); !strings.Contains("\n"+got, "\n"+c.want) {
				t.Errorf("the layer holds:\n%swant %s", got, c.want)
			}
			outside()
			removable(t, dir)
		})
	}
}

// victim makes a folder to unpack into, and returns a check that what lies
// beside it has not changed.
func victim(t testing.TB) (dir string, unchanged func()) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "layer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "victim"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := beside(t, top)
	return dir, func() {
		t.Helper()
		if diff := cmp.Diff(before, beside(t, top)); diff != "" {
			t.Errorf("outside the layer (-before +after):\n%s", diff)
		}
	}
}

// beside describes a folder and its files but for layer's content, with what
// stat tells of them.
func beside(t testing.TB, top string) string {
	t.Helper()
	list, err := os.ReadDir(top)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(top, e.Name()), &st); err != nil {
			t.Fatal(err)
		}
		if e.Name() == "layer" {
			fmt.Fprintf(&b, "layer ino %d\n", st.Ino)
			continue
		}
		data, err := os.ReadFile(filepath.Join(top, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s ino %d mode %o owner %d:%d links %d changed %d.%d %q\n",
			e.Name(), st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Ctim.Sec, st.Ctim.Nsec, data)
	}
	return b.String()
}

func removable(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Errorf("what is left cannot be removed: %v", err)
	}
}

// checkError checks that err holds want, and that there is none where want is "".
func checkError(t testing.TB, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error: %v", err)
	case want != "" && err == nil:
		t.Errorf("no error, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error: %v\nwant:  %s", err, want)
	}
}

// TestBombs unpacks what is small and becomes large.
func TestBombs(t *testing.T) {
	needRoot(t)
	many := make([]e, 0, 1001)
	for i := range 1001 {
		many = append(many, file(fmt.Sprint(i), ""))
	}
	var deep []e
	for i := range 10 {
		deep = append(deep, file(fmt.Sprint(i)+strings.Repeat("/x", 150), ""))
	}
	sparse := e{h: tar.Header{
		Typeflag: tar.TypeReg, Name: "sparse", Format: tar.FormatPAX,
		PAXRecords: map[string]string{"comment": "x"},
	}, content: strings.Repeat("\x00", 2<<20)}
	for _, c := range []struct {
		name    string
		archive io.Reader
		err     string
	}{
		{"bytes", bytes.NewReader(pack(t, sparse)), "the layer's files have more than 1048576 bytes"},
		{"bytes in small files", bytes.NewReader(pack(t, file("a", strings.Repeat("x", 600<<10)), file("b", strings.Repeat("x", 600<<10)))), "the layer's files have more than 1048576 bytes"},
		{"files", bytes.NewReader(pack(t, many...)), "the layer has more than 1000 files"},
		{"folders nobody named", bytes.NewReader(pack(t, deep...)), "the layer has more than 1000 files"},
		{"a header of a terabyte", bytes.NewReader(hugeHeader()), "the layer's files have more than"},
		{"a GNU sparse file of a terabyte", bytes.NewReader(gnuSparse()), "the layer's files have more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, outside := victim(t)
			_, err := unpack(t.Context(), c.archive, dir, small)
			checkError(t, err, c.err)
			outside()
			removable(t, dir)
		})
	}
}

// hugeHeader is the header of a file of a terabyte, and nothing behind it.
func hugeHeader() []byte {
	var b bytes.Buffer
	_ = tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 40})
	return b.Bytes()
}

// gnuSparse is an old GNU sparse file of a terabyte that is all hole, which
// archive/tar reads and does not write.
func gnuSparse() []byte {
	h := make([]byte, 512)
	copy(h, "sparse")
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	copy(h[124:], "00000000000\x00")
	copy(h[136:], "00000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "00000000000\x0000000000000\x00")
	h[483] = 0x80 // the real size, in binary: 1<<40
	h[489] = 1
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(h, make([]byte, 1024)...)
}
