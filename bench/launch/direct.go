package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/targets/native"
)

// shopDirect starts each service as soon as those it depends on are as it
// wants them, and returns how long it takes until all are healthy.
func (b *bench) shopDirect(ctx context.Context, p *native.Project) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, serviceTime)
	defer cancel()
	d, err := b.newDirect(p)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(d.dir)
	began := time.Now()
	var all sync.WaitGroup
	errs := make([]error, len(p.Services))
	for i := range p.Services {
		all.Go(func() {
			if errs[i] = d.raise(ctx, &p.Services[i]); errs[i] != nil {
				cancel()
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	d.end()
	return took, errors.Join(errs...)
}

// direct is the shop's services without containers.
type direct struct {
	*bench
	dir     string
	env     []string
	address map[string]string
	started map[string]chan struct{}
	healthy map[string]chan struct{}

	mu      sync.Mutex
	running []*exec.Cmd
}

// newDirect gives each service a loopback address of its own.
func (b *bench) newDirect(p *native.Project) (*direct, error) {
	d := &direct{bench: b, address: map[string]string{}, started: map[string]chan struct{}{}, healthy: map[string]chan struct{}{}}
	var err error
	if d.dir, err = b.apart(); err != nil {
		return nil, err
	}
	subnet := fmt.Sprintf("127.%d.%d.", 1+os.Getpid()>>8&0x7f, os.Getpid()&0xff)
	d.env = append(os.Environ(), "SHOP_BUS_ADDR="+subnet+"100:4222")
	for i, s := range p.Services {
		d.address[s.Name] = fmt.Sprintf("%s%d:8080", subnet, i+1)
		d.started[s.Name], d.healthy[s.Name] = make(chan struct{}), make(chan struct{})
		d.env = append(d.env, fmt.Sprintf("SHOP_%s_URL=http://%s", strings.ToUpper(s.Name), d.address[s.Name]))
	}
	d.env = append(d.env, "SHOP_BUS_URL=nats://"+subnet+"100:4222") // the last one counts
	return d, nil
}

func (d *direct) raise(ctx context.Context, s *native.Service) error {
	for _, on := range s.DependsOn {
		there := d.started[on.Service]
		if on.Condition == "service_healthy" {
			there = d.healthy[on.Service]
		}
		select {
		case <-there:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := d.start(s); err != nil {
		return err
	}
	close(d.started[s.Name])
	if err := answers(ctx, "http://"+d.address[s.Name]+"/healthz"); err != nil {
		log, _ := os.ReadFile(d.log(s.Name))
		return fmt.Errorf("%s: %w: %s", s.Name, err, log)
	}
	close(d.healthy[s.Name])
	return nil
}

func (d *direct) start(s *native.Service) error {
	data := filepath.Join(d.dir, s.Name)
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(d.shop, "rootfs/shop"), s.Command...)
	cmd.Env = append(slices.Clip(d.env), "SHOP_ADDR="+d.address[s.Name], "SHOP_DATA="+data)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	log, err := os.Create(d.log(s.Name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := d.room.do(cmd.Start); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = append(d.running, cmd)
	return nil
}

func (d *direct) log(service string) string { return filepath.Join(d.dir, service+".log") }

func (d *direct) end() {
	for _, cmd := range d.running {
		_ = cmd.Process.Kill()
	}
	for _, cmd := range d.running {
		_ = cmd.Wait() // it was killed
	}
}

// answers waits until a URL answers with 200.
func answers(ctx context.Context, url string) error {
	for {
		r, err := http.Get(url)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w", url, errors.Join(err, ctx.Err()))
		}
		time.Sleep(2 * time.Millisecond)
	}
}
