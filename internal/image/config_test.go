package image

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	both := Config{Entrypoint: []string{"entry", "-e"}, Cmd: []string{"cmd", "-c"}}
	for _, c := range []struct {
		name                string
		image               Config
		entrypoint, command []string
		want                []string
	}{
		{"both of the image", both, nil, nil, []string{"entry", "-e", "cmd", "-c"}},
		{"the image's cmd alone", Config{Cmd: []string{"cmd"}}, nil, nil, []string{"cmd"}},
		{"the image's entrypoint alone", Config{Entrypoint: []string{"entry"}}, nil, nil, []string{"entry"}},
		{"a command", both, nil, []string{"x"}, []string{"entry", "-e", "x"}},
		{"an entrypoint drops the cmd", both, []string{"own"}, nil, []string{"own"}},
		{"an entrypoint and a command", both, []string{"own"}, []string{"x"}, []string{"own", "x"}},
		{"an empty entrypoint keeps the cmd", both, []string{}, nil, []string{"cmd", "-c"}},
		{"an empty entrypoint and a command", both, []string{}, []string{"x"}, []string{"x"}},
		{"an entrypoint of an empty word drops the cmd", both, []string{""}, []string{"x"}, []string{"x"}},
		{"an empty command is none", both, nil, []string{}, []string{"entry", "-e", "cmd", "-c"}},
		{"an entrypoint of an empty word leaves nothing", both, []string{""}, nil, nil},
		{"nothing at all", Config{}, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.image.Process(c.entrypoint, c.command)
			if (err != nil) != (c.want == nil) || err != nil && !errors.Is(err, ErrNoCommand) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if diff := cmp.Diff(Config{Entrypoint: []string{"entry", "-e"}, Cmd: []string{"cmd", "-c"}}, both); diff != "" {
		t.Errorf("Process changed the image's: %s", diff)
	}
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	var f configFile
	err := json.Unmarshal([]byte(`{"os":"linux","architecture":"amd64","created":"2020-02-03T04:05:06Z","config":{
		"Entrypoint":["/e"],"Cmd":null,"Env":["A=1"],"WorkingDir":"/w","User":"1:2","StopSignal":"SIGINT","Labels":{"a":"b"},
		"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/v":{}},
		"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000,"Timeout":2000000000,"StartPeriod":3,"StartInterval":4,"Retries":5}}}`), &f)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Entrypoint: []string{"/e"}, Env: []string{"A=1"}, WorkingDir: "/w", User: "1:2", StopSignal: "SIGINT",
		Labels: map[string]string{"a": "b"}, ExposedPorts: []string{"53/udp", "80/tcp"}, Volumes: []string{"/v"},
		Health: &Health{[]string{"CMD", "true"}, time.Second, 2 * time.Second, 3, 4, 5},
	}
	if diff := cmp.Diff(want, f.config()); diff != "" {
		t.Error(diff)
	}
}
