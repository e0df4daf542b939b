package main

import (
	"bytes"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that can be told apart by everybody (Okabe and Ito, 2008).
var colours = map[string]color.Color{
	none:      color.RGBA{0x99, 0x99, 0x99, 0xff},
	netem:     color.RGBA{0x00, 0x72, 0xb2, 0xff},
	queue:     color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	tc:        color.RGBA{0x00, 0x9e, 0x73, 0xff},
	toxiproxy: color.RGBA{0xcc, 0x79, 0xa7, 0xff},
}

// The axis of errors, in milliseconds.
const smallest, largest = 0.001, 100

// plot draws for each machine what share of round trips has an error of at most
// so much.
func (m machines) plot(path string) error {
	const width, height = 4.6 * vg.Inch, 3.6 * vg.Inch
	canvas := vgsvg.New(width*vg.Length(max(1, len(m))), height)
	tiles := draw.Tiles{Rows: 1, Cols: max(1, len(m)), PadX: vg.Millimeter * 4, PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 4}
	plots := make([]*plot.Plot, len(m))
	for i, r := range m {
		p, err := r.panel()
		if err != nil {
			return err
		}
		plots[i] = p
	}
	if len(m) > 0 {
		for i, c := range plot.Align([][]*plot.Plot{plots}, tiles, draw.New(canvas))[0] {
			plots[i].Draw(c)
		}
	}
	var drawn bytes.Buffer
	if _, err := canvas.WriteTo(&drawn); err != nil {
		return err
	}
	// Who doesn't have the font the plot was made with has another one.
	family := []byte("font-family:Liberation Sans")
	return os.WriteFile(path, bytes.ReplaceAll(drawn.Bytes(), family, append(family, ",Arial,sans-serif"...)), 0o644)
}

func (r *Results) panel() (*plot.Plot, error) {
	p := plot.New()
	for _, style := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		style.Variant = "Sans"
	}
	p.Title.Text = r.title() + ", Linux " + r.Machine.Kernel
	p.X.Label.Text, p.Y.Label.Text = "size of the error of a delay, ms", "share of round trips, %"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = smallest, largest, 0, 100
	p.Add(plotter.NewGrid())
	for _, name := range []string{none, netem, queue, tc, toxiproxy} {
		line, err := share(r.sizes(name))
		if err != nil {
			return nil, err
		}
		if line == nil {
			continue
		}
		line.Color, line.Width = colours[name], vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(label(name), line)
	}
	p.X.Min, p.X.Max = smallest, largest // Add may have widened it
	return p, nil
}

// label says what no fault's error is.
func label(name string) string {
	if name == none {
		return "none: from its mean"
	}
	return name
}

// sizes are those of all errors of a backend.
func (r *Results) sizes(name string) []float64 {
	var v []float64
	if name == none {
		for _, d := range r.Delays {
			if d.Backend == none && d.Kind == "icmp" {
				for _, trip := range d.Trips {
					v = append(v, trip-mean(d.Trips))
				}
			}
		}
	}
	for _, x := range r.exactly() {
		if x.backend == name {
			v = append(v, x.errors...)
		}
	}
	return absolute(v)
}

// share is the distribution of v as a line of two hundred points; nil of
// nothing.
func share(v []float64) (*plotter.Line, error) {
	if len(v) == 0 {
		return nil, nil
	}
	const points = 200
	var line plotter.XYs
	for i := range points + 1 {
		percent := 100 * float64(i) / points
		line = append(line, plotter.XY{X: math.Min(math.Max(percentile(v, percent), smallest), largest), Y: percent})
	}
	return plotter.NewLine(line)
}
