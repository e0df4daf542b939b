package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

const (
	historyFile = "history.db"
	historyNew  = "history.db.new"
	// historyWait is how long a busy history is waited for where the caller's
	// context sets no limit.
	historyWait = 5 * time.Second
)

// ErrHistory says that the history cannot be read. It holds nothing that the
// journals do not hold too.
var ErrHistory = errors.New("simian reindex rebuilds it from the journals")

// Entry is a finished run in the history.
type Entry struct {
	Run, Experiment, File, Verdict string

	Score          *float64 // 0 to 100; nil where the experiment has no checks
	Started, Ended time.Time
	Targets        int
	Labels         map[string]string
}

// Query picks entries. A zero field picks all.
type Query struct {
	Experiment, Verdict string
	Since               time.Time // started then or later
	Limit               int
}

// History is the index of finished runs in one state directory: SQLite, in a
// file that each call opens and closes, so that who does not use it does not
// pay for it, and a rebuilt file is seen at once.
//
// Everyone locks the state directory around it, to share it (List) or alone
// (Add, and Reindex while it puts the new file in place), so that no SQLite
// sees its database change under its rollback journal. That journal is kept
// in DELETE mode: one file at rest, which can be renamed.
type History struct {
	dir string
}

// OpenHistory returns the history in the state directory dir. It touches
// nothing yet.
func OpenHistory(dir string) *History { return &History{dir} }

// Add puts e into the history, in place of an entry of the same run. An error
// says that the history lacks the run, and nothing worse.
func (h *History) Add(ctx context.Context, e Entry) error {
	return h.locked(ctx, unix.LOCK_EX, func(ctx context.Context, d *folder) error {
		if err := makeFile(d, historyFile); err != nil {
			return err
		}
		return withDB(ctx, d.path(historyFile), func(db *sql.DB) error {
			return insert(ctx, db, e)
		})
	})
}

// List returns the entries that q picks, the latest first. Where there is no
// history yet, there are none.
func (h *History) List(ctx context.Context, q Query) ([]Entry, error) {
	var entries []Entry
	err := h.locked(ctx, unix.LOCK_SH, func(ctx context.Context, d *folder) error {
		if _, err := checkFile(d, historyFile); err != nil {
			return err
		}
		return withDB(ctx, d.path(historyFile), func(db *sql.DB) (err error) {
			entries, err = list(ctx, db, q)
			return err
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// Reindex builds the history anew from entries, beside the present one, and
// puts it in its place. What is added meanwhile is kept. An error of entries
// ends it, with the present history as it was.
func (h *History) Reindex(ctx context.Context, entries iter.Seq2[Entry, error]) error {
	d, err := openFolder(h.dir, true)
	if err != nil {
		return err
	}
	defer d.close()
	started := time.Now()
	claim, err := claimNew(d)
	if err != nil {
		return err
	}
	defer unlock(claim)
	if err := h.fill(ctx, d, entries); err != nil {
		return errors.Join(fmt.Errorf("rebuild history: %w", err), d.remove(historyNew))
	}
	return h.locked(ctx, unix.LOCK_EX, func(ctx context.Context, d *folder) error {
		if err := h.keepAdded(ctx, d, started); err != nil {
			return err
		}
		return replace(d)
	})
}

// fill writes entries into the new file, in one transaction.
func (h *History) fill(ctx context.Context, d *folder, entries iter.Seq2[Entry, error]) error {
	return withDB(ctx, d.path(historyNew), func(db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for e, err := range entries {
			if err != nil {
				return err
			}
			if err := insert(ctx, tx, e); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

// keepAdded copies runs that ended while the new file was filled. The present
// history may be damaged; then it has nothing to keep.
func (h *History) keepAdded(ctx context.Context, d *folder, since time.Time) error {
	if _, err := checkFile(d, historyFile); err != nil {
		return nil
	}
	var added []Entry
	err := withDB(ctx, d.path(historyFile), func(db *sql.DB) (err error) {
		added, err = query(ctx, db, " WHERE ended >= ?", since.UnixNano())
		return err
	})
	if err != nil || len(added) == 0 {
		return nil
	}
	return withDB(ctx, d.path(historyNew), func(db *sql.DB) error {
		for _, e := range added {
			if err := insert(ctx, db, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// replace puts the new file in the place of the present one, whose rollback
// journal must not be taken for the new one's.
func replace(d *folder) error {
	for _, name := range []string{historyFile + "-journal", historyFile + "-wal", historyFile + "-shm"} {
		if err := d.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := unix.Renameat(int(d.Fd()), historyNew, int(d.Fd()), historyFile); err != nil {
		return &fs.PathError{Op: "replace", Path: d.path(historyFile), Err: err}
	}
	return d.Sync()
}

// claimNew makes the new file, empty, and locks it: one reindex at a time.
func claimNew(d *folder) (*os.File, error) {
	f, err := d.open(historyNew, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	if flockOnce(f, unix.LOCK_EX) != nil || !d.holds(historyNew, f) {
		f.Close()
		return nil, fmt.Errorf("rebuild history: %w: another reindex is at it", experiment.ErrBusy)
	}
	if err := f.Truncate(0); err != nil {
		unlock(f)
		return nil, err
	}
	if err := d.remove(historyNew + "-journal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		unlock(f)
		return nil, err
	}
	return f, nil
}

// locked runs fn while the state directory is locked.
func (h *History) locked(ctx context.Context, how int, fn func(context.Context, *folder) error) error {
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	d, err := openFolder(h.dir, how == unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer d.close()
	if err := flock(ctx, d.File, how); err != nil {
		return fmt.Errorf("lock history %s: %w", d.path(historyFile), err)
	}
	return fn(ctx, d)
}

// makeFile makes an empty file that only its owner can read, where there is
// none: SQLite would leave that to the umask.
func makeFile(d *folder, name string) error {
	if ok, err := checkFile(d, name); ok || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return fmt.Errorf("create history: %w", err)
	}
	return f.Close()
}

// checkFile tells whether name is there, and to be trusted. It does not open
// it: closing any descriptor of a file drops the locks SQLite has on it.
func checkFile(d *folder, name string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, &fs.PathError{Op: "stat", Path: d.path(name), Err: err}
	}
	return true, checkTrust(d.path(name), &st, unix.S_IFREG)
}
