package box

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// defaultPath is where a command is searched for when its environment has no
// PATH, as Docker has it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ returns env with the PATH that Docker adds, and whether it has HOME.
func environ(env []string) (full []string, path string, home bool) {
	path = defaultPath
	found := false
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "PATH":
			path, found = value, true
		case "HOME":
			home = true
		}
	}
	full = append(full, env...)
	if !found {
		full = append(full, "PATH="+defaultPath)
	}
	return full, path, home
}

// candidates returns what to try to execute, in this order, as a shell does.
func candidates(command, path string) []string {
	if strings.Contains(command, "/") {
		return []string{command}
	}
	var list []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		list = append(list, dir+"/"+command)
	}
	return list
}

// execute ends the first stage: the command takes over. Its signals are as a
// new process's. HOME= of the user's answer comes last in the environment
// unless it is there already.
func (a *assembler) execute(args, env []string, u *userAnswer) {
	env, path, home := environ(env)
	argv := a.list("execute", args)
	list := make([]address, 0, len(env)+1)
	for _, pair := range env {
		list = append(list, a.string("set environment", pair))
	}
	if !home {
		list = append(list, u.home())
	}
	envp := a.pointers(list)
	a.do("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, a.words64(0), 0, 8)
	a.do("say that all is ready", unix.SYS_WRITE, status, string(rune(stage.Execute)), 1)
	for _, file := range candidates(args[0], path) {
		a.do(execWords, unix.SYS_EXECVE, file, argv, envp).allow(unix.ENOENT, unix.EACCES).flag(stage.Remember)
	}
	a.do(execWords, stage.CallStop)
}

// execWords mark an op that executes the command.
const execWords = "execute the command"
