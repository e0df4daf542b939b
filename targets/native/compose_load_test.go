package native

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// inFolder writes files, given as names and contents, into a new folder.
func inFolder(t testing.TB, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestComposeVariables holds what a variable becomes against Compose's words
// for it (https://docs.docker.com/reference/compose-file/interpolation/).
func TestComposeVariables(t *testing.T) {
	t.Parallel()
	v := variables{"SET": "value", "EMPTY": "", "_x1": "under"}
	for text, want := range map[string]string{
		"plain":                   "plain",
		"$SET ${SET}":             "value value",
		"${_x1}$_x1-":             "underunder-",
		"$$SET $${SET}":           "$SET ${SET}",
		"${NONE-a}${NONE:-b}":     "ab",
		"${EMPTY-a}${EMPTY:-b}":   "b",
		"${SET-a}${SET:-b}":       "valuevalue",
		"${NONE+a}${NONE:+b}":     "",
		"${EMPTY+a}${EMPTY:+b}":   "a",
		"${SET+a}${SET:+b}":       "ab",
		"${SET?no}${EMPTY?no}":    "value",
		"${NONE:-${SET:+{}}}":     "{}",
		"${NONE-$SET-$$}":         "value-$",
		"${NONE:-a b/c:d?e}":      "a b/c:d?e",
		"${NONE-}":                "",
		"x${SET}y${NONE:-z}{w}}":  "xvalueyz{w}}",
		"${NONE:-${OTHER:-deep}}": "deep",
		// errors
		"$NONE":                  "!the variable NONE is not set: set it, or give a default, ${NONE:-…}",
		"${NONE}":                "!the variable NONE is not set: set it, or give a default, ${NONE:-…}",
		"${NONE?}":               "!the variable NONE must be set",
		"${EMPTY:?because $SET}": "!the variable EMPTY must be set: because value",
		"$":                      `!"$" is no variable: write $$ for a plain $`,
		"${":                     `!"${" is no variable: write $$ for a plain $`,
		"${}":                    `!"${}" is no variable: write $$ for a plain $`,
		"${1}":                   `!"${1}" is no variable: write $$ for a plain $`,
		"$1":                     `!"$1" is no variable: write $$ for a plain $`,
		"${SET":                  `!"${SET" is no variable: write $$ for a plain $`,
		"${SET!x}":               `!"${SET!x}" is no variable: write $$ for a plain $`,
		strings.Repeat("${A:-", 20) + strings.Repeat("}", 20): "!variables stand inside variables more than 16 deep",
	} {
		got, err := v.expand(text)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestComposeEnvironment sees which value of a variable is used.
func TestComposeEnvironment(t *testing.T) {
	t.Setenv("SIMIAN_TEST_PROCESS", "process")
	t.Setenv("SIMIAN_TEST_BOTH", "process")
	dir := inFolder(t,
		".env", "SIMIAN_TEST_FILE=file\nSIMIAN_TEST_BOTH=file\nSIMIAN_TEST_GIVEN=file\nCOMPOSE_PROFILES=extra\n",
		"compose.yaml", `services:
  web:
    image: web
    command: ["${SIMIAN_TEST_FILE}", "${SIMIAN_TEST_PROCESS}", "${SIMIAN_TEST_BOTH}", "${SIMIAN_TEST_GIVEN}"]
    environment: [SIMIAN_TEST_BOTH, SIMIAN_TEST_NONE]
  more: {image: more, profiles: [extra]}
`)
	p, err := Load(context.Background(), []string{filepath.Join(dir, "compose.yaml")}, LoadOptions{Env: map[string]string{"SIMIAN_TEST_GIVEN": "given"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "shop" || p.Dir != dir || len(p.Services) != 2 {
		t.Errorf("got %s in %s with %d services", p.Name, p.Dir, len(p.Services))
	}
	web := p.Services[1]
	if d := cmp.Diff([]string{"file", "process", "process", "given"}, web.Command); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"SIMIAN_TEST_BOTH=process"}, web.Env); d != "" {
		t.Error(d)
	}
}

// TestComposeFiles loads what is no file, or no good one.
func TestComposeFiles(t *testing.T) {
	t.Parallel()
	dir := inFolder(t, "compose.yaml", "services: {web: {image: web}}\n", "large.yaml", strings.Repeat("#", maxFileBytes+1))
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "nowhere.yaml"): "no such file or directory",
		dir:                                "is a directory",
		fifo:                               "is not a regular file",
		"/dev/zero":                        "is not a regular file",
		filepath.Join(dir, "large.yaml"):   "is larger than 1024 KiB",
	} {
		_, err := Load(context.Background(), []string{name}, LoadOptions{})
		if err == nil || err.Error() != name+": "+want {
			t.Errorf("got %v, want %s: %s", err, name, want)
		}
	}
	if _, err := Load(context.Background(), nil, LoadOptions{}); err == nil {
		t.Error("no file at all was taken")
	}
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("GOOD=1\nA B=2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Load(context.Background(), []string{filepath.Join(dir, "compose.yaml")}, LoadOptions{})
	if want := filepath.Join(dir, ".env") + ":2: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s…", err, want)
	}
}

// TestComposeName names a project in every way.
func TestComposeName(t *testing.T) {
	t.Parallel()
	dir := inFolder(t, "plain.yaml", "services: {web: {image: web}}\n", "named.yaml", "name: ${N:-named}\nservices: {web: {image: \"x:${COMPOSE_PROJECT_NAME}\"}}\n")
	for _, c := range []struct {
		name, file, env, given, want string
	}{
		{"folder", "plain.yaml", "", "", "shop"},
		{"file", "named.yaml", "", "", "named"},
		{"variable", "named.yaml", "variable", "", "variable"},
		{"told", "named.yaml", "variable", "told", "told"},
		{"bad", "plain.yaml", "", "Bad!", ""},
	} {
		p, err := Load(context.Background(), []string{filepath.Join(dir, c.file)}, LoadOptions{Name: c.given, Env: map[string]string{"COMPOSE_PROJECT_NAME": c.env}})
		switch {
		case (err != nil) != (c.want == ""):
			t.Errorf("%s: %v", c.name, err)
		case err == nil && p.Name != c.want:
			t.Errorf("%s: got %s, want %s", c.name, p.Name, c.want)
		case err == nil && c.file == "named.yaml" && p.Services[0].Image != "x:"+c.want:
			t.Errorf("%s: the image is %s", c.name, p.Services[0].Image)
		}
	}
}

// TestErrorAt places errors that are found after a file was read.
func TestErrorAt(t *testing.T) {
	t.Parallel()
	p, err := Load(context.Background(), []string{"testdata/compose/valid-files.yaml", "testdata/compose/over.yaml"}, LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for want, tokens := range map[string][]any{
		"testdata/compose/over.yaml:7: services.web.command: broken":          {"services", "web", "command"},
		"testdata/compose/valid-files.yaml:4: services.web.image: broken":     {"services", "web", "image"},
		"testdata/compose/over.yaml:2: services.web: broken":                  {"services", "web"},
		"testdata/compose/valid-files.yaml: networks.x: broken":               {"networks", "x"},
		"testdata/compose/over.yaml:2: services.web.healthcheck.test: broken": {"services", "web", "healthcheck", "test"},
	} {
		err := p.ErrorAt(broken, tokens...)
		if !errors.Is(err, broken) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := (&Project{}).ErrorAt(broken, "services", "web"); err.Error() != ": services.web: broken" && !errors.Is(err, broken) {
		t.Error(err)
	}
}

// TestComposeCapabilities holds the names against the running kernel, which may not
// have more.
func TestComposeCapabilities(t *testing.T) {
	t.Parallel()
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Skip("the kernel does not tell its last capability:", err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(last)))
	if names := capabilityNames(); len(names) < n+1 || !slices.IsSorted(names) {
		t.Errorf("%d names for %d capabilities", len(names), n+1)
	}
}

// TestComposeExamples loads the examples of docs/compose.md.
func TestComposeExamples(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/compose.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(doc), "```yaml\n")[1:]
	if len(examples) == 0 {
		t.Fatal("docs/compose.md has no examples")
	}
	for i, text := range examples {
		text, _, _ = strings.Cut(text, "```")
		dir := inFolder(t, "compose.yaml", text, "gateway.env", "LEVEL=info\n", "seccomp.json", "{}")
		if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(context.Background(), []string{filepath.Join(dir, "compose.yaml")}, LoadOptions{}); err != nil {
			t.Errorf("example %d: %v", i+1, err)
		}
	}
}

// FuzzCompose loads one file of anything: there is a project or an error, soon.
func FuzzCompose(f *testing.F) {
	files, err := filepath.Glob("testdata/compose/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	dir := inFolder(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "compose-"+strconv.Itoa(os.Getpid())+".yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p, err := Load(context.Background(), []string{file}, LoadOptions{})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		var placed *experiment.FileError
		switch {
		case err == nil && (p == nil || len(p.Services) == 0):
			t.Error("neither a project nor an error")
		case err != nil && !errors.As(err, &placed):
			t.Errorf("an error without a place: %v", err)
		case err != nil && strings.Contains(err.Error(), "more than Simian can read"):
			t.Errorf("compose-go panicked: %v", err)
		}
	})
}

// BenchmarkCompose loads a project of ten services.
func BenchmarkCompose(b *testing.B) {
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range 10 {
		name := "service" + strconv.Itoa(i)
		text.WriteString("  " + name + `:
    image: shop:1
    command: [shop, ` + name + `, "--listen=:8080"]
    environment: {LEVEL: info, PORT: 8080, NAME: ` + name + `}
    restart: unless-stopped
    mem_limit: 128m
    cpus: 0.5
    ports: ["` + strconv.Itoa(8000+i) + `:8080"]
    volumes: ["data:/data", /tmp]
    networks: [front, back]
    healthcheck: {test: [CMD, shop, check], interval: 1s, retries: 5}
`)
	}
	text.WriteString("networks: {front: , back: {ipam: {config: [{subnet: 10.77.0.0/24}]}}}\nvolumes: {data: }\n")
	file := filepath.Join(inFolder(b, "compose.yaml", text.String()), "compose.yaml")
	for b.Loop() {
		if _, err := Load(context.Background(), []string{file}, LoadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
