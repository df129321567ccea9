package vosk

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

func knows(word string) bool {
	return plainWord(word) && slices.Contains([]string{"gift", "card", "any", "desk", "o", "t", "p", "don't"}, word)
}

func TestGrammarHoldsWholeKnownPhrasesOnly(t *testing.T) {
	for _, tt := range []struct {
		name    string
		phrases []string
		want    []string // without unknown, which is always last
		unheard []string
	}{
		{"spaces and case", []string{"  Gift \t CARD\n"}, []string{"gift card"}, nil},
		{"doubles weigh more", []string{"gift card", "GIFT card"}, []string{"gift card", "gift card"}, nil},
		{"other speech", []string{"… gift card", "…"}, []string{"[unk] gift card", "[unk]"}, nil},
		{"a phrase with an unknown word is left out", []string{"any desk", "download any desk", "otp code"}, []string{"any desk"}, []string{"code", "download", "otp"}},
		{"apostrophe", []string{"don't card"}, []string{"don't card"}, nil},
		{"the model's own symbols", []string{"gift", "[unk]", "<eps>", "#0", "!SIL"}, []string{"gift"}, []string{"!sil", "#0", "<eps>", "[unk]"}},
		{"C string enders and JSON", []string{"gift", "gift\x00card", `gift", "card`}, []string{"gift"}, []string{"\"card", "gift\",", "gift\x00card"}},
		{"bytes that are no text", []string{"gift", "\xff"}, []string{"gift"}, []string{"�"}},
		{"empty", []string{"", " ", "gift"}, []string{"gift"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			grammar, unheard, err := makeGrammar(tt.phrases, knows)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := json.Unmarshal([]byte(grammar), &got); err != nil {
				t.Fatal(err)
			}
			if want := slices.Concat(tt.want, []string{unknown}); !slices.Equal(got, want) {
				t.Errorf("grammar %q, want %q", got, want)
			}
			slices.Sort(tt.unheard)
			if !slices.Equal(unheard, tt.unheard) {
				t.Errorf("unheard %q, want %q", unheard, tt.unheard)
			}
		})
	}
	for name, phrases := range map[string][]string{
		"nothing known":     {"anydesk", ""},
		"other speech only": {"…", "… …"},
		"too much":          slices.Repeat([]string{"gift card"}, maxGrammarWords),
	} {
		if _, _, err := makeGrammar(phrases, knows); !errors.Is(err, transcribe.ErrOption) {
			t.Errorf("%s: %v, want ErrOption", name, err)
		}
	}
}

// Whatever the phrases are, what crosses into the library is a JSON list of
// known words with single spaces between them.
func FuzzGrammar(f *testing.F) {
	for _, s := range []string{"gift card", "any\ndesk", "\x00", `"]`, "[unk]", "\xff\xfe", "gift card", "… gift"} {
		f.Add(s, "card")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		grammar, _, err := makeGrammar([]string{a, b}, knows)
		if err != nil {
			return
		}
		var list []string
		if err := json.Unmarshal([]byte(grammar), &list); err != nil || len(list) < 2 || list[len(list)-1] != unknown {
			t.Fatalf("%q: %v", grammar, err)
		}
		for _, phrase := range list[:len(list)-1] {
			for word := range strings.SplitSeq(phrase, " ") {
				if !knows(word) && word != unknown {
					t.Fatalf("word %q in %q", word, grammar)
				}
			}
		}
	})
}

