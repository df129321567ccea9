package vosk

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHear shows what a second of audio costs, in CPU seconds, with the
// open vocabulary and with a list of 200 phrases, and what partial results
// add to it.
func BenchmarkHear(b *testing.B) {
	words := strings.Fields("gift card code bank account security number please read me the verification do not tell anyone about this call")
	var phrases []string
	for i := range 200 {
		n := len(words)
		phrases = append(phrases, strings.Join([]string{words[i%n], words[i*7%n], words[(i/n+i*3)%n]}, " "))
	}
	for _, list := range []struct {
		name    string
		phrases []string
	}{{"open", nil}, {"phrases", phrases}} {
		for _, every := range []time.Duration{-1, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond} {
			b.Run(fmt.Sprintf("%s/partials=%v", list.name, max(every, 0)), func(b *testing.B) {
				cfg := installed(b)
				cfg.PartialEvery = every
				engine := newEngine(b, cfg)
				s := open(b, engine, transcribe.Options{Phrases: list.phrases})
				pcm := speech(b)
				length := audio.Span(len(pcm), rate)
				hear(b, s, 0, pcm) // fills caches
				begin := cpu(b)
				at := length
				for b.Loop() {
					hear(b, s, at, pcm)
					at += length
				}
				b.ReportMetric((cpu(b)-begin).Seconds()/(at-length).Seconds(), "cpu-s/audio-s")
			})
		}
	}
}

// BenchmarkLegMemory shows the memory of one open-vocabulary leg over a
// quarter of an hour of speech, with the recogniser renewed and without.
func BenchmarkLegMemory(b *testing.B) {
	for _, renew := range []time.Duration{DefaultConfig().RenewEvery, 10 * time.Minute} {
		b.Run("renew="+renew.String(), func(b *testing.B) {
			cfg := installed(b)
			cfg.RenewEvery = renew
			engine := newEngine(b, cfg)
			pcm := speech(b)
			for b.Loop() {
				before, most := residentMB(b), 0
				s := open(b, engine, transcribe.Options{})
				for at := time.Duration(0); at < 15*time.Minute; at += audio.Span(len(pcm), rate) {
					hear(b, s, at, pcm)
					most = max(most, residentMB(b))
				}
				s.Close()
				b.ReportMetric(float64(most-before), "MB/leg")
			}
		})
	}
}

// BenchmarkSurroundings is all that this package adds to libvosk for one
// second of audio: dither, level, clock, JSON.
func BenchmarkSurroundings(b *testing.B) {
	pcm := speech(b)[:rate]
	text := `{"partial" : "please read me the verification code", "partial_result" : [` +
		strings.Repeat(`{"conf" : 1.000000, "end" : 0.990000, "start" : 0.600000, "word" : "please"}, `, 5) +
		`{"conf" : 1.000000, "end" : 0.990000, "start" : 0.600000, "word" : "please"}]}`
	s := session{rateHz: rate, fed: 10 * rate}
	for b.Loop() {
		for i := 0; i < rate; i += rate / 10 {
			s.dither.add(pcm[i : i+rate/10])
			s.loud.add(pcm[i : i+rate/10])
			h, err := decodeHypothesis(text)
			if err != nil {
				b.Fatal(err)
			}
			s.segment(s.guess(strings.Fields(h.Partial), s.timed(h.Words), 9*time.Second))
		}
	}
}
