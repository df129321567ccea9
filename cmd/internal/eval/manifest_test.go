package eval

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/transcribe/audio"
)

var manifestLines = []struct {
	name, line string
	rule       string // empty where the line is good
}{
	{"words of a call", `{"id":"a","label":"scam","turns":[{"role":"caller","text":"hello","start":0,"end":1.5,"tactics":["otp_request"]}],"first_actionable_turn":0}`, ""},
	{"a recording", `{"id":"a","audio":"a.wav","channels":["caller","agent"],"label":"benign","minutes":4,"note":"x"}`, ""},
	{"a number of channels", `{"id":"a","audio":"a.wav","channels":1,"text":"yes"}`, ""},
	{"a text", `{"id":"a","text":"hello","label":"unclear","tactics":["computer_steering","press_key"]}`, ""},
	{"a code", `{"id":"a","audio":"a.wav","digits":"0123"}`, ""},
	{"nulls", `{"id":"a","text":"hello","turns":null,"first_actionable_turn":null,"label":""}`, ""},

	{"no JSON", `{"id":"a",`, "no JSON"},
	{"two values", `{"id":"a","text":"x"} {}`, "no JSON"},
	{"no object", `["a"]`, "a array is no item"},
	{"no id", `{"text":"hello"}`, "id: missing"},
	{"id of another type", `{"id":7,"text":"hello"}`, "id: a number is no string"},
	{"nothing to judge", `{"id":"a","label":"scam"}`, "audio, turns or text: one is needed"},
	{"unknown label", `{"id":"a","text":"x","label":"fraud"}`, `label: "fraud" is none of`},
	{"unknown tactic", `{"id":"a","text":"x","tactics":["otp_reqest"]}`, `tactics: "otp_reqest" is unknown`},
	{"unknown tactic of a turn", `{"id":"a","turns":[{"text":"x"},{"text":"x","tactics":["no"]}]}`, `turns[1].tactics: "no" is unknown`},
	{"turn that ends first", `{"id":"a","turns":[{"text":"x","start":2,"end":1}]}`, "turns[0].end: 1 is before start, 2"},
	{"turn before the call", `{"id":"a","turns":[{"text":"x","start":-1}]}`, "turns[0].start: -1 must be from 0 to 86400"},
	{"turn after days", `{"id":"a","turns":[{"text":"x","end":1e9}]}`, "turns[0].end: 1e+09 must be from 0 to 86400"},
	{"actionable turn that is none", `{"id":"a","turns":[{"text":"x"}],"first_actionable_turn":1}`, "first_actionable_turn: 1 is none of 1 turns"},
	{"actionable turn of a text", `{"id":"a","text":"x","first_actionable_turn":0}`, "first_actionable_turn: 0 is none of 0 turns"},
	{"three channels", `{"id":"a","audio":"a.wav","channels":["caller","callee","mixed"]}`, "channels: 3 roles"},
	{"channels of another type", `{"id":"a","audio":"a.wav","channels":"caller"}`, "channels: must be a list of roles or a number"},
	{"code with a letter", `{"id":"a","audio":"a.wav","digits":"12o4"}`, `digits: 'o' is no digit`},
}

func TestManifestLineIsReadOrRefusedByRule(t *testing.T) {
	for _, tt := range manifestLines {
		t.Run(tt.name, func(t *testing.T) {
			items, bad, err := parseManifest(strings.NewReader("\n"+tt.line+"\n"), "m.jsonl", map[string]Item{})
			if err != nil {
				t.Fatal(err)
			}
			if tt.rule == "" {
				if len(items) != 1 || len(bad) != 0 {
					t.Fatalf("%d items, bad %v", len(items), bad)
				}
				return
			}
			if len(items) != 0 || len(bad) != 1 {
				t.Fatalf("%d items, bad %v; want it refused", len(items), bad)
			}
			if msg := bad[0].Error(); !strings.HasPrefix(msg, "m.jsonl:2: ") || !strings.Contains(msg, tt.rule) {
				t.Errorf("says %q, want m.jsonl:2: and %q", msg, tt.rule)
			}
		})
	}
}

