package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// legHealth is what doctor says of one leg of a recording: a line of --json.
// Levels are in dBFS, null where there was nothing to measure.
type legHealth struct {
	File     string  `json:"file"`
	Leg      string  `json:"leg"`
	Encoding string  `json:"encoding"`
	RateHz   int     `json:"rate_hz"`
	Seconds  float64 `json:"seconds"`
	Speaking float64 `json:"speaking_s"`

	Channels []channelHealth `json:"channels"`
	Speech   *float64        `json:"speech_dbfs"`
	Noise    *float64        `json:"noise_dbfs"`
	Peak     *float64        `json:"peak_dbfs"`
	Direct   float64         `json:"direct_current"`  // of full scale
	Clipped  float64         `json:"clipped"`         // share of the samples of speech
	Silent   float64         `json:"digital_silence"` // share of the time
	HumHz    int             `json:"hum_hz"`
	Codec    string          `json:"codec"`

	// Trial is how well the recogniser heard the seconds with most sound;
	// null where it is not installed, or nobody speaks.
	Trial  *trial   `json:"trial"`
	Advice []string `json:"advice"`
}

type channelHealth struct {
	Since  float64 `json:"since_s"`
	LowHz  int     `json:"low_hz"`
	HighHz int     `json:"high_hz"`
}

// trial says how well some seconds were heard, and never the words.
type trial struct {
	From       float64 `json:"from_s"`
	Seconds    float64 `json:"seconds"`
	Words      int     `json:"words"`
	Confidence float64 `json:"confidence"`     // mean of the words'
	Better     int     `json:"better_rate_hz"` // a rate with which far more is heard; 0 for none
}

// doctorAudio says how each leg of a recording is heard, and what to do about
// it.
func (a *app) doctorAudio(ctx context.Context, path string, callerRight, asJSON bool) error {
	legs, info, err := readLegs(ctx, path, callerRight)
	if err != nil {
		return err
	}
	engine, missing := a.trialEngine()
	if engine != nil {
		defer engine.Close()
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	for i, l := range legs {
		r, err := survey(l)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		h := newLegHealth(path, info, l.leg, r)
		if engine != nil && r.Speaking > 0 {
			if h.Trial, err = tryHearing(ctx, engine, l); err != nil {
				return err
			}
		}
		h.Advice = h.advise()
		if i == 1 && alike(legs[0], l) {
			h.Advice = append(h.Advice, "both channels carry the same sound: this is one mixed recording, not two legs; record each party by itself, or make it mono")
		}
		if asJSON {
			err = enc.Encode(h)
		} else {
			err = h.print(a.out)
		}
		if err != nil {
			return err
		}
	}
	if missing != nil && !asJSON {
		fmt.Fprintf(a.out, "\nnot tried with the recogniser: %v\n", missing)
	}
	return nil
}

// legAudio is one leg of a recording. A doctor looks at minutes, not at days:
// what comes after is left out.
type legAudio struct {
	leg    audio.Leg
	rateHz int
	pcm    []int16
}

const doctorLength = 30 * time.Minute

func readLegs(ctx context.Context, path string, callerRight bool) ([]legAudio, audio.FileInfo, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{CallerRight: callerRight})
	if err != nil {
		return nil, audio.FileInfo{}, err
	}
	defer f.Close()
	var legs []legAudio
	for _, leg := range f.Info().Legs {
		legs = append(legs, legAudio{leg: leg, rateHz: f.Info().RateHz})
	}
	for {
		frame, err := f.ReadFrame(ctx)
		if errors.Is(err, io.EOF) || err == nil && frame.Start > doctorLength {
			return legs, f.Info(), nil
		}
		if err != nil {
			return nil, audio.FileInfo{}, err
		}
		i := slices.IndexFunc(legs, func(l legAudio) bool { return l.leg == frame.Leg })
		legs[i].pcm = append(legs[i].pcm, frame.PCM...)
	}
}

// frames cuts the leg into frames of 50 ms.
func (l legAudio) frames(yield func(audio.Frame) bool) {
	n := l.rateHz / 20
	for at := 0; at < len(l.pcm); at += n {
		f := audio.Frame{Leg: l.leg, Start: audio.Span(at, l.rateHz), Rate: l.rateHz, PCM: l.pcm[at:min(at+n, len(l.pcm))]}
		if !yield(f) {
			return
		}
	}
}

// modelRateHz is that of the model in the box, and of nearly all others.
const modelRateHz = 16000

func survey(l legAudio) (audio.Report, error) {
	s, err := audio.NewSurvey(modelRateHz)
	if err != nil {
		return audio.Report{}, err
	}
	for f := range l.frames {
		if err := s.Hear(f); err != nil {
			return audio.Report{}, err
		}
	}
	return s.Report(), nil
}

