package native

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// items returns the items of a list, in all files.
func (c *compose) items(path ...string) []spot {
	var items []spot
	for _, list := range c.spots(place{path: path}) {
		n := deref(list.node)
		if list.depth < len(path) || n.Kind != yaml.SequenceNode {
			continue
		}
		for _, item := range n.Content {
			items = append(items, spot{source: list.source, node: deref(item), line: item.Line})
		}
	}
	return items
}

// errorf is an error about an item of a list.
func (s spot) errorf(path []string, format string, args ...any) error {
	return &placedError{place: place{path: path}, file: s.source.file, line: s.line, err: fmt.Errorf(format, args...)}
}

// shortForms has compose-go read each port and volume of all services by
// itself: of a whole file it does not say which one is wrong.
func (c *compose) shortForms() error {
	for _, s := range c.sources {
		_, services := child(s.root, "services")
		if services = deref(services); services == nil || services.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i < len(services.Content); i += 2 {
			name := services.Content[i].Value
			if err := c.eachItem(shortPort, "services", name, "ports"); err != nil {
				return err
			}
			if err := c.eachItem(c.shortVolume, "services", name, "volumes"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *compose) eachItem(check func(spot, string) error, path ...string) error {
	for _, item := range c.items(path...) {
		if err := check(item, c.text(item.node)); err != nil {
			return item.errorf(path, "%w", err)
		}
	}
	return nil
}

func shortPort(item spot, text string) error {
	if item.node.Kind != yaml.ScalarNode {
		return nil
	}
	if _, err := types.ParsePortConfig(text); err != nil {
		return fmt.Errorf("%s is no port: %w", shown(text), err)
	}
	return nil
}

func (c *compose) shortVolume(item spot, text string) error {
	if item.node.Kind == yaml.MappingNode {
		_, kind := child(item.node, "type")
		source, _ := child(item.node, "source")
		target, _ := child(item.node, "target")
		switch {
		case target == nil:
			return fmt.Errorf("has no target")
		case c.text(kind) == types.VolumeTypeBind && source == nil:
			return fmt.Errorf("is of type bind, and has no source")
		}
	}
	if item.node.Kind != yaml.ScalarNode {
		return nil
	}
	if n := len(strings.Split(text, ":")); n > 3 {
		return fmt.Errorf("want SOURCE:TARGET[:OPTIONS], not %s", shown(text))
	}
	if _, err := format.ParseVolume(text); err != nil {
		return fmt.Errorf("%s is no volume: %w", shown(text), err)
	}
	return nil
}

// volumeOptions looks at the options of volumes in the short form, some of
// which compose-go passes over in silence.
func (c *compose) volumeOptions(service string) error {
	return c.eachItem(func(item spot, text string) error {
		parts := strings.Split(text, ":")
		if item.node.Kind != yaml.ScalarNode || len(parts) < 3 {
			return nil
		}
		for option := range strings.SplitSeq(parts[2], ",") {
			switch option {
			case "ro", "rw", "nocopy", "private", "rprivate", "slave", "rslave", "shared", "rshared":
			case "z", "Z":
				return fmt.Errorf("not supported: option %s of %s: nothing is relabelled: leave it out (docs/compose.md)", option, text)
			default:
				return fmt.Errorf("unknown option %s of %s%s", shown(option), text, didYouMean(option, []string{"ro", "rw", "nocopy"}))
			}
		}
		return nil
	}, "services", service, "volumes")
}
