// Package billing is the service that bills each order once, and counts how
// many a minute there are: the figure by which the business sees whether the
// shop is well. It keeps the bills in SQLite.
package billing

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"

	"github.com/simianhq/simian/examples/shop/internal/bus"

	_ "modernc.org/sqlite" // the driver
)

// Ledger is the bills on disk.
type Ledger struct {
	db     *sql.DB
	orders atomic.Int64 // billed, each once
	again  atomic.Int64 // came once more since the start, and were not billed again
	meter  *meter
}

const schema = `
CREATE TABLE IF NOT EXISTS bills (
	id      TEXT PRIMARY KEY,
	number  INTEGER NOT NULL,
	user    INTEGER NOT NULL,
	product INTEGER NOT NULL,
	cents   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bills_by_number ON bills (number)`

// OpenLedger opens the ledger at path.
func OpenLedger(ctx context.Context, path string, m *meter) (*Ledger, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(1000)&_pragma=temp_store(memory)")
	if err != nil {
		return nil, err
	}
	l := &Ledger{db: db, meter: m}
	var orders int64
	if _, err = db.ExecContext(ctx, schema); err == nil {
		err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM bills").Scan(&orders)
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	l.orders.Store(orders)
	return l, nil
}

// Close closes the ledger.
func (l *Ledger) Close() error { return l.db.Close() }

// Bill writes a bill for each order that has none.
func (l *Ledger) Bill(orders []bus.Order) error {
	billed, err := l.write(orders)
	if err != nil {
		return fmt.Errorf("bill %d orders: %w", len(orders), err)
	}
	l.orders.Add(billed)
	l.again.Add(int64(len(orders)) - billed)
	l.meter.add(billed)
	return nil
}

func (l *Ledger) write(orders []bus.Order) (billed int64, err error) {
	tx, err := l.db.Begin()
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() //nolint:errcheck // committed below, or of no use
	for _, o := range orders {
		done, err := tx.Exec("INSERT INTO bills VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", o.ID, o.Number, o.User, o.Product, o.Cents)
		if err != nil {
			return 0, err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return 0, err
		}
		billed += n
	}
	return billed, tx.Commit()
}

// Billed returns the numbers from first to last that are billed, ascending.
func (l *Ledger) Billed(ctx context.Context, first, last uint64) ([]uint64, error) {
	rows, err := l.db.QueryContext(ctx, "SELECT DISTINCT number FROM bills WHERE number BETWEEN ? AND ? ORDER BY number", first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var numbers []uint64
	for rows.Next() {
		var n uint64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, rows.Err()
}
