package vosk

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

const rate = 16000

// installed is a Config for what make models installs.
func installed(t testing.TB) Config {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	store := models.Open(dir)
	if cfg.Library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if cfg.Model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	return cfg
}

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	engine, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// speech is testdata/speech.wav: two sentences, see make-speech.sh.
func speech(t testing.TB) []int16 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	data = data[44:] // sox writes the plain header
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

// hear speaks pcm from the media time at in frames of 20 ms.
func hear(t testing.TB, s transcribe.Session, at time.Duration, pcm []int16) (segments []transcribe.Segment) {
	t.Helper()
	const n = rate / 50
	for i := 0; i < len(pcm); i += n {
		more, err := s.Write(context.Background(), audio.Frame{Start: at + audio.Span(i, rate), Rate: rate, PCM: pcm[i:min(i+n, len(pcm))]})
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, more...)
	}
	return segments
}

func finish(t testing.TB, s transcribe.Session) []transcribe.Segment {
	t.Helper()
	segments, err := s.Finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

func open(t testing.TB, e *Engine, opt transcribe.Options) transcribe.Session {
	t.Helper()
	s, err := e.Open(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func finals(segments []transcribe.Segment) (final []transcribe.Segment) {
	for _, s := range segments {
		if s.Final && s.Text != "" {
			final = append(final, s)
		}
	}
	return final
}

func TestConformance(t *testing.T) {
	transcribetest.Run(t, func(t *testing.T) transcribetest.Subject {
		engine, err := New(installed(t), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return transcribetest.Subject{
			Engine: engine, RateHz: rate, Speech: speech(t),
			Phrase: "do not tell anyone", NonWord: "anydesk",
		}
	})
}

func TestMediaClockOfWordsFollowsStartAndGaps(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)
	half := 57_600 // 3.6 s, in the pause between the sentences
	whole := open(t, engine, transcribe.Options{})
	want := finals(append(hear(t, whole, 0, pcm), finish(t, whole)...))
	for _, gap := range []time.Duration{0, 700 * time.Millisecond, 6 * time.Second, 100 * time.Hour} {
		start := 90 * time.Second
		s := open(t, engine, transcribe.Options{})
		segments := hear(t, s, start, pcm[:half])
		segments = append(segments, hear(t, s, start+audio.Span(half, rate)+gap, pcm[half:])...)
		got := finals(append(segments, finish(t, s)...))
		if len(got) != len(want) {
			t.Fatalf("gap of %v: %d utterances, want %d", gap, len(got), len(want))
		}
		for i, seg := range got {
			offset := start
			if seg.Start > start+audio.Span(half, rate) {
				offset += gap
			}
			// The model tells times in steps of 30 ms, and places a word
			// beginning by up to three of them differently.
			if d := (seg.Start - offset - want[i].Start).Abs(); d > 100*time.Millisecond {
				t.Errorf("gap of %v: %q starts at %v, want %v later than %v", gap, seg.Text, seg.Start, offset, want[i].Start)
			}
		}
	}
}

// Half a second after the last word a pause says all that was said, and what
// lies between it and the next frame is neither heard nor forgotten.
func TestPauseSaysWhatWasHeardAndSkipsTheGap(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)
	whole := open(t, engine, transcribe.Options{})
	want := finals(append(hear(t, whole, 0, pcm), finish(t, whole)...))
	if len(want) != 2 {
		t.Fatalf("%d utterances, want 2", len(want))
	}
	const pauseAt, onAt = 51_000, 62_000 // the first sentence ends at 43,000, the second begins at 67,000
	for _, gap := range []time.Duration{0, 2 * time.Second, 100 * time.Hour} {
		s := open(t, engine, transcribe.Options{})
		pause := func() []transcribe.Segment {
			t.Helper()
			segments, err := s.(transcribe.Pauser).Pause(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return segments
		}
		if got := pause(); len(got) != 0 {
			t.Errorf("before any audio: %v", got)
		}
		first := finals(append(hear(t, s, 0, pcm[:pauseAt]), pause()...))
		if got := pause(); len(got) != 0 {
			t.Errorf("twice in a row: %v", got)
		}
		second := finals(append(hear(t, s, audio.Span(onAt, rate)+gap, pcm[onAt:]), finish(t, s)...))
		if len(first) != 1 || first[0].Text != want[0].Text {
			t.Fatalf("gap of %v: %v before it, want %q", gap, first, want[0].Text)
		}
		// The speaker is new to the recogniser, so a word may differ.
		const sure = "tell anyone about this call"
		if len(second) != 1 || !strings.HasSuffix(second[0].Text, sure) {
			t.Fatalf("gap of %v: %v after it, want %q", gap, second, sure)
		}
		if d := (second[0].End - gap - want[1].End).Abs(); d > 100*time.Millisecond {
			t.Errorf("gap of %v: the second sentence ends at %v, want %v later than %v", gap, second[0].End, gap, want[1].End)
		}
	}
}

func TestEndlessSpeechIsCutIntoUtterances(t *testing.T) {
	cfg := installed(t)
	cfg.MaxUtterance = 9 * time.Second
	engine := newEngine(t, cfg)
	nonstop := speech(t)[9_000:43_000] // the first sentence, without its pauses
	s := open(t, engine, transcribe.Options{})
	var segments []transcribe.Segment
	for i := range 15 {
		segments = append(segments, hear(t, s, audio.Span(i*len(nonstop), rate), nonstop)...)
	}
	segments = append(segments, finish(t, s)...)
	words := 0
	for _, seg := range finals(segments) {
		if d := seg.End - seg.Start; d > cfg.MaxUtterance {
			t.Errorf("an utterance of %v", d)
		}
		words += strings.Count(seg.Text, "please read")
	}
	if words < 10 {
		t.Errorf("heard the sentence %d times of 15", words)
	}
}

func TestRenewedRecogniserHearsOn(t *testing.T) {
	cfg := installed(t)
	cfg.RenewEvery = 10 * time.Second
	engine := newEngine(t, cfg)
	pcm := speech(t)
	s := open(t, engine, transcribe.Options{})
	var segments []transcribe.Segment
	const rounds = 4
	for i := range rounds {
		segments = append(segments, hear(t, s, audio.Span(i*len(pcm), rate), pcm)...)
	}
	segments = append(segments, finish(t, s)...)
	at := map[int]bool{} // rounds in which the last sentence was heard in its place
	for _, seg := range finals(segments) {
		if strings.HasSuffix(seg.Text, "tell anyone about this call") {
			i := int(seg.Start / audio.Span(len(pcm), rate))
			if within := seg.Start - audio.Span(i*len(pcm), rate); (within - 4230*time.Millisecond).Abs() < 200*time.Millisecond {
				at[i] = true
			}
		}
	}
	if len(at) != rounds {
		t.Errorf("heard the last sentence in its place in rounds %v of %d", at, rounds)
	}
}

// A phrase list's recogniser is exchanged sooner, also in a pause.
func TestRenewedListHearsOn(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)
	const phrase, rounds = "tell anyone about this call", 12
	s := open(t, engine, transcribe.Options{Phrases: []string{phrase, "…"}}).(*session)
	heard := 0
	for i := range rounds {
		segments := hear(t, s, audio.Span(i*len(pcm), rate), pcm)
		more, err := s.Pause(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, seg := range finals(append(segments, more...)) {
			heard += strings.Count(seg.Text, phrase)
		}
		if age := audio.Span(s.fed, rate); age > listRenew+audio.Span(len(pcm), rate) {
			t.Errorf("a recogniser has heard %v", age)
		}
	}
	if heard != rounds {
		t.Errorf("heard the phrase %d times of %d", heard, rounds)
	}
}

func TestPartialsDoNotChangeWhatIsFinal(t *testing.T) {
	cfg := installed(t)
	with := newEngine(t, cfg)
	cfg.PartialEvery = -1
	without := newEngine(t, cfg)
	pcm := speech(t)
	var texts [2]string
	for i, engine := range []*Engine{with, without} {
		s := open(t, engine, transcribe.Options{})
		segments := append(hear(t, s, 0, pcm), finish(t, s)...)
		for _, seg := range segments {
			if seg.Final {
				texts[i] += seg.Text + "\n"
			} else if i == 1 {
				t.Errorf("partial %q without being asked", seg.Text)
			}
		}
	}
	if texts[0] != texts[1] {
		t.Errorf("with partials\n%swithout\n%s", texts[0], texts[1])
	}
}

func TestPartialsCarryTimesNearTheFinalOnes(t *testing.T) {
	engine := newEngine(t, installed(t))
	s := open(t, engine, transcribe.Options{})
	pcm := speech(t)
	segments := append(hear(t, s, 0, pcm), finish(t, s)...)
	checked := 0
	for i, final := range segments {
		if !final.Final {
			continue
		}
		for j := i - 1; j >= 0 && segments[j].Utterance == final.Utterance; j-- {
			partial := segments[j]
			if len(partial.Words) != len(partial.Words[:min(len(partial.Words), len(final.Words))]) {
				continue
			}
			for k, w := range partial.Words {
				if w.Text != final.Words[k].Text {
					break
				}
				if d := (w.End - final.Words[k].End).Abs(); d > 700*time.Millisecond {
					t.Errorf("%q ended at %v in a partial, at %v in the final", w.Text, w.End, final.Words[k].End)
				}
				checked++
			}
		}
	}
	if checked < 20 {
		t.Errorf("compared %d words only", checked)
	}
}

func TestNewRefusesWhatIsNoLibraryOrModel(t *testing.T) {
	good := installed(t)
	log := slog.New(slog.DiscardHandler)
	text := filepath.Join(t.TempDir(), "libvosk.so")
	if err := os.WriteFile(text, []byte("not a library\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// broken is a copy of the model with one file replaced, or without it.
	broken := func(name, content string) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(good.Model)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, cfg := range map[string]Config{
		"nothing":             {},
		"no library":          {Model: good.Model, Library: filepath.Join(t.TempDir(), "libvosk.so")},
		"folder for library":  {Model: good.Model, Library: t.TempDir()},
		"text for library":    {Model: good.Model, Library: text},
		"other library":       {Model: good.Model, Library: otherLibrary(t)},
		"no model":            {Model: filepath.Join(t.TempDir(), "gone"), Library: good.Library},
		"empty model":         {Model: t.TempDir(), Library: good.Library},
		"file for model":      {Model: text, Library: good.Library},
		"no acoustic model":   {Model: broken("am/final.mdl", ""), Library: good.Library},
		"bad acoustic model":  {Model: broken("am/final.mdl", "x"), Library: good.Library},
		"no graph":            {Model: broken("graph/HCLr.fst", ""), Library: good.Library},
		"bad graph":           {Model: broken("graph/HCLr.fst", "x"), Library: good.Library},
		"bad language model":  {Model: broken("graph/Gr.fst", "x"), Library: good.Library},
		"no i-vectors":        {Model: broken("ivector/final.dubm", ""), Library: good.Library},
		"help for a setting":  {Model: broken("conf/mfcc.conf", "--help\n"), Library: good.Library},
		"prose for settings":  {Model: broken("conf/model.conf", "beam is ten\n"), Library: good.Library},
		"a rate of nothing":   {Model: broken("conf/mfcc.conf", "--sample-frequency=0\n"), Library: good.Library},
		"a rate of no number": {Model: broken("conf/mfcc.conf", "--sample-frequency=NaN\n"), Library: good.Library},
	} {
		t.Run(name, func(t *testing.T) {
			engine, err := New(cfg, log)
			if err == nil {
				engine.Close()
			}
			if !errors.Is(err, transcribe.ErrNotInstalled) {
				t.Errorf("New: %v, want ErrNotInstalled", err)
			}
		})
	}
}

// otherLibrary is a shared object that is not libvosk: one of libvosk's own
// dependencies, which is mapped into this process by then.
func otherLibrary(t *testing.T) string {
	newEngine(t, installed(t))
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.Contains(line, "libstdc++") {
			return strings.TrimSpace(line[i:])
		}
	}
	t.Fatal("libstdc++ is not mapped")
	return ""
}

func TestConfigNamesTheWrongKey(t *testing.T) {
	for key, cfg := range map[string]Config{
		"vosk.partial_every": {PartialEvery: 150 * time.Millisecond},
		"vosk.max_utterance": {MaxUtterance: time.Second},
		"vosk.renew_every":   {RenewEvery: time.Hour},
	} {
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, cfg := range []Config{{}, DefaultConfig()} {
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestEngineStaysWhileSessionsAreOpen(t *testing.T) {
	engine := newEngine(t, installed(t))
	s := open(t, engine, transcribe.Options{})
	if err := engine.Close(); err == nil {
		t.Error("closed under a session")
	}
	hear(t, s, 0, speech(t)[:rate])
	s.Close()
}

func TestThriftySessionHearsThePhrasesAndHoldsTheEngine(t *testing.T) {
	engine := newEngine(t, installed(t))
	s := open(t, engine, transcribe.Options{
		Phrases: []string{"do not tell anyone", "please … the verification code", "buy gift cards"},
		Thrifty: true,
	})
	heard := finals(append(hear(t, s, 0, speech(t)), finish(t, s)...))
	var text []string
	for _, seg := range heard {
		text = append(text, seg.Text)
	}
	all := strings.Join(text, " ")
	if !strings.Contains(all, "verification code") || !strings.Contains(all, "do not tell anyone") || strings.Contains(all, "gift") {
		t.Errorf("heard %q", all)
	}
	if err := engine.Close(); err == nil {
		t.Error("closed under a thrifty session")
	}
	s.Close()
}

func TestMemoryComesBackAfterSessions(t *testing.T) {
	engine := newEngine(t, installed(t))
	pcm := speech(t)
	round := func() {
		sessions := make([]transcribe.Session, trimCount)
		for i := range sessions {
			sessions[i] = open(t, engine, transcribe.Options{})
			hear(t, sessions[i], 0, pcm[:2*rate])
		}
		for _, s := range sessions {
			s.Close()
		}
	}
	round() // caches of the process fill once
	before := residentMB(t)
	for range 2 {
		round()
	}
	engine.trim.now()
	if after := residentMB(t); after > before+60 {
		t.Errorf("%d MB resident after a trim, %d before", after, before)
	}
}

func residentMB(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}

// A session that hears only what came after Settled says what the one before
// has not made final. It knows the speaker less, so a word may differ.
func TestAnotherSessionSaysWhatIsNotSettled(t *testing.T) {
	e := newEngine(t, installed(t))
	pcm := speech(t)
	words := func(segments []transcribe.Segment) (all []string) {
		for _, seg := range finals(segments) {
			all = append(all, strings.Fields(seg.Text)...)
		}
		return all
	}
	whole := open(t, e, transcribe.Options{})
	want := words(append(hear(t, whole, 0, pcm), finish(t, whole)...))
	for _, share := range []int{2, 6} {
		s := open(t, e, transcribe.Options{})
		cut := len(pcm) * share / 8
		first := finals(hear(t, s, 0, pcm[:cut]))
		settled := s.(transcribe.Settler).Settled()
		from := int(settled.Seconds() * rate)
		if from > cut || len(first) > 0 && first[len(first)-1].End > settled+decodeDelay {
			t.Errorf("after %d samples settled up to %v, told %+v", cut, settled, first)
		}
		next := open(t, e, transcribe.Options{})
		got := append(words(first), words(append(hear(t, next, settled, pcm[from:]), finish(t, next)...))...)
		wrong := 0
		for _, w := range want {
			if !slices.Contains(got, w) {
				wrong++
			}
		}
		if wrong > 1 || max(len(got)-len(want), len(want)-len(got)) > 1 {
			t.Errorf("after %d samples, settled at %v: said %q, want %q", cut, settled, got, want)
		}
	}
}
