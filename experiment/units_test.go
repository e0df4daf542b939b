package experiment_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

func TestUnits(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]experiment.Bitrate{
		"1bit": 1, "800kbit": 800e3, "10mbit": 10e6, "1gbit": 1e9, "1.5mbit": 1.5e6, "0.3kbit": 300, "1.1mbit": 1.1e6, "2.5bit": 3, "1000gbit": 1e12,
	} {
		var r experiment.Bitrate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%s is %v (%v)", text, float64(r), err)
		}
	}
	for text, want := range map[string]experiment.Size{
		"0B": 0, "512B": 512, "64KiB": 64 << 10, "8MiB": 8 << 20, "1GiB": 1 << 30, "1.5MiB": 3 << 19, "1.1KiB": 1126, "1048576GiB": 1 << 50,
	} {
		var n experiment.Size
		if err := n.UnmarshalText([]byte(text)); err != nil || n != want {
			t.Errorf("%s is %d (%v)", text, int64(n), err)
		}
	}
	for v, want := range map[string]string{
		experiment.Bitrate(1_500_000).String(): "1500kbit", experiment.Bitrate(1e9).String(): "1gbit", experiment.Bitrate(1_000_001).String(): "1000001bit", experiment.Bitrate(0).String(): "0bit",
		experiment.Size(3 << 19).String(): "1536KiB", experiment.Size(1 << 30).String(): "1GiB", experiment.Size(1000).String(): "1000B", experiment.Size(0).String(): "0B",
	} {
		if v != want {
			t.Errorf("%s is written as %s", want, v)
		}
	}
}

// spelt is a field's type that reads itself, and says what it takes.
type spelt struct{}

func (spelt) TypeName() string { return "percent, or fields" }

// TestFieldTypes asks for the words of lists.
func TestFieldTypes(t *testing.T) {
	t.Parallel()
	type section struct {
		To     *experiment.TargetSpec `json:"to"`
		Rate   *experiment.Bitrate    `json:"rate"`
		Limit  experiment.Size        `json:"limit"`
		Sizes  []experiment.Size      `json:"sizes"`
		Spelt  spelt                  `json:"spelt"`
		Spelts *spelt                 `json:"spelts"`
		packets
	}
	got := map[string]string{}
	for _, f := range experiment.Fields(&section{}) {
		got[f.Name] = f.Type
	}
	want := map[string]string{
		"to": "target", "rate": "bit rate", "limit": "size", "sizes": "list of sizes", "spelt": "percent, or fields", "spelts": "percent, or fields",
		"ports": "list of whole numbers", "protocol": "text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTo loads a fault that selects targets of its own.
func TestTo(t *testing.T) {
	t.Parallel()
	e := load(t, "valid-to.yaml", map[string]string{"PORT": "5433"})
	slow := e.Spec.Method[0].Fault.(*latency)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"its type", slow.To.Type, "process"},
		{"its selector, and a parameter in it", slow.To.Selector, experiment.Selector(&process{Port: 5433})},
		{"its mode", slow.To.Mode, experiment.ModeAll},
		{"a bit rate that is a parameter", *slow.Rate, experiment.Bitrate(10e6)},
		{"a size", slow.Buffer, experiment.Size(3 << 19)},
		{"no default mode", e.Spec.Method[1].Fault.(*latency).To.Mode, experiment.Mode("")},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", c.what, diff)
		}
	}
}

// container is a target of a lab.
type container struct{ anything }

func (container) InLab() bool { return true }

// TestToInLab: a far end in a lab needs one as much as a target does.
func TestToInLab(t *testing.T) {
	t.Parallel()
	l := loader()
	l.Targets["container"] = func() experiment.Selector { return container{} }
	const head = "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: lab}\nspec:\n"
	const says = "target container is a container of the lab, and the file has none: say lab: {compose: compose.yaml}, or lab: {name: …} for one that stands"
	for _, c := range []struct{ name, spec, want string }{
		{"target", "  method:\n    - fault: {type: latency}\n      target: {type: container}\n      for: 1s\n", "f.yaml:7: spec.method[0].target: " + says},
		{"to", "  method:\n    - fault: {type: latency, to: {type: container}}\n      target: {type: any}\n      for: 1s\n", "f.yaml:6: spec.method[0].fault: " + says},
		{"with a lab", "  lab: {name: shop}\n  method:\n    - fault: {type: latency, to: {type: container}}\n      target: {type: container}\n      for: 1s\n", ""},
	} {
		_, err := l.Load("f.yaml", []byte(head+c.spec), nil)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
