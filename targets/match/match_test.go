package match

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/simianhq/simian/experiment"
)

// read decodes a Match as a selector's section would.
func read(text string) (*Match, error) {
	m := &Match{}
	return m, json.Unmarshal([]byte(text), m, json.RejectUnknownMembers(true))
}

func TestMatch(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"app": "web", "tier": "front", "com.example/odd key": "a b"}
	for _, c := range []struct {
		section string
		names   []string
		want    bool
	}{
		{`{}`, []string{"web-1"}, true},
		{`{"names": "web-1"}`, []string{"web-1"}, true},
		{`{"names": "web"}`, []string{"web-1"}, false},
		{`{"names": "WEB-1"}`, []string{"web-1"}, false},
		{`{"names": "3f1c"}`, []string{"web-1", "3f1c"}, true},
		{`{"names": ["db", "web-1"]}`, []string{"web-1"}, true},
		{`{"names": "re2:web-[0-9]"}`, []string{"web-1"}, true},
		{`{"names": "re2:web"}`, []string{"web-1"}, false},
		{`{"names": "re2:web|web-1"}`, []string{"web-1"}, true},
		{`{"names": "re2:db|web"}`, []string{"db-1", "my-web"}, false},
		{`{"names": "re2:.*"}`, nil, false},
		{`{"labels": {"app": "web"}}`, nil, true},
		{`{"labels": {"app": "web", "tier": "back"}}`, nil, false},
		{`{"labels": {"com.example/odd key": "a b"}}`, nil, true},
		{`{"labels": {"none": ""}}`, nil, false},
		{`{"labels": "app=web"}`, nil, true},
		{`{"labels": "app==web,tier!=back"}`, nil, true},
		{`{"labels": "app in (web, db),!canary,tier"}`, nil, true},
		{`{"labels": "app notin (web)"}`, nil, false},
		{`{"labels": "canary"}`, nil, false},
		{`{"names": "web-1", "labels": "app=db"}`, []string{"web-1"}, false},
		{`{"exclude": {"names": "web-1"}}`, []string{"web-1"}, false},
		{`{"exclude": {"names": "re2:web-[2-9]"}}`, []string{"web-1"}, true},
		{`{"exclude": {"labels": "tier=front"}}`, []string{"web-1"}, false},
		{`{"exclude": {"labels": {"tier": "back"}}}`, []string{"web-1"}, true},
		{`{"exclude": {"names": "other", "labels": "tier=front"}}`, []string{"web-1"}, false},
		{`{"names": "web-1", "exclude": {"labels": "tier=front"}}`, []string{"web-1"}, false},
	} {
		m, err := read(c.section)
		if err != nil {
			t.Errorf("%s: %v", c.section, err)
		} else if got := m.Matches(labels, c.names...); got != c.want {
			t.Errorf("%s matches %v %v: %v", c.section, c.names, labels, got)
		}
		if m.Empty() != (c.section == `{}`) {
			t.Errorf("%s is empty: %v", c.section, m.Empty())
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for section, want := range map[string]string{
		`{}`:                               `any`,
		`{"names": ["web", "re2:db-.*"]}`:  `name "web" or "re2:db-.*"`,
		`{"labels": {"b": "2", "a": "1"}}`: `labels a=1,b=2`,
		`{"labels": "b in (x,a),!c"}`:      `labels b in (a,x),!c`,
		`{"exclude": {"names": "web-2"}}`:  `without name "web-2"`,
		`{"names": "web", "labels": "a=1", "exclude": {"names": "x", "labels": {"y": "z"}}}`: `name "web", labels a=1, without name "x" or labels y=z`,
	} {
		m, err := read(section)
		if err != nil || m.String() != want {
			t.Errorf("%s: %s, %v, want %s", section, m, err, want)
		}
	}
}

// TestBadMatch has what is wrong said in words that help.
func TestBadMatch(t *testing.T) {
	t.Parallel()
	for section, want := range map[string]string{
		`{"names": ""}`:                "an empty name",
		`{"names": []}`:                "an empty list",
		`{"names": ["web", ""]}`:       "an empty name",
		`{"names": 1}`:                 "want a name such as web",
		`{"names": [1]}`:               "want a name such as web",
		`{"names": {"a": "b"}}`:        "want a name such as web",
		`{"names": "re2:"}`:            "re2: without a regular expression",
		`{"names": "re2:web["}`:        `"web[" is not a regular expression: missing closing ]`,
		`{"names": "re2:a)|(b"}`:       "unexpected )",
		`{"names": "re2:(?=a)"}`:       "invalid or unsupported Perl syntax",
		`{"labels": ""}`:               "an empty selector",
		`{"labels": " "}`:              "an empty selector",
		`{"labels": {}}`:               "an empty mapping",
		`{"labels": {"a": 1}}`:         `the value of label "a" is no text`,
		`{"labels": ["a"]}`:            "want a mapping such as {app: web}",
		`{"labels": "app=(web"}`:       `"app=(web" is not a label selector`,
		`{"labels": "app in web"}`:     "is not a label selector",
		`{"labels": "a=b c"}`:          "is not a label selector",
		`{"exclude": {"name": "web"}}`: "unknown object member name",
	} {
		if _, err := read(section); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", section, err, want)
		}
	}
	if err := (Exclude{}).Validate(); err == nil {
		t.Error("an exclude without a field is none")
	}
}

