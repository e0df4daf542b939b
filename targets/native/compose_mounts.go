package native

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

func (s *service) volumes() error {
	for i, v := range s.in.Volumes {
		here := at("volumes", i).near(v.Target)
		m := Mount{Type: v.Type, Source: v.Source, ReadOnly: v.ReadOnly}
		var err error
		switch v.Type {
		case types.VolumeTypeBind:
			err = s.bindMount(&m, v, here)
		case types.VolumeTypeVolume:
			err = s.volumeMount(&m, v, here)
		case types.VolumeTypeTmpfs:
			err = s.tmpfsMount(&m, v, here)
		default:
			err = here.errorf("not supported: type %s: only bind, volume and tmpfs are (docs/compose.md)", v.Type)
		}
		if err == nil {
			err = s.mount(m, v.Target, here)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mount adds a mount, at a target that no other has.
func (s *service) mount(m Mount, target string, here place) error {
	m.Target = path.Clean(target)
	switch {
	case !path.IsAbs(target):
		return here.errorf("want an absolute path in the container, not %s", shown(target))
	case m.Target == "/":
		return here.errorf("nothing can be mounted on /")
	case slices.ContainsFunc(s.out.Mounts, func(o Mount) bool { return o.Target == m.Target }):
		return here.errorf("something is mounted on %s already", m.Target)
	}
	s.out.Mounts = append(s.out.Mounts, m)
	return nil
}

func (s *service) bindMount(m *Mount, v types.ServiceVolumeConfig, here place) error {
	if v.Volume != nil || v.Tmpfs != nil {
		return here.errorf("is of type bind, with the options of another")
	}
	m.Recursive = true
	if b := v.Bind; b != nil {
		m.Propagation = b.Propagation
		m.Recursive = b.Recursive != "disabled"
		if b.Recursive != "" && b.Recursive != "enabled" && m.Recursive {
			return here.errorf("bind.recursive: want enabled or disabled, not %s", b.Recursive)
		}
	}
	switch m.Propagation {
	case "", "private", "rprivate", "slave", "rslave":
	case "shared", "rshared":
		return here.errorf("not supported: propagation %s: mounts in a container do not reach the host (docs/compose.md)", m.Propagation)
	default:
		return here.errorf("unknown propagation %s", shown(m.Propagation))
	}
	m.Source = filepath.Clean(v.Source)
	if !filepath.IsAbs(m.Source) {
		return here.errorf("want a path on the host, not %s", shown(v.Source))
	}
	m.Create = s.mayCreate(v.Target)
	_, err := os.Stat(m.Source)
	if m.Create && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return here.errorf("%s: %w", m.Source, bare(err))
	}
	return nil
}

// mayCreate tells whether the file itself says that what is bound to target may
// be made. The short form, of which compose-go says so, does not.
func (s *service) mayCreate(target string) bool {
	for _, n := range s.compose.items("services", s.in.Name, "volumes") {
		_, t := child(n.node, "target")
		_, bind := child(n.node, "bind")
		_, create := child(bind, "create_host_path")
		if t != nil && path.Clean(s.compose.text(t)) == path.Clean(target) {
			return strings.EqualFold(s.compose.text(create), "true")
		}
	}
	return false
}

func (s *service) volumeMount(m *Mount, v types.ServiceVolumeConfig, here place) error {
	if v.Tmpfs != nil {
		return here.errorf("is of type volume, with the options of another")
	}
	if v.Bind != nil {
		return here.errorf("is of type volume, with the options of a bind: the path of a folder begins with . or /")
	}
	if v.Volume != nil {
		m.NoCopy = v.Volume.NoCopy
	}
	known := s.compose.project.Volumes
	if _, ok := known[m.Source]; !ok && m.Source != "" {
		return here.errorf("there is no volume %s below volumes%s", shown(m.Source), didYouMean(m.Source, sortedKeys(known)))
	}
	return nil
}

func (s *service) tmpfsMount(m *Mount, v types.ServiceVolumeConfig, here place) error {
	if v.Bind != nil || v.Volume != nil {
		return here.errorf("is of type tmpfs, with the options of another")
	}
	if m.Source != "" {
		return here.errorf("a tmpfs has no source")
	}
	if v.Tmpfs == nil {
		return nil
	}
	m.SizeBytes, m.Mode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
	if m.SizeBytes < 0 {
		return here.errorf("tmpfs.size: must not be negative")
	}
	if m.Mode > mostMode {
		return here.errorf("tmpfs.mode: want an octal number up to 07777, not %#o", m.Mode)
	}
	return nil
}

const mostMode = 0o7777

// tmpfs reads the service's key of that name: TARGET[:OPTIONS].
func (s *service) tmpfs() error {
	for i, text := range s.in.Tmpfs {
		target, options, _ := strings.Cut(text, ":")
		here := at("tmpfs", i).near(text)
		m := Mount{Type: types.VolumeTypeTmpfs}
		for option := range strings.SplitSeq(options, ",") {
			if err := m.option(option, here); err != nil {
				return err
			}
		}
		if err := s.mount(m, target, here); err != nil {
			return err
		}
	}
	return nil
}

// option applies one option of a tmpfs (tmpfs(5), mount(8)).
func (m *Mount) option(option string, here place) error {
	name, value, said := strings.Cut(option, "=")
	switch option {
	case "", "rw":
		return nil
	case "ro":
		m.ReadOnly = true
		return nil
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev":
		m.Options = append(m.Options, option)
		return nil
	}
	var err error
	switch name {
	case "size":
		var size types.UnitBytes
		err = size.DecodeMapstructure(value)
		if m.SizeBytes = int64(size); size < 0 {
			err = errors.New("negative")
		}
	case "mode":
		var mode uint64
		mode, err = strconv.ParseUint(value, 8, 12)
		m.Mode = uint32(mode)
	case "uid", "gid":
		_, err = strconv.ParseUint(value, 10, 32)
		m.Options = append(m.Options, option)
	default:
		known := []string{"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "size", "mode", "uid", "gid"}
		return here.errorf("unknown option %s%s", shown(option), didYouMean(name, known))
	}
	if err != nil || !said {
		return here.errorf("%s is no %s", shown(value), name)
	}
	return nil
}
