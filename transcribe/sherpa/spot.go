package sherpa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/stream"
)

// spotterLibrary is the keyword spotter of the library.
type spotterLibrary struct {
	create        func(cfg unsafe.Pointer) uintptr
	destroy       func(spotter uintptr)
	newStream     func(spotter uintptr, keywords *byte) uintptr
	ready         func(spotter, stream uintptr) int32
	decode        func(spotter, stream uintptr)
	reset         func(spotter, stream uintptr)
	result        func(spotter, stream uintptr) *byte // JSON, to be destroyed
	destroyResult func(json *byte)
}

// keywordSpotter is SherpaOnnxKeywordSpotterConfig of c-api.h.
type keywordSpotter struct {
	rateHz, features int32
	model            onlineModel
	paths            int32
	trailingBlanks   int32
	score            float32
	threshold        float32
	file             *byte
	keywords         *byte
	keywordsSize     int32
	_                [512]byte // what later versions add is zero
}

// ours begins the names of the phrases that the library spots; all others are
// not.
const ours = "p"

// spotter makes a keyword spotter of a model. The library wants a keyword at
// once and spots it in every stream: it gets one that nobody can say, the same
// token forty times.
func (l *library) spotter(f *folder, cfg Config, token string) (uintptr, error) {
	var c keywordSpotter
	keep := c.model.fill(f)
	text := []byte(strings.Repeat(token+" ", 40) + "@nothing\x00")
	c.rateHz, c.features = int32(cfg.RateHz), int32(cfg.Features)
	c.paths, c.trailingBlanks = 4, 1
	c.score, c.threshold = float32(cfg.Boost), float32(cfg.Threshold)
	c.keywords, c.keywordsSize = &text[0], int32(len(text)-1)
	spotter := l.spot.create(unsafe.Pointer(&c))
	runtime.KeepAlive(keep)
	runtime.KeepAlive(text)
	runtime.KeepAlive(&c)
	if spotter == 0 {
		return 0, errNative
	}
	return spotter, nil
}

// maxPhraseWords bounds what a caller can make the library search for.
const maxPhraseWords = 100_000

// phraseList is what is spotted of a list of phrases.
type phraseList struct {
	phrases []string // by number
	text    string   // as the library reads it
	unheard []string
}

// list writes phrases for the library. One with a word that cannot be spelled
// is left out, as is one with other speech in its middle, which a spotter
// knows nothing of.
func (s *speller) list(phrases []string) (list phraseList, err error) {
	missing := map[string]bool{}
	known := map[string]bool{}
	var text strings.Builder
	total := 0
	for _, phrase := range phrases {
		words := strings.Fields(strings.ToLower(phrase))
		if total += len(words); total > maxPhraseWords {
			return list, fmt.Errorf("%w: phrases: more than %d words", transcribe.ErrOption, maxPhraseWords)
		}
		words = slices.DeleteFunc(words, func(w string) bool { return w == otherSpeech && (words[0] == w || words[len(words)-1] == w) })
		var pieces []string
		whole := len(words) > 0
		for _, w := range words {
			spelled, ok := s.spell(w)
			if !ok && w != otherSpeech {
				missing[strings.ToValidUTF8(w, "�")] = true
			}
			whole = whole && ok
			pieces = append(pieces, spelled...)
		}
		said := strings.Join(words, " ")
		if !whole || known[said] {
			continue
		}
		known[said] = true
		fmt.Fprintf(&text, "%s @%s%d/", strings.Join(pieces, " "), ours, len(list.phrases))
		list.phrases = append(list.phrases, said)
	}
	list.unheard = slices.Sorted(maps.Keys(missing))
	if len(list.phrases) == 0 {
		return list, fmt.Errorf("%w: phrases: the model can write none of the %d in full", transcribe.ErrOption, len(phrases))
	}
	list.text = strings.TrimSuffix(text.String(), "/")
	return list, nil
}

// otherSpeech stands in a phrase for speech that is in none.
const otherSpeech = "…"

// openPhrases starts spotting phrases on one leg.
func (e *Engine) openPhrases(opt transcribe.Options) (transcribe.Session, error) {
	if e.speller == nil {
		return nil, fmt.Errorf("%w: phrases, the model is no keyword spotter", transcribe.ErrOption)
	}
	list, err := e.speller.list(opt.Phrases)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rec == 0 {
		return nil, fmt.Errorf("sherpa engine: %w", transcribe.ErrClosed)
	}
	text := append([]byte(list.text), 0)
	s := e.lib.spot.newStream(e.spotter, &text[0])
	runtime.KeepAlive(text)
	if s == 0 {
		return nil, fmt.Errorf("opening a sherpa-onnx keyword stream: %w", errNative)
	}
	e.sessions++
	rec := &spotting{e: e, lib: e.lib, spotter: e.spotter, stream: s, phrases: list.phrases}
	return &phraseSession{stream.NewSession("sherpa", opt.Leg, e.cfg.RateHz, rec), list.unheard}, nil
}

