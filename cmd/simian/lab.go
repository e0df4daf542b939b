package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/targets/native"
)

// setLab makes the lab of x the current one: its own, which is returned, or
// one that stands already. It launches nothing.
func (a *app) setLab(ctx context.Context, x *experiment.Experiment) (*native.Lab, experiment.LabSummary, error) {
	spec := x.Spec.Lab
	switch {
	case spec == nil:
		return nil, experiment.LabSummary{}, nil
	case spec.Name != "":
		s, err := a.standing(spec.Name)
		if err != nil {
			return nil, experiment.LabSummary{}, usage(x.ErrorAt("/spec/lab/name", err))
		}
		a.lab.Strike(native.LabDir(a.dir, s.Run))
		return nil, experiment.LabSummary{Name: s.Name, Files: s.Files, Struck: s.Run}, nil
	}
	p, err := native.Load(ctx, spec.Files(filepath.Dir(x.File)), native.LoadOptions{Profiles: spec.Profiles, Env: spec.Env})
	if errors.Is(err, fs.ErrNotExist) {
		err = x.ErrorAt("/spec/lab/compose", err)
	}
	if err != nil {
		return nil, experiment.LabSummary{}, usage(err)
	}
	lab := native.NewLab(p, a.labEnv())
	a.lab.Launch(lab)
	return lab, experiment.LabSummary{Name: p.Name, Files: p.Files}, nil
}

// labEnv is what labs are launched with.
func (a *app) labEnv() native.Env {
	return native.Env{FS: a.fs, State: a.dir, Images: a.imageDir(), Pulled: a.layerProgress()}
}

// standing finds the lab that stands under a name, or that a run launched.
func (a *app) standing(name string) (native.State, error) {
	labs, err := native.Labs(a.fs, a.dir)
	if err != nil {
		return native.State{}, err
	}
	var found []native.State
	var names []string
	for _, s := range labs {
		if s.Name == name || string(s.Run) == name {
			found = append(found, s)
		}
		names = append(names, fmt.Sprintf("%s (run %s)", s.Name, s.Run))
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return native.State{}, fmt.Errorf("%d labs are called %s: name one by its run\n        labs: %s", len(found), name, strings.Join(names, ", "))
	case len(labs) == 0:
		return native.State{}, fmt.Errorf("no lab stands (simian lab up FILE launches one)")
	}
	return native.State{}, fmt.Errorf("no lab is called %s\n        labs: %s", name, strings.Join(names, ", "))
}

// withLab gives e the lab of x. The function that comes back closes it.
func (a *app) withLab(ctx context.Context, e *engine.Engine, x *experiment.Experiment) (func(), error) {
	lab, summary, err := a.setLab(ctx, x)
	if err != nil {
		return nil, err
	}
	e.LabSummary = summary
	if lab == nil {
		return func() {}, nil
	}
	e.Lab = lab
	return func() {
		if err := lab.Close(); err != nil {
			fmt.Fprintln(a.stderr, "simian: close the lab: "+err.Error())
		}
	}, nil
}
