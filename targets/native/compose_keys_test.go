package native

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// besides are keys of the table that are no fields of compose-go's types.
func besides() []string {
	return []string{
		"version", "include", // compose-go takes them out while it reads
		"x-simian", "services.*.x-simian", "services.*.x-simian.rootfs", // Simian's own
	}
}

// TestKeysAreComposeGos holds the table against compose-go's types, so that a key
// of a new version cannot be forgotten.
func TestKeysAreComposeGos(t *testing.T) {
	t.Parallel()
	table := map[string]bool{}
	for _, k := range keys() {
		if table[k.path] {
			t.Errorf("%s stands in the table twice", k.path)
		}
		table[k.path] = true
		if k.standing != taken && k.standing != whole && k.note == "" {
			t.Errorf("%s is not taken, and the table does not say why", k.path)
		}
	}
	for _, path := range besides() {
		delete(table, path)
	}
	found := composeTypes{index: indexKeys(), found: map[string]bool{}}
	found.walk(reflect.TypeFor[types.Project](), "")
	for _, path := range slices.Sorted(maps.Keys(found.found)) {
		if !table[path] {
			t.Errorf("compose-go has %s, which has no row in keys()", path)
		}
		delete(table, path)
	}
	for path := range table {
		t.Errorf("keys() has a row for %s, which compose-go does not have", path)
	}
}

// composeTypes collects the keys of compose-go's types, but not what is below
// keys that are not taken.
type composeTypes struct {
	index keyIndex
	found map[string]bool
}

func (c *composeTypes) add(path string, t reflect.Type) {
	c.found[path] = true
	if k, ok := c.index[path]; !ok || k.standing == taken {
		c.walk(t, path)
	}
}

func (c *composeTypes) walk(t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Map:
		if e := t.Elem(); isStruct(e) {
			c.addItem(path+".*", e)
		}
	case reflect.Slice:
		if e := t.Elem(); isStruct(e) {
			c.addItem(path+"[]", e)
		}
	case reflect.Struct:
		for i := range t.NumField() {
			c.field(t.Field(i), path)
		}
	}
}

// addItem adds what any item of a list or mapping is; "services.*" needs no row.
func (c *composeTypes) addItem(path string, t reflect.Type) {
	if path == "services.*" {
		c.walk(t, path)
		return
	}
	c.add(path, t)
}

func isStruct(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

func (c *composeTypes) field(f reflect.StructField, path string) {
	name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case !f.IsExported() || name == "-" || f.Type == reflect.TypeFor[types.Extensions]():
		return
	case f.Anonymous && strings.Contains(options, "inline"):
		c.walk(f.Type, path)
		return
	case name == "":
		name = strings.ToLower(f.Name)
	}
	c.add(strings.TrimPrefix(path+"."+name, "."), f.Type)
}

// TestRefusedKeys puts each key that is refused into a file.
func TestRefusedKeys(t *testing.T) {
	t.Parallel()
	for _, k := range keys() {
		if k.standing != refused {
			continue
		}
		t.Run(k.path, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "compose.yaml")
			place := strings.NewReplacer("networks.*", "networks.n", "volumes.*", "volumes.data", "services.*", "services.web", "[]", "[0]").Replace(k.path)
			want := fmt.Sprintf("%s: not supported: %s (docs/compose.md)", place, k.note)
			var last error
			for _, value := range refusedValues() {
				if err := os.WriteFile(file, []byte(refusedFile(k.path, value)), 0o644); err != nil {
					t.Fatal(err)
				}
				_, last = Load(context.Background(), []string{file}, LoadOptions{})
				if last != nil && strings.Contains(last.Error(), want) && !strings.Contains(last.Error(), "yaml: ") {
					return
				}
			}
			t.Errorf("want %q, got %v", want, last)
		})
	}
}

// refusedValues are values of all shapes that keys have.
func refusedValues() []string {
	return []string{
		"true", "word", "5", "[word]", "{a: word}", "{type: word}", "[{path: a, action: sync, target: b}]",
		"[{command: word}]", "{file: word}", "{a: {file: word}}", "[{source: a, target: b}]", "{a: {model: m}}",
		"[{capabilities: [gpu]}]", "z", "host", "{}", "{driver: word}", "{a: {image: word}}", "[{image: word}]", "{watch: []}", "{order: stop-first}", "[{discrete_resource_spec: {kind: a, value: 1}}]",
	}
}

