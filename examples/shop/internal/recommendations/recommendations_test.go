package recommendations

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/simianhq/simian/examples/shop/internal/bus"
)

func TestPicks(t *testing.T) {
	t.Parallel()
	p := purchases{
		1: {10: 1, 11: 1},
		2: {10: 1, 11: 1, 12: 2, 13: 1}, // shares two with 1
		3: {10: 1, 14: 2},               // shares one
		4: {15: 9},                      // shares nothing
	}
	for name, test := range map[string]struct {
		user, count int
		want        []int
	}{
		"by how near the others are": {1, 4, []int{12, 13, 14, 10}},
		"no more than asked for":     {1, 2, []int{12, 13}},
		"nothing in common":          {4, 4, []int{}},
		"nobody knows them":          {5, 4, []int{}},
	} {
		if got := p.picks(test.user, test.count); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatIsLearntStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "recommendations.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := s.bought[1][36]
	if err := s.Learn([]bus.Order{{User: 1, Product: 36}, {User: 1, Product: 36}, {User: 1, Product: 35}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.bought[1][36]; got != before+2 {
		t.Errorf("bought %d times, want %d", got, before+2)
	}
}
