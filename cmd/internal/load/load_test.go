package load

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/testdata"
	"github.com/callwarden/callwarden/transcribe/audio"
	"google.golang.org/protobuf/types/known/durationpb"
)

func recording(name string, seconds int) *Recording {
	r := &Recording{Name: name, Fraud: strings.HasPrefix(name, "fraud"), RateHz: 8000}
	for i := range r.Legs {
		r.Legs[i] = make([]int16, seconds*r.RateHz)
	}
	return r
}

func TestOurOwnRecordingsAreCalls(t *testing.T) {
	rs, err := ReadFS(testdata.Calls)
	if err != nil {
		t.Fatal(err)
	}
	frauds := 0
	for _, r := range rs {
		if r.Fraud {
			frauds++
		}
		if r.RateHz != 8000 || len(r.Legs[0]) != len(r.Legs[1]) || r.Length() < 20*time.Second {
			t.Errorf("%s: %d Hz, %v", r.Name, r.RateHz, r.Length())
		}
	}
	if len(rs) != 6 || frauds != 3 {
		t.Errorf("%d recordings, %d frauds, want 6 and 3", len(rs), frauds)
	}
	if got := Speech(rs); got < 0.35 || got > 0.5 {
		t.Errorf("%.0f %% of the legs' time is speech", 100*got)
	}
	for _, share := range []float64{0.43, 0.2} {
		Fit(rs, share)
		if got := Speech(rs); got < share-0.02 || got > share+0.02 {
			t.Errorf("%.1f %% is speech, want %.0f", 100*got, 100*share)
		}
		for _, r := range rs {
			if len(r.Legs[0]) != len(r.Legs[1]) {
				t.Errorf("%s: legs of %d and %d samples", r.Name, len(r.Legs[0]), len(r.Legs[1]))
			}
		}
	}
}

func TestRecordingsThatAreNoCallsAreRefused(t *testing.T) {
	for name, data := range map[string]string{"no WAV": "speech", "empty": ""} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.wav"), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFS(os.DirFS(dir)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := ReadFS(os.DirFS(t.TempDir())); err == nil {
		t.Error("an empty folder: taken")
	}
}

func TestFramesComeWhenTheyHaveBeenSpoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recording("ordinary.wav", 1)
		p := &player{r: r, began: time.Now()}
		for n := 0; ; n++ {
			f, err := p.ReadFrame(t.Context())
			if errors.Is(err, io.EOF) {
				if n != 100 {
					t.Errorf("%d frames, want 50 of each leg", n)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			leg, start := []audio.Leg{audio.Caller, audio.Callee}[n%2], time.Duration(n/2)*frameLength
			if f.Leg != leg || f.Start != start || time.Since(p.began) != f.End() {
				t.Fatalf("frame %d: %v from %v to %v at %v", n, f.Leg, f.Start, f.End(), time.Since(p.began))
			}
		}
	})
}

func TestPlayerStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		p := &player{r: recording("ordinary.wav", 1), began: time.Now()}
		if _, err := p.ReadFrame(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestSearchFindsTheMostThatIsHeld(t *testing.T) {
	for _, most := range []int{0, 1, 2, 3, 4, 7, 57, 100, 333} {
		best, tries := 0, 0
		err := search(4, func(n int) (bool, error) {
			tries++
			if n <= most {
				best = max(best, n)
			}
			return n <= most, nil
		})
		if err != nil || best > most || most-best > max(0, most/20) || tries > 20 {
			t.Errorf("found %d of %d in %d steps, %v", best, most, tries, err)
		}
	}
	broken := errors.New("broken")
	if err := search(1, func(int) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("%v, want the step's error", err)
	}
}

func TestFraudsAreTheirShareOfTheCalls(t *testing.T) {
	cfg := Config{Recordings: []*Recording{recording("fraud-a", 1), recording("b", 1), recording("fraud-c", 1), recording("d", 1), recording("e", 1)}}
	for _, share := range []float64{0, 0.05, 0.5, 1} {
		cfg.FraudShare = share
		count := map[string]int{}
		frauds := 0
		for n := range 200 {
			r := cfg.Turn(n)
			count[r.Name]++
			if r.Fraud {
				frauds++
			}
		}
		if frauds != int(200*share) {
			t.Errorf("%d frauds of 200, want %v", frauds, 200*share)
		}
		if d := count["fraud-a"] - count["fraud-c"]; d < 0 || d > 1 {
			t.Errorf("share %v: %v", share, count)
		}
		if d := count["b"] - count["e"]; d < 0 || d > 1 {
			t.Errorf("share %v: %v", share, count)
		}
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	good := Config{Recordings: []*Recording{recording("fraud", 1), recording("a", 1)}, FraudShare: 0.1, First: 1, Limit: time.Second, Measure: time.Second, Modes: []string{"full"}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Config){
		"no recordings":               func(c *Config) { c.Recordings = nil },
		"share of frauds":             func(c *Config) { c.FraudShare = 1.1 },
		"calls":                       func(c *Config) { c.Calls = -1 },
		"first step":                  func(c *Config) { c.First = 0 },
		"limit":                       func(c *Config) { c.Limit = 0 },
		"no recording of a fraud":     func(c *Config) { c.Recordings = c.Recordings[1:] },
		"no recording of an ordinary": func(c *Config) { c.Recordings = c.Recordings[:1] },
	} {
		cfg := good
		edit(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestShortCallsAreOtherPartsOfTheRecording(t *testing.T) {
	r := recording("a", 12)
	for i := range r.Legs[0] {
		r.Legs[0][i], r.Legs[1][i] = int16(i/r.RateHz), int16(i/r.RateHz)
	}
	seen := map[int16]bool{}
	for i := range 10 {
		p := r.part(i)
		if p.Length() != churnLength || len(p.Legs[1]) != len(p.Legs[0]) {
			t.Fatalf("part %d lasts %v", i, p.Length())
		}
		seen[p.Legs[0][0]] = true
	}
	if len(seen) < 4 {
		t.Errorf("the parts begin at %v s", seen)
	}
	if p := recording("b", 2).part(7); p.Length() != 2*time.Second {
		t.Errorf("of 2 s, %v", p.Length())
	}
}

func TestProbeMeasuresFromTheEndOfTheWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		began := time.Now()
		for _, id := range []string{"fraud", "honest", "half"} {
			p.begin(id, began, id == "fraud")
		}
		publish := func(at time.Duration, call string, ev sink.Event) {
			t.Helper()
			<-time.After(time.Until(began.Add(at)))
			ev.Call = call
			if err := p.Publish(t.Context(), ev); err != nil {
				t.Fatal(err)
			}
		}
		finding := func(id string, end time.Duration) sink.Event {
			return sink.Event{Data: &callwardenv1.RiskFinding{Finding: &callwardenv1.Finding{Id: id, End: durationpb.New(end)}}}
		}
		warning := sink.Event{Data: &callwardenv1.RiskLevel{Level: callwardenv1.Level_LEVEL_WARNING}}
		publish(5*time.Second, "fraud", finding("a", 4700*time.Millisecond))
		publish(6*time.Second, "fraud", finding("a", 4700*time.Millisecond)) // confirmed
		publish(7*time.Second, "fraud", warning)
		publish(8*time.Second, "fraud", warning)
		publish(9*time.Second, "honest", warning)
		publish(9*time.Second, "gone", warning)
		publish(9*time.Second, "honest", sink.Event{Data: &callwardenv1.CallEnded{Legs: []*callwardenv1.LegStatus{{Dropped: durationpb.New(time.Second)}}}})
		p.end("fraud", true)
		p.end("honest", true)
		p.end("half", false)
		got := p.take()
		want := Seen{
			Ended: 2, Incomplete: 1, Frauds: 1, Alerted: 1, FalseAlarms: 1, Dropped: time.Second,
			Delays: []time.Duration{300 * time.Millisecond}, Alerts: []time.Duration{7 * time.Second},
		}
		if !slices.Equal(got.Delays, want.Delays) || !slices.Equal(got.Alerts, want.Alerts) {
			t.Errorf("delays %v, alerts %v, want %v, %v", got.Delays, got.Alerts, want.Delays, want.Alerts)
		}
		got.Delays, got.Alerts, want.Delays, want.Alerts = nil, nil, nil, nil
		if got.Ended != want.Ended || got.Incomplete != want.Incomplete || got.Frauds != want.Frauds || got.Alerted != want.Alerted || got.FalseAlarms != want.FalseAlarms || got.Dropped != want.Dropped {
			t.Errorf("%+v, want %+v", got, want)
		}
		if again := p.take(); again.Ended != 0 {
			t.Errorf("taken twice: %+v", again)
		}
	})
}

func TestPageShowsEachWaysCurve(t *testing.T) {
	step := func(n int, lag float64, held bool) *Step {
		return &Step{Calls: n, Held: held, LagP95MS: lag, CPU: float64(n) / 20, MemoryMB: 200, Delay: &Percentile{9, 300, 500, 600, 700}}
	}
	r := &Results{Backend: "vosk", Cores: 2, LagLimitMS: 500, Bare: &Bare{CallsPerCore: 4, CPUPerCallMinute: 15}}
	for _, way := range []string{"screen", "full"} {
		w := &Way{Listen: way, Note: "<b>why</b>", Steps: []*Step{step(10, 80, true), step(40, 9000, false), step(20, 200, true)}}
		w.conclude()
		r.add(w)
		if w.Calls != 20 || w.CallsPerCore != 10 || w.TimesBare != 2.5 {
			t.Errorf("%s: %d calls, %v a core, %v times bare", way, w.Calls, w.CallsPerCore, w.TimesBare)
		}
	}
	name := filepath.Join(t.TempDir(), "bench.html")
	if err := r.WritePage(name); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	if n := strings.Count(text, "<polyline"); n != 8 {
		t.Errorf("%d curves, want four of each way", n)
	}
	for _, never := range []string{"<b>why", "NaN", "Inf", "ZgotmplZ", "http://", "https://"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
}
