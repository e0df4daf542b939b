package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Ports is a port or a range in a file, or a list of them.
type Ports []PortRange

// PortRange is ports from First to Last, both included.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// String gives 5432, or 8000-8099.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// String gives 80,443,8000-8099.
func (p Ports) String() string {
	words := make([]string, len(p))
	for i, r := range p {
		words[i] = r.String()
	}
	return strings.Join(words, ",")
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Ports) UnmarshalJSON(b []byte) error {
	list := []jsontext.Value{b}
	if jsontext.Value(b).Kind() == '[' {
		if err := json.Unmarshal(b, &list); err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("an empty list: leave it out to mean all ports")
		}
	}
	ports := make(Ports, len(list))
	for i, raw := range list {
		var err error
		if ports[i], err = readPorts(raw); err != nil {
			return err
		}
	}
	*p = ports
	return nil
}

// readPorts reads one port or range, a number or a text.
func readPorts(raw jsontext.Value) (PortRange, error) {
	switch raw.Kind() {
	case '0':
		port, err := portNumber(string(raw))
		return PortRange{port, port}, err
	case '"':
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return PortRange{}, err
		}
		return parsePorts(text)
	}
	return PortRange{}, errors.New(`want a port such as 5432, a range such as 8000-8099, or a list of them`)
}

func parsePorts(text string) (PortRange, error) {
	first, last, ranged := strings.Cut(text, "-")
	if !ranged {
		last = first
	}
	var r PortRange
	var err error
	if r.First, err = portNumber(strings.TrimSpace(first)); err != nil {
		return PortRange{}, err
	}
	if r.Last, err = portNumber(strings.TrimSpace(last)); err != nil {
		return PortRange{}, err
	}
	if r.First > r.Last {
		return PortRange{}, fmt.Errorf("%q runs backwards", text)
	}
	return r, nil
}

func portNumber(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is not a port (1 to 65535)", word(text))
	}
	return uint16(n), nil
}

// MarshalJSON implements json.Marshaler: one is written as itself.
func (p Ports) MarshalJSON() ([]byte, error) {
	list := make([]any, len(p))
	for i, r := range p {
		list[i] = r.String()
		if r.First == r.Last {
			list[i] = r.First
		}
	}
	if len(list) == 1 {
		return json.Marshal(list[0])
	}
	return json.Marshal(list)
}

// merge returns the ports sorted and disjoint; neighbours become one range.
func (p Ports) merge() []PortRange {
	var merged []PortRange
	for _, r := range slices.SortedFunc(slices.Values(p), func(a, b PortRange) int { return cmp.Compare(a.First, b.First) }) {
		end := len(merged) - 1
		if end >= 0 && int(r.First) <= int(merged[end].Last)+1 {
			merged[end].Last = max(merged[end].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// anyLeft tells whether any of the ports is left when those of except are
// taken away. Both are merged.
func anyLeft(ports, except []PortRange) bool {
	return slices.ContainsFunc(ports, func(r PortRange) bool {
		return !slices.ContainsFunc(except, func(e PortRange) bool { return e.First <= r.First && r.Last <= e.Last })
	})
}

// TypeName implements experiment.Typed.
func (Ports) TypeName() string { return "port, range, or list of them" }
