package box

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// user is who a process is.
type user struct {
	uid, gid uint32
	groups   []uint32 // supplementary ones
	home     string
}

// maxFileSize bounds what is read of a container's /etc/passwd and
// /etc/group, in bytes.
const maxFileSize = 4 << 20

// open opens a file of a container by its path there. The error is
// unix.ENOENT where there is none.
type open func(path string) (io.ReadCloser, error)

// lookUp finds out who spec is: name or uid, or either with :group or :gid, as
// in a Dockerfile's USER. A number needs no entry.
func lookUp(spec string, files open) (user, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	u, login, err := findUser(name, files)
	if err != nil {
		return u, err
	}
	groups, err := entries(files, "/etc/group", 4)
	if err != nil {
		return u, err
	}
	if hasGroup {
		u.gid, err = findGroup(group, groups)
		return u, err
	}
	for _, g := range groups {
		gid, bad := id(g[2])
		if bad == nil && gid != u.gid && contains(g[3], login) && len(u.groups) < maxGroups {
			u.groups = append(u.groups, gid)
		}
	}
	return u, nil
}

// findUser returns the user that name or number says, and the name to search
// for in groups, "" where it has none.
func findUser(name string, files open) (u user, login string, err error) {
	list, err := entries(files, "/etc/passwd", 7)
	if err != nil {
		return u, "", err
	}
	number, notNumber := id(name)
	for _, e := range list {
		uid, err1 := id(e[2])
		gid, err2 := id(e[3])
		if err1 != nil || err2 != nil || e[0] != name && (notNumber != nil || uid != number) {
			continue
		}
		return user{uid: uid, gid: gid, home: homeOf(e[5])}, e[0], nil
	}
	if notNumber != nil {
		return u, "", &UserError{"user", name, "/etc/passwd"}
	}
	return user{uid: number, home: "/"}, "", nil
}

func homeOf(dir string) string {
	if dir == "" || len(dir) > unix.PathMax {
		return "/"
	}
	return dir
}

func findGroup(name string, groups [][]string) (uint32, error) {
	number, notNumber := id(name)
	for _, g := range groups {
		if gid, err := id(g[2]); err == nil && (g[0] == name || notNumber == nil && gid == number) {
			return gid, nil
		}
	}
	if notNumber != nil {
		return 0, &UserError{"group", name, "/etc/group"}
	}
	return number, nil
}

// id reads a user's or group's number. The highest one means "none" to the
// kernel.
func id(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err
}

func contains(list, name string) bool {
	if name == "" {
		return false
	}
	for member := range strings.SplitSeq(list, ",") {
		if member == name {
			return true
		}
	}
	return false
}

// entries reads the lines of a file of passwd(5)'s kind that have n fields or
// more. A file that isn't there has none.
func entries(files open, path string, n int) ([][]string, error) {
	file, err := files(path)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the container's %s: %w", path, err)
	}
	defer file.Close()
	var list [][]string
	lines := bufio.NewScanner(io.LimitReader(file, maxFileSize))
	lines.Buffer(nil, maxFileSize)
	for lines.Scan() {
		if e := strings.Split(lines.Text(), ":"); len(e) >= n {
			list = append(list, e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the container's %s: %w", path, err)
	}
	return list, nil
}
