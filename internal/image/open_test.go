package image

import (
	"os"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"writable": 0o777, "good": 0o700} {
		if err := os.Mkdir(dir+"/"+name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/"+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("good", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/other", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir+"/other", 1, 1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"good": "", "new/deep": "",
		"writable": "it must be a folder of uid 0 that nobody else can write",
		"link":     "it must be a folder of uid 0 that nobody else can write",
		"other":    "it must be a folder of uid 0 that nobody else can write",
		"co:lon":   "overlayfs has no name with a colon",
	} {
		_, err := Open(dir + "/" + name)
		checkError(t, err, want)
	}
}
