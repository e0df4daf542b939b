package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// What a caller tells apart, besides experiment.ErrBusy.
var (
	// ErrFinished says that a run has nothing left to take back: its journal
	// is in done/, or nothing was ever written to it.
	ErrFinished = errors.New("the run is finished")
	// ErrNotLocked says that this process does not hold the run's lock.
	ErrNotLocked = errors.New("the run's lock is not held")
	// ErrNoRun says that there is no journal of the run.
	ErrNoRun = errors.New("no such run")
)

// Clock tells the wall time and the moment on CLOCK_BOOTTIME.
type Clock func() (time.Time, experiment.BootTime)

// Now is the Clock of this machine.
func Now() (time.Time, experiment.BootTime) {
	var ts unix.Timespec
	// It fails for clocks that do not exist only, and Linux has had this one
	// since 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Now(), experiment.BootTime(ts.Nano())
}

// Store is the journals of one state directory. It is an experiment.Journal,
// and safe for use by many goroutines.
type Store struct {
	dir        string
	root       *folder
	open, done *folder // nil where a reader found none
	codec      experiment.Codec
	now        Clock

	mu   sync.Mutex
	held map[experiment.RunID]*writer // journals whose lock this Store holds
}

var _ experiment.Journal = (*Store)(nil)

// Dir returns the state directory of the effective user: /var/lib/simian for
// root, else $XDG_STATE_HOME/simian, else ~/.local/state/simian.
func Dir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/simian"
	}
	// The XDG specification has relative paths ignored.
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "simian")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local/state/simian")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("simian-%d", os.Geteuid()))
}

// New opens the state directory dir for writing and makes what is missing,
// with mode 0700. A TrustError refuses what others own or can write.
func New(dir string, codec experiment.Codec, now Clock) (*Store, error) {
	s, err := openStore(dir, codec, now, true)
	if err != nil {
		return nil, err
	}
	state, err := s.root.sub("state", true)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, state.Close()
}

// NewReader opens the state directory dir and makes nothing. Where it does
// not exist there are no runs.
func NewReader(dir string, codec experiment.Codec) (*Store, error) {
	return openStore(dir, codec, Now, false)
}

func openStore(dir string, codec experiment.Codec, now Clock, create bool) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find state directory: %w", err)
	}
	missing := func(err error) bool { return !create && errors.Is(err, fs.ErrNotExist) }
	s := &Store{dir: dir, codec: codec, now: now, held: map[experiment.RunID]*writer{}}
	if s.root, err = openFolder(dir, create); missing(err) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	if s.open, err = s.root.sub("open", create); err != nil && !missing(err) {
		return nil, errors.Join(err, s.Close())
	}
	if s.done, err = s.root.sub("done", create); err != nil && !missing(err) {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Dir returns the absolute path of the state directory.
func (s *Store) Dir() string { return s.dir }

// Close releases every lock that is still held.
func (s *Store) Close() error {
	s.mu.Lock()
	runs := make([]experiment.RunID, 0, len(s.held))
	for run := range s.held {
		runs = append(runs, run)
	}
	s.mu.Unlock()
	for _, run := range runs {
		s.Release(run)
	}
	return errors.Join(s.open.close(), s.done.close(), s.root.close())
}

// Open returns the runs that are not finished, sorted, from one directory
// listing.
func (s *Store) Open(context.Context) ([]experiment.RunID, error) { return runs(s.open) }

// Done returns the runs that are finished, sorted.
func (s *Store) Done(context.Context) ([]experiment.RunID, error) { return runs(s.done) }

// runs returns the runs with a journal in d. Other names are left alone.
func runs(d *folder) ([]experiment.RunID, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	var list []experiment.RunID
	for _, name := range names {
		stem, ok := strings.CutSuffix(name, suffix)
		if run := experiment.RunID(stem); ok && checkRun(run) == nil {
			list = append(list, run)
		}
	}
	slices.Sort(list)
	return list, nil
}

const suffix = ".jsonl"

func fileName(run experiment.RunID) string { return string(run) + suffix }

// checkRun refuses what is no run id, and so could be a path.
func checkRun(run experiment.RunID) error {
	ok := len(run) == 6
	for _, c := range []byte(run) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '2' && c <= '7')
	}
	if !ok {
		return fmt.Errorf("%w: %q is no run id (six of a-z and 2-7)", ErrNoRun, string(run))
	}
	return nil
}

// Info tells about a journal without reading it.
type Info struct {
	Run      experiment.RunID
	Path     string
	Size     int64 // bytes
	Modified time.Time
	Done     bool // it is in done/
}

// Stat returns where the journal of run is, and how large.
func (s *Store) Stat(run experiment.RunID) (Info, error) {
	f, done, err := s.find(run)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	return Info{run, f.Name(), st.Size(), st.ModTime(), done}, nil
}

// find opens the journal of run for reading. Journals move from open/ to
// done/ and never back, so looking in that order misses none.
func (s *Store) find(run experiment.RunID) (f *os.File, done bool, err error) {
	if err := checkRun(run); err != nil {
		return nil, false, err
	}
	if f, err = s.open.open(fileName(run), unix.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
		return f, false, err
	}
	if f, err = s.done.open(fileName(run), unix.O_RDONLY); errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%w: %s is neither in open nor in done of %s", ErrNoRun, run, s.dir)
	}
	return f, true, err
}
