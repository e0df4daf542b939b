package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	confs "github.com/containerd/continuity/fs"
	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/labnet"
)

// outfit makes what the container stands on: its folders, its files, its
// volumes, its place in the network and its cgroup.
func (c *container) outfit(ctx context.Context) error {
	if err := c.folders(); err != nil {
		return err
	}
	var err error
	if c.log, err = newLogFile(LogFile(c.lab.env.State, string(c.lab.run), c.name)); err != nil {
		return err
	}
	made := make(chan error, 1) // beside the network: each takes as long as the other
	go func() {
		var err error
		c.cgroup, err = box.NewCgroup(c.lab.env.FS, c.cgroupName(), c.service.Limits)
		made <- err
	}()
	err = c.surround(ctx)
	if other := <-made; err == nil {
		err = other
	}
	c.spec.Cgroup = c.cgroup
	return err
}

// surround makes all but the cgroup and the folders.
func (c *container) surround(ctx context.Context) error {
	if err := c.join(ctx); err != nil {
		return err
	}
	if err := c.mounts(); err != nil {
		return err
	}
	return c.writeExec()
}

func (c *container) dir(parts ...string) string {
	return c.lab.dir(append([]string{"box", c.name}, parts...)...)
}

// folders makes the upper layer. Root alone looks into them; the container
// sees what is in it through its own root. They have a folder of their own,
// which is mounted with owners shifted for a user namespace.
func (c *container) folders() error {
	for _, name := range []string{"upper", "work"} {
		if err := os.MkdirAll(c.dir("layer", name), 0o755); err != nil {
			return err
		}
	}
	c.spec.Upper, c.spec.Work = c.dir("layer", "upper"), c.dir("layer", "work")
	return likeIt(c.spec.Upper, c.spec.Lower[0]) // what the container's own root shows
}

// likeIt gives a folder the owner and the mode of another.
func likeIt(dir, other string) error {
	var st unix.Stat_t
	if err := unix.Stat(other, &st); err != nil {
		return fmt.Errorf("read the owner and the mode of %s: %w", other, err)
	}
	return errors.Join(os.Chown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777))
}

// join puts the container into the lab's network.
func (c *container) join(ctx context.Context) error {
	e := labnet.Endpoint{Name: c.name, Service: c.service.Name, DNS: c.service.DNS}
	for _, a := range c.service.Networks {
		e.On = append(e.On, labnet.Attachment{Network: a.Network, Aliases: a.Aliases, Address: a.Address})
	}
	port, err := c.lab.net.Join(ctx, e)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.port = port
	c.mu.Unlock()
	c.spec.Net = port.NetNS()
	return c.files()
}

// files writes the files by which a container knows its network (hosts(5),
// resolv.conf(5), hostname(5)), and has them mounted.
func (c *container) files() error {
	hosts := []string{"127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"}
	addresses := c.port.Addresses()
	for _, network := range sortedKeys(addresses) {
		hosts = append(hosts, addresses[network].String()+" "+c.spec.Hostname)
	}
	for _, line := range c.service.ExtraHosts {
		name, address, _ := strings.Cut(line, " ")
		hosts = append(hosts, address+" "+name)
	}
	for name, text := range map[string]string{
		"hosts":       strings.Join(hosts, "\n") + "\n",
		"hostname":    c.spec.Hostname + "\n",
		"resolv.conf": fmt.Sprintf("nameserver %s\noptions ndots:0\n", c.port.Resolver()),
	} {
		if err := os.WriteFile(c.dir(name), []byte(text), 0o644); err != nil {
			return err
		}
		c.spec.Mounts = append(c.spec.Mounts, box.Mount{Type: "bind", Source: c.dir(name), Target: "/etc/" + name})
	}
	return nil
}

// copyTree copies the folder from into the folder to, and makes to like it.
func copyTree(to, from string) error {
	if err := confs.CopyDir(to, from); err != nil { // owners, modes, links and attributes too
		return err
	}
	return likeIt(to, from)
}

// mounts has what the file says mounted: binds, volumes and tmpfs.
func (c *container) mounts() error {
	for n, m := range c.allMounts() {
		mount := box.Mount{
			Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly,
			Recursive: m.Recursive, Propagation: m.Propagation,
			SizeBytes: m.SizeBytes, Mode: m.Mode, Options: m.Options,
		}
		var err error
		switch m.Type {
		case "volume":
			mount.Type = "bind"
			mount.Source, err = c.volume(n, m)
		case "bind":
			err = c.bindSource(m)
		}
		if err != nil {
			return err
		}
		c.spec.Mounts = append(c.spec.Mounts, mount)
	}
	return nil
}

func (c *container) allMounts() []Mount { return append(c.anonymous(), c.service.Mounts...) }

// anonymous returns the volumes that the image asks for and the file does not
// mount anything at.
func (c *container) anonymous() []Mount {
	if c.image == nil {
		return nil
	}
	var mounts []Mount
	for _, target := range c.image.Config.Volumes {
		taken := slices.ContainsFunc(c.service.Mounts, func(m Mount) bool { return m.Target == target })
		if !taken {
			mounts = append(mounts, Mount{Type: "volume", Target: target})
		}
	}
	return mounts
}

func (c *container) bindSource(m Mount) error {
	_, err := os.Stat(m.Source)
	if os.IsNotExist(err) && m.Create {
		return os.MkdirAll(m.Source, 0o755)
	}
	if err != nil {
		return fmt.Errorf("bind %s to %s: %w", m.Source, m.Target, err)
	}
	return nil
}

// volume returns the folder of a volume. One that is empty is filled with what
// the image has in its place, as Docker does: the first container that has
// something there gives it.
func (c *container) volume(n int, m Mount) (string, error) {
	dir := c.lab.dir("volumes", m.Source)
	if m.Source == "" {
		dir = c.dir("volumes", fmt.Sprint(n))
	}
	c.lab.volumes.Lock()
	defer c.lab.volumes.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	has, err := os.ReadDir(dir)
	if err != nil || len(has) > 0 || m.NoCopy {
		return dir, err
	}
	if err := c.fill(dir, m.Target); err != nil {
		return "", fmt.Errorf("fill volume for %s: %w", m.Target, err)
	}
	return dir, nil
}

// fill copies what the image has at target, owner and mode included.
func (c *container) fill(dir, target string) error {
	return box.WithRoot(c.spec.Lower, func(root string) error {
		from, err := securejoin.SecureJoin(root, target) // nobody changes the image meanwhile
		if err != nil {
			return err
		}
		info, err := os.Stat(from)
		if os.IsNotExist(err) || err == nil && !info.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		return copyTree(dir, from)
	})
}
