// Package background keeps programs that are linked with bubbletea from asking
// the terminal for its background colour when they start.
//
// Bubbletea asks in an init of its own, whatever the program is about to do:
// every command would write an escape sequence to the terminal and wait for the
// answer, 5 s where none comes. It does not ask where the answer is known, and
// this package is initialised first: it needs less, and its path sorts before
// bubbletea's (Go specification, "Package initialization"). A test of console
// starts a program on a terminal to see that it stays so.
package background

import "github.com/charmbracelet/lipgloss"

func init() { //nolint:gochecknoinits // see above: there is no other time for it
	lipgloss.SetHasDarkBackground(true)
}
