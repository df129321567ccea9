// Package eval measures callwarden on labelled corpora: which frauds it finds,
// how early, and which honest calls it disturbs.
package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Item is one line of a manifest: a recording, or the words of a call.
type Item struct {
	ID             string   `json:"id"`
	Audio          string   `json:"audio"` // as written; see locate
	Channels       Channels `json:"channels"`
	Turns          []Turn   `json:"turns"`
	Text           string   `json:"text"`
	Digits         string   `json:"digits"` // a spoken code
	Label          string   `json:"label"`
	Tactics        []string `json:"tactics"`
	Actionable     *int     `json:"first_actionable_turn"` // 0-based
	HumanReference *bool    `json:"human_reference"`       // false: a machine wrote the text

	file string // manifest that it stands in
	line int    // from 1
}

// Turn is what one side said without being interrupted.
type Turn struct {
	Role    string   `json:"role"`
	Text    string   `json:"text"`
	Start   *float64 `json:"start"` // seconds
	End     *float64 `json:"end"`
	Tactics []string `json:"tactics"`
}

// Channels are the roles of a recording's channels, the left one's first.
type Channels []string

// UnmarshalJSON reads a list of roles, or a number of channels, which tells
// nothing of roles and gives none.
func (c *Channels) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil {
		*c = nil
		return nil
	}
	var roles []string
	if json.Unmarshal(b, &roles) != nil {
		return errors.New("channels: must be a list of roles or a number")
	}
	if len(roles) > 2 {
		return fmt.Errorf("channels: %d roles, a recording has at most 2", len(roles))
	}
	*c = roles
	return nil
}

// Labels of an item. One without a label is heard and not scored.
const (
	Scam     = "scam"
	ScamHook = "scam_hook" // an opening only
	Benign   = "benign"
	Unclear  = "unclear" // reported, not scored
)

// LineError is a manifest line that cannot be used.
type LineError struct {
	File string
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// labelOnly are names that corpora use beside the fixed tactics: kinds of lure
// and of request that no event carries. They are known, and not scored.
var labelOnly = []string{
	"bank_login_request", "callback_number", "computer_steering", "lure_debt_relief", "lure_discount",
	"lure_health_benefit", "lure_investment", "lure_prize", "lure_tech_support", "lure_utility", "lure_warranty",
}

const (
	maxLine    = 8 << 20 // bytes: the transcript of a hundred hours
	maxSeconds = 24 * 60 * 60
)

// ReadManifests reads files of JSON lines. Lines that cannot be used are
// returned as bad, each a [LineError]; err is a file that cannot be read.
func ReadManifests(paths []string) (items []Item, bad []error, err error) {
	seen := make(map[string]Item)
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, err
		}
		more, worse, err := parseManifest(f, path, seen)
		f.Close()
		if err != nil {
			return nil, nil, err
		}
		items, bad = append(items, more...), append(bad, worse...)
	}
	return items, bad, nil
}

// parseManifest reads one manifest; seen are the items before it, by id.
func parseManifest(r io.Reader, path string, seen map[string]Item) (items []Item, bad []error, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		it, err := parseItem(line)
		if first, twice := seen[it.ID]; err == nil && twice {
			err = fmt.Errorf("id: %q is that of %s:%d too", it.ID, first.file, first.line)
		}
		if err != nil {
			bad = append(bad, &LineError{path, n, err})
			continue
		}
		it.file, it.line = path, n
		seen[it.ID] = it
		items = append(items, it)
	}
	err = lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("longer than %d bytes; nothing after it is read", maxLine)
		return items, append(bad, &LineError{path, n + 1, err}), nil
	}
	return items, bad, err // a read error names the file
}

