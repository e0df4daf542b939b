package queue

import "testing"

func TestResolve(t *testing.T) {
	t.Parallel()
	o := Order{NFT: 3, Lanes: []Lane{{TAP: 0, Out: 1, Stamp: -1}, {TAP: 2, Out: -1, Stamp: -1}}}
	if err := o.resolve([]int{5, 6, 7, 9}); err != nil {
		t.Fatal(err)
	}
	if o.NFT != 9 || o.Lanes[0].TAP != 5 || o.Lanes[0].Out != 6 || o.Lanes[1].TAP != 7 || o.Lanes[1].Out != -1 {
		t.Errorf("%+v", o)
	}
	if err := (&Order{NFT: 1}).resolve([]int{5}); err == nil {
		t.Error("a file that is not there was found")
	}
}
