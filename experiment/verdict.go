package experiment

// Verdict is how a run ended.
type Verdict string

// The verdicts, and the exit codes of simian run.
const (
	Pass        Verdict = "pass"         // 0: every check held, and everything was put back
	Fail        Verdict = "fail"         // 1: a check did not hold, or recovery took too long
	Aborted     Verdict = "aborted"      // 3: not steady, interrupted or halted; everything was put back
	Residue     Verdict = "residue"      // 4: something is not put back
	NotInjected Verdict = "not-injected" // 5: the fault was not in force, or matched nothing
	Errored     Verdict = "error"        // 6: it could not be run
)

// ExitUsage is the exit code for wrong usage, or a file that is not valid.
const ExitUsage = 2

var verdicts = []struct {
	verdict Verdict
	exit    int
}{ // the worst first
	{Residue, 4}, {NotInjected, 5}, {Errored, 6}, {Fail, 1}, {Aborted, 3}, {Pass, 0},
}

// ExitCode returns the code that a process with this verdict ends with.
func (v Verdict) ExitCode() int {
	for _, row := range verdicts {
		if row.verdict == v {
			return row.exit
		}
	}
	return Errored.ExitCode()
}

// Worst returns the verdict that wins: residue > not-injected > error > fail >
// aborted > pass.
func Worst(list ...Verdict) Verdict {
	for _, row := range verdicts {
		for _, v := range list {
			if v == row.verdict {
				return v
			}
		}
	}
	return Pass
}