func TestUnknownSpeechParts(t *testing.T) {
	for in, want := range map[string]string{
		"gift card":                         "gift card",
		"[unk]":                             "",
		"[unk] gift card [unk]":             "gift card",
		"gift [unk] card":                   "gift … card",
		"[unk] gift [unk] [unk] card [unk]": "gift … card",
		"":                                  "",
	} {
		var words []transcribe.Word
		for i, text := range strings.Fields(in) {
			words = append(words, transcribe.Word{Text: text, Start: time.Duration(i) * time.Second, End: time.Duration(i+1) * time.Second})
		}
		var s session
		seg, ok := s.segment(words)
		if ok != (want != "") || seg.Text != want {
			t.Errorf("%q became %q, want %q", in, seg.Text, want)
		}
		var texts []string
		at := seg.Start
		for _, w := range seg.Words {
			if w.Start < at || w.End < w.Start {
				t.Errorf("%q: %q from %v to %v", in, w.Text, w.Start, w.End)
			}
			at = w.End
			texts = append(texts, w.Text)
		}
		if strings.Join(texts, " ") != seg.Text || at != seg.End {
			t.Errorf("%q: words %q to %v, segment %q to %v", in, texts, at, seg.Text, seg.End)
		}
	}
}

func TestUnfinishedWordsKeepTheirTimes(t *testing.T) {
	s := session{rateHz: 16000, fed: 5 * 16000}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	word := func(text string, start, end int) transcribe.Word {
		return transcribe.Word{Text: text, Start: ms(start), End: ms(end)}
	}
	check := func(step string, best string, lattice []transcribe.Word, from int, want ...transcribe.Word) {
		t.Helper()
		if got := s.guess(strings.Fields(best), lattice, ms(from)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}
	check("two at once", "Gift card", nil, 4900, word("gift", 3900, 4200), word("card", 4200, 4500))
	s.fed = 6 * 16000
	check("one more", "gift card please", nil, 5900, word("gift", 3900, 4200), word("card", 4200, 4500), word("please", 5200, 5500))
	check("the lattice knows the first", "gift card please", []transcribe.Word{word("gift", 3500, 3800), word("guard", 3800, 4000)}, 5900,
		word("gift", 3500, 3800), word("card", 4200, 4500), word("please", 5200, 5500))
	check("it changes its mind", "gift cart", nil, 5900, word("gift", 3500, 3800), word("cart", 5200, 5500))
	check("nothing left", "", nil, 5900)
}

func TestHypothesisIsRefusedWithImpossibleTimes(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":        `{"text" : "a`,
		"negative":       `{"result" : [{"conf" : 1, "start" : -1, "end" : 1, "word" : "a"}]}`,
		"backwards":      `{"partial_result" : [{"conf" : 1, "start" : 2, "end" : 1, "word" : "a"}]}`,
		"beyond a clock": `{"result" : [{"conf" : 1, "start" : 2, "end" : 1e300, "word" : "a"}]}`,
		"not a number":   `{"result" : [{"conf" : nan, "start" : 2, "end" : 3, "word" : "a"}]}`,
	} {
		if h, err := decodeHypothesis(text); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestDitherIsSmallAndTheSameEachTime(t *testing.T) {
	pcm := make([]int16, 16000)
	pcm[0], pcm[1] = math.MaxInt16, math.MinInt16
	var a, b dither
	got := slices.Clone(a.add(pcm))
	if !slices.Equal(got, b.add(pcm)) {
		t.Error("two sessions are dithered differently")
	}
	var sum, squares float64
	for i := range got {
		d := float64(got[i]) - float64(pcm[i])
		sum += d
		squares += d * d
		if math.Abs(d) > 2 {
			t.Fatalf("sample %d changed by %g", i, d)
		}
	}
	n := float64(len(pcm))
	if mean, variance := sum/n, squares/n; math.Abs(mean) > 0.05 || math.Abs(variance-1) > 0.05 {
		t.Errorf("mean %g, variance %g, want 0 and 1", mean, variance)
	}
}

func TestPauseIsFarBelowTheSpeechBefore(t *testing.T) {
	loud, quiet := make([]int16, 1600), make([]int16, 1600)
	for i := range loud {
		loud[i] = int16(8000 * math.Sin(float64(i)))
		quiet[i] = loud[i] / 8
	}
	var l loudness
	for i := range 40 {
		if l.add(loud) {
			t.Fatalf("speech is a pause at step %d", i)
		}
	}
	if !l.add(quiet) {
		t.Error("18 dB less is no pause")
	}
}
