package chaos

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// number reads a setting that is one number; math.MaxInt64 where it sets no
// limit. Version 1 writes that as the most pages it can count.
func number(k op.Knob) (n int64, value string, err error) {
	if value, err = k.Value(); err != nil {
		return 0, "", err
	}
	if value == "max" {
		return math.MaxInt64, value, nil
	}
	if n, err = strconv.ParseInt(value, 10, 64); err != nil {
		return 0, value, fmt.Errorf("read %s of %s: %w", k, k.Cgroup.Path, err)
	}
	if n >= math.MaxInt64&^(1<<21-1) {
		n = math.MaxInt64
	}
	return n, value, nil
}

// lowest returns the present limit, or a lower one of the cgroups above.
func lowest(at ownedCgroup, v1, v2 string) (own, all int64, value string, err error) {
	own, value, err = number(at.file(v1, v2))
	all = own
	for up := range above(at) {
		if n, _, err := number(up.file(v1, v2)); err == nil {
			all = min(all, n)
		}
	}
	return own, all, value, err
}

// memory lowers the limit.
func (p *throttling) memory(at ownedCgroup) error {
	k := at.file("memory.limit_in_bytes", "memory.max")
	own, now, value, err := lowest(at, "memory.limit_in_bytes", "memory.max")
	if err != nil {
		return err
	}
	field, asked := "memory", int64(0)
	switch {
	case p.Memory != nil:
		asked = int64(*p.Memory)
	case own == math.MaxInt64:
		return noLimit("memoryPercent", "memory, such as 64MiB", k)
	default:
		field, asked = "memoryPercent", int64(float64(*p.MemoryPercent)/100*float64(own))
	}
	asked = wholePages(asked, os.Getpagesize())
	if asked >= now {
		return errNoChange(field, bytesOf(asked), bytesOf(now))
	}
	u, err := p.readUsage(at)
	if err != nil {
		return err
	}
	if asked < u.kept {
		return experiment.Fieldf(field, "%s of the %s in use cannot be given back (%s asked for): the kernel would refuse the limit, or kill processes at once; ask for more",
			bytesOf(u.kept), bytesOf(u.used), bytesOf(asked))
	}
	var notes []string
	if asked < u.used {
		notes = []string{fmt.Sprintf("%s of memory in use, which is %s above the limit: the kernel takes back page cache", bytesOf(u.used), bytesOf(u.used-asked))}
	}
	p.set(k, value, strconv.FormatInt(asked, 10), notes...)
	return nil
}

// wholePages rounds down as the kernel does.
func wholePages(n int64, page int) int64 { return n / int64(page) * int64(page) }

func bytesOf(n int64) string { return experiment.Size(n).String() }

// usage is the memory of a cgroup, in bytes.
type usage struct{ used, kept int64 } // kept: what the kernel cannot take back

// readUsage reads it. What is taken back is page cache and the like, and what
// can be swapped as far as there is swap.
func (p *throttling) readUsage(at ownedCgroup) (usage, error) {
	var u usage
	var err error
	if u.used, _, err = number(at.file("memory.usage_in_bytes", "memory.current")); err != nil {
		return u, err
	}
	text, err := at.file("memory.stat", "memory.stat").Value()
	if err != nil {
		return u, err
	}
	stat := words(text)
	u.kept = u.used
	for _, name := range []string{"inactive_file", "active_file", "slab_reclaimable"} {
		if !at.v2 {
			name = "total_" + name // with the cgroups below
		}
		u.kept -= stat[name]
	}
	meminfo, err := os.ReadFile(filepath.Join(p.host.FS.Proc, "meminfo"))
	if err != nil {
		return u, fmt.Errorf("read how much swap is free: %w", err)
	}
	u.kept = max(0, u.kept-words(string(meminfo))["SwapFree:"]*1024)
	return u, nil
}