// alike reports whether two legs hold the same sound.
func alike(a, b legAudio) bool {
	var ab, aa, bb float64
	for i := range min(len(a.pcm), len(b.pcm)) {
		x, y := float64(a.pcm[i]), float64(b.pcm[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return aa > 0 && bb > 0 && math.Abs(ab) > 0.9*math.Sqrt(aa*bb)
}

func newLegHealth(path string, info audio.FileInfo, leg audio.Leg, r audio.Report) *legHealth {
	level := func(db float64) *float64 {
		if math.IsInf(db, 0) {
			return nil
		}
		db = math.Round(db*10) / 10
		return &db
	}
	h := &legHealth{
		File: path, Leg: leg.String(), Encoding: info.Encoding, RateHz: info.RateHz,
		Seconds: round3(r.Heard.Seconds()), Speaking: round3(r.Speaking.Seconds()),
		Channels: []channelHealth{},
		Speech:   level(r.SpeechDB), Noise: level(r.NoiseDB), Peak: level(r.PeakDB),
		Direct: round3(r.Direct), Clipped: math.Round(r.Clipped*1e5) / 1e5, Silent: round3(r.Silent),
		Codec: r.Codec, Advice: []string{},
	}
	for _, c := range r.Channels {
		if c.HumHz != 0 {
			h.HumHz = c.HumHz
		}
		if n := len(h.Channels); n > 0 && h.Channels[n-1].LowHz == c.LowHz && h.Channels[n-1].HighHz == c.HighHz {
			continue // it began to hum or clip
		}
		h.Channels = append(h.Channels, channelHealth{round3(c.At.Seconds()), c.LowHz, c.HighHz})
	}
	return h
}

func round3(v float64) float64 { return math.Round(v*1000) / 1000 }

// What doctor finds worth a sentence.
const (
	quietSpeech  = -45.0 // dBFS
	littleOver   = 15.0  // dB between speech and noise
	muchClipped  = 0.001
	muchDirect   = 0.01
	muchSilent   = 0.2
	littleHeard  = 0.7 // mean confidence
	heardBetter  = 2.0 // times the sum of confidences
	trialSeconds = 15
)

// advise says what is wrong with the leg and what to do, the worst first.
func (h *legHealth) advise() []string {
	advice := []string{} // a list also where it is empty
	add := func(format string, args ...any) { advice = append(advice, fmt.Sprintf(format, args...)) }
	if h.Speech == nil {
		if h.Silent == 1 {
			add("this leg is digital silence from beginning to end: it was not connected")
		} else {
			add("nothing in it stands out enough to be speech")
		}
		return advice
	}
	if h.Trial != nil && h.Trial.Better != 0 {
		add("the file says %d Hz, but is heard far better as %d Hz: its header is wrong, or it was resampled wrongly", h.RateHz, h.Trial.Better)
	}
	if h.Clipped > muchClipped {
		add("loud speech is cut off (%.1f %% of its samples): turn the level down where it comes from", 100*h.Clipped)
	}
	if *h.Speech < quietSpeech {
		add("speech is very quiet (%.0f dBFS): it is brought up, and its noise with it; turn the level up where it comes from", *h.Speech)
	}
	if h.Noise != nil && *h.Speech-*h.Noise < littleOver {
		add("noise is only %.0f dB below speech: expect many words to be missed", *h.Speech-*h.Noise)
	}
	if n := len(h.Channels); n > 0 {
		advice = append(advice, h.adviseChannel(h.Channels[n-1])...)
		if n > 1 {
			add("the channel changes during the call: a transfer, another codec, or another speaker on the same leg")
		}
	}
	if h.HumHz != 0 {
		add("%d Hz hum of the mains; it is taken out; look for a ground loop", h.HumHz)
	}
	if math.Abs(h.Direct) > muchDirect {
		add("direct current of %.0f %% of full scale; it is taken out", 100*h.Direct)
	}
	if h.Silent > muchSilent {
		add("%.0f %% of it is digital silence: gaps, or a sender that suppresses silence", 100*h.Silent)
	}
	if t := h.Trial; t != nil && t.Better == 0 && (t.Words == 0 || t.Confidence < littleHeard) {
		add("of its loudest %.0f s the recogniser heard %d words with a mean confidence of %.2f: little, or another language", t.Seconds, t.Words, t.Confidence)
	}
	return advice
}

func (h *legHealth) adviseChannel(ch channelHealth) (advice []string) {
	const narrow = 4000
	if ch.HighHz > narrow {
		return nil
	}
	if h.RateHz > 2*narrow {
		advice = append(advice, fmt.Sprintf("stored at %d Hz, but nothing above %d Hz is in it", h.RateHz, ch.HighHz))
	}
	lows := ""
	if ch.LowHz > 0 {
		lows = fmt.Sprintf(" and below %d Hz", ch.LowHz)
	}
	return append(advice, fmt.Sprintf("what the telephone left out above %d Hz%s is filled in; a wide-band codec (G.722, Opus) is heard better", ch.HighHz, lows))
}

func (h *legHealth) print(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s: %s, %d Hz, %s\n", h.File, h.Leg, h.Encoding, h.RateHz, clock(time.Duration(h.Seconds*float64(time.Second))))
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	level := func(v *float64) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprintf("%.0f dBFS", *v)
	}
	row("speech", "%s, %.1f s of it", level(h.Speech), h.Speaking)
	row("noise", "%s", level(h.Noise))
	row("peak", "%s, %.2f %% clipped", level(h.Peak), 100*h.Clipped)
	for _, ch := range h.Channels {
		row("channel", "%d to %d Hz, from %.1f s on", ch.LowHz, ch.HighHz, ch.Since)
	}
	if h.Codec != "" {
		row("codec", "it went through %s", h.Codec)
	}
	hum := "none"
	if h.HumHz != 0 {
		hum = fmt.Sprintf("%d Hz", h.HumHz)
	}
	row("hum", "%s", hum)
	if t := h.Trial; t != nil {
		row("recogniser", "%d words in %.0f s, mean confidence %.2f", t.Words, t.Seconds, t.Confidence)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, s := range h.Advice {
		fmt.Fprintf(out, "  - %s\n", s)
	}
	if len(h.Advice) == 0 {
		fmt.Fprintln(out, "  - nothing is wrong with it")
	}
	return nil
}

// trialEngine opens the recogniser in the box; the error says why not.
func (a *app) trialEngine() (transcribe.Engine, error) {
	f := hearFlags{backend: "vosk", model: models.DefaultModel, library: models.DefaultLibrary}
	engine, err := f.engine(a, a.log())
	if err != nil {
		return nil, err
	}
	return engine, nil
}

// tryHearing hears the loudest seconds of a leg. If that goes badly it tries
// them at twice and half the rate: headers lie.
func tryHearing(ctx context.Context, engine transcribe.Engine, l legAudio) (*trial, error) {
	from := loudest(l, trialSeconds*l.rateHz)
	part := legAudio{l.leg, l.rateHz, l.pcm[from:min(len(l.pcm), from+trialSeconds*l.rateHz)]}
	words, sum, err := hearWords(ctx, engine, part)
	if err != nil {
		return nil, err
	}
	t := &trial{From: round3(audio.Span(from, l.rateHz).Seconds()), Seconds: round3(audio.Span(len(part.pcm), l.rateHz).Seconds()), Words: words}
	t.Confidence = round3(sum / float64(max(1, words)))
	if t.Confidence >= littleHeard && words > trialSeconds/2 {
		return t, nil
	}
	for _, rate := range []int{l.rateHz / 2, l.rateHz * 2} {
		if rate < 8000 || rate > 48000 {
			continue
		}
		other := part
		other.rateHz = rate
		words, sure, err := hearWords(ctx, engine, other)
		if err != nil {
			return nil, err
		}
		if sure > heardBetter*sum && sure > littleHeard*float64(words) && words >= 5 {
			t.Better, sum = rate, sure
		}
	}
	return t, nil
}

// loudest is where the n samples with the most sound begin, to the second.
// Loudness is taken by the decibel: speech that lasts counts, not one bang.
func loudest(l legAudio, n int) (from int) {
	size := l.rateHz
	loud := []float64{0} // added up over the seconds
	for at := 0; at < len(l.pcm); at += size {
		step := 0.0
		for i := at; i+1 < min(at+size, len(l.pcm)); i++ { // differences: without direct current
			d := float64(l.pcm[i+1]) - float64(l.pcm[i])
			step += d * d
		}
		loud = append(loud, loud[len(loud)-1]+math.Log10(1+step))
	}
	most := -1.0
	for i := 0; i+1 < len(loud); i++ {
		end := min(i+n/size, len(loud)-1)
		if sum := loud[end] - loud[i]; sum > most {
			most, from = sum, i*size
		}
	}
	return from
}

// hearWords is how many words are heard in l, and the sum of their
// confidences.
func hearWords(ctx context.Context, engine transcribe.Engine, l legAudio) (words int, sure float64, err error) {
	front, err := audio.NewFrontEnd(audio.FrontEndConfig{RateHz: engine.Info().RateHz})
	if err != nil {
		return 0, 0, err
	}
	session, err := engine.Open(ctx, transcribe.Options{Leg: l.leg})
	if err != nil {
		return 0, 0, err
	}
	defer session.Close()
	count := func(segments []transcribe.Segment) {
		for _, s := range segments {
			if !s.Final {
				continue
			}
			words += len(strings.Fields(s.Text))
			for _, w := range s.Words {
				sure += float64(w.Confidence)
			}
		}
	}
	write := func(frames []audio.Frame) error {
		for _, f := range frames {
			segments, err := session.Write(ctx, f)
			count(segments)
			if err != nil {
				return err
			}
		}
		return nil
	}
	for f := range l.frames {
		frames, err := front.Process(f)
		if err != nil {
			return 0, 0, err
		}
		if err := write(frames); err != nil {
			return 0, 0, err
		}
	}
	if err := write(front.Flush()); err != nil {
		return 0, 0, err
	}
	segments, err := session.Finish(ctx)
	count(segments)
	return words, sure, err
}
