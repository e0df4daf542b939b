package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/queue"
)

// start makes devices, helper and rules. Until the rules are there, no packet
// is touched; where anything fails, nothing is left.
func (q *Queue) start(ctx context.Context) error {
	if old := q.host.drop(q.Cgroup()); old != nil { // it has died
		_ = old.Close()
	}
	held, err := q.assemble()
	if err == nil {
		err = q.rule(held)
	}
	if err == nil {
		q.host.hold(q.Cgroup(), held)
		return nil
	}
	if held != nil {
		_ = held.Close()
	}
	if bad := q.end(ctx); !errors.Is(bad, experiment.ErrGone) {
		err = errors.Join(err, bad)
	}
	return err
}

// assemble starts the helper, makes the devices while it comes up, and gives
// them to it: it alone has them then.
func (q *Queue) assemble() (*heldHelper, error) {
	var held *heldHelper
	launched := make(chan error, 1)
	go func() {
		var err error
		held, err = q.process().launch(q.host.FS)
		launched <- err
	}()
	var devices []*device
	rules := -1
	err := q.host.FS.InNetwork(q.Net, func() (err error) {
		devices, rules, err = q.open()
		return err
	})
	defer func() {
		closeDevices(devices)
		_ = unix.Close(rules)
	}()
	if err = errors.Join(err, <-launched); err != nil {
		return held, err
	}
	order, files := q.order(devices, rules)
	args, err := json.Marshal(order)
	if err == nil {
		err = held.begin(args, files)
	}
	return held, err
}

// open makes what must be made in the target's network namespace.
func (q *Queue) open() (devices []*device, rules int, err error) {
	for _, l := range q.lanes() {
		d, err := q.openDevice(l)
		if err != nil {
			return devices, -1, err
		}
		devices = append(devices, d)
	}
	rules, err = openNft()
	return devices, rules, err
}

func closeDevices(devices []*device) {
	for _, d := range devices {
		d.close()
	}
}

// order is what the helper is told, and the files that come with it. The
// socket for the rules must be the last: see queue.Order.
func (q *Queue) order(devices []*device, rules int) (queue.Order, []int) {
	o := queue.Order{Impair: q.Impair, Seed: q.Seed, Limit: q.Limit, Network: q.Net.Inode}
	var files []int
	for _, d := range devices {
		l, more := d.order(len(files))
		o.Lanes = append(o.Lanes, l)
		files = append(files, more...)
	}
	o.NFT = len(files)
	return o, append(files, rules)
}

// rule makes the table, through the helper.
func (q *Queue) rule(held *heldHelper) error {
	var messages []nftMessage
	err := q.host.FS.InNetwork(q.Net, func() error {
		t, err := q.table().resolved()
		if err == nil {
			messages, err = t.compile()
		}
		return err
	})
	if err == nil {
		err = held.batch(messages)
	}
	if err != nil {
		return fmt.Errorf("make nft table %s: %w", q.Table(), err)
	}
	return nil
}

// process is the helper as it is to be started.
func (q *Queue) process() helperProcess {
	return helperProcess{program: queue.HelperName, cgroup: q.Cgroup()}
}
