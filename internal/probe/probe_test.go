package probe

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

type anything struct{}

func (anything) Plan(context.Context, experiment.RunID, experiment.Target) ([]experiment.Step, error) {
	return nil, errors.New("not planned here")
}
func (anything) Select(context.Context) ([]experiment.Target, error) { return nil, nil }

// load reads a file with one check, whose probe is section.
func load(section string) (experiment.Probe, error) {
	file := fmt.Sprintf(`apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: x}
spec:
  hypothesis: {checks: [{name: c, max: 1, probe: %s}]}
  method: [{fault: {type: any}, target: {type: any}, for: 1s}]
`, section)
	l := experiment.Loader{
		Faults:  experiment.Catalog[experiment.Fault]{"any": func() experiment.Fault { return &anything{} }},
		Targets: experiment.Catalog[experiment.Selector]{"any": func() experiment.Selector { return &anything{} }},
		Probes:  All(Env{}),
	}
	e, err := l.Load("x.yaml", []byte(file), nil)
	if err != nil {
		return nil, err
	}
	return e.Spec.Hypothesis.Checks[0].Probe, nil
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ section, unit, at, err string }{
		"http alone":       {section: `{type: http, url: "http://web"}`},
		"http seconds":     {section: `{type: http, url: "http://web", measure: seconds, timeout: 3s}`, unit: "s"},
		"http size":        {section: `{type: http, url: "http://web", measure: size}`, unit: "B"},
		"http number":      {section: `{type: http, url: "http://web", json: "$.perMinute"}`},
		"http all":         {section: `{type: http, url: "http://web", method: POST, headers: {Host: shop, x-a: b}, body: "{}"}`},
		"http no url":      {section: `{type: http}`, at: "probe:", err: "a url is missing"},
		"http scheme":      {section: `{type: http, url: "ftp://web"}`, at: "probe.url:", err: "is not an http or https URL"},
		"http measure":     {section: `{type: http, url: "http://web", measure: secnds}`, at: "probe.measure:", err: "\"secnds\" cannot be measured by this probe (did you mean \"seconds\"?)\n        measures: seconds size status"},
		"http both":        {section: `{type: http, url: "http://web", measure: size, json: "$.a"}`, at: "probe.json:", err: "a probe measures one thing"},
		"http path":        {section: `{type: http, url: "http://web", json: "$.a["}`, at: "probe.json:", err: `"$.a[" is not a JSONPath such as $.perMinute (not terminated`},
		"http method":      {section: `{type: http, url: "http://web", method: "GE T"}`, at: "probe.method:", err: `"GE T" is not an HTTP method`},
		"http header":      {section: `{type: http, url: "http://web", headers: {"a b": c}}`, at: "probe.headers:", err: `"a b" is not the name of a header`},
		"http value":       {section: `{type: http, url: "http://web", headers: {a: "s3cret\r\nx: y"}}`, at: "probe.headers:", err: `the value of a has a control character in it`},
		"http no time":     {section: `{type: http, url: "http://web", timeout: 0s}`, at: "probe.timeout:", err: "0s leaves no time"},
		"http unknown":     {section: `{type: http, url: "http://web", jsn: a}`, err: `unknown field "jsn"`},
		"tcp":              {section: `{type: tcp, address: "db:5432"}`, unit: "s"},
		"tcp six":          {section: `{type: tcp, address: "[::1]:5432"}`, unit: "s"},
		"tcp no address":   {section: `{type: tcp}`, err: "an address is missing"},
		"tcp no port":      {section: `{type: tcp, address: db}`, at: "probe.address:", err: `"db" is not host:port`},
		"tcp no host":      {section: `{type: tcp, address: ":80"}`, at: "probe.address:", err: `":80" is not host:port`},
		"tcp port":         {section: `{type: tcp, address: "db:70000"}`, at: "probe.address:", err: `"70000" is not a port`},
		"tcp port zero":    {section: `{type: tcp, address: "db:0"}`, at: "probe.address:", err: `"0" is not a port`},
		"tcp no time":      {section: `{type: tcp, address: "db:1", timeout: 0s}`, at: "probe.timeout:", err: "0s leaves no time"},
		"exec":             {section: `{type: exec, command: [pg_isready, -q]}`},
		"exec number":      {section: `{type: exec, command: [wc, -l, /tmp/x], measure: number}`},
		"exec no command":  {section: `{type: exec}`, err: "a command is missing"},
		"exec empty":       {section: `{type: exec, command: [""]}`, err: "a command is missing"},
		"exec zero byte":   {section: `{type: exec, command: [a, "b\0"]}`, at: "probe.command[1]:", err: "has a zero byte"},
		"exec measure":     {section: `{type: exec, command: [a], measure: numbr}`, err: "(did you mean \"number\"?)\n        measures: exit number"},
		"exec no time":     {section: `{type: exec, command: [a], timeout: 0s}`, at: "probe.timeout:", err: "0s leaves no time"},
		"exec not a list":  {section: `{type: exec, command: "a b"}`, err: "want a list of text"},
		"unknown type":     {section: `{type: htp, url: "http://web"}`, err: `unknown type "htp" (did you mean "http"?)`},
		"negative timeout": {section: `{type: tcp, address: "db:1", timeout: -1s}`, err: "-1s is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := load(tt.section)
			checkError(t, err, tt.err)
			if err != nil {
				if !strings.Contains(err.Error(), tt.at) {
					t.Errorf("got %q, want it placed at %q", err, tt.at)
				}
				return
			}
			if unit := p.(experiment.Measured).Unit(); unit != tt.unit {
				t.Errorf("unit %q, want %q", unit, tt.unit)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	p, err := load(`{type: http, url: "http://web"}`)
	checkError(t, err, "")
	if got := p.(*HTTP).Timeout; got != DefaultTimeout {
		t.Errorf("timeout %s", got)
	}
}

func TestFieldsAreDescribed(t *testing.T) {
	t.Parallel()
	all := All(Env{})
	if diff := cmp.Diff([]string{"exec", "http", "tcp"}, all.Names()); diff != "" {
		t.Error(diff)
	}
	constraint := regexp.MustCompile(`^\w+=`) // what the schema's maker would not take for words
	for _, name := range all.Names() {
		for _, f := range experiment.Fields(all[name]()) {
			if f.Doc == "" || constraint.MatchString(f.Doc) {
				t.Errorf("%s: %s is described as %q", name, f.Name, f.Doc)
			}
		}
	}
}
