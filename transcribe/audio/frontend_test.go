package audio

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newFrontEnd(t testing.TB, cfg FrontEndConfig) *FrontEnd {
	t.Helper()
	e, err := NewFrontEnd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// stretch is a run of frames that follow one another without a gap.
type stretch struct {
	start  time.Duration
	pcm    []int16
	frames time.Duration // each may be off by a rounded nanosecond
}

// joiner puts frames together and checks that time never steps back.
type joiner struct {
	rateHz    int
	end       time.Duration
	stretches []stretch
}

func (j *joiner) add(t interface{ Fatalf(string, ...any) }, frames []Frame, err error) {
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, f := range frames {
		if f.Rate != j.rateHz || len(f.PCM) == 0 {
			t.Fatalf("%d samples at %d Hz", len(f.PCM), f.Rate)
		}
		if f.Start < j.end-time.Nanosecond {
			t.Fatalf("starts at %v, before %v", f.Start, j.end)
		}
		if n := len(j.stretches); n == 0 || f.Start > j.end+time.Nanosecond {
			j.stretches = append(j.stretches, stretch{start: f.Start})
		}
		last := &j.stretches[len(j.stretches)-1]
		last.pcm = append(last.pcm, f.PCM...)
		last.frames++
		if want := last.start + Span(len(last.pcm), f.Rate); f.End()-want > last.frames || want-f.End() > last.frames {
			t.Fatalf("ends at %v, its samples at %v", f.End(), want)
		}
		j.end = f.End()
	}
}

// hear sends pcm through e in frames of n samples.
func hear(t testing.TB, e *FrontEnd, pcm []int16, rateHz, n int) []stretch {
	t.Helper()
	j := joiner{rateHz: e.rateHz}
	for at := 0; at < len(pcm); at += n {
		frames, err := e.Process(Frame{Leg: Caller, Start: Span(at, rateHz), Rate: rateHz, PCM: pcm[at:min(at+n, len(pcm))]})
		j.add(t, frames, err)
	}
	j.add(t, e.Flush(), nil)
	return j.stretches
}

// talk is n samples that rise and fall as speech does: bursts of a buzz at
// 4 Hz, of the given rms while they last, over a noise 40 dB below.
func talk(n, rateHz int, rms float64) []int16 {
	pcm := make([]int16, n)
	noise := band{seed: 9}
	for i := range pcm {
		t := float64(i) / float64(rateHz)
		v := rms / 100 * float64(noise.noise())
		if math.Mod(t, 0.25) < 0.15 {
			for _, hz := range []float64{150, 450, 1050, 2100} {
				v += rms / math.Sqrt2 * math.Sin(2*math.Pi*hz*t)
			}
		}
		pcm[i] = int16(min(max(v, -32768), 32767))
	}
	return pcm
}

func rmsOf(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

// bandLevel is the rms of what pcm holds between two frequencies, by a sum of
// single-bin transforms over blocks.
func bandLevel(pcm []int16, rateHz int, fromHz, toHz float64) float64 {
	const block = 512
	power, blocks := 0.0, 0
	for at := 0; at+block <= len(pcm); at += block {
		blocks++
		for k := 1; k < block/2; k++ {
			hz := float64(k) * float64(rateHz) / block
			if hz < fromHz || hz >= toHz {
				continue
			}
			var re, im float64
			for i, v := range pcm[at : at+block] {
				window := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/block)
				s, c := math.Sincos(2 * math.Pi * float64(k*i%block) / block)
				re += window * float64(v) * c
				im += window * float64(v) * s
			}
			power += 2 * (re*re + im*im) / (block * block) / 0.375
		}
	}
	return math.Sqrt(power / float64(max(1, blocks)))
}

func TestFrontEndFillsTheBandThatTheTelephoneTakes(t *testing.T) {
	pcm := say(16000, 8000, 60, 3800)
	empty := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: Unfilled}), pcm, 8000, 160)[0].pcm
	if got := bandLevel(empty, 16000, 4700, 8000); got > 5 {
		t.Errorf("unfilled, the upper band has an rms of %.1f", got)
	}
	for _, filling := range []Filling{Learned, Simple} {
		filled := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: filling}), pcm, 8000, 160)[0].pcm
		if got := bandLevel(filled, 16000, 4700, 8000); got < 20 || got > 1000 {
			t.Errorf("filling %d: the upper band has an rms of %.1f", filling, got)
		}
		below, was := bandLevel(filled, 16000, 300, 3400), bandLevel(empty, 16000, 300, 3400)
		if math.Abs(below-was) > was/50 {
			t.Errorf("filling %d changes the speech itself from %.0f to %.0f", filling, was, below)
		}
	}
}