func TestBadLinesLeaveTheRest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("one.jsonl", "{\"id\":\"a\",\"text\":\"x\"}\n\n!\n{\"id\":\"b\",\"text\":\"x\"}\n{\"id\":\"a\",\"text\":\"y\"}\n")
	two := write("two.jsonl", "{\"id\":\"b\",\"text\":\"x\"}\n{\"id\":\"c\",\"text\":\"x\"}\n")
	items, bad, err := ReadManifests([]string{one, two})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, it := range items {
		ids = append(ids, it.ID)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(ids, want) {
		t.Errorf("items %v, want %v", ids, want)
	}
	var at []string
	for _, b := range bad {
		var line *LineError
		if !errors.As(b, &line) {
			t.Fatalf("%v is no LineError", b)
		}
		at = append(at, filepath.Base(line.File)+":"+string(rune('0'+line.Line)))
	}
	if want := []string{"one.jsonl:3", "one.jsonl:5", "two.jsonl:1"}; !slices.Equal(at, want) {
		t.Errorf("bad lines %v, want %v", at, want)
	}
	if _, _, err := ReadManifests([]string{filepath.Join(dir, "none.jsonl")}); err == nil {
		t.Error("a manifest that is missing is no error")
	}
}

func TestLineWithoutEndIsRefusedOnce(t *testing.T) {
	text := "{\"id\":\"a\",\"text\":\"x\"}\n" + strings.Repeat("x", maxLine+1)
	items, bad, err := parseManifest(strings.NewReader(text), "m", map[string]Item{})
	if err != nil || len(items) != 1 || len(bad) != 1 || !strings.HasPrefix(bad[0].Error(), "m:2: longer than") {
		t.Errorf("%d items, bad %v, err %v", len(items), bad, err)
	}
}

func TestAudioIsFoundBesideTheManifestOrAbove(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "sets", "one")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(root, "above.wav"), filepath.Join(deep, "beside.wav"), filepath.Join(root, "both.wav"), filepath.Join(deep, "both.wav")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"above.wav": root, "beside.wav": deep, "both.wav": deep} {
		got, err := Item{Audio: name, file: filepath.Join(deep, "m.jsonl")}.locate()
		if err != nil || got != filepath.Join(want, name) {
			t.Errorf("%s: %s, %v; want it in %s", name, got, err, want)
		}
	}
	if _, err := (Item{Audio: "none-of-that-name.wav", file: filepath.Join(deep, "m.jsonl")}).locate(); err == nil {
		t.Error("a missing recording is found")
	}
}

func TestRolesSpeakOnTheirLegs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		roles []string
		want  []audio.Leg
	}{
		{"named", []string{"caller", "callee"}, []audio.Leg{audio.Caller, audio.Callee}},
		{"agent was called", []string{"caller", "agent"}, []audio.Leg{audio.Caller, audio.Callee}},
		{"agent calls", []string{"callee", "agent"}, []audio.Leg{audio.Callee, audio.Caller}},
		{"customer calls", []string{"customer", "callee"}, []audio.Leg{audio.Caller, audio.Callee}},
		{"nobody says who called", []string{"customer", "agent"}, []audio.Leg{audio.Callee, audio.Caller}},
		{"parties", []string{"party_a", "party_b"}, []audio.Leg{audio.Caller, audio.Callee}},
		{"mixed", []string{"mixed", "unknown"}, []audio.Leg{audio.Unknown, audio.Unknown}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			it := Item{Channels: tt.roles}
			for i, role := range tt.roles {
				if got := it.leg(role); got != tt.want[i] {
					t.Errorf("%s speaks on %v, want %v", role, got, tt.want[i])
				}
			}
		})
	}
}