// words reads lines of a name and a number.
func words(text string) map[string]int64 {
	of := map[string]int64{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 2 {
			of[f[0]], _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return of
}

// memoryHigh lowers the mark above which it is slowed down.
func (p *throttling) memoryHigh(at ownedCgroup) error {
	if !at.v2 {
		return fmt.Errorf("memoryHigh is cgroup v2's memory.high, and memory is limited by v1 here; its soft limit is another thing, heeded only when the whole host runs out: %w", experiment.ErrUnsupported)
	}
	_, now, _, err := lowest(at, "", "memory.high")
	if err != nil {
		return err
	}
	_, hard, _, err := lowest(at, "", "memory.max")
	if err != nil {
		return err
	}
	k := at.file("", "memory.high")
	value, err := k.Value()
	if err != nil {
		return err
	}
	asked := wholePages(int64(*p.MemoryHigh), os.Getpagesize())
	if most := min(now, hard); asked >= most {
		return errNoChange("memoryHigh", bytesOf(asked), bytesOf(most))
	}
	p.set(k, value, strconv.FormatInt(asked, 10))
	return nil
}

// pids lowers how many processes and threads there may be.
func (p *throttling) pids(at ownedCgroup) error {
	_, now, value, err := lowest(at, "pids.max", "pids.max")
	if err != nil {
		return err
	}
	asked := int64(*p.PIDs)
	if asked >= now {
		return errNoChange("pids", strconv.FormatInt(asked, 10), strconv.FormatInt(now, 10))
	}
	running, _, err := number(at.file("pids.current", "pids.current"))
	if err != nil {
		return err
	}
	var notes []string
	if running >= asked {
		notes = []string{fmt.Sprintf("%d processes and threads run already: they stay, and no other can start", running)}
	}
	p.set(at.file("pids.max", "pids.max"), value, strconv.FormatInt(asked, 10), notes...)
	return nil
}

// hugetlb lowers how much of huge pages there may be.
func (p *throttling) hugetlb(at ownedCgroup) error {
	for _, size := range slices.Sorted(maps.Keys(p.Hugetlb)) {
		if err := p.pages(at, size, int64(p.Hugetlb[size])); err != nil {
			return err
		}
	}
	return nil
}

func (p *throttling) pages(at ownedCgroup, size string, asked int64) error {
	field, file := "hugetlb/"+size, "hugetlb."+size
	_, now, value, err := lowest(at, file+".limit_in_bytes", file+".max")
	if errors.Is(err, os.ErrNotExist) {
		return experiment.Fieldf(field, "there are no pages of %s here, but %s", size, strings.Join(pageSizes(at), " and "))
	}
	if err != nil {
		return err
	}
	asked = wholePages(asked, pageBytes(size))
	if asked >= now {
		return errNoChange(field, bytesOf(asked), bytesOf(now))
	}
	used, _, err := number(at.file(file+".usage_in_bytes", file+".current"))
	if err != nil {
		return err
	}
	if asked < used {
		return experiment.Fieldf(field, "%s of them are in use, and the kernel takes no limit below that: ask for more", bytesOf(used))
	}
	p.set(at.file(file+".limit_in_bytes", file+".max"), value, strconv.FormatInt(asked, 10))
	return nil
}

// pageSizes are the sizes of huge pages that a cgroup has limits of.
func pageSizes(at ownedCgroup) []string {
	found, _ := filepath.Glob(filepath.Join(at.dir.Path, at.file("hugetlb.*B.limit_in_bytes", "hugetlb.*B.max").File))
	for i, path := range found {
		found[i] = strings.Split(filepath.Base(path), ".")[1]
	}
	return found
}

// pageBytes is a size of pages in bytes: 2MB is 2 MiB.
func pageBytes(size string) int {
	n, _ := strconv.Atoi(strings.TrimRight(size, "KMGB"))
	return n << map[byte]int{'K': 10, 'M': 20, 'G': 30}[size[len(size)-2]]
}
