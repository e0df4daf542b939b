package experimenttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// World is a small system to break: targets that are folders, and settings
// that are files in them. All of it, and the log of what ops did, is on disk,
// so that several processes can share it: each makes its own World of the
// same folder.
//
//	DIR/log            what each op did, one line each
//	DIR/felt/web       it ran into settings that say whether they were felt
//	DIR/targets/web/1  a setting
type World struct{ Dir string }

// NewWorld returns a world in a new folder, with those targets. Each has the
// settings 1, 2 and 3, whose value is "ok".
func NewWorld(t testing.TB, targets ...string) World {
	t.Helper()
	w := World{Dir: t.TempDir()}
	for _, name := range targets {
		if err := w.Add(name); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// settings is how many a target has.
const settings = 3

// Add makes a target.
func (w World) Add(target string) error {
	if err := os.MkdirAll(w.folder(target), 0o755); err != nil {
		return err
	}
	for i := range settings {
		if err := w.Set(fmt.Sprintf("%s/%d", target, i+1), "ok"); err != nil {
			return err
		}
	}
	return nil
}

// Remove makes a target go.
func (w World) Remove(target string) error { return os.RemoveAll(w.folder(target)) }

// Replace makes a target go and come back: it is another one, of the same name.
func (w World) Replace(target string) error {
	old := w.folder(target) + ".old"
	if err := os.Rename(w.folder(target), old); err != nil {
		return err
	}
	// The old inodes are held until the new ones are taken: none is reused.
	return errors.Join(w.Add(target), os.RemoveAll(old))
}

func (w World) folder(target string) string { return filepath.Join(w.Dir, "targets", target) }
func (w World) path(setting string) string  { return filepath.Join(w.Dir, "targets", setting) }
func (w World) log() string                 { return filepath.Join(w.Dir, "log") }

// Target returns a target by its name.
func (w World) Target(name string) (experiment.Target, error) {
	inode, err := inodeOf(w.folder(name))
	if err != nil {
		return experiment.Target{}, err
	}
	workload, _, _ := strings.Cut(name, "-")
	return experiment.Target{
		Kind: "world", Name: name, ID: fmt.Sprintf("world:%d:%s", inode, name),
		Workload: workload, Labels: map[string]string{"app": workload}, Root: w.folder(name),
	}, nil
}

func inodeOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New(path + " has no inode")
	}
	return stat.Ino, nil
}

// Set writes a setting ("web/1") as somebody else would.
func (w World) Set(setting, value string) error {
	f, err := os.OpenFile(w.path(setting), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeValue(f, value)
}

// Value returns a setting, or "" where there is none.
func (w World) Value(setting string) string {
	value, err := os.ReadFile(w.path(setting))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(value))
}

// Snapshot returns all targets and their settings, sorted, one line each.
func (w World) Snapshot() string {
	var b strings.Builder
	paths, err := filepath.Glob(filepath.Join(w.Dir, "targets", "*", "*"))
	if err != nil {
		return err.Error()
	}
	for _, p := range paths {
		setting, err := filepath.Rel(filepath.Join(w.Dir, "targets"), p)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s = %s\n", setting, w.Value(setting))
	}
	return b.String()
}

// Record is what an op did once.
type Record struct {
	Op   string `json:"op"`   // set, or reset for its undo; follow, measure before or measure during
	Path string `json:"path"` // the setting's file, or where it was measured
	PID  int    `json:"pid"`  // of the process that applied it
	Did  Did    `json:"did"`
}

// Did says what came of an op.
type Did string

// What can come of an op.
const (
	Begun      Did = "begun"      // Apply was called: each has another record after it, unless it was killed
	Wrote      Did = "wrote"      // it changed the setting
	Already    Did = "already"    // the setting was so already
	Gone       Did = "gone"       // the file is another one, or none
	Superseded Did = "superseded" // somebody else has changed it
	Failed     Did = "failed"     // as it was told to
	Pretended  Did = "pretended"  // it did nothing, and said nothing of it, as it was told to
	Ended      Did = "ended"      // following, or measuring, has ended
)

// Log returns what all ops in all processes did, oldest first.
func (w World) Log() ([]Record, error) { return readLog(w.log()) }

// Count returns how often an op ("set", "reset", or "" for both) did so.
func (w World) Count(op string, did Did) int {
	records, err := w.Log()
	if err != nil {
		return 0
	}
	n := 0
	for _, r := range records {
		if (op == "" || r.Op == op) && r.Did == did {
			n++
		}
	}
	return n
}

func readLog(path string) ([]Record, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var records []Record
	for line := range strings.Lines(string(data)) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, err
}

// record appends to the log: one write, whole even where processes race.
func record(log string, r Record) error {
	if log == "" {
		return nil
	}
	r.PID = os.Getpid()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
