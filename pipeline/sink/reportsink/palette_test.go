package reportsink

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

type rgb [3]float64 // 0 to 1

func parseColour(t *testing.T, s string) (c rgb) {
	t.Helper()
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 16, 24)
	if err != nil || len(s) != 7 {
		t.Fatalf("%q is no colour", s)
	}
	for i := range c {
		c[i] = float64(v>>(16-8*i)&255) / 255
	}
	return c
}

// over is c over a ground, as color-mix(in srgb) does it.
func over(c, ground rgb, share float64) (out rgb) {
	for i := range out {
		out[i] = share*c[i] + (1-share)*ground[i]
	}
	return out
}

// contrast is the ratio of WCAG 2.2, "contrast ratio".
func contrast(a, b rgb) float64 {
	luminance := func(c rgb) float64 {
		for i, v := range c {
			if c[i] = v / 12.92; v > 0.04045 {
				c[i] = math.Pow((v+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func TestInksAreReadableInBothSchemes(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		colours := make(map[string]rgb)
		for _, s := range palette {
			of := s.light
			if scheme == "dark" {
				of = s.dark
			}
			colours[s.name] = parseColour(t, of)
		}
		check := func(what string, ink, ground rgb, least float64) {
			t.Helper()
			if c := contrast(ink, ground); c < least {
				t.Errorf("%s: %s has contrast %.2f, want %.1f", scheme, what, c, least)
			}
		}
		card, ink := colours["card"], colours["ink"]
		for _, s := range palette[5:] {
			c := colours[s.name]
			if s.name == "wave" { // a drawing: 3 to 1
				check("the waveform", c, card, 3)
				continue
			}
			for _, ground := range []string{"page", "card", "sunk"} {
				check(s.name+" on "+ground, c, colours[ground], 4.5)
			}
			switch {
			case strings.HasPrefix(s.name, "k-"):
				check("ink on a chip of "+s.name, ink, over(c, card, 0.09), 4.5)
				check("soft on a chip of "+s.name, colours["soft"], over(c, card, 0.09), 4.5)
				check("ink on words marked "+s.name, ink, over(c, card, 0.30), 4.5)
				check("the number beside words marked "+s.name, over(c, ink, 0.75), over(c, card, 0.30), 4.5)
				check("a flag of "+s.name, card, c, 4.5)
				check("a provisional flag of "+s.name, c, over(c, card, 0.18), 4.5)
			case s.name != "ink" && s.name != "soft" && s.name != "link":
				check("the strip of "+s.name, c, over(c, card, 0.13), 4.5)
				check("soft in a change to "+s.name, colours["soft"], over(c, card, 0.08), 4.5)
				check("ink in a change to "+s.name, ink, over(c, card, 0.08), 4.5)
			}
		}
	}
}

func TestStyleUsesOnlyColoursOfThePalette(t *testing.T) {
	for _, s := range palette {
		if !strings.Contains(styleSheet, "var(--"+s.name+")") && !strings.Contains(styleSheet, "var(--"+s.name+",") {
			t.Errorf("%s is not used", s.name)
		}
	}
	for i, line := range strings.Split(styleSheet, "\n") {
		rest := line
		for {
			_, after, found := strings.Cut(rest, "var(--")
			if !found {
				break
			}
			end := strings.IndexAny(after, "),")
			name := after[:end]
			known := name == "k" || name == "l" || name == "b"
			for _, s := range palette {
				known = known || s.name == name
			}
			if !known {
				t.Errorf("style.css:%d: %s is not in the palette", i+1, name)
			}
			rest = after[end:]
		}
	}
}
