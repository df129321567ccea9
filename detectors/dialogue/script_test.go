package dialogue_test

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/dialogue"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// A script file holds calls:
//
//	== what the call proves
//	caller: please read me the code           a final segment; times are made up
//	callee~ four seven                        an unfinished one
//	callee# 4729                              keypad digits
//	-- findings --
//	otp_request caller                        confirmed and not muted, once or more
//	otp_readback callee x1                    exactly once
//	otp_request caller muted                  confirmed and muted
//	no gift_card_request                      never unmuted, not even provisional
//	-- level --
//	critical                                  the highest level of the call
//
// "notice or less" and "warning or more" do for levels too.
type script struct {
	file, name string
	line       int
	lines      []string
	findings   []string
	level      string
}

func readScripts(t testing.TB) []script {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var list []script
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		section := ""
		n := 0
		for sc := bufio.NewScanner(strings.NewReader(string(data))); sc.Scan(); {
			n++
			line := strings.TrimSpace(sc.Text())
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "== "):
				list = append(list, script{file: filepath.Base(name), name: line[3:], line: n})
				section = ""
			case strings.HasPrefix(line, "-- "):
				section = line
			case len(list) == 0:
				t.Fatalf("%s:%d: before the first call", name, n)
			default:
				s := &list[len(list)-1]
				switch section {
				case "":
					s.lines = append(s.lines, line)
				case "-- findings --":
					s.findings = append(s.findings, line)
				case "-- level --":
					s.level = line
				default:
					t.Fatalf("%s:%d: section %s", name, n, section)
				}
			}
		}
	}
	return list
}

// player feeds a detector and a meter with a script.
type player struct {
	detector  *dialogue.Detector
	meter     *risk.Meter
	at        time.Duration
	utterance [3]int
	all       []detectors.Finding
}

func (p *player) find(list []detectors.Finding) {
	for _, f := range list {
		p.meter.Observe(f, p.at)
		p.all = append(p.all, f)
	}
}

const perWord = 350 * time.Millisecond // ordinary talk is 170 words a minute

func (p *player) say(t testing.TB, line string, swap func(audio.Leg) audio.Leg) {
	i := strings.IndexAny(line, ":~#")
	if i < 0 {
		t.Fatalf("line %q has no speaker", line)
	}
	side, err := audio.ParseLeg(line[:i])
	if err != nil {
		t.Fatal(err)
	}
	side = swap(side)
	text := strings.TrimSpace(line[i+1:])
	if line[i] == '#' {
		p.at += time.Second
		p.find(p.detector.Digits(side, text, p.at))
		return
	}
	end := p.at + time.Duration(len(strings.Fields(text)))*perWord
	seg := transcribe.Segment{Leg: side, Utterance: p.utterance[side], Final: line[i] == ':', Start: p.at, End: end, Text: text}
	if seg.Final {
		p.at = end
		p.find(p.detector.Observe(seg))
		p.at += 700 * time.Millisecond
		p.utterance[side]++
		return
	}
	p.find(p.detector.Observe(seg))
}

func play(t testing.TB, lib *tactics.Library, s script, swap func(audio.Leg) audio.Leg) *player {
	p := &player{detector: dialogue.New(lib.Set, dialogue.Config{}), meter: risk.NewMeter(risk.DefaultConfig())}
	for _, line := range s.lines {
		p.say(t, line, swap)
	}
	return p
}

func library(t testing.TB) *tactics.Library {
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func asSaid(l audio.Leg) audio.Leg  { return l }
func unknown(audio.Leg) audio.Leg   { return audio.Unknown }
func swapped(l audio.Leg) audio.Leg { return l.Other() }

func TestScripts(t *testing.T) {
	lib := library(t)
	for _, s := range readScripts(t) {
		t.Run(s.file+"/"+s.name, func(t *testing.T) {
			p := play(t, lib, s, asSaid)
			check(t, s, p)
		})
	}
}

func check(t *testing.T, s script, p *player) {
	t.Helper()
	for _, want := range s.findings {
		fields := strings.Fields(want)
		if fields[0] == "no" {
			for _, f := range p.all {
				if f.Tactic == fields[1] && f.Muted == "" && (len(fields) < 3 || f.Leg.String() == fields[2]) {
					t.Errorf("%s:%d: %s, got %q by %s", s.file, s.line, want, f.Words, f.Rule)
				}
			}
			continue
		}
		n := 0
		for _, f := range p.all {
			muted := slices.Contains(fields, "muted")
			if f.Tactic == fields[0] && f.Leg.String() == fields[1] && f.State == detectors.Confirmed && (f.Muted != "") == muted {
				n++
			}
		}
		if n == 0 || (slices.Contains(fields, "x1") && n != 1) {
			t.Errorf("%s:%d: want %s, got %d of them in %s", s.file, s.line, want, n, told(p.all))
		}
	}
	if s.level != "" && !fitsLevel(s.level, p.meter.Peak().Level) {
		t.Errorf("%s:%d: level %v, want %s: %s", s.file, s.line, p.meter.Peak().Level, s.level, told(p.all))
	}
}

func fitsLevel(want string, got risk.Level) bool {
	name, how, _ := strings.Cut(want, " ")
	for l := risk.None; l <= risk.Critical; l++ {
		if l.String() != name {
			continue
		}
		switch how {
		case "or less":
			return got <= l
		case "or more":
			return got >= l
		}
		return got == l
	}
	return false
}

func told(list []detectors.Finding) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString("\n\t" + f.State.String() + " " + f.ID + " " + f.Rule + " " + f.Muted + " \"" + f.Words + "\"")
	}
	return b.String()
}

// TestRolesDoNotMatter: whoever called, the same words have the same level.
func TestLevelsAreTheSameWithLegsSwapped(t *testing.T) {
	lib := library(t)
	for _, s := range readScripts(t) {
		want := play(t, lib, s, asSaid).meter.Peak().Level
		if got := play(t, lib, s, swapped).meter.Peak().Level; got != want {
			t.Errorf("%s:%d: %s: legs swapped: %v, want %v", s.file, s.line, s.name, got, want)
		}
	}
}

func TestFraudsAlertOnOneUnknownLeg(t *testing.T) {
	lib := library(t)
	for _, s := range readScripts(t) {
		want := play(t, lib, s, asSaid).meter.Peak().Level
		p := play(t, lib, s, unknown)
		if s.file == "hints.txt" {
			// Without sides a machine that tells a code looks the same.
			for _, f := range p.all {
				if strings.HasSuffix(f.Rule, "after-hints") {
					t.Errorf("%s:%d: %s: on one leg: %s", s.file, s.line, s.name, f.ID)
				}
			}
			continue
		}
		if got := p.meter.Peak().Level; want >= risk.Warning && got < risk.Warning {
			t.Errorf("%s:%d: %s: on one leg: %v, want %v: %s", s.file, s.line, s.name, got, want, told(p.all))
		}
	}
}
