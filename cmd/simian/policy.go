package main

import (
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/policy"
	"github.com/simianhq/simian/internal/proc"
)

// hostPolicy reads this host's policy. One that can't be read or trusted
// allows nothing.
func (a *app) hostPolicy() (*policy.Policy, error) {
	p, err := policy.Load(a.policy, a.policyOwner)
	if err == nil {
		l := a.loader()
		err = p.Known(l.Targets.Names(), l.Faults.Names())
	}
	if err != nil {
		return nil, &exitError{experiment.Errored.ExitCode(), fmt.Errorf("read this host's policy, so nothing is broken: %w", err)}
	}
	return p, nil
}

// underPolicy holds e and x to this host's policy, before anything is planned.
func (a *app) underPolicy(e *engine.Engine, x *experiment.Experiment) error {
	p, err := a.hostPolicy()
	if err != nil || p == nil {
		return err
	}
	for i, action := range x.Spec.Method {
		if field, err := p.Action(action, time.Now()); err != nil {
			return &engine.ActionError{Action: i, Field: field, Err: err}
		}
	}
	if field, err := p.Limit(x); err != nil {
		return &engine.ActionError{Action: -1, Field: "blastRadius/" + field, Err: err}
	}
	e.Allow = p.Target
	return nil
}

// policyFact says what this host's policy allows.
func (a *app) policyFact() proc.Fact {
	p, err := a.hostPolicy()
	switch {
	case err != nil:
		return proc.Fact{Name: "policy", Able: "no", Detail: err.Error()}
	case p == nil:
		return proc.Fact{Name: "policy", Able: "none", Detail: "there is no " + a.policy + ": " + p.String()}
	}
	return proc.Fact{Name: "policy", Able: "yes", Detail: a.policy + ": " + p.String()}
}
