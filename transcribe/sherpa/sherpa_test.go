package sherpa

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

const rate = 16000

// installed is a Config for what make test installs, without a model.
func installed(t testing.TB) Config {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.SherpaLibrary); err != nil {
		t.Fatalf("%v\ntype: bin/callwarden models install libsherpa-onnx", err)
	}
	if cfg.Runtime, err = store.Path(models.VoiceLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	return cfg
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	cfg := installed(t)
	cfg.Model = writeModel(t, nil)
	engine, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// newSpotter is an engine with phrase lists.
func newSpotter(t testing.TB) *Engine {
	t.Helper()
	cfg := installed(t)
	cfg.Model = writeModel(t, func(f map[string][]byte) { f["keywords.txt"] = []byte("▁HELLO ▁WORLD @HELLO_WORLD\n") })
	engine, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestConformance(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *Engine{"transducer": newEngine, "keyword spotter": newSpotter} {
		t.Run(name, func(t *testing.T) {
			transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
				return transcribetest.Subject{
					Engine: open(t), RateHz: rate, Speech: spoken(" hwh whw hw hw "), Phrase: "hello world", NonWord: "anydesk",
				}
			})
		})
	}
}

func TestPhrasesAreSpottedWhereTheyAreSaid(t *testing.T) {
	engine := newSpotter(t)
	defer engine.Close()
	session, err := engine.Open(t.Context(), transcribe.Options{Phrases: []string{"World hello world", "… hello world …", "hello … hello", "hello there"}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if unheard := session.(transcribe.PhraseSession).Unheard(); !slices.Equal(unheard, []string{"there"}) {
		t.Errorf("unheard %q", unheard)
	}
	pcm := spoken(" h w  hw ")
	segments, err := session.Write(t.Context(), audio.Frame{Rate: rate, PCM: pcm})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := session.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	segments = append(segments, rest...)
	last := len(segments) - 1
	if last < 0 || segments[last].Text != "hello world" || !segments[last].Final {
		t.Fatalf("%+v", segments)
	}
	for i, want := range []float64{5.4, 5.7} {
		if w := segments[last].Words[i]; math.Abs(w.Start.Seconds()-want) > 0.25 {
			t.Errorf("%q at %v, want it at %g s", w.Text, w.Start, want)
		}
	}
}

func TestWordsHaveTheirTimes(t *testing.T) {
	engine := newEngine(t)
	defer engine.Close()
	session, err := engine.Open(t.Context(), transcribe.Options{Leg: audio.Callee})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	const begin = 90 * time.Second
	var all []transcribe.Segment
	pcm := spoken(" hwh wh ")
	for i := 0; i < len(pcm); i += rate / 50 {
		f := audio.Frame{Leg: audio.Callee, Start: begin + audio.Span(i, rate), Rate: rate, PCM: pcm[i:min(i+rate/50, len(pcm))]}
		segments, err := session.Write(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, segments...)
	}
	rest, err := session.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, rest...)
	if !slices.ContainsFunc(all, func(s transcribe.Segment) bool { return !s.Final && s.Text == "hello world" }) {
		t.Error("no unfinished words were told")
	}
	all = slices.DeleteFunc(all, func(s transcribe.Segment) bool { return !s.Final })
	want := []struct {
		text   string
		starts []float64
	}{{"hello world hello", []float64{1.2, 1.5, 1.8}}, {"world hello", []float64{3.3, 3.6}}}
	if len(all) != len(want) {
		t.Fatalf("%+v, want two utterances", all)
	}
	for i, w := range want {
		if all[i].Text != w.text || len(all[i].Words) != len(w.starts) {
			t.Errorf("%+v, want %q", all[i], w.text)
			continue
		}
		for j, word := range all[i].Words {
			if off := (word.Start - begin).Seconds() - w.starts[j]; math.Abs(off) > 0.1 || word.End <= word.Start {
				t.Errorf("%q from %v to %v, want it at %g s", word.Text, word.Start-begin, word.End-begin, w.starts[j])
			}
		}
	}
}

func TestEngineClosesAfterItsSessionsOnly(t *testing.T) {
	engine := newEngine(t)
	session, err := engine.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Close(); err == nil {
		t.Error("closed with a session open")
	}
	session.Close()
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
}

func TestCancelledDecodingStops(t *testing.T) {
	engine := newEngine(t)
	defer engine.Close()
	session, err := engine.Open(t.Context(), transcribe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := session.Write(ctx, audio.Frame{Rate: rate, PCM: make([]int16, 60*rate)}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// The library ends the process for most of these.
func TestModelsThatAreNoneAreRefusedBeforeTheLibrarySeesThem(t *testing.T) {
	cfg := installed(t)
	note := func(g graph, key, value string) []byte {
		notes := slices.Clone(g.notes)
		notes = slices.DeleteFunc(notes, func(n [2]string) bool { return n[0] == key })
		if value != "" {
			notes = append(notes, [2]string{key, value})
		}
		g.notes = notes
		return g.encode()
	}
	const encoder, decoder, joiner = "encoder-epoch-1.onnx", "decoder-epoch-1.onnx", "joiner-epoch-1.onnx"
	for want, change := range map[string]func(map[string][]byte){
		"0 files encoder*.onnx":   func(f map[string][]byte) { delete(f, encoder) },
		"0 files decoder*.onnx":   func(f map[string][]byte) { delete(f, decoder) },
		"0 files joiner*.onnx":    func(f map[string][]byte) { delete(f, joiner) },
		"2 files encoder*.onnx":   func(f map[string][]byte) { f["encoder-epoch-2.onnx"] = f[encoder] },
		"tokens.txt: no such":     func(f map[string][]byte) { delete(f, "tokens.txt") },
		`model_type is ""`:        func(f map[string][]byte) { f[encoder] = note(encoderGraph(), "model_type", "") },
		`model_type is "whisper"`: func(f map[string][]byte) { f[encoder] = note(encoderGraph(), "model_type", "whisper") },
		"no number for d_model":   func(f map[string][]byte) { f[encoder] = note(encoderGraph(), "d_model", "") },
		"no number for T":         func(f map[string][]byte) { f[encoder] = note(encoderGraph(), "T", "four") },
		"no number for vocab_size": func(f map[string][]byte) {
			f[decoder] = note(decoderGraph(), "vocab_size", "")
		},
		"vocabulary of 2000000":   func(f map[string][]byte) { f[decoder] = note(decoderGraph(), "vocab_size", "2000000") },
		"number 3 of 4":           func(f map[string][]byte) { f[decoder] = note(decoderGraph(), "vocab_size", "4") },
		"line 2 must have":        func(f map[string][]byte) { f["tokens.txt"] = []byte("<blk> 0\nhello world you\n") },
		"has a symbol already":    func(f map[string][]byte) { f["tokens.txt"] = []byte("a 0\nb 1\nc 1\n") },
		"joiner-epoch-1.onnx: is": func(f map[string][]byte) { f[joiner] = f[joiner][:len(f[joiner])/2] },
		"encoder-epoch-1.onnx: is": func(f map[string][]byte) {
			f[encoder] = []byte("version https://git-lfs.github.com/spec/v1\n")
		},
		"decoder-epoch-1.onnx: is": func(f map[string][]byte) { f[decoder] = nil },
	} {
		t.Run(want, func(t *testing.T) {
			cfg := cfg
			cfg.Model = writeModel(t, change)
			engine, err := New(cfg, slog.New(slog.DiscardHandler))
			if err == nil {
				engine.Close()
				t.Fatal("loaded")
			}
			if !errors.Is(err, transcribe.ErrNotInstalled) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

func TestQuantisedFilesGoFirst(t *testing.T) {
	dir := writeModel(t, func(f map[string][]byte) {
		f["encoder-epoch-1.int8.onnx"] = f["encoder-epoch-1.onnx"]
	})
	f, err := readFolder(dir)
	if err != nil || filepath.Base(f.encoder) != "encoder-epoch-1.int8.onnx" || filepath.Base(f.joiner) != "joiner-epoch-1.onnx" {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	good := installed(t)
	good.Model = writeModel(t, nil)
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"rate_hz":                 func(c *Config) { c.RateHz = 0 },
		"features":                func(c *Config) { c.Features = 0 },
		"silence":                 func(c *Config) { c.Silence = 0 },
		"max_utterance":           func(c *Config) { c.MaxUtterance = 0 },
		"model":                   func(c *Config) { c.Model = "a\x00b" },
		"no folder":               func(c *Config) { c.Model = "" },
		"no such file":            func(c *Config) { c.Model = "/nowhere" },
		`library "/nowhere"`:      func(c *Config) { c.Library = "/nowhere" },
		`library ""`:              func(c *Config) { c.Library, c.Runtime = "", "" },
		"too short":               func(c *Config) { c.Library = text },
		"SherpaOnnxGetVersionStr": func(c *Config) { c.Library = c.Runtime },
	} {
		cfg := good
		change(&cfg)
		engine, err := New(cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if err == nil {
			engine.Close()
		}
	}
}

var results = []struct {
	name, json string
	words      []transcribe.Word
	text       string
	refused    bool
}{
	{
		name: "words of tokens", json: `{ "text": " HELLO WORLDS", "tokens": [" HE", "LLO", " WORLD", "S"], "timestamps": [0.04, 0.12, 0.60, 0.72], "ys_probs": [0.0, 0.0, -0.693147, -0.693147], "lm_probs": [], "context_scores": [], "segment": 1, "words": [], "start_time": 10.00, "is_final": false, "is_eof": false}`,
		text: "HELLO WORLDS",
		words: []transcribe.Word{
			{Text: "HELLO", Start: 10_040 * time.Millisecond, End: 10_320 * time.Millisecond, Confidence: 1},
			{Text: "WORLDS", Start: 10_600 * time.Millisecond, End: 10_920 * time.Millisecond, Confidence: 0.5},
		},
	},
	{name: "a space of its own", json: `{"text":"a b","tokens":["▁","a","▁","b"],"timestamps":[0,0,1,1]}`, text: "a b", words: []transcribe.Word{{Text: "a", End: 200 * time.Millisecond}, {Text: "b", Start: time.Second, End: 1200 * time.Millisecond}}},
	{name: "marks", json: `{"text":"a","tokens":["<s>","▁a","</s>"],"timestamps":[0,0,1]}`, text: "a", words: []transcribe.Word{{Text: "a", End: 200 * time.Millisecond}}},
	{name: "Chinese", json: `{"text":"你好","tokens":["你","好"],"timestamps":[0,1]}`, text: "你好", words: []transcribe.Word{{Text: "你", End: 200 * time.Millisecond}, {Text: "好", Start: time.Second, End: 1200 * time.Millisecond}}},
	{name: "no times", json: `{"text":"a b","tokens":["▁a","▁b"],"timestamps":[]}`, text: "a b"},
	{name: "nothing", json: `{"text":"","tokens":[],"timestamps":[],"start_time":1}`},
	{name: "no JSON", json: `{`, refused: true},
	{name: "negative", json: `{"tokens":["a"],"timestamps":[-1]}`, refused: true},
	{name: "endless", json: `{"tokens":["a"],"timestamps":[1e300]}`, refused: true},
	{name: "starts nowhere", json: `{"start_time":-5}`, refused: true},
}

func TestResultsBecomeWords(t *testing.T) {
	for _, tt := range results {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseResult([]byte(tt.json))
			if tt.refused {
				if err == nil {
					t.Fatalf("%+v", h)
				}
				return
			}
			for i := range h.Words { // seconds in floating point
				h.Words[i].Start, h.Words[i].End = h.Words[i].Start.Round(time.Millisecond), h.Words[i].End.Round(time.Millisecond)
				h.Words[i].Confidence = float32(math.Round(float64(h.Words[i].Confidence)*1000) / 1000)
			}
			if err != nil || h.Text != tt.text || !slices.Equal(h.Words, tt.words) {
				t.Errorf("%+v, %v, want %q %+v", h, err, tt.text, tt.words)
			}
		})
	}
}

// Whatever the library writes is refused, or words with times that a clock can
// hold.
func FuzzResult(f *testing.F) {
	for _, tt := range results {
		f.Add([]byte(tt.json))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseResult(data)
		if err != nil {
			return
		}
		for _, w := range h.Words {
			if w.Text == "" || w.Start < 0 || w.End < w.Start || w.End > 3*maxSeconds*time.Second || w.Confidence < 0 || w.Confidence > 1 {
				t.Fatalf("%+v", w)
			}
		}
	})
}

// Whatever a file holds, its metadata is read within its length or refused.
func FuzzNotes(f *testing.F) {
	for _, g := range []graph{encoderGraph(), decoderGraph(), joinerGraph()} {
		data := g.encode()
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte{0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		notes, err := parseNotes(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		total := 0
		for k, v := range notes {
			total += len(k) + len(v)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of metadata in %d", total, len(data))
		}
	})
}