// An alert that comes late is worth less; the issue of a sample may wait for no
// more than 30 ms of what follows.
func TestFrontEndLooksAheadBy30msAtMost(t *testing.T) {
	for _, in := range []int{8000, 16000, 44100, 48000} {
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		pcm := talk(2*in, in, 1500)
		given := 0
		for at := 0; at+in/100 <= len(pcm); at += in / 100 {
			frames, err := e.Process(Frame{Start: Span(at, in), Rate: in, PCM: pcm[at : at+in/100]})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				given += len(f.PCM)
			}
			if late := Span(at+in/100, in) - Span(given, 16000); late > 30*time.Millisecond {
				t.Fatalf("%d Hz: after %v, %v have not come out", in, Span(at, in), late)
			}
		}
	}
}

func TestFrontEndLeavesWideBandAlone(t *testing.T) {
	for _, in := range []int{16000, 22050, 44100, 48000} {
		t.Run(fmt.Sprint(in), func(t *testing.T) {
			pcm := talk(2*in, in, 2000)
			for i := range pcm { // an s in every half second
				if t := float64(i) / float64(in); math.Mod(t, 0.5) > 0.35 {
					pcm[i] += int16(300 * math.Sin(2*math.Pi*6000*t))
				}
			}
			filled := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000}), pcm, in, in/50)[0].pcm
			empty := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: Unfilled}), pcm, in, in/50)[0].pcm
			if !slices.Equal(filled[16000:], empty[16000:]) {
				t.Error("after a second, noise is still added")
			}
		})
	}
}

func TestFrontEndFillsTelephoneSpeechStoredAt16kHz(t *testing.T) {
	pcm := talk(16000*4, 16000, 2000) // nothing above 2.1 kHz but a noise 40 dB down
	low := newResampled(t, newResampled(t, pcm, 16000, 8000), 8000, 16000)
	for i := 8000; i < len(low); i += 8000 {
		low[i] = 20000 // clicks, as lost packets leave
	}
	out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000}), low, 16000, 320)[0].pcm
	if got := bandLevel(out[len(out)*3/4:], 16000, 4500, 8000); got < 20 {
		t.Errorf("the upper band has an rms of %.1f", got)
	}
}

// newResampled is pcm at another rate.
func newResampled(t testing.TB, pcm []int16, inHz, outHz int) (out []int16) {
	t.Helper()
	x := make([]float32, len(pcm))
	for i, v := range pcm {
		x[i] = float32(v)
	}
	for _, v := range resampler(t, inHz, outHz)(x) {
		out = append(out, clip16(v))
	}
	return out
}

func TestFrontEndToANarrowModelFillsNothing(t *testing.T) {
	pcm := talk(8000, 8000, 2000)
	filled := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 8000}), pcm, 8000, 160)[0].pcm
	empty := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 8000, Filling: Unfilled}), pcm, 8000, 160)[0].pcm
	if !slices.Equal(filled, empty) {
		t.Error("noise was added")
	}
}

func TestFrontEndLevelsSpeech(t *testing.T) {
	for _, rms := range []float64{150, 600, 2000, 8000} {
		pcm := talk(8000*8, 8000, rms)
		out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: Unfilled}), pcm, 8000, 160)[0].pcm
		var loud []int16 // the bursts of the last two seconds
		for i := 6 * 16000; i < len(out); i++ {
			if math.Mod(float64(i)/16000, 0.25) < 0.15 {
				loud = append(loud, out[i])
			}
		}
		if got := dB(rmsOf(loud) / 32768); got < -27 || got > -21 {
			t.Errorf("bursts of %.0f rms come out at %.1f dBFS, want about -24", rms, got)
		}
	}
}

func TestFrontEndDoesNotBlowUpSilence(t *testing.T) {
	noise := band{seed: 3}
	for _, level := range []float32{0, 1, 8} { // of a sample: lines without a speaker
		pcm := make([]int16, 8000*60)
		for i := range pcm {
			pcm[i] = int16(level * noise.noise())
		}
		out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: Unfilled}), pcm, 8000, 160)[0].pcm
		if got := rmsOf(out[len(out)/2:]); got > float64(2*level) {
			t.Errorf("noise of %.0f comes out with an rms of %.1f after a minute", level, got)
		}
	}
	// Nor does a long pause between two sentences change the second.
	pause := append(talk(8000*4, 8000, 500), make([]int16, 8000*60)...)
	e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	hear(t, e, pause[:8000*4], 8000, 160)
	before := e.level.now
	e = newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	hear(t, e, pause, 8000, 160)
	if after := e.level.now; after > before*1.5 || after < before/1.5 {
		t.Errorf("gain went from %.2f to %.2f in a pause", before, after)
	}
}

