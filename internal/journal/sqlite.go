package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const historyVersion = 1

// schema is what version 1 holds. Times are Unix nanoseconds.
const schema = `
CREATE TABLE runs (
	run TEXT PRIMARY KEY, experiment TEXT NOT NULL, file TEXT NOT NULL, verdict TEXT NOT NULL,
	score REAL, started INTEGER NOT NULL, ended INTEGER NOT NULL, targets INTEGER NOT NULL, labels TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_started ON runs (started);
PRAGMA user_version = 1;`

// withDB opens the database at path, gives it its tables if it is new, and
// says what to do if it is damaged.
func withDB(ctx context.Context, path string, fn func(*sql.DB) error) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: "mode=rw&_pragma=busy_timeout(2000)&_pragma=journal_mode(DELETE)&_pragma=synchronous(FULL)"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return fmt.Errorf("open history %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	err = setUp(ctx, db)
	if err == nil {
		err = fn(db)
	}
	return explain(path, errors.Join(err, db.Close()))
}

func setUp(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch version {
	case historyVersion:
		return nil
	case 0:
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		return tx.Commit()
	default:
		return fmt.Errorf("its version %d is not known to this version of Simian (it knows %d); %w", version, historyVersion, ErrHistory)
	}
}

// explain turns an error of SQLite into words for a person.
func explain(path string, err error) error {
	failed, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		if err != nil {
			return fmt.Errorf("use history %s: %w", path, err)
		}
		return nil
	}
	switch failed.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH:
		return fmt.Errorf("history %s is damaged: %w (%w)", path, ErrHistory, err)
	}
	return fmt.Errorf("use history %s: %w", path, err)
}

// execer is a database or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func insert(ctx context.Context, to execer, e Entry) error {
	labels, err := json.Marshal(e.Labels, json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = to.ExecContext(ctx, "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		e.Run, e.Experiment, e.File, e.Verdict, e.Score, nanos(e.Started), nanos(e.Ended), e.Targets, string(labels))
	return err
}

func list(ctx context.Context, db *sql.DB, q Query) ([]Entry, error) {
	where, args := " WHERE 1", []any(nil)
	add := func(condition string, arg any) { where, args = where+condition, append(args, arg) }
	if q.Experiment != "" {
		add(" AND experiment = ?", q.Experiment)
	}
	if q.Verdict != "" {
		add(" AND verdict = ?", q.Verdict)
	}
	if !q.Since.IsZero() {
		add(" AND started >= ?", q.Since.UnixNano())
	}
	where += " ORDER BY started DESC, run"
	if q.Limit > 0 {
		add(" LIMIT ?", q.Limit)
	}
	return query(ctx, db, where, args...)
}

func query(ctx context.Context, db *sql.DB, where string, args ...any) ([]Entry, error) {
	rows, err := db.QueryContext(ctx, "SELECT run, experiment, file, verdict, score, started, ended, targets, labels FROM runs"+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var entries []Entry
	for rows.Next() {
		var e Entry
		var started, ended int64
		var labels string
		if err := rows.Scan(&e.Run, &e.Experiment, &e.File, &e.Verdict, &e.Score, &started, &ended, &e.Targets, &labels); err != nil {
			return nil, err
		}
		if e.Labels, err = readLabels(labels); err != nil {
			return nil, fmt.Errorf("labels of run %q are damaged: %w; %w", e.Run, err, ErrHistory)
		}
		e.Started, e.Ended = moment(started), moment(ended)
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

func readLabels(text string) (labels map[string]string, err error) {
	if text == "{}" {
		return nil, nil
	}
	return labels, json.Unmarshal([]byte(text), &labels)
}

// nanos gives 0 for a time that is not known.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}