func parseItem(line []byte) (Item, error) {
	var it Item
	if err := json.Unmarshal(line, &it); err != nil {
		var wrong *json.UnmarshalTypeError
		switch {
		case errors.As(err, &wrong) && wrong.Field != "":
			return it, fmt.Errorf("%s: a %s is no %s", wrong.Field, wrong.Value, wrong.Type)
		case errors.As(err, &wrong):
			return it, fmt.Errorf("a %s is no item", wrong.Value)
		case !json.Valid(line):
			return it, fmt.Errorf("no JSON: %w", err)
		}
		return it, err
	}
	if it.ID == "" {
		return it, errors.New("id: missing")
	}
	if it.Audio == "" && len(it.Turns) == 0 && it.Text == "" {
		return it, errors.New("audio, turns or text: one is needed")
	}
	switch it.Label {
	case Scam, ScamHook, Benign, Unclear, "":
	default:
		return it, fmt.Errorf("label: %q is none of scam, scam_hook, benign, unclear", it.Label)
	}
	if err := checkTactics(it.Tactics); err != nil {
		return it, err
	}
	for i, t := range it.Turns {
		if err := t.check(); err != nil {
			return it, fmt.Errorf("turns[%d].%w", i, err)
		}
	}
	if a := it.Actionable; a != nil && (*a < 0 || *a >= len(it.Turns)) {
		return it, fmt.Errorf("first_actionable_turn: %d is none of %d turns", *a, len(it.Turns))
	}
	for _, d := range it.Digits {
		if d < '0' || d > '9' {
			return it, fmt.Errorf("digits: %q is no digit", d)
		}
	}
	return it, nil
}

func (t Turn) check() error {
	for name, at := range map[string]*float64{"start": t.Start, "end": t.End} {
		if at != nil && !(*at >= 0 && *at <= maxSeconds) {
			return fmt.Errorf("%s: %g must be from 0 to %d", name, *at, maxSeconds)
		}
	}
	if t.Start != nil && t.End != nil && *t.End < *t.Start {
		return fmt.Errorf("end: %g is before start, %g", *t.End, *t.Start)
	}
	return checkTactics(t.Tactics)
}

func checkTactics(names []string) error {
	for _, name := range names {
		if _, ok := detectors.LookupTactic(name); !ok && !slices.Contains(labelOnly, name) {
			return fmt.Errorf("tactics: %q is unknown", name)
		}
	}
	return nil
}

// hasWords tells whether the item can be scored as text.
func (it Item) hasWords() bool { return len(it.Turns) > 0 || it.Text != "" }

// expected are the fixed tactics that the item has: those of its turns where
// they are given, else its own. ok is false where it tells nothing of tactics.
func (it Item) expected() (names []string, ok bool) {
	for _, t := range it.Turns {
		names, ok = append(names, t.Tactics...), ok || t.Tactics != nil
	}
	if !ok {
		names, ok = slices.Clone(it.Tactics), it.Tactics != nil
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(labelOnly, n) })
	slices.Sort(names)
	return slices.Compact(names), ok
}

// locate looks for the audio beside the manifest, then in the folders above.
func (it Item) locate() (string, error) {
	if filepath.IsAbs(it.Audio) {
		_, err := os.Stat(it.Audio)
		return it.Audio, err
	}
	dir, err := filepath.Abs(filepath.Dir(it.file))
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, it.Audio)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("audio: %s is neither beside the manifest nor in a folder above it", it.Audio)
		}
		dir = up
	}
}

// legs says which leg each role speaks on; a role that is not in it speaks on
// the unknown leg. Who called is not always told: an agent is the side opposite
// the one that is named, and where nobody is, the customer is taken for the
// side that was called.
func (it Item) legs() map[string]audio.Leg {
	legs := map[string]audio.Leg{
		"caller": audio.Caller, "callee": audio.Callee,
		"agent": audio.Caller, "customer": audio.Callee,
		"party_a": audio.Caller, "party_b": audio.Callee,
		"robocall": audio.Caller,
	}
	has := func(role string) bool {
		return slices.Contains(it.Channels, role) ||
			slices.ContainsFunc(it.Turns, func(t Turn) bool { return t.Role == role })
	}
	if has("caller") {
		legs["agent"], legs["customer"] = audio.Callee, audio.Callee
	} else if has("callee") {
		legs["customer"] = audio.Caller
	}
	return legs
}
