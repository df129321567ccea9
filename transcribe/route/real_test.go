package route

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/vosk"
)

// A recogniser that takes over in the middle of a sentence hears it from its
// beginning: the words are those of one that heard all.
func TestFallbackHearsTheWholeSentence(t *testing.T) {
	data, err := os.ReadFile("../vosk/testdata/speech.wav")
	if err != nil {
		t.Fatal(err)
	}
	pcm := make([]int16, (len(data)-44)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[44+2*i:]))
	}
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg, store := vosk.DefaultConfig(), models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	engine, err := vosk.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	primary := &mortal{Engine: engine, at: time.Hour, err: errors.New("crashed")}
	e := newRoute(t, config(Rule{Backend: "a", Fallback: "b"}), map[string]transcribe.Engine{"a": primary, "b": engine})
	const rate, step = 16000, 1600
	hear := func(at time.Duration) []string {
		primary.at = at
		e.backends[0].worked()
		s, err := e.Open(t.Context(), transcribe.Options{Leg: audio.Callee})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, ok := s.(transcribe.Pauser); !ok {
			t.Error("the route of two that pause cannot")
		}
		var all []transcribe.Segment
		for i := 0; i < len(pcm); i += step {
			f := audio.Frame{Leg: audio.Callee, Start: audio.Span(i, rate), Rate: rate, PCM: append([]int16(nil), pcm[i:min(i+step, len(pcm))]...)}
			segs, err := s.Write(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, segs...)
		}
		segs, err := s.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, seg := range append(all, segs...) {
			if seg.Final {
				words = append(words, strings.Fields(seg.Text)...)
			}
		}
		return words
	}
	want := hear(time.Hour)
	for at := 500 * time.Millisecond; at < audio.Span(len(pcm), rate); at += 2900 * time.Millisecond {
		got := hear(at)
		if d := distance(want, got); d > 1 { // it has heard less of the speaker's voice
			t.Errorf("dies at %v: heard\n%q\nwant\n%q", at, got, want)
		}
	}
}
