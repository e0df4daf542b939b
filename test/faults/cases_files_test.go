package faults

import "strings"

func fileCases() []faultCase {
	const hosts = "its mounts are the host's: protected (give the target one of its own: launch it as a container of a lab, or start it by unshare -m)"
	gone := always(hosts, service, networked, process)
	return []faultCase{
		{
			Name: "fill", Form: "to a level", Section: "{type: fill, path: $SCRATCH, percent: 100}",
			Feel: stores, Well: "stores", Ill: "full", Sees: room,
		},
		{
			Name: "fill", Form: "by bytes", Section: "{type: fill, path: $SCRATCH, bytes: 14MiB}",
			Feel: stores, Well: "stores", Ill: "full", Sees: room,
		},
		{
			Name: "detach", Form: "cover", Section: "{type: detach, mount: $SCRATCH}", Refused: gone,
			Feel: volume, Well: "there", Ill: "gone",
		},
		{
			Name: "detach", Form: "unmount", Section: "{type: detach, mount: $SCRATCH, how: unmount}", Refused: gone,
			Feel: volume, Well: "there", Ill: "gone",
		},
	}
}

// stores tells whether 4 MiB can be written.
func stores(s *subject) string {
	switch said := s.answer("write", "$SCRATCH/file", "4194304", "65536"); {
	case number(said) >= 0:
		return "stores"
	case strings.Contains(said, "no space left"):
		return "full"
	default:
		return said
	}
}

// room is how many bytes are free. An inode may be given back a moment after it
// was.
func room(s *subject) string {
	free, _, _ := strings.Cut(s.answer("room", "$SCRATCH"), " ")
	return free
}

// volume tells whether the file system of 16 MiB is where it belongs.
func volume(s *subject) string {
	words := strings.Fields(s.answer("room", "$SCRATCH"))
	if len(words) == 3 && words[2] == "16777216" {
		return "there"
	}
	return "gone"
}

func execCases() []faultCase {
	return []faultCase{
		{
			Name: "exec", Form: "inside", Section: "{type: exec, command: [$SUBJECT, mark, $SCRATCH/mark], undo: [$SUBJECT, unmark, $SCRATCH/mark]}",
			Feel: marked, Well: "plain", Ill: "marked", Sees: marked, Secret: true,
		},
		{
			Name: "exec", Form: "beside", Section: "{type: exec, where: beside, command: [sh, -c, 'touch /proc/$SIMIAN_PID/root$SCRATCH/mark'], undo: [sh, -c, 'rm -f /proc/$SIMIAN_PID/root$SCRATCH/mark']}",
			Feel: marked, Well: "plain", Ill: "marked", Sees: marked, Secret: true,
		},
	}
}

func marked(s *subject) string {
	if s.answer("list", "$SCRATCH") == "mark" {
		return "marked"
	}
	return "plain"
}
