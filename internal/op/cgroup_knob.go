package op

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Knob is one setting of a cgroup: a file, or what a file says of one device.
// Its value is a word or two, as the kernel writes it:
//
//	cpu.max                                "25000 100000", "max 100000"
//	io.max, device 8:0, field rbps         "1048576", "max"
//	blkio.throttle.…, device 8:0           "1048576", "max" where there is no line for it
//	devices.list, device "c 1:3"           "rwm", "" where nothing is allowed
//
// (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/blkio-controller.rst,
// cgroup-v1/devices.rst).
type Knob struct {
	Cgroup experiment.CgroupDir `json:"cgroup"`
	File   string               `json:"file"`
	Device string               `json:"device,omitzero"`
	Field  string               `json:"field,omitzero"`
}

// The files with a line for each device.
const (
	fileDevices = "devices.list" // of version 1
	fileIOMax   = "io.max"
)

// unlimited is how the kernel writes that there is no limit.
const unlimited = "max"

// String names it without its cgroup: "io.max 8:0 rbps".
func (k Knob) String() string {
	return strings.TrimSpace(k.File + " " + strings.TrimSpace(k.Device+" "+k.Field))
}

// Handle names it for a lock, in its cgroup: others can be changed meanwhile.
func (k Knob) Handle() string { return k.Cgroup.Handle() + "#" + k.String() }

// Value reads what it is set to now. The error is experiment.ErrGone where the
// cgroup is another one, or none, and os.ErrNotExist where it has no such
// file.
func (k Knob) Value() (string, error) {
	dir, err := openCgroup(k.Cgroup)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	return k.value(dir)
}

func (k Knob) value(dir int) (string, error) {
	text, err := readAt(dir, k.File)
	if err != nil {
		return "", err
	}
	switch {
	case k.Device == "":
		return strings.TrimSpace(text), nil
	case k.File == fileDevices:
		return deviceLine(text, k.Device), nil
	}
	line := deviceLine(text, k.Device)
	if k.Field == "" {
		return orUnlimited(line), nil
	}
	for word := range strings.FieldsSeq(line) {
		if value, ok := strings.CutPrefix(word, k.Field+"="); ok {
			return value, nil
		}
	}
	return unlimited, nil
}

// deviceLine returns what a file says of a device.
func deviceLine(text, device string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, device+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func orUnlimited(value string) string {
	if value == "" {
		return unlimited
	}
	return value
}

// set changes it from one value to another.
func (k Knob) set(dir int, from, to string) error {
	switch {
	case k.Device == "":
		return writeAt(dir, k.File, to+"\n") // a write of nothing would not reach it
	case k.File == fileDevices:
		return k.setAccess(dir, from, to)
	case k.Field != "":
		return writeAt(dir, k.File, k.Device+" "+k.Field+"="+to)
	case to == unlimited:
		to = "0"
	}
	return writeAt(dir, k.File, k.Device+" "+to)
}

// setAccess denies what is in from and not in to, and allows what is in to
// alone: letters of r, w, m.
func (k Knob) setAccess(dir int, from, to string) error {
	for _, change := range []struct{ file, access string }{{"devices.deny", without(from, to)}, {"devices.allow", without(to, from)}} {
		if change.access == "" {
			continue
		}
		if err := writeAt(dir, change.file, k.Device+" "+change.access); err != nil {
			return err
		}
	}
	return nil
}

// without returns the letters of a that are not in b.
func without(a, b string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(b, r) {
			return -1
		}
		return r
	}, a)
}
