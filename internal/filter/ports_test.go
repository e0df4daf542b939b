package filter

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

func TestPorts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Ports{
		`5432`:                      {{5432, 5432}},
		`"5432"`:                    {{5432, 5432}},
		`"8000-8099"`:               {{8000, 8099}},
		`" 8000 - 8099 "`:           {{8000, 8099}},
		`[5432, "8000-8099", "53"]`: {{5432, 5432}, {8000, 8099}, {53, 53}},
		`"1-65535"`:                 {{1, 65535}},
	} {
		var got Ports
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (- wanted):\n%s", text, diff)
		}
	}
}

func TestPortsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`70000`:        "70000 is not a port (1 to 65535)",
		`0`:            "0 is not a port (1 to 65535)",
		`-1`:           "-1 is not a port (1 to 65535)",
		`54.5`:         "54.5 is not a port (1 to 65535)",
		`1e3`:          "1e3 is not a port (1 to 65535)",
		`"http"`:       "http is not a port (1 to 65535)",
		`""`:           `"" is not a port (1 to 65535)`,
		`"80-"`:        `"" is not a port (1 to 65535)`,
		`"1-2-3"`:      "2-3 is not a port (1 to 65535)",
		`"9-3"`:        `"9-3" runs backwards`,
		`[80, 70000]`:  "70000 is not a port (1 to 65535)",
		`[]`:           "an empty list: leave it out to mean all ports",
		`true`:         "want a port such as 5432, a range such as 8000-8099, or a list of them",
		`[[80]]`:       "want a port such as 5432, a range such as 8000-8099, or a list of them",
		`{"first": 1}`: "want a port such as 5432, a range such as 8000-8099, or a list of them",
	} {
		var got Ports
		err := json.Unmarshal([]byte(text), &got)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if got != nil {
			t.Errorf("%s: refused, and still %v", text, got)
		}
	}
}

func TestMergePorts(t *testing.T) {
	t.Parallel()
	got := Ports{{90, 95}, {80, 80}, {65535, 65535}, {81, 89}, {1, 3}, {2, 2}}.merge()
	if diff := cmp.Diff([]PortRange{{1, 3}, {80, 95}, {65535, 65535}}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzPorts(f *testing.F) {
	for _, seed := range []string{`5432`, `"8000-8099"`, `[1, "2-3"]`, `[]`, `"9-3"`, `70000`, `null`, `[[1]]`, `"１"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p, again Ports
		if json.Unmarshal(text, &p) != nil {
			return
		}
		encoded, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &again); err != nil {
			t.Fatalf("%s became %s: %v", text, encoded, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Errorf("%s became %s:\n%s", text, encoded, diff)
		}
		last := 0
		for _, r := range p.merge() {
			if r.First == 0 || r.First > r.Last || int(r.First) <= last {
				t.Errorf("%s: %v is not sorted and disjoint", text, p.merge())
			}
			last = int(r.Last) + 1
		}
	})
}
