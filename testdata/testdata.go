// Package testdata holds recordings of our own that the program itself needs:
// callwarden bench plays them where it is given no others.
package testdata

import "embed"

// Calls are the demo frauds and the ordinary calls, stereo, left the caller.
//
//go:embed calls/fraud-*.wav ordinary/*.wav
var Calls embed.FS
