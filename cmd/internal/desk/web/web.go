// Package web is the desk's page: HTML, CSS and ES modules as a browser takes
// them, without a build step. It asks only for what [Policy] lets it.
//
// index.html stands for every page; which of them is shown, and with which
// filters, is in the fragment of the address. It takes everything else from
// below /web/.
package web

import "embed"

// Files are the page's: index.html, and what it loads from /web/.
//
//go:embed index.html icon.svg *.css *.js vendor
var Files embed.FS

// Policy is the Content-Security-Policy that the page works under: nothing
// inline, nothing from elsewhere, in no frame.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