// refusedFile is a file that says value at a path of the table.
func refusedFile(path, value string) string {
	web := map[string]string{"image": "web", "networks": "[n]", "volumes": `["data:/n"]`}
	file := map[string]string{"networks": "{n: {}}", "volumes": "{data: {}}"}
	tokens := strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
	switch {
	case tokens[0] == "services":
		web[tokens[2]] = nested(tokens[3:], value)
		if tokens[2] == "network_mode" || tokens[2] == "links" {
			delete(web, "networks")
		}
	default:
		file[tokens[0]] = nested(tokens[1:], value)
	}
	file["services"] = "{web: " + flow(web) + "}"
	return flow(file)
}

// nested writes value below keys.
func nested(tokens []string, value string) string {
	for _, token := range slices.Backward(tokens) {
		switch token {
		case "[]":
			value = "[" + value + "]"
		case "*":
			value = "{n: " + value + ", data: " + value + "}" // the network or the volume of refusedFile
		default:
			fields := map[string]string{token: value}
			switch token {
			case "consistency", "image", "volume", "bind":
				fields["type"], fields["target"], fields["source"] = "bind", "/t", "/"
			case "app_protocol", "name":
				if tokens[0] == "[]" {
					fields["target"] = "80"
				}
			}
			value = flow(fields)
		}
	}
	return value
}

func flow(m map[string]string) string {
	var b strings.Builder
	for _, name := range sortedKeys(m) {
		fmt.Fprintf(&b, "%s: %s, ", name, m[name])
	}
	return "{" + strings.TrimSuffix(b.String(), ", ") + "}"
}

// TestTakenKeysAreTried looks for each key that is taken in the valid files of
// testdata.
func TestTakenKeysAreTried(t *testing.T) {
	t.Parallel()
	x := indexKeys()
	tried := map[string]bool{"services.*.build": true}
	for _, file := range composeCases(t, "valid-*.yaml") {
		c := &compose{names: []string{file}, read: map[string][]source{}, bases: map[baseKey][]base{}, keys: x}
		if err := c.readFiles(); err != nil {
			t.Fatal(err)
		}
		list, err := parseSources(file, c.dir, c.data[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			var model any
			if err := s.root.Decode(&model); err != nil {
				t.Fatal(err)
			}
			visit(x, model, "", tried)
		}
	}
	for _, k := range keys() {
		if k.standing == taken && !tried[k.path] {
			t.Errorf("no valid file says %s", k.path)
		}
	}
}

// visit collects the keys of the table that a file says.
func visit(x keyIndex, value any, path string, tried map[string]bool) {
	tried[path] = true
	switch v := value.(type) {
	case map[string]any:
		for name, below := range v {
			here := strings.TrimPrefix(path+"."+name, ".")
			if _, any := x[path+".*"]; any {
				here = path + ".*"
			}
			visit(x, below, here, tried)
		}
	case []any:
		for _, item := range v {
			visit(x, item, path+"[]", tried)
		}
	}
}

// TestKeysDocument holds the table of docs/compose.md against the one in the
// code. -update writes it anew.
func TestKeysDocument(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/compose.md", "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	golden(t, file, before+begin+keysTable()+end+after)
}

// keysTable is the table as Markdown. Rows of items, which stand for their list,
// are left out.
func keysTable() string {
	var b strings.Builder
	heading := ""
	for _, k := range inOrder(keys()) {
		under, name := group(k.path)
		if k.standing == unsaid || strings.HasSuffix(k.path, "[]") || strings.HasSuffix(k.path, ".*") {
			continue
		}
		if under != heading {
			heading = under
			fmt.Fprintf(&b, "\n### %s\n\n| key | taken | |\n|---|---|---|\n", heading)
		}
		mark := "yes"
		if k.standing == refused {
			mark = "**no**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, mark, k.note)
	}
	return b.String() + "\n"
}

// group splits a path into the heading that it stands under, and its name there.
func group(path string) (heading, name string) {
	if head, below, ok := strings.Cut(path, ".*."); ok {
		return strings.ToUpper(head[:1]) + head[1:], below
	}
	return "Top level", path
}

func inOrder(list []key) []key {
	headings := []string{"Top level", "Services", "Networks", "Volumes"}
	slices.SortFunc(list, func(a, b key) int {
		ah, an := group(a.path)
		bh, bn := group(b.path)
		return cmp.Or(cmp.Compare(slices.Index(headings, ah), slices.Index(headings, bh)), cmp.Compare(an, bn))
	})
	return list
}
