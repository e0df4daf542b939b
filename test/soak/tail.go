package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/simianhq/simian/experiment"
)

// line is what the soak reads of an event.
type line struct {
	Boot   experiment.BootTime
	Kind   experiment.EventKind
	Action int
	Step   int
	Error  string
	Header struct {
		Runner     experiment.ProcessID
		Experiment struct{ Lab struct{ Standing bool } }
	}
	Guardian *experiment.GuardianMark
	Steps    []lineStep
}

// lineStep is what the soak reads of a step.
type lineStep struct {
	N    int
	Do   json.RawMessage
	Undo json.RawMessage
}

// undoable tells which of a line's steps can be taken back.
func (l *line) undoable() []int {
	var ns []int
	for _, s := range l.Steps {
		if len(s.Undo) > 0 && string(s.Undo) != "null" {
			ns = append(ns, s.N)
		}
	}
	return ns
}

// parseLines reads a journal; a cut last line is left out.
func parseLines(data []byte) ([]line, error) {
	var out []line
	for len(data) > 0 {
		text, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return out, err
		}
		out, data = append(out, l), rest
	}
	return out, nil
}

// tail reads the journal of a run while it is written.
type tail struct {
	dir  string
	lab  bool // only that of a lab that stands
	file *os.File
	data []byte
	run  string
}

func newTail(state string) *tail { return &tail{dir: filepath.Join(state, "open")} }

// read takes in what was written since.
func (t *tail) read() {
	if t.file == nil {
		t.find()
	}
	if t.file == nil {
		return
	}
	more, err := io.ReadAll(t.file)
	if err == nil {
		t.data = append(t.data, more...)
	}
}

func (t *tail) find() {
	paths, _ := filepath.Glob(filepath.Join(t.dir, "*.jsonl"))
	for _, path := range paths {
		if t.lab && !ofStanding(path) {
			continue
		}
		if f, err := os.Open(path); err == nil {
			t.file, t.run = f, runOf(path)
		}
		return
	}
}

// ofStanding tells whether a journal is that of a lab that stands, and not of
// a run that strikes it.
func ofStanding(path string) bool {
	data, _ := os.ReadFile(path)
	lines, _ := parseLines(data)
	return len(lines) > 0 && lines[0].Header.Experiment.Lab.Standing
}

// findLate finds the journal of a run that was struck before anybody looked, by
// its runner's pid; 0 where that is not known, and there is one run only.
func (t *tail) findLate(runner int) {
	for _, folder := range []string{"open", "done"} {
		paths, _ := filepath.Glob(filepath.Join(filepath.Dir(t.dir), folder, "*.jsonl"))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			lines, _ := parseLines(data)
			if t.lab && !ofStanding(path) {
				continue
			}
			if t.file == nil && len(lines) > 0 && (runner == 0 || lines[0].Header.Runner.PID == runner) {
				t.run = runOf(path)
			}
		}
	}
}

// has tells whether n events of this kind were written, or one where n is 0.
func (t *tail) has(kind experiment.EventKind, n int) bool {
	t.read()
	return bytes.Count(t.data, []byte(`"kind":"`+string(kind)+`"`)) >= max(n, 1)
}

// deadline is when the guardian ends the run, 0 where none is armed yet.
func (t *tail) deadline() experiment.BootTime {
	t.read()
	lines, _ := parseLines(t.data)
	for _, l := range lines {
		if l.Guardian != nil {
			return l.Guardian.Deadline
		}
	}
	return 0
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