func TestFrontEndTakesDirectCurrentOut(t *testing.T) {
	pcm := talk(16000*2, 16000, 2000)
	for i := range pcm {
		pcm[i] += 3000
	}
	out := hear(t, newFrontEnd(t, FrontEndConfig{RateHz: 16000}), pcm, 16000, 320)[0].pcm
	sum := 0.0
	for _, v := range out[8000:] {
		sum += float64(v)
	}
	if mean := sum / float64(len(out)-8000); math.Abs(mean) > 10 {
		t.Errorf("a mean of %.0f is left of 3000", mean)
	}
}

func TestFrontEndOutputDoesNotDependOnFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SampledFrom([]int{8000, 11025, 16000, 44100, 48000}).Draw(t, "rate")
		pcm := talk(rapid.IntRange(1, in/4).Draw(t, "n"), in, 1500)
		start := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "start"))
		hearIn := func(piece func(rest int) int) stretch {
			e, err := NewFrontEnd(FrontEndConfig{RateHz: 16000})
			if err != nil {
				t.Fatal(err)
			}
			j := joiner{rateHz: 16000}
			for at := 0; at < len(pcm); {
				n := piece(len(pcm) - at)
				frames, err := e.Process(Frame{Start: start + Span(at, in), Rate: in, PCM: pcm[at : at+n]})
				j.add(t, frames, err)
				at += n
			}
			j.add(t, e.Flush(), nil)
			if len(j.stretches) != 1 {
				t.Fatalf("%d stretches", len(j.stretches))
			}
			return j.stretches[0]
		}
		whole := hearIn(func(rest int) int { return rest })
		if whole.start != start || len(whole.pcm) != (len(pcm)*16000+in-1)/in {
			t.Fatalf("%d samples from %v, of %d from %v", len(whole.pcm), whole.start, len(pcm), start)
		}
		pieces := hearIn(func(rest int) int { return rapid.IntRange(1, rest).Draw(t, "frame") })
		if pieces.start != whole.start || !slices.Equal(pieces.pcm, whole.pcm) {
			t.Fatal("the output depends on the frames")
		}
	})
}

// A click that is spoken at a moment is heard at that moment, an hour into the
// call as at its start, and after gaps.
func TestFrontEndKeepsMediaTime(t *testing.T) {
	for _, in := range []int{8000, 11025, 16000, 44100} {
		for _, start := range []time.Duration{0, time.Hour + 123*time.Millisecond} {
			e := newFrontEnd(t, FrontEndConfig{RateHz: 16000, Filling: Unfilled})
			j := joiner{rateHz: 16000}
			n := in / 50
			for frame := range 50 {
				f := Frame{Leg: Caller, Start: start + Span(frame*n, in), Rate: in, PCM: make([]int16, n)}
				if frame == 25 {
					f.PCM[n/2] = 20000
				}
				frames, err := e.Process(f)
				j.add(t, frames, err)
			}
			j.add(t, e.Flush(), nil)
			peak, at := int16(0), 0
			for i, v := range j.stretches[0].pcm {
				if v > peak {
					peak, at = v, i
				}
			}
			got, want := j.stretches[0].start+Span(at, 16000), start+Span(25*n+n/2, in)
			if d := got - want; d > 70*time.Microsecond || d < -70*time.Microsecond {
				t.Errorf("%d Hz: a click of %v is heard at %v", in, want, got)
			}
		}
	}
}

