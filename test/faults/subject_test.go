package faults

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/monkeys"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
)

// kind is a sort of target.
type kind string

// The kinds of subjects, in the order of the table.
const (
	launched  kind = "launched"  // a container of a lab
	service   kind = "service"   // a raw process with a cgroup of its own, as systemd starts one
	networked kind = "networked" // the same, in a network namespace of its own
	process   kind = "process"   // a raw process that shares all with others
	adopted   kind = "docker"    // a container of Docker, which is there under test/docker/with.sh only
	pod       kind = "pod"       // a container of a pod on this node, under test/kube/with.sh only
)

func kinds() []kind { return []kind{launched, adopted, pod, service, networked, process} }

// contained tells whether it is a container, with all spaces of its own.
func (k kind) contained() bool { return k == launched || k == adopted || k == pod }

// subject is one target: testdata/subject, started as its kind is.
type subject struct {
	kind  kind
	base  string // on this host: all that belongs to it
	dir   string // of that, what is shared with the program
	peer  string // the peer's own folder, where it has a peer
	pick  string // its selector, as a file has it
	lab   *native.Current
	words map[string]string // what stands in a section for what only the subject knows
	born  experiment.ProcessID
}

func newSubject(t testing.TB, k kind) *subject {
	t.Helper()
	dir, err := os.MkdirTemp("", "simian-faults-") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &subject{kind: k, base: dir, dir: dir, lab: native.NewCurrent(host), words: map[string]string{}}
	switch k {
	case launched:
		s.launch(t)
	case adopted:
		s.startDocker(t)
	case pod:
		s.startPod(t)
	default:
		s.start(t)
	}
	s.born = s.target(t).PIDs[0]
	return s
}

// answers waits until the program does.
func (s *subject) answers(t testing.TB) {
	t.Helper()
	if !eventually(t, func() string {
		said, err := s.ask("ping")
		if err == nil && said == "pong" {
			return ""
		}
		return fmt.Sprintf("the subject says %q, %v", said, err)
	}) {
		t.FailNow()
	}
}

// ask has the program do a command, and returns what it says. Its own errors
// begin with "error: ".
func (s *subject) ask(words ...string) (string, error) { return s.tell(s.dir, words...) }

// peerAnswers is answer of the peer, which is another program.
func (s *subject) peerAnswers(words ...string) string {
	said, err := s.tell(s.peer, words...)
	if err != nil {
		return "error: " + err.Error()
	}
	return said
}

