package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"

	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what the template shows.
type page struct {
	Record  string // of the net
	Ways    []string
	Rows    []pageRow
	Clips   []picture
	Changes []change
}

type pageRow struct {
	Name          string
	Clips, Height int
	Bars          []bar
}

// bar is one way's error rate of a row.
type bar struct {
	Way, Text   string
	Y, W, TextX float64
	Known       bool
}

// picture is one clip as each way makes it.
type picture struct {
	Name  string
	Ways  []spectrogram
	Width int
}

type spectrogram struct {
	Way   string
	Image template.URL
}

const barPixels = 4.2 // one per cent

func writePage(ctx context.Context, path string, ways []way, rows []row, modelHz int) error {
	p := page{Record: string(extend.Default().Record), Changes: changes(ways, rows)}
	for _, w := range ways {
		p.Ways = append(p.Ways, w.name)
	}
	drawn := map[string]bool{}
	for _, r := range rows {
		if r.scored {
			p.Rows = append(p.Rows, newPageRow(ways, r))
		}
		// One clip of each set, through the narrowest line that it has.
		if r.line.name == "16k" || drawn[r.set+r.line.name] || !r.scored {
			continue
		}
		drawn[r.set+r.line.name] = true
		c, err := r.picture(ctx, ways, modelHz)
		if err != nil {
			return err
		}
		p.Clips = append(p.Clips, c)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func newPageRow(ways []way, r row) pageRow {
	row := pageRow{Name: r.set + ", " + r.line.name, Clips: len(r.clips), Height: 4 + 16*len(ways)}
	for w, way := range ways {
		b := bar{Way: way.name, Y: float64(4 + 16*w)}
		if rate, ok := r.rate(w); ok {
			b.Known, b.W, b.Text = true, min(rate, 110)*barPixels, fmt.Sprintf("%.1f", rate)
			b.TextX = b.W + 74
		}
		row.Bars = append(row.Bars, b)
	}
	return row
}

// picture draws the start of the middle clip.
func (r row) picture(ctx context.Context, ways []way, modelHz int) (picture, error) {
	const seconds = 4
	c := r.clips[len(r.clips)/2]
	pcm, rateHz, err := c.load(ctx)
	if err != nil {
		return picture{}, err
	}
	sent, sentHz, err := r.line.send(pcm, rateHz)
	if err != nil {
		return picture{}, err
	}
	pic := picture{Name: r.set + ", " + r.line.name + ": " + c.name}
	for _, w := range ways {
		in, inHz := sent, sentHz
		if w.original {
			if rateHz <= telephoneHz {
				continue
			}
			in, inHz = pcm, rateHz
		}
		if in, err = w.make(in, inHz, modelHz); err != nil {
			return picture{}, err
		}
		x := make([]float32, min(len(in), seconds*modelHz))
		for i := range x {
			x[i] = float32(in[i])
		}
		img := draw(extend.Powers(x))
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			return picture{}, err
		}
		pic.Width = img.Bounds().Dx()
		url := "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())
		pic.Ways = append(pic.Ways, spectrogram{w.name, template.URL(url)}) //nolint:gosec // made above, of digits and letters
	}
	return pic, nil
}

// draw is a column for each frame, low frequencies at the bottom, 20 to 75 dB.
func draw(frames []extend.Power) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, len(frames), extend.Bins))
	for x, p := range frames {
		for b, v := range p {
			db := 10 * math.Log10(float64(v)+1e-9)
			shade := min(max((db-20)/55, 0), 1)
			img.SetGray(x, extend.Bins-1-b, color.Gray{Y: uint8(255 * (1 - shade))})
		}
	}
	return img
}
