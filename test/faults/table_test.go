package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Where what came of the cells is written down.
const (
	bookFile = "testdata/support.json"
	page     = "../../docs/chaos.md"
	begin    = "<!-- what works on what: written by go test ./test/faults -update -->\n"
	end      = "<!-- end -->\n"
)

// kernel is the column that this kernel fills.
func kernel() string {
	list, _ := host.CgroupHierarchies()
	for _, h := range list {
		if h.Controllers != nil {
			return "v1"
		}
	}
	return "v2"
}

// kernels are those that the table has.
func kernels() []string { return []string{"v1", "v2"} }

// kernelsOf are those that a kind is tested on: there is neither Docker nor
// Kubernetes in the second machine.
func kernelsOf(k kind) []string {
	if k == adopted || k == pod {
		return []string{"v1"}
	}
	return kernels()
}

// column is what came of the cells on one kernel, by case and subject.
type column struct {
	Kernel string            `json:"kernel"` // uname -r
	Cells  map[string]string `json:"cells"`  // "yes", "yes: BACKEND", "no: WHY"
}

// book collects what comes of the cells.
type book struct {
	mu    sync.Mutex
	cells map[string]string // "" for one that failed, or was not tested in full
}

func newBook() *book { return &book{cells: map[string]string{}} }

func (b *book) note(id string, k kind, came string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cells[id+"/"+string(k)] = came
}

// hold compares what came of the cells with what is written down for this
// kernel, or writes it down.
func (b *book) hold(t *testing.T) {
	written, err := readBook()
	must(t, err)
	mine := written[kernel()]
	if *update {
		written[kernel()] = b.merge(mine)
		must(t, writeBook(written))
		return
	}
	if mine.Kernel != release() {
		t.Logf("what is written down is of Linux %s, and this is %s: not compared", mine.Kernel, release())
		return
	}
	for id, came := range b.cells {
		if came != "" && came != mine.Cells[id] {
			t.Errorf("%s: it is %q, and %q is written down (-update writes it)", id, came, mine.Cells[id])
		}
	}
}

// merge returns a column with what was tested now, and what was before and
// still has a case.
func (b *book) merge(old column) column {
	c := column{Kernel: release(), Cells: map[string]string{}}
	for _, id := range cellNames() {
		if came, tested := b.cells[id]; tested {
			if came != "" {
				c.Cells[id] = came
			}
		} else if before, ok := old.Cells[id]; ok {
			c.Cells[id] = before
		}
	}
	return c
}

func cellNames() (ids []string) {
	for _, c := range cases() {
		for _, k := range c.kinds() {
			ids = append(ids, c.id()+"/"+string(k))
		}
	}
	return ids
}

func release() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

func readBook() (map[string]column, error) {
	data, err := os.ReadFile(bookFile)
	written := map[string]column{}
	if os.IsNotExist(err) {
		return written, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &written)
	}
	return written, err
}

func writeBook(written map[string]column) error {
	data, err := json.MarshalIndent(written, "", "  ")
	if err == nil {
		err = os.WriteFile(bookFile, append(data, '\n'), 0o644)
	}
	return err
}

// TestTable holds the table in the docs against what is written down: go test
// ./test/faults -run TestTable -update writes it again.
func TestTable(t *testing.T) {
	written, err := readBook()
	must(t, err)
	text, err := os.ReadFile(page)
	must(t, err)
	before, rest, ok1 := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has not the lines %q and %q", page, begin, end)
	}
	table := render(written)
	if *update {
		must(t, os.WriteFile(page, []byte(before+begin+table+end+after), 0o644))
		return
	}
	if old != table {
		t.Errorf("the table in %s is not what is written down (-run TestTable -update writes it)", page)
	}
}

// render is the table, and under it why what can't be can't.
func render(written map[string]column) string {
	var b strings.Builder
	b.WriteString("| fault | " + strings.Join(titles(), " | ") + " |\n|---" + strings.Repeat("|---", len(kinds())) + "|\n")
	var notes []string
	for _, c := range cases() {
		row := []string{"`" + inDocs.Replace(c.Section) + "`"}
		for _, k := range kinds() {
			if !slices.Contains(c.kinds(), k) {
				row = append(row, "–")
				continue
			}
			row = append(row, words(written, c.id()+"/"+string(k), kernelsOf(k), &notes))
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, strings.ReplaceAll(note, "NAME", "the target"))
	}
	return b.String()
}

// inDocs writes what only a subject knows as people do.
var inDocs = strings.NewReplacer("{$TO}", "{…}", "$PEER", "ADDRESS", "$PORT", "PORT", "$WEB", "PORT", "$DATA", "/data", "$SCRATCH", "/scratch", "$SUBJECT", "PROGRAM", "|", "\\|")

// titles are the columns'.
func titles() []string {
	return []string{"launched container", "Docker container", "pod on this node", "process with a cgroup", "and a network of its own", "process with neither"}
}

// words are what stands in a cell of the table: what the kernels have in
// common, or each of them.
func words(written map[string]column, id string, kernels []string, notes *[]string) string {
	var each []string
	for _, k := range kernels {
		each = append(each, brief(written[k].Cells[id], notes))
	}
	if len(slices.Compact(slices.Clone(each))) == 1 {
		return each[0]
	}
	for i, k := range kernels {
		each[i] = k + ": " + each[i]
	}
	return strings.Join(each, "; ")
}

// brief is one outcome: yes, by what; no, and the note that says why. What was
// not tested is never a yes.
func brief(came string, notes *[]string) string {
	word, more, _ := strings.Cut(came, ": ")
	switch {
	case came == "":
		return "not tested"
	case more == "":
		return word
	case word == "yes":
		return "yes (" + more + ")"
	}
	n := slices.Index(*notes, more)
	if n < 0 {
		n = len(*notes)
		*notes = append(*notes, more)
	}
	return fmt.Sprintf("no [%d]", n+1)
}