// tell has the program whose folder it is do a command.
func (s *subject) tell(dir string, words ...string) (string, error) {
	c, err := net.DialTimeout("unix", filepath.Join(dir, "socket"), time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(c, s.fill(strings.Join(words, " "))); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// answer is ask for what a test sums up in a word: an error is a word too.
func (s *subject) answer(words ...string) string {
	said, err := s.ask(words...)
	if err != nil {
		return "error: " + err.Error()
	}
	return said
}

// number is the first word of an answer, or no number, -1.
func number(said string) float64 {
	first, _, _ := strings.Cut(said, " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return n
}

// count is how often the program has counted. It is read without asking it.
func (s *subject) count() uint64 {
	data, err := os.ReadFile(filepath.Join(s.dir, "count"))
	if err != nil || len(data) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(data)
}

// fill puts in what only the subject knows.
func (s *subject) fill(text string) string {
	for word, value := range s.words {
		text = strings.ReplaceAll(text, word, value)
	}
	return text
}

// read reads a file with this fault on this subject.
func (s *subject) read(section string) (*experiment.Action, error) {
	l := experiment.Loader{Faults: monkeys.Faults(host), Targets: targets.All(host, s.lab)}
	maps.Copy(l.Targets, pods.selectors)
	lab := ""
	if s.kind == launched {
		lab = "\n  lab: {compose: compose.yaml}" // as its file has it; it is up already
	}
	e, err := l.Load("test.yaml", fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: test}
spec:%s
  method:
    - {fault: %s, target: {%s}, for: 1m, irreversible: true}
`, experiment.APIVersion, experiment.Kind, lab, s.fill(section), s.pick), nil)
	if err != nil {
		return nil, err
	}
	return &e.Spec.Method[0], nil
}

func (s *subject) fault(t testing.TB, section string) experiment.Fault {
	t.Helper()
	a, err := s.read(section)
	must(t, err)
	return a.Fault
}

// target is the subject as it runs now.
func (s *subject) target(t testing.TB) experiment.Target {
	t.Helper()
	found, err := s.selected()
	for end := time.Now().Add(patience); len(found) != 1 && time.Now().Before(end); found, err = s.selected() {
		time.Sleep(5 * time.Millisecond) // it is being started again
	}
	must(t, err)
	return found[0]
}

// selected finds the subject, none where it is down.
func (s *subject) selected() ([]experiment.Target, error) {
	a, err := s.read("{type: kill}")
	if err != nil {
		return nil, err
	}
	return a.Target.Selector.Select(context.Background())
}

// feels waits until the subject feels like this.
func (s *subject) feels(t testing.TB, when string, feel func(*subject) string, want string) {
	t.Helper()
	start := time.Now()
	if !eventually(t, func() string {
		if got := feel(s); got != want {
			return fmt.Sprintf("%s: it feels %q, not %q", when, got, want)
		}
		return ""
	}) {
		return
	}
	t.Logf("%s: %q after %s", when, want, time.Since(start).Round(time.Millisecond))
}

// observe is all that Simian reads of a target to compare it, and besides the
// cgroups below its own.
func (s *subject) observe(target experiment.Target) string {
	seen, err := host.Observe(context.Background(), target)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, o := range seen {
		for _, line := range o.Lines {
			if s.mine(o.Object, line) {
				lines = append(lines, o.Object+" "+line)
			}
		}
	}
	return strings.Join(append(lines, s.below(target)...), "\n")
}

// observeAgain is observe of whatever process the container has now; what
// tells it from another is left out.
func (s *subject) observeAgain(text string) string {
	found, err := s.selected()
	if err == nil && len(found) == 1 {
		text = s.observe(found[0])
	}
	text = strings.ReplaceAll(text, ",uuid=on", "") // overlay's own choice for an upper layer that is new
	if s.kind == adopted {                          // Docker makes all of it anew: the namespace, the ports of its resolver, the peer groups of its mounts
		text = anew.ReplaceAllString(text, "")
	}
	lines := strings.Split(fleeting.ReplaceAllString(text, "$1 "), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// fleeting is what two lives of a container differ in.
var fleeting = regexp.MustCompile(`(?m)\b(process:|mnt:|device )[0-9:]+ `)

// anew is what Docker makes again as it starts a container.
var anew = regexp.MustCompile(`(?m)^net:.*\n| master:\d+`)

// mine tells whether a fact is the subject's own. The host's network and mounts
// are others' too, who come and go: of these only what lies in its folder
// counts, and what a run has left is looked for by name.
func (s *subject) mine(object, line string) bool {
	switch {
	case s.kind.contained():
		return true
	case strings.HasPrefix(object, "mnt:"):
		return strings.Contains(line, s.dir)
	case strings.HasPrefix(object, "net:"):
		return s.kind == networked
	}
	return true
}

// below lists the cgroups below the subject's own.
func (s *subject) below(target experiment.Target) []string {
	if s.kind == process {
		return nil
	}
	var lines []string
	dirs := []experiment.CgroupDir{target.Cgroup.V2}
	for _, dir := range target.Cgroup.V1 {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		found, _ := filepath.Glob(filepath.Join(dir.Path, "*/cgroup.procs"))
		lines = append(lines, found...)
	}
	slices.Sort(lines)
	return lines
}

// same wants a state to be as it was, soon.
func (s *subject) same(t testing.TB, when, before string, now func() string) {
	t.Helper()
	eventually(t, func() string {
		old, present := strings.Split(before, "\n"), strings.Split(now(), "\n")
		only := func(in, of []string, sign string) (lines string) {
			for _, line := range in {
				if !slices.Contains(of, line) {
					lines += "\n" + sign + line
				}
			}
			return lines
		}
		if diff := only(old, present, "-") + only(present, old, "+"); diff != "" {
			return when + " it is not as it was:" + diff
		}
		return ""
	})
}

// normal puts words in place of what is the subject's own in a message.
func (s *subject) normal(target experiment.Target, text string) string {
	pairs := []string{s.dir, "DIR"}
	for _, dir := range target.Cgroup.V1 {
		if dir.Path != "" {
			pairs = append(pairs, dir.Path, "CGROUP")
		}
	}
	pairs = append(pairs, target.Cgroup.V2.Path, "CGROUP", target.Name, "NAME")
	for _, p := range target.PIDs {
		pairs = append(pairs, p.String(), "pid PID")
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != "" && pairs[i] != "/" {
			text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
		}
	}
	return text
}