type phraseSession struct {
	*stream.Session
	unheard []string
}

var _ transcribe.PhraseSession = (*phraseSession)(nil)

// Unheard lists the words of the phrases that the model cannot write.
func (s *phraseSession) Unheard() []string { return slices.Clone(s.unheard) }

// spotting is one stream of the keyword spotter. Each phrase that it spots is
// an utterance; it says nothing of the words between.
type spotting struct {
	e               *Engine
	lib             *library
	spotter, stream uintptr
	phrases         []string
	samples         []float32
	heard           int // samples
}

// Hear implements [stream.Recogniser].
func (s *spotting) Hear(ctx context.Context, pcm []int16) ([]stream.Hypothesis, error) {
	if len(pcm) == 0 {
		return nil, nil
	}
	s.samples = appendSamples(s.samples[:0], pcm)
	s.lib.accept(s.stream, int32(s.e.cfg.RateHz), &s.samples[0], int32(len(s.samples)))
	s.heard += len(pcm)
	return s.decode(ctx)
}

func (s *spotting) decode(ctx context.Context) ([]stream.Hypothesis, error) {
	var said []stream.Hypothesis
	for s.lib.spot.ready(s.spotter, s.stream) != 0 {
		if err := ctx.Err(); err != nil {
			return said, err
		}
		s.lib.spot.decode(s.spotter, s.stream)
		data := copyText(s.lib.spot.result(s.spotter, s.stream), s.lib.spot.destroyResult)
		h, spotted, err := parseSpotted(data, s.phrases)
		if err != nil {
			return said, err
		}
		if spotted {
			s.lib.spot.reset(s.spotter, s.stream)
		}
		if len(h.Words) > 0 {
			said = append(said, s.placed(h))
		}
	}
	return said, nil
}

const (
	// A phrase is spotted about so long after its last token began: the frame
	// after it, and the rest of the chunk.
	spottedAfter = 150 * time.Millisecond
	// Times that are off by less are the library's own.
	timesAgree = 400 * time.Millisecond
)

// placed puts the words of a phrase where they were said. The library counts
// their times from when its search last began anew, which it does after a
// phrase and after silence and tells nobody: what is sure is that the last of
// them began just now.
func (s *spotting) placed(h stream.Hypothesis) stream.Hypothesis {
	now := audio.Span(s.heard, s.e.cfg.RateHz) - spottedAfter
	off := now - h.Words[len(h.Words)-1].Start
	if off.Abs() < timesAgree {
		return h
	}
	for i := range h.Words {
		w := &h.Words[i]
		w.Start, w.End = max(0, w.Start+off), max(0, w.End+off)
	}
	return h
}

// End implements [stream.Recogniser].
func (s *spotting) End(ctx context.Context) ([]stream.Hypothesis, error) {
	quiet := make([]float32, int(padding*time.Duration(s.e.cfg.RateHz)/time.Second))
	s.lib.accept(s.stream, int32(s.e.cfg.RateHz), &quiet[0], int32(len(quiet)))
	s.lib.inputFinished(s.stream)
	return s.decode(ctx)
}

// Close implements [stream.Recogniser].
func (s *spotting) Close() error {
	if s.stream == 0 {
		return errors.New("sherpa stream: closed twice")
	}
	s.e.release(s.stream)
	s.stream = 0
	return nil
}

// parseSpotted reads what the library writes of a keyword, empty while there
// is none. Words begin where their first tokens do.
func parseSpotted(data []byte, phrases []string) (h stream.Hypothesis, spotted bool, err error) {
	var name struct {
		Keyword string `json:"keyword"`
	}
	if err := json.Unmarshal(data, &name); err != nil {
		return h, false, fmt.Errorf("sherpa-onnx keyword: %w", err)
	}
	if name.Keyword == "" {
		return h, false, nil
	}
	digits, is := strings.CutPrefix(name.Keyword, ours)
	if !is {
		return h, true, nil // what nobody can say
	}
	number, err := strconv.Atoi(digits)
	if err != nil || number < 0 || number >= len(phrases) {
		return h, true, fmt.Errorf("sherpa-onnx keyword: %.20q is none of %d", name.Keyword, len(phrases))
	}
	if h, err = parseResult(data); err != nil {
		return h, true, err
	}
	words := strings.Fields(phrases[number])
	if len(h.Words) != len(words) {
		return h, true, fmt.Errorf("sherpa-onnx keyword: %d words, the phrase has %d", len(h.Words), len(words))
	}
	for i, w := range words {
		h.Words[i].Text = w
	}
	h.Final, h.Text = true, phrases[number]
	return h, true, nil
}
