package reportsink

import (
	_ "embed"
	"strings"
)

// shade is one colour of the pages, in both schemes.
type shade struct{ name, light, dark string }

// palette is every colour of the pages. Inks are readable on page, card and
// sunk in both schemes at the ratio that WCAG AA asks of body text (4.5);
// palette_test.go computes it.
var palette = []shade{
	// surfaces
	{"page", "#f5f6f8", "#0e1217"},
	{"card", "#ffffff", "#151b23"},
	{"sunk", "#f0f2f5", "#1b222c"},
	// lines, which carry no meaning
	{"rule", "#dde1e7", "#2a333f"},
	{"grid", "#e6e9ee", "#222b36"},
	// inks
	{"ink", "#17202c", "#e8ecf1"},
	{"soft", "#545f6e", "#a2adbb"},
	{"link", "#1d57a5", "#86b8f5"},
	{"wave", "#64718a", "#8895a8"},
	// levels
	{"none", "#2d6a4b", "#7fc9a0"},
	{"notice", "#1f5fa8", "#7fb4f2"},
	{"warning", "#8a5200", "#f0b458"},
	{"critical", "#b3182c", "#ff8f92"},
	{"unheard", "#555f6d", "#aab4c1"},
	// families of tactics
	{"k-lure", "#3f55b0", "#9db2f7"},
	{"k-remote", "#0a6a7c", "#58c5d8"},
	{"k-card", "#a31b6b", "#f291c6"},
	{"k-code", "#a63e04", "#f6a067"},
	{"k-money", "#756000", "#d8c04f"},
	{"k-pressure", "#7040bd", "#c3a6f8"},
	{"k-guard", "#27713a", "#82d092"},
	{"k-other", "#575f6b", "#aab2be"},
}

//go:embed style.css
var styleSheet string

//go:embed page.js
var script string

// css is the style sheet with the palette in front. Dark is chosen by the
// system or by the page's own switch, which works without a script.
func css() string {
	var b strings.Builder
	vars := func(of func(shade) string) {
		for _, s := range palette {
			b.WriteString("--" + s.name + ":" + of(s) + ";")
		}
	}
	light := func(s shade) string { return s.light }
	dark := func(s shade) string { return s.dark }
	b.WriteString(":root{color-scheme:light;")
	vars(light)
	b.WriteString("}\n@media screen and (prefers-color-scheme:dark){:root:not(:has(#theme-light:checked)){color-scheme:dark;")
	vars(dark)
	b.WriteString("}}\n@media screen{:root:has(#theme-dark:checked){color-scheme:dark;")
	vars(dark)
	b.WriteString("}}\n")
	b.WriteString(styleSheet)
	return b.String()
}
