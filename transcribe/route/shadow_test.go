package route

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const halfHeard = `
0.2 2.1 callee final good morning this is the security apartment
2.2 3.8 callee final what code i have no
5.0 8.5 callee final four seven one nine
9.0 10.0 callee final thank you and good bye
`

func TestShadowIsComparedWordByWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := New(config(Rule{Backend: "a", Shadow: "b"}),
			map[string]transcribe.Engine{"a": speaker(call), "b": speaker(halfHeard)}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			s, err := e.Open(t.Context(), transcribe.Options{Call: fmt.Sprint(i), Leg: audio.Callee})
			if err != nil {
				t.Fatal(err)
			}
			if got := told(t, s, 10500*time.Millisecond, synctest.Wait); len(got) != 4 || !strings.Contains(got[0], "department") {
				t.Errorf("told %q", got)
			}
			synctest.Wait()
		}
		s := e.Stats().Shadows[0]
		if s.Backend != "a" || s.Shadow != "b" || s.Sessions != 3 || s.Failures != 0 || s.Dropped != 0 || s.Heard != 3*10500*time.Millisecond {
			t.Errorf("stats are %+v", s)
		}
		if s.Words != 3*22 || s.ShadowWords != 3*21 || s.Differences != 3*2 {
			t.Errorf("%d and %d words with %d differences", s.Words, s.ShadowWords, s.Differences)
		}
		if share, ok := s.Agreement(); !ok || math.Abs(share-20.0/22) > 1e-9 {
			t.Errorf("agreement is %v", share)
		}
		if s.Lag.N != 12 || s.ShadowLag.N != 12 {
			t.Errorf("lags are %+v and %+v", s.Lag, s.ShadowLag)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A shadow that does not answer costs the leg nothing but a bounded queue.
func TestShadowThatStallsDropsItsAudio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := New(config(Rule{Backend: "a", Shadow: "b"}),
			map[string]transcribe.Engine{"a": speaker(call), "b": &slow{speaker(call), 2 * time.Second}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
		if err != nil {
			t.Fatal(err)
		}
		sh := s.(*session).shadow
		began := time.Now()
		for at := time.Duration(0); at < time.Minute; at += 100 * time.Millisecond {
			if _, err := s.Write(t.Context(), audio.Frame{Leg: audio.Callee, Start: at, Rate: 8000, PCM: make([]int16, 800)}); err != nil {
				t.Fatal(err)
			}
			if at < 2*time.Second {
				synctest.Wait()
			}
			sh.mu.Lock()
			held := sh.held
			sh.mu.Unlock()
			if held > e.cfg.ShadowQueue {
				t.Fatalf("%v wait for the shadow", held)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the leg took %v", took)
		}
		if stats := e.Stats().Shadows[0]; stats.Dropped < 50*time.Second {
			t.Errorf("stats are %+v", stats)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestShadowThatFailsIsCountedAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := New(config(Rule{Backend: "a", Shadow: "b"}), map[string]transcribe.Engine{
			"a": speaker(call), "b": &mortal{speaker(call), 4 * time.Second, fmt.Errorf("crashed")},
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
		if err != nil {
			t.Fatal(err)
		}
		var all []transcribe.Segment
		for at := time.Duration(0); at < 10500*time.Millisecond; at += 100 * time.Millisecond {
			segs, err := s.Write(t.Context(), audio.Frame{Leg: audio.Callee, Start: at, Rate: 8000, PCM: make([]int16, 800)})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, segs...)
			synctest.Wait()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := len(slices.DeleteFunc(all, func(s transcribe.Segment) bool { return !s.Final })); n != 4 {
			t.Errorf("told %d final segments, want 4", n)
		}
		stats := e.Stats().Shadows[0]
		if stats.Failures != 1 || stats.Words != 13 || stats.Differences != 0 {
			t.Errorf("stats are %+v, want a failure and the words until then compared", stats)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Phrase lists are the business of backends that take them.
func TestShadowHearsOnlyWhatItCan(t *testing.T) {
	e := newRoute(t, config(Rule{Backend: "a", Shadow: "b", ShadowShare: 0.5}), map[string]transcribe.Engine{"a": &listener{speaker(call)}, "b": speaker(call)})
	heard := 0
	for i := range 200 {
		for _, phrases := range [][]string{nil, {"gift card"}} {
			s, err := e.Open(t.Context(), transcribe.Options{Call: fmt.Sprint(i), Leg: audio.Callee, Phrases: phrases})
			if err != nil {
				t.Fatal(err)
			}
			if s.(*session).shadow != nil {
				heard++
				if phrases != nil {
					t.Errorf("a shadow that takes no phrase list got one")
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if heard < 80 || heard > 120 {
		t.Errorf("the shadow of half of the calls heard %d of 200", heard)
	}
}

// listener ignores phrase lists instead of refusing them.
type listener struct{ transcribe.Engine }

func (l *listener) Open(ctx context.Context, opt transcribe.Options) (transcribe.Session, error) {
	opt.Phrases = nil
	return l.Engine.Open(ctx, opt)
}

func TestLargerShareHasTheCallsOfTheSmaller(t *testing.T) {
	small, large := &rule{Rule: Rule{ShadowShare: 0.2}}, &rule{Rule: Rule{ShadowShare: 0.6}}
	for i := range 1000 {
		if id := fmt.Sprint("call", i); small.chosen(id) && !large.chosen(id) {
			t.Fatalf("%s is in a fifth and not in three fifths", id)
		}
	}
}

func TestDistanceIsTheLeastNumberOfChanges(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a b c", "", 3},
		{"", "a b", 2},
		{"a b c", "a b c", 0},
		{"a b c", "a x c", 1},
		{"a b c", "b c", 1},
		{"b c", "a b c d", 2},
		{"read me the code", "read the cold", 2},
	} {
		if got := distance(strings.Fields(c.a), strings.Fields(c.b)); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// Long calls are compared piece by piece, and a piece does not end in the
// middle of what one side has yet to say.
func TestLongTalkIsComparedInPieces(t *testing.T) {
	p := &pair{}
	m := newMeasure(p)
	said := func(at int, texts ...string) transcribe.Segment {
		seg := transcribe.Segment{Final: true, Start: time.Duration(at) * time.Second, Text: strings.Join(texts, " ")}
		seg.End = seg.Start + time.Second
		return seg
	}
	now := time.Now()
	for i := range 1000 {
		m.hear(leg, []transcribe.Segment{said(i, "one", "two", fmt.Sprint(i))}, now)
		if i >= 3 { // the shadow says it later
			m.hear(other, []transcribe.Segment{said(i-3, "one", "too", fmt.Sprint(i-3))}, now)
		}
		if n := len(m.sides[leg].words); n > 2*compareWords+30 {
			t.Fatalf("%d words wait to be compared", n)
		}
	}
	for i := 997; i < 1000; i++ {
		m.hear(other, []transcribe.Segment{said(i, "one", "too", fmt.Sprint(i))}, now)
	}
	m.end(true)
	if p.words != 3000 || p.shadowWords != 3000 || p.differences != 1000 {
		t.Errorf("%d and %d words with %d differences, want 3000, 3000 and 1000", p.words, p.shadowWords, p.differences)
	}
}

func TestCollectorTellsTheStats(t *testing.T) {
	cfg := config(Rule{Backend: "a", Fallback: "b", Shadow: "c"})
	cfg.ShadowQueue = time.Minute
	e := newRoute(t, cfg, map[string]transcribe.Engine{"a": speaker(call), "b": speaker(call), "c": speaker(call)})
	s, err := e.Open(t.Context(), transcribe.Options{Call: "c1", Leg: audio.Callee})
	if err != nil {
		t.Fatal(err)
	}
	told(t, s, 10500*time.Millisecond)
	e.shadows.Wait()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(e.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetSummary().GetSampleCount())
			if strings.Contains(f.GetName(), "busy") {
				v = 0 // the machine's
			}
			got = append(got, fmt.Sprintf("%s %s %v", strings.TrimPrefix(f.GetName(), "callwarden_route_"), strings.Join(labels, ","), v))
		}
	}
	want := []string{
		"away a 0", "away b 0", "away c 0",
		"failures_total a 0", "failures_total b 0", "failures_total c 0",
		"sessions_total a 1", "sessions_total b 0", "sessions_total c 0",
		"shadow_audio_seconds_total a,c 10.5", "shadow_backend_lag_seconds a,c 4", "shadow_busy_seconds_total a,c 0",
		"shadow_compared_words_total a,c 22", "shadow_different_words_total a,c 0", "shadow_dropped_seconds_total a,c 0",
		"shadow_failures_total a,c 0", "shadow_lag_seconds a,c 4", "shadow_sessions_total a,c 1",
		"takeovers_total a 0", "takeovers_total b 0", "takeovers_total c 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The page lists the metrics as they are.
func TestPageListsTheMetrics(t *testing.T) {
	page, err := os.ReadFile("../../docs/backends.md")
	if err != nil {
		t.Fatal(err)
	}
	e := newRoute(t, config(Rule{Backend: "a", Fallback: "b", Shadow: "c"}), map[string]transcribe.Engine{"a": speaker(call), "b": speaker(call), "c": speaker(call)})
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(e.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, f := range families {
		row := fmt.Sprintf("| `%s` | %s |", f.GetName(), strings.ToLower(f.GetType().String()))
		if !strings.Contains(string(page), row) || !strings.Contains(string(page), "| "+f.GetHelp()+" |") {
			t.Errorf("docs/backends.md lacks %s … | %s |", row, f.GetHelp())
		}
		rows++
	}
	if n := strings.Count(string(page), "| `callwarden_route_"); n != rows {
		t.Errorf("docs/backends.md has %d metrics, there are %d", n, rows)
	}
}
