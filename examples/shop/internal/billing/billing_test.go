package billing

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/bus"
)

func openLedger(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := OpenLedger(context.Background(), path, newMeter(time.Now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// bill bills orders by their numbers, each with its own id.
func bill(t *testing.T, l *Ledger, numbers ...uint64) {
	t.Helper()
	var orders []bus.Order
	for _, n := range numbers {
		orders = append(orders, bus.Order{ID: "order " + strconv.FormatUint(n, 10), Number: n, Cents: 100})
	}
	if err := l.Bill(orders); err != nil {
		t.Fatal(err)
	}
}

func TestEachOrderIsBilledOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "billing.db")
	l := openLedger(t, path)
	for _, step := range []struct {
		name          string
		numbers       []uint64
		orders, again int64
	}{
		{"three orders", []uint64{1, 2, 3}, 3, 0},
		{"one of them comes again", []uint64{2}, 3, 1},
		{"again beside a new one", []uint64{3, 4}, 4, 2},
		{"twice at once", []uint64{5, 5}, 5, 3},
		{"nothing", nil, 5, 3},
	} {
		bill(t, l, step.numbers...)
		if orders, again := l.orders.Load(), l.again.Load(); orders != step.orders || again != step.again {
			t.Errorf("%s: %d orders, %d again; want %d and %d", step.name, orders, again, step.orders, step.again)
		}
	}
	l.Close()
	l = openLedger(t, path)
	bill(t, l, 1, 6)
	if orders := l.orders.Load(); orders != 6 {
		t.Errorf("opened anew, and one more: %d orders, want 6", orders)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	now := start
	m := newMeter(func() time.Time { return now })
	for _, step := range []struct {
		name      string
		at        time.Duration
		count     int64
		perMinute int64
	}{
		{"nothing yet", 0, 0, 0},
		{"the first second counts as a whole one", 500 * time.Millisecond, 50, 3000},
		{"a second later", 1400 * time.Millisecond, 50, 6000},
		{"two more without orders", 3400 * time.Millisecond, 0, 2000},
		{"the window is full", 5400 * time.Millisecond, 0, 1200},
		{"the first orders are out of it", 5500 * time.Millisecond, 0, 600},
		{"a long pause", 20 * time.Second, 0, 0},
		{"it begins anew", 21 * time.Second, 25, 1500},
	} {
		now = start.Add(step.at)
		m.add(step.count)
		if got := m.perMinute(); got != step.perMinute {
			t.Errorf("%s: %d a minute, want %d", step.name, got, step.perMinute)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	away := errors.New("the bus is away")
	for name, test := range map[string]struct {
		billed   []uint64
		accepted uint64
		pending  []uint64
		held     map[uint64]bool
		busError error
		want     Audit
	}{
		"nothing yet":                        {nil, 0, nil, nil, nil, Audit{}},
		"all are billed":                     {[]uint64{1, 2, 3}, 3, nil, nil, nil, Audit{Accepted: 3, Billed: 3}},
		"some wait in the outbox":            {[]uint64{1}, 3, []uint64{2, 3}, nil, nil, Audit{Accepted: 3, Billed: 1, Outbox: 2}},
		"one waits on the bus":               {[]uint64{1, 3}, 3, nil, map[uint64]bool{2: true}, nil, Audit{Accepted: 3, Billed: 2, Bus: 1}},
		"one is nowhere":                     {[]uint64{1, 3}, 3, nil, nil, nil, Audit{Accepted: 3, Billed: 2, Lost: 1}},
		"one is nowhere, one on the bus":     {[]uint64{3}, 3, nil, map[uint64]bool{2: true}, nil, Audit{Accepted: 3, Billed: 1, Bus: 1, Lost: 1}},
		"the bus is away":                    {[]uint64{1, 3}, 3, nil, nil, away, Audit{Accepted: 3, Billed: 2, Bus: 1}},
		"billed, and not struck out yet":     {[]uint64{1, 2}, 2, []uint64{2}, nil, nil, Audit{Accepted: 2, Billed: 2, Outbox: 1}},
		"one was accepted after the reading": {[]uint64{1, 2}, 1, nil, nil, nil, Audit{Accepted: 1, Billed: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLedger(t, filepath.Join(t.TempDir(), "billing.db"))
			bill(t, l, test.billed...)
			a := &auditor{
				ledger: l,
				outbox: func(context.Context) (uint64, []uint64, error) { return test.accepted, test.pending, nil },
				holds:  func(_ context.Context, n uint64) (bool, error) { return test.held[n], test.busError },
			}
			for range 2 { // the second one begins where the first has got to
				if got, err := a.audit(context.Background()); err != nil || got != test.want {
					t.Errorf("got %+v, %v, want %+v", got, err, test.want)
				}
			}
		})
	}
}

// An order that is billed while the auditor looks for it on the bus is not lost.
func TestAuditWhileOrdersMove(t *testing.T) {
	t.Parallel()
	l := openLedger(t, filepath.Join(t.TempDir(), "billing.db"))
	a := &auditor{
		ledger: l,
		outbox: func(context.Context) (uint64, []uint64, error) { return 2, nil, nil },
		holds: func(_ context.Context, n uint64) (bool, error) {
			bill(t, l, n)
			return false, nil
		},
	}
	want := Audit{Accepted: 2, Billed: 2, Bus: 2}
	if got, err := a.audit(context.Background()); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestAuditWithoutOrders(t *testing.T) {
	t.Parallel()
	a := &auditor{outbox: func(context.Context) (uint64, []uint64, error) { return 0, nil, errors.New("refused") }}
	if _, err := a.audit(context.Background()); err == nil || err.Error() != "ask orders: refused" {
		t.Errorf("got %v", err)
	}
}
