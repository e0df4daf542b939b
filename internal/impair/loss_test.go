package impair

import (
	"testing"
)

// runs gives how many runs of lost packets there are, and their mean length.
func runs(list []Fate) (count int, length float64) {
	lost := 0
	for i, f := range list {
		if !f.Lost {
			continue
		}
		lost++
		if i == 0 || !list[i-1].Lost {
			count++
		}
	}
	return count, float64(lost) / float64(max(count, 1))
}

// full gives what tc would make of a model that is given in part.
func full[M interface{ Full() M }](m M) *M {
	m = m.Full()
	return &m
}

// TestLossModels holds share and burst length against theory.
func TestLossModels(t *testing.T) {
	t.Parallel()
	const n = 500_000
	tests := []struct {
		name          string
		loss          Loss
		share, length float64
	}{
		{"Bernoulli", Loss{Gilbert: full(Gilbert{P: 3})}, 0.03, 1 / 0.97},
		{"simple Gilbert", Loss{Gilbert: &Gilbert{P: 1, R: 10, Bad: 100}}, 1.0 / 11, 10},
		{"Gilbert", Loss{Gilbert: &Gilbert{P: 1, R: 10, Bad: 50}}, 0.5 / 11, 1 / (1 - (0.9*0.5 + 0))},
		{"Gilbert–Elliott", Loss{Gilbert: &Gilbert{P: 2, R: 20, Bad: 80, Good: 1}}, (2*0.8 + 20*0.01) / 22, 0},
		{"2 states", Loss{States: &States{P13: 1, P31: 20}}, 1.0 / 21, 5},
		{"alone", Loss{States: &States{P14: 4}}, 4.0 / 104, 1},
		{"3 states", Loss{States: &States{P13: 1, P31: 20, P32: 30, P23: 40}}, 0.05 / (1 + 0.05 + 0.05*0.75), 2},
		{"4 states", Loss{States: &States{P13: 1, P31: 20, P32: 30, P23: 40, P14: 0.5}}, 0.055 / (1 + 0.055 + 0.05*0.75), 0},
		{"P13 alone", Loss{States: full(States{P13: 10})}, 0.1 / 0.9 / (1 + 0.1/0.9), 1 / 0.9},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			list := fates(Config{Loss: test.loss}, n)
			within(t, "expected share", test.loss.Expected(), test.share, 1e-12)
			share, _, _ := moments(flags(list, isLost))
			within(t, "share over theory", share/test.share, 1, 0.04)
			if _, length := runs(list); test.length > 0 {
				within(t, "burst length over theory", length/test.length, 1, 0.03)
			}
		})
	}
}

func TestExpectedLossAtTheEdges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		loss Loss
		want float64
	}{
		{"none", Loss{}, 0},
		{"random", Loss{Chance: Chance{2.5, 30}}, 0.025},
		{"no burst", Loss{States: &States{}}, 0},
		{"lost in the burst for ever", Loss{States: &States{P13: 1}}, 1},
		{"good in the burst for ever", Loss{States: &States{P13: 1, P31: 1, P32: 10}}, 0},
		{"never out of the burst", Loss{States: &States{P13: 1, P32: 10, P23: 30}}, 0.75},
		{"all lost for ever", Loss{States: full(States{P13: 100})}, 1},
		{"never bad", Loss{Gilbert: &Gilbert{Bad: 100}}, 0},
		{"bad for ever", Loss{Gilbert: &Gilbert{P: 1, Bad: 30}}, 0.3},
		{"always bad", Loss{Gilbert: full(Gilbert{P: 100})}, 1},
		{"a bad state that loses half", Loss{Gilbert: &Gilbert{P: 100, Bad: 50}}, 0.5},
	} {
		within(t, test.name, test.loss.Expected(), test.want, 1e-12)
		share, _, _ := moments(flags(fates(Config{Loss: test.loss}, 50_000), isLost))
		within(t, test.name+", drawn", share, test.want, 0.01)
	}
}

// TestChanceAsGilbert: the model that a kernel gets is the one that is drawn.
func TestChanceAsGilbert(t *testing.T) {
	t.Parallel()
	const n = 500_000
	for _, c := range []Chance{{1, 0}, {1, 25}, {20, 70}, {60, 90}, {100, 20}, {100, 0}} {
		g := c.Gilbert()
		within(t, c.String()+", expected", Loss{Gilbert: &g}.Expected(), c.Percent/100, 1e-12)
		share, _, next := moments(flags(fates(Config{Loss: Loss{Gilbert: &g}}, n), isLost))
		p, r := c.Percent/100, c.Correlation/100
		within(t, c.String()+", share", share, p, binomial(p, r, n))
		if p < 1 {
			within(t, c.String()+", correlation", next, r, 0.02)
		}
	}
}
