package native

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// checkKeys refuses all keys that are not taken. It looks at the services that
// are enabled, and at the networks and volumes that they use.
func (c *compose) checkKeys() error {
	w := walk{compose: c}
	for _, name := range sortedKeys(c.model) {
		switch name {
		case "services", "networks", "volumes":
		default:
			w.key("", nil, name, c.model[name])
		}
	}
	inUse := c.inUse()
	for _, head := range []string{"services", "networks", "volumes"} {
		all := section(c.model, head)
		for _, name := range sortedKeys(all) {
			if inUse[head][name] {
				w.value(head+".*", []string{head, name}, all[name])
			}
		}
	}
	return w.err()
}

// section returns a mapping of the model, nil where there is none.
func section(m any, path ...string) map[string]any {
	for _, name := range path {
		above, _ := m.(map[string]any)
		m = above[name]
	}
	result, _ := m.(map[string]any)
	return result
}

// profilesOf returns the profiles of a service of the model.
func profilesOf(service any) []string {
	s, _ := service.(map[string]any)
	list, _ := s["profiles"].([]any)
	var names []string
	for _, p := range list {
		names = append(names, fmt.Sprint(p))
	}
	return names
}

func (c *compose) enabled(service any) bool {
	has := profilesOf(service)
	return len(has) == 0 || slices.Contains(c.profiles, "*") ||
		slices.ContainsFunc(has, func(p string) bool { return slices.Contains(c.profiles, p) })
}

// inUse names the services that are enabled, and what they use.
func (c *compose) inUse() map[string]map[string]bool {
	used := map[string]map[string]bool{"services": {}, "networks": {}, "volumes": {}}
	for name, s := range section(c.model, "services") {
		if !c.enabled(s) {
			continue
		}
		used["services"][name] = true
		networks := section(s, "networks")
		for network := range networks {
			used["networks"][network] = true
		}
		if len(networks) == 0 {
			used["networks"][defaultNetwork] = true
		}
		service, _ := s.(map[string]any)
		volumes, _ := service["volumes"].([]any)
		for _, v := range volumes {
			mount, _ := v.(map[string]any)
			source, _ := mount["source"].(string)
			used["volumes"][source] = true
		}
	}
	return used
}

// walk goes through the model and collects what is not taken.
type walk struct {
	compose *compose
	found   []*experiment.FileError
}

func (w *walk) refuse(path []string, format string, args ...any) {
	e := &placedError{place: place{path: slices.Clone(path)}, err: fmt.Errorf(format, args...)}
	w.found = append(w.found, w.compose.fileError(e))
}

// key looks at what stands under name. above is the pattern of the place, path
// the place itself.
func (w *walk) key(above string, path []string, name string, value any) {
	x := w.compose.keys
	here := strings.TrimPrefix(above+"."+name, ".")
	k, known := x[here]
	if _, any := x[above+".*"]; !known && any {
		here, known = above+".*", true
	}
	path = append(path, name)
	switch {
	case !known && strings.HasPrefix(name, "x-") && name != "x-simian":
	case !known || k.standing == unsaid:
		w.refuse(path, "unknown key%s", didYouMean(name, x.below(above)))
	case k.standing == refused:
		w.refuse(path, "not supported: %s (docs/compose.md)", k.note)
	default:
		w.value(here, path, value)
	}
}

// value looks at a value, and at all keys below it.
func (w *walk) value(here string, path []string, value any) {
	x := w.compose.keys
	switch v := value.(type) {
	case map[string]any:
		if !x.isSection(here) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			w.key(here, path, name, v[name])
		}
	case []any:
		if _, ok := x[here+"[]"]; !ok {
			return
		}
		for i, item := range v {
			w.value(here+"[]", append(path, fmt.Sprint(i)), item)
		}
	case float64:
		if !strings.HasSuffix(here, "cpus") {
			w.refuse(path, "want a whole number, not %v", v)
		}
	}
}

// isSection tells whether the table knows what stands below a path.
func (x keyIndex) isSection(path string) bool {
	_, any := x[path+".*"]
	return any || len(x.below(path)) > 0
}

// err returns all that was found, by line.
func (w *walk) err() error {
	slices.SortStableFunc(w.found, func(a, b *experiment.FileError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	var errs []error
	for _, e := range w.found {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
