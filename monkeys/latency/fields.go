package latency

import (
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
)

// Chance is how often something happens to a packet: in a file a percentage,
// or fields.
type Chance struct {
	Percent     experiment.Percent `json:"percent,omitzero" jsonschema:"of packets"`
	Correlation experiment.Percent `json:"correlation,omitzero" jsonschema:"with what happened to the packet before"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *Chance) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type fields Chance
	return either(dec, &c.Percent, (*fields)(c))
}

// TypeName implements experiment.Typed.
func (Chance) TypeName() string { return "percent or fields" }

// Loss is how packets are lost: in a file a percentage, or the fields of one
// of three models.
type Loss struct {
	Percent     experiment.Percent `json:"percent,omitzero" jsonschema:"of packets, each by itself"`
	Correlation experiment.Percent `json:"correlation,omitzero" jsonschema:"with what happened to the packet before"`
	States      *States            `json:"states,omitempty" jsonschema:"the 4-state Markov model"`
	Gilbert     *Gilbert           `json:"gilbert,omitempty" jsonschema:"the Gilbert–Elliott model"`
}

// States is the 4-state Markov model of tc-netem(8).
type States struct {
	P13 experiment.Percent `json:"p13" jsonschema:"from good reception to a burst of losses"`
	P31 experiment.Percent `json:"p31,omitzero" jsonschema:"from the burst back (100 - p13, where p32 is not given either)"`
	P32 experiment.Percent `json:"p32,omitzero" jsonschema:"from the burst to good reception within it"`
	P23 experiment.Percent `json:"p23,omitzero" jsonschema:"from there back to the burst (100)"`
	P14 experiment.Percent `json:"p14,omitzero" jsonschema:"from good reception to a single loss"`
}

// Gilbert is the Gilbert–Elliott model of tc-netem(8).
type Gilbert struct {
	P    experiment.Percent  `json:"p" jsonschema:"from the good state to the bad one"`
	R    *experiment.Percent `json:"r,omitempty" jsonschema:"from the bad state to the good one (100 - p)"`
	Bad  *experiment.Percent `json:"bad,omitempty" jsonschema:"lost in the bad state, 1-h (100)"`
	Good experiment.Percent  `json:"good,omitzero" jsonschema:"lost in the good state, 1-k (0)"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *Loss) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type fields Loss
	return either(dec, &l.Percent, (*fields)(l))
}

// TypeName implements experiment.Typed.
func (Loss) TypeName() string { return "percent or fields" }

// Reorder is how often packets overtake: in a file a percentage, or fields.
type Reorder struct {
	Chance `json:",inline"`
	Gap    int `json:"gap,omitzero" jsonschema:"only every so many packets may overtake (1)"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *Reorder) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var f struct {
		Percent     experiment.Percent `json:"percent"`
		Correlation experiment.Percent `json:"correlation"`
		Gap         int                `json:"gap"`
	}
	err := either(dec, &f.Percent, &f)
	*r = Reorder{Chance{f.Percent, f.Correlation}, f.Gap}
	return err
}

// TypeName implements experiment.Typed.
func (Reorder) TypeName() string { return "percent or fields" }

// Rate is how fast packets leave: in a file a bit rate, or fields.
type Rate struct {
	Rate     experiment.Bitrate `json:"rate" jsonschema:"such as 10mbit"`
	Burst    experiment.Size    `json:"burst,omitzero" jsonschema:"may go at once after a pause, such as 32KiB (0)"`
	Overhead int                `json:"overhead,omitzero" jsonschema:"bytes that each packet counts for besides its own; may be negative"`
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *Rate) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type fields Rate
	switch dec.PeekKind() {
	case '"':
		return json.UnmarshalDecode(dec, &r.Rate)
	case '{':
		return json.UnmarshalDecode(dec, (*fields)(r))
	}
	return errors.New("want a bit rate such as 10mbit, or fields")
}

// TypeName implements experiment.Typed.
func (Rate) TypeName() string { return "bit rate or fields" }

// either reads a number into percent, and anything else into fields.
func either(dec *jsontext.Decoder, percent *experiment.Percent, fields any) error {
	switch dec.PeekKind() {
	case '0':
		return json.UnmarshalDecode(dec, percent)
	case '{':
		return json.UnmarshalDecode(dec, fields)
	}
	return errors.New("want a percentage: a number from 0 to 100, or fields")
}

func (c *Chance) config() impair.Chance {
	if c == nil {
		return impair.Chance{}
	}
	return impair.Chance{Percent: float64(c.Percent), Correlation: float64(c.Correlation)}
}

func (l *Loss) config() impair.Loss {
	if l == nil {
		return impair.Loss{}
	}
	out := impair.Loss{Chance: impair.Chance{Percent: float64(l.Percent), Correlation: float64(l.Correlation)}}
	if s := l.States; s != nil {
		full := impair.States{
			P13: float64(s.P13), P31: float64(s.P31), P32: float64(s.P32), P23: float64(s.P23), P14: float64(s.P14),
		}.Full()
		out.States = &full
	}
	if g := l.Gilbert; g != nil {
		out.Gilbert = &impair.Gilbert{P: float64(g.P), R: 100 - float64(g.P), Bad: 100, Good: float64(g.Good)}
		if g.R != nil {
			out.Gilbert.R = float64(*g.R)
		}
		if g.Bad != nil {
			out.Gilbert.Bad = float64(*g.Bad)
		}
	}
	return out
}

// config is what the fields say, for both backends.
func (f *Fault) config() impair.Config {
	c := impair.Config{
		Delay: f.Delay.D(), Jitter: f.Jitter.D(), Correlation: float64(f.Correlation), Distribution: f.Distribution,
		Loss: f.Loss.config(), Duplicate: f.Duplicate.config(), Corrupt: f.Corrupt.config(),
	}
	if f.Reorder != nil {
		c.Reorder, c.Gap = f.Reorder.config(), f.Reorder.Gap
	}
	if f.Rate != nil {
		c.Rate, c.Burst, c.Overhead = float64(f.Rate.Rate), int(f.Rate.Burst), f.Rate.Overhead
	}
	return c
}