func TestNone(t *testing.T) {
	t.Parallel()
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("c%d", i)
	}
	for _, c := range []struct {
		section string
		there   []string
		want    string
	}{
		{`{"names": "wep"}`, []string{"web", "db"}, "no container that runs is name \"wep\": no target matches\n        did you mean web?"},
		{`{"names": "elephant"}`, []string{"web", "db"}, "no container that runs is name \"elephant\": no target matches\n        there are web, db"},
		{`{"labels": "a"}`, []string{"w\x1b[2J"}, "no container that runs is labels a: no target matches\n        there is \"w\\x1b[2J\""},
		{`{}`, nil, "no container that runs is any: no target matches\n        no container runs here"},
		{`{"names": "re2:x+"}`, many, "no container that runs is name \"re2:x+\": no target matches\n        there are c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11 and 18 more"},
	} {
		m, err := read(c.section)
		if err != nil {
			t.Fatal(err)
		}
		got := m.None("container", c.there)
		if got.Error() != c.want || !errors.Is(got, experiment.ErrNoMatch) {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestRoundTrip has every Match come back from a journal as it was.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, section := range []string{
		`{}`, `{"names":"web"}`, `{"names":["web","re2:db-.*"]}`, `{"labels":{"a":"1","b c":"d/e f"}}`,
		`{"labels":"app in (web, db),!canary"}`, `{"exclude":{"names":"web-1","labels":{"a":"b"}}}`,
	} {
		m, err := read(section)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(m)
		if err != nil || string(again) != section {
			t.Errorf("%s came back as %s, %v", section, again, err)
		}
	}
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	type labels = map[string]string
	pod := func(more labels) labels {
		all := labels{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web-6d4cf56db6-x2x9k", "io.kubernetes.container.name": "nginx"}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	for _, c := range []struct {
		name         string
		labels       labels
		env          []string
		workload, by string
	}{
		{"none", nil, nil, "", ""},
		{"of nobody", labels{"app": "web"}, []string{"PATH=/bin", "odd"}, "", ""},
		{"compose", labels{"com.docker.compose.project": "shop", "com.docker.compose.service": "gateway"}, nil, "shop/gateway", "compose"},
		{"compose without project", labels{"com.docker.compose.service": "gateway"}, nil, "gateway", "compose"},
		{"swarm", labels{"com.docker.swarm.service.name": "shop_web", "com.docker.stack.namespace": "shop"}, nil, "shop_web", "swarm"},
		{"swarm before compose", labels{"com.docker.swarm.service.name": "shop_web", "com.docker.compose.service": "web"}, nil, "shop_web", "swarm"},
		{"nomad", labels{"com.hashicorp.nomad.namespace": "prod", "com.hashicorp.nomad.job_name": "api", "com.hashicorp.nomad.task_group_name": "web"}, nil, "prod/api/web", "nomad"},
		{"nomad without extra labels", labels{"com.hashicorp.nomad.alloc_id": "1"}, []string{"NOMAD_JOB_NAME=api", "NOMAD_GROUP_NAME=web", "NOMAD_NAMESPACE=default"}, "default/api/web", "nomad"},
		{"ecs", labels{"com.amazonaws.ecs.cluster": "arn:aws:ecs:eu-west-1:1:cluster/c", "com.amazonaws.ecs.task-definition-family": "api"}, nil, "api", "ecs"},
		{"marathon", nil, []string{"MARATHON_APP_ID=/shop/web"}, "shop/web", "marathon"},
		{"labels before environment", labels{"com.docker.compose.service": "web"}, []string{"MARATHON_APP_ID=/shop/web"}, "web", "compose"},
		{"pod", pod(nil), nil, "shop/web-6d4cf56db6-x2x9k/nginx", "kubernetes"},
		{"pod of a deployment", pod(labels{"pod-template-hash": "6d4cf56db6"}), nil, "shop/web/nginx", "kubernetes"},
		{"pod with another's hash", pod(labels{"pod-template-hash": "77"}), nil, "shop/web-6d4cf56db6-x2x9k/nginx", "kubernetes"},
		{"sandbox", labels{"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web"}, nil, "shop/web", "kubernetes"},
		{"kubernetes before compose", pod(labels{"com.docker.compose.service": "web"}), nil, "shop/web-6d4cf56db6-x2x9k/nginx", "kubernetes"},
	} {
		if workload, by := Workload(c.labels, c.env...); workload != c.workload || by != c.by {
			t.Errorf("%s: %q by %q, want %q by %q", c.name, workload, by, c.workload, c.by)
		}
	}
}

// FuzzNames reads any name: what is read comes back the same, and a name that
// is no pattern matches itself alone.
func FuzzNames(f *testing.F) {
	for _, text := range []string{"web", "re2:web-.*", "re2:a)|(b", "re2:", "", "re2:(?i)x", "re2:\\", "re2:[", "re2:a{1000}{1000}", "re2:(?#"} {
		f.Add(text, "web-1")
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		name, err := ParseName(text)
		if err != nil {
			return
		}
		if name.String() != text {
			t.Errorf("%q came back as %q", text, name)
		}
		if !strings.HasPrefix(text, patternPrefix) && name.Matches(other) != (text == other) {
			t.Errorf("%q matches %q", text, other)
		}
		if name.pattern == nil {
			return
		}
		if at := name.pattern.FindStringIndex(other); at != nil && (at[0] > 0 || at[1] < len(other)) {
			t.Errorf("%q matches %q only in part", text, other)
		}
	})
}

// FuzzLabels reads any label selector: what is read comes back from a journal
// and means the same, and nothing panics.
func FuzzLabels(f *testing.F) {
	for _, text := range []string{"app=web", "a in (b,c),!d", "a>1", "a<x", "a==b,c!=d", "(", "a in (", "a,,b", "a notin ()", "=", "é=ü"} {
		f.Add(text, "app", "web")
	}
	f.Fuzz(func(t *testing.T, text, name, value string) {
		have := map[string]string{name: value}
		l, err := ParseLabels(text)
		if err != nil {
			return
		}
		raw, err := json.Marshal(l)
		if err != nil {
			return // no UTF-8, which no file holds
		}
		var again Labels
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if again.Matches(have) != l.Matches(have) || again.String() != l.String() {
			t.Errorf("%q came back as %q", l, again)
		}
		if l.Empty() {
			t.Errorf("%q is read as empty", text)
		}
	})
}
