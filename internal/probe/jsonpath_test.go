package probe

import (
	"encoding/json"
	"math"
	"testing"
)

func TestNumberAt(t *testing.T) {
	t.Parallel()
	const body = `{"perMinute": 2500, "ratio": 2.5e-1, "up": true, "down": false, "n": null, "text": "12", "a b": 7,
		"queues": [{"name": "mail", "depth": 3}, {"name": "bill", "depth": -4}], "o": {"k": 1}, "big": 12345678901234567890}`
	for name, tt := range map[string]struct {
		path, body string
		want       float64
		err        string
	}{
		"number":          {path: "$.perMinute", want: 2500},
		"without root":    {path: "perMinute", want: 2500},
		"fraction":        {path: "$.ratio", want: 0.25},
		"large":           {path: "$.big", want: 12345678901234567890},
		"true":            {path: "$.up", want: 1},
		"false":           {path: "$.down", want: 0},
		"quoted name":     {path: "$['a b']", want: 7},
		"index":           {path: "$.queues[0].depth", want: 3},
		"last":            {path: "$.queues[-1].depth", want: -4},
		"filter":          {path: "$.queues[?(@.name == 'mail')].depth", want: 3},
		"descent":         {path: "$..k", want: 1},
		"the whole":       {path: "$", body: " 42\n", want: 42},
		"list of one":     {path: "$[*]", body: "[5]", want: 5},
		"no match":        {path: "$.perHour", err: "$.perHour matches nothing in the answer: one value is needed"},
		"no index":        {path: "$.queues[9].depth", err: "matches nothing"},
		"several":         {path: "$.queues[*].depth", err: "$.queues[*].depth matches 2 values in the answer: one value is needed"},
		"text":            {path: "$.text", err: `$.text is the text "12", not a number`},
		"null":            {path: "$.n", err: "$.n is null, not a number"},
		"list":            {path: "$.queues", err: "$.queues is a list, not a number"},
		"object":          {path: "$.o", err: "$.o is an object, not a number"},
		"not JSON":        {path: "$.a", body: "<html>", err: "the answer is not JSON: invalid character '<'"},
		"cut off":         {path: "$.a", body: `{"a": 1`, err: "the answer is not JSON: unexpected end"},
		"two documents":   {path: "$.a", body: `{"a": 1} {"a": 2}`, err: "the answer is not JSON"},
		"nothing":         {path: "$.a", body: " ", err: "the answer is not JSON"},
		"no float64":      {path: "$", body: "1e999", err: "the answer is not JSON"},
		"into a scalar":   {path: "$.a.b", body: `{"a": 1}`, err: "matches nothing"},
		"control in text": {path: "$", body: `"\u001b[31m"`, err: `is the text " [31m"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := parsePath(tt.path)
			checkError(t, err, "")
			if tt.body == "" {
				tt.body = body
			}
			got, err := numberAt(path, []byte(tt.body))
			checkError(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzNumberAt: whatever a server answers and a file asks for, there is a
// number that JSON can write, or an error.
func FuzzNumberAt(f *testing.F) {
	f.Add("$.perMinute", `{"perMinute": 2500}`)
	f.Add("$..k", `{"o": [{"k": true}]}`)
	f.Add("$.queues[?(@.depth > 1 && @.name =~ 'a')].depth", `{"queues": [{"name": "mail", "depth": 3}]}`)
	f.Add("$[1:3:-1,'a'][*]", `[1, [2], {"a": "b"}, null]`)
	f.Add("$[?(length(@.a) == 1)]", `[{"a": [1]}]`)
	f.Fuzz(func(t *testing.T, text, body string) {
		path, err := parsePath(text)
		if err != nil || path == nil {
			return
		}
		v, err := numberAt(path, []byte(body))
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%s of %s is %v", text, body, v)
		}
		if err == nil && !json.Valid([]byte(body)) {
			t.Errorf("%s of %q, which is not JSON, is %v", text, body, v)
		}
	})
}