func TestExpectedTacticsAreThoseOfTurnsWhereGiven(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       []string
		ok         bool
	}{
		{"of the item", `{"id":"a","text":"x","tactics":["urgency","lure_prize","otp_request"]}`, []string{"otp_request", "urgency"}, true},
		{"of turns", `{"id":"a","tactics":["urgency"],"turns":[{"text":"x","tactics":["secrecy"]},{"text":"x","tactics":["secrecy","press_key"]}]}`, []string{"press_key", "secrecy"}, true},
		{"of the item, turns have none", `{"id":"a","tactics":["urgency"],"turns":[{"text":"x"}]}`, []string{"urgency"}, true},
		{"known to be none", `{"id":"a","text":"x","tactics":[]}`, nil, true},
		{"not known", `{"id":"a","text":"x"}`, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			it, err := parseItem([]byte(tt.line))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := it.expected(); !slices.Equal(got, tt.want) || ok != tt.ok {
				t.Errorf("%v, %v; want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestTurnsWithoutTimesFollowOneAnother(t *testing.T) {
	it, err := parseItem([]byte(`{"id":"a","turns":[
		{"role":"caller","text":"one two three four five six seven eight nine ten eleven twelve thirteen"},
		{"role":"callee","text":"yes","start":9},
		{"role":"caller","text":"overlapping","start":8,"end":10},
		{"role":"caller","text":"again","start":9.5,"end":11}]}`))
	if err != nil {
		t.Fatal(err)
	}
	script, err := it.transcript()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range script.Lines {
		got = append(got, l.Leg.String()+" "+l.Start.String()+" "+l.End.String())
	}
	want := []string{"caller 0s 5s", "callee 9s 9.384615384s", "caller 8s 10s", "caller 10s 11s"}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q\nwant  %q", got, want)
	}
}

func TestOneUnknownRoleMakesAllOneLeg(t *testing.T) {
	it, err := parseItem([]byte(`{"id":"a","turns":[{"role":"caller","text":"one"},{"role":"mixed","text":"two"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	call, script, err := it.textCall()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(call.Legs, []audio.Leg{audio.Unknown}) || len(script.Lines) != 2 || script.Lines[0].Leg != audio.Unknown {
		t.Errorf("legs %v, lines %v", call.Legs, script.Lines)
	}
}

func TestCaptionsWithoutPunctuationAreCut(t *testing.T) {
	text := strings.Repeat("word ", 2*maxSentence) + "Then. One sentence! And the rest"
	var lengths []int
	for _, s := range sentences(text) {
		lengths = append(lengths, len(strings.Fields(s)))
	}
	if want := []int{maxSentence, maxSentence, 3, 3}; !slices.Equal(lengths, want) {
		t.Errorf("lengths %v, want %v", lengths, want)
	}
}

// Whatever the bytes, every line is an item, an error with its number, or
// empty, and no id is there twice.
func FuzzParseManifest(f *testing.F) {
	for _, tt := range manifestLines {
		f.Add(tt.line + "\n" + tt.line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		seen := map[string]Item{}
		items, bad, err := parseManifest(strings.NewReader(text), "m", seen)
		if err != nil {
			t.Fatal(err)
		}
		if len(items)+len(bad) > lines || len(items) != len(slices.Collect(maps.Keys(seen))) {
			t.Fatalf("%d items and %d bad of %d lines, %d ids", len(items), len(bad), lines, len(seen))
		}
		for _, b := range bad {
			var e *LineError
			if !errors.As(b, &e) || e.Line < 1 || e.Line > lines {
				t.Fatalf("bad line %v of %d", b, lines)
			}
		}
		for _, it := range items {
			if !it.hasWords() {
				continue
			}
			if _, _, err := it.textCall(); err != nil {
				var e *LineError
				if !errors.As(err, &e) {
					t.Fatalf("%v names no line", err)
				}
			}
		}
	})
}