func TestFrontEndFollowsGapsOverlapsAndRateChanges(t *testing.T) {
	const ms = time.Millisecond
	type in struct {
		start time.Duration
		rate  int
		n     int
	}
	cases := []struct {
		name string
		in   []in
		want []Frame // Start, and len(PCM) in Rate
	}{
		{"a gap", []in{{0, 8000, 800}, {300 * ms, 8000, 800}}, []Frame{{Start: 0, Rate: 1600}, {Start: 300 * ms, Rate: 1600}}},
		{"a late start", []in{{5 * time.Second, 8000, 80}}, []Frame{{Start: 5 * time.Second, Rate: 160}}},
		{"an overlap", []in{{0, 8000, 800}, {50 * ms, 8000, 800}}, []Frame{{Start: 0, Rate: 2400}}},
		{"a repeat", []in{{0, 8000, 800}, {0, 8000, 800}, {100 * ms, 8000, 80}}, []Frame{{Start: 0, Rate: 1760}}},
		{"rounded times", []in{{0, 8000, 801}, {100 * ms, 8000, 799}, {200 * ms, 8000, 80}}, []Frame{{Start: 0, Rate: 3360}}},
		{"a change to wide band", []in{{0, 8000, 800}, {100 * ms, 16000, 1600}}, []Frame{{Start: 0, Rate: 3200}}},
		{"a change and back", []in{{0, 8000, 800}, {100 * ms, 16000, 1600}, {200 * ms, 8000, 800}}, []Frame{{Start: 0, Rate: 4800}}},
		{"an empty frame", []in{{0, 8000, 0}, {0, 8000, 800}, {100 * ms, 8000, 0}}, []Frame{{Start: 0, Rate: 1600}}},
		{"nothing", nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
			j := joiner{rateHz: 16000}
			for _, f := range c.in {
				frames, err := e.Process(Frame{Leg: Callee, Start: f.start, Rate: f.rate, PCM: tone(f.n, 500, float64(f.rate))})
				for _, g := range frames {
					if g.Leg != Callee {
						t.Errorf("leg %v", g.Leg)
					}
				}
				j.add(t, frames, err)
			}
			j.add(t, e.Flush(), nil)
			j.add(t, e.Flush(), nil) // nothing is left
			var got []string
			for _, s := range j.stretches {
				got = append(got, fmt.Sprintf("%v+%d", s.start, len(s.pcm)))
			}
			var want []string
			for _, f := range c.want {
				want = append(want, fmt.Sprintf("%v+%d", f.Start, f.Rate))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Time never steps back and no sample is invented, whatever the frames say.
func TestFrontEndSurvivesAnySource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := NewFrontEnd(FrontEndConfig{RateHz: 16000})
		if err != nil {
			t.Fatal(err)
		}
		j := joiner{rateHz: 16000}
		at, in := time.Duration(0), time.Duration(0)
		stretches := 1
		for range rapid.IntRange(0, 20).Draw(t, "frames") {
			rate := rapid.SampledFrom([]int{8000, 16000, 44100, 48000}).Draw(t, "rate")
			n := rapid.IntRange(0, rate/20).Draw(t, "n")
			at += time.Duration(rapid.Int64Range(-int64(50*time.Millisecond), int64(50*time.Millisecond)).Draw(t, "jump"))
			f := Frame{Start: max(at, 0), Rate: rate, PCM: make([]int16, n)}
			frames, err := e.Process(f)
			j.add(t, frames, err)
			at, in, stretches = f.End(), in+Span(n, rate), stretches+1
		}
		j.add(t, e.Flush(), nil)
		out := time.Duration(0)
		for _, s := range j.stretches {
			out += Span(len(s.pcm), 16000)
		}
		if slack := time.Duration(stretches) * Span(1, 16000); out > in+slack {
			t.Fatalf("%v of audio became %v", in, out)
		}
	})
}

func TestFrontEndRefusesRatesOutOfRange(t *testing.T) {
	if _, err := NewFrontEnd(FrontEndConfig{RateHz: 0}); err == nil {
		t.Error("a front end to 0 Hz was made")
	}
	e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
	for _, rate := range []int{-1, 0, 4000, 96000} {
		if _, err := e.Process(Frame{Rate: rate, PCM: make([]int16, 100)}); err == nil {
			t.Errorf("a frame of %d Hz was taken", rate)
		}
	}
	if frames, err := e.Process(Frame{Rate: 8000, PCM: make([]int16, 800)}); err != nil || len(frames) != 1 {
		t.Errorf("afterwards: %d frames, %v", len(frames), err)
	}
}

func TestFrontEndAllocatesNothingInSteadyState(t *testing.T) {
	for _, in := range []int{8000, 16000, 48000} {
		e := newFrontEnd(t, FrontEndConfig{RateHz: 16000})
		pcm := talk(in/50, in, 2000)
		at := 0
		next := func() {
			if _, err := e.Process(Frame{Start: Span(at, in), Rate: in, PCM: pcm}); err != nil {
				t.Fatal(err)
			}
			at += len(pcm)
		}
		for range 20 {
			next()
		}
		if n := testing.AllocsPerRun(200, next); n > 0 {
			t.Errorf("%d Hz: %v allocations a frame", in, n)
		}
	}
}
