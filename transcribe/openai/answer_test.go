package openai

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
)

var answers = []struct {
	name, json string
	words      string // as they are believed of a window with sound from 1 to 4 s of 5
	refused    string
}{
	{name: "openai", json: `{"task":"transcribe","language":"english","duration":5.0,"text":"Gift card.","segments":[{"id":0,"start":1.0,"end":2.0,"text":" Gift card.","tokens":[1],"temperature":0,"avg_logprob":-0.3,"compression_ratio":1.0,"no_speech_prob":0.01}],"words":[{"word":"Gift","start":1.1,"end":1.4},{"word":"card","start":1.4,"end":1.9}]}`, words: "Gift@1.1-1.4 card@1.4-1.9"},
	{name: "words over two segments", json: `{"segments":[{"start":1,"end":2,"text":"gift"},{"start":2,"end":3,"text":"card"}],"words":[{"word":"gift","start":1,"end":2},{"word":"card","start":2,"end":3}]}`, words: "gift@1-2 card@2-3"},
	{name: "tokens", json: `{"text":"verification code","segments":[{"text":" verification code","start":1,"end":3,"words":[{"word":" ver","start":1,"end":1.2,"probability":0.5},{"word":"ification","start":1.2,"end":2,"probability":1},{"word":" code","start":2,"end":2.5,"probability":0.25}]}]}`, words: "verification@1-2 code@2-2.5"},
	{name: "segments without words", json: `{"segments":[{"start":1,"end":3,"text":"gift card"}]}`, words: "gift@1-2 card@2-3"},
	{name: "text alone", json: `{"text":"gift card"}`, words: "gift@0-2.5 card@2.5-5"},
	{name: "nothing was said", json: `{"text":""}`},
	{name: "no segments", json: `{"text":"","segments":[],"words":[]}`},
	{name: "word times of no use", json: `{"segments":[{"start":1,"end":3,"text":"gift card","words":[{"word":"gift","start":-1,"end":-1},{"word":"card","start":2,"end":1}]}]}`, words: "gift@1-2 card@2-3"},
	{name: "word times beyond all", json: `{"segments":[{"start":1,"end":3,"text":"gift card","words":[{"word":"gift","start":1e300,"end":1e301}]}]}`, words: "gift@1-2 card@2-3"},
	{name: "words in silence", json: `{"segments":[{"text":"gift"},{"text":"you"}],"words":[{"word":"gift","start":1,"end":2},{"word":"you","start":4.5,"end":5}]}`, words: "gift@1-2"},
	{name: "a sentence from videos", json: `{"text":"Thanks for watching!"}`},
	{name: "another, in speech", json: `{"segments":[{"start":1,"end":2,"text":"gift"},{"start":2,"end":3,"text":" Don't forget to subscribe."}]}`, words: "gift@1-2"},
	{name: "thank you, doubted", json: `{"segments":[{"start":1,"end":2,"text":"Thank you.","no_speech_prob":0.5}]}`},
	{name: "thank you, believed", json: `{"segments":[{"start":1,"end":2,"text":"Thank you.","no_speech_prob":0.05}]}`, words: "Thank@1-1.5 you.@1.5-2"},
	{name: "silence by its own account", json: `{"segments":[{"start":1,"end":2,"text":"gift card","no_speech_prob":0.7,"avg_logprob":-1.1}]}`},
	{name: "unlikely, but speech", json: `{"segments":[{"start":1,"end":2,"text":"gift","no_speech_prob":0.1,"avg_logprob":-1.1}]}`, words: "gift@1-2"},
	{name: "impossible", json: `{"segments":[{"start":1,"end":2,"text":"gift","avg_logprob":-2.5}]}`},
	{name: "a loop, as the server says", json: `{"segments":[{"start":1,"end":2,"text":"gift gift","compression_ratio":3}]}`},
	{name: "a loop, as we see", json: `{"segments":[{"start":1,"end":4,"text":"` + strings.Repeat("I don't know. ", 12) + `"}]}`},
	{name: "a loop over segments", json: `{"segments":[` + strings.Repeat(`{"start":1,"end":2,"text":"I will call you back."},`, 8) + `{"start":1,"end":2,"text":"I will call you back."}]}`},
	{name: "more than can be said", json: `{"segments":[{"start":1,"end":4,"text":"` + distinct(30) + `"}]}`},
	{name: "no JSON", json: `<html>`, refused: "no verbose_json"},
	{name: "another kind", json: `"text"`, refused: "no verbose_json"},
	{name: "another message", json: `{"error":"x"}`, refused: "neither"},
	{name: "far too much", json: `{"text":"` + strings.Repeat("a ", 5*maxWords) + `"}`, refused: "words"},
}

// distinct is n words that are all different.
func distinct(n int) string {
	var words []string
	for i := range n {
		words = append(words, string([]byte{byte('a' + i%26), byte('k' + i/26), byte('a' + i*7%26)}))
	}
	return strings.Join(words, " ")
}

// spokenWindow has sound from 1 to 4 s of 5.
func spokenWindow() sound {
	pcm := make([]int16, 5*16000)
	for i := 16000; i < 4*16000; i++ {
		pcm[i] = int16(3000 * math.Sin(float64(i)/7))
	}
	return loudness(pcm, 16000)
}

func TestAnswersAreBelievedWhereSomebodyCanHaveSaidIt(t *testing.T) {
	window := spokenWindow()
	if s := window.speech(); s < 2900*time.Millisecond || s > 3100*time.Millisecond {
		t.Fatalf("%v of speech, want 3 s", s)
	}
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			a, err := parseAnswer([]byte(tt.json))
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("%v, want an error with %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := written(window.believe(a)); got != tt.words {
				t.Errorf("%q, want %q", got, tt.words)
			}
		})
	}
}

func written(words []transcribe.Word) string {
	var b []string
	for _, w := range words {
		b = append(b, fmt.Sprintf("%s@%g-%g", w.Text, w.Start.Seconds(), w.End.Seconds()))
	}
	return strings.Join(b, " ")
}

func TestConfidenceOfAWordIsThatOfItsTokens(t *testing.T) {
	words := whole([]rawWord{
		{Word: " ver", End: 1, Probability: new(0.5)},
		{Word: "i", Start: 1, End: 2, Probability: new(0.5)},
		{Word: "fy", Start: 2, End: 3, Probability: new(2.0)},
		{Word: " it", Start: 3, End: 4},
	})
	if len(words) != 2 || math.Abs(float64(words[0].Confidence)-2.0/3) > 1e-6 || words[1].Confidence != 0 {
		t.Errorf("%+v", words)
	}
}

func TestStitchingSaysWhatBothHeardOnce(t *testing.T) {
	read := func(s string) (words []transcribe.Word) { // word@tenth of a second
		for f := range strings.FieldsSeq(s) {
			text, at, _ := strings.Cut(f, "@")
			var tenth int
			if _, err := fmt.Sscan(at, &tenth); err != nil {
				t.Fatal(err)
			}
			start := time.Duration(tenth) * 100 * time.Millisecond
			words = append(words, transcribe.Word{Text: text, Start: start, End: start + 200*time.Millisecond})
		}
		return words
	}
	for _, tt := range []struct{ name, first, second, want string }{
		{"the same words", "read@0 me@3 the@6", "read@0 me@3 the@6 code@9", "read me the code"},
		{"cut words at the ends", "read@0 me@3 the@6 co@9", "ed@0 me@3 the@6 code@9 please@12", "read me the code please"},
		{"written differently", "Read@0 me,@3", "read@1 me@4 the@6", "Read me, the"},
		{"said twice", "no@0 no@3", "no@0 no@3 no@6", "no no no"},
		{"the same word far away", "code@0", "the@30 code@33", "code the code"},
		{"nothing alike", "gift@0 card@4", "lift@0 guard@4 now@8", "gift guard now"},
		{"only the first heard", "gift@0", "", "gift"},
		{"only the second heard", "", "gift@0", "gift"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, w := range stitch(read(tt.first), read(tt.second)) {
				got = append(got, w.Text)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestPromptHoldsWholeHints(t *testing.T) {
	for _, tt := range []struct {
		hints []string
		limit int
		want  string
	}{
		{nil, 100, ""},
		{[]string{"zelle", " any  desk "}, 100, "zelle, any desk"},
		{[]string{"zelle", "any desk"}, 10, "zelle"},
		{[]string{"", "zelle"}, 100, "zelle"},
		{[]string{"zelle"}, 0, ""},
	} {
		if got := prompt(tt.hints, tt.limit); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.hints, tt.limit, got, tt.want)
		}
	}
}

// Whatever a server answers is refused, or words that are not more than can be
// said, with times that a clock can hold.
func FuzzAnswer(f *testing.F) {
	for _, tt := range answers {
		if len(tt.json) < 10_000 {
			f.Add([]byte(tt.json))
		}
	}
	window := spokenWindow()
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAnswer(data)
		if err != nil {
			return
		}
		words := window.believe(a)
		if len(words) > wordsAnyway+wordsPerSecond*5 {
			t.Fatalf("%d words in 3 s", len(words))
		}
		if i := slices.IndexFunc(words, func(w transcribe.Word) bool {
			return w.Start < 0 || w.End < w.Start || w.End > 1e6*time.Second || strings.TrimSpace(w.Text) == "" || !(w.Confidence >= 0 && w.Confidence <= 1)
		}); i >= 0 {
			t.Fatalf("word %+v", words[i])
		}
	})
}

// However the words of two windows look, none is said twice and the order of
// each stays.
func FuzzStitch(f *testing.F) {
	f.Add("a b c", "b c d")
	f.Add("a", "a")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, one, two string) {
		if len(one) > 500 || len(two) > 500 {
			return
		}
		timed := func(s string) (words []transcribe.Word) {
			for i, text := range strings.Fields(s) {
				words = append(words, transcribe.Word{Text: text, Start: time.Duration(i) * 300 * time.Millisecond, End: time.Duration(i+1) * 300 * time.Millisecond})
			}
			return words
		}
		first, second := timed(one), timed(two)
		got := stitch(first, second)
		if len(got) > len(first)+len(second) {
			t.Fatalf("%d words of %d and %d", len(got), len(first), len(second))
		}
		if one == two && written(got) != written(first) && len(first) > 0 && plain(first[0].Text) != "" && len(got) > len(first) {
			t.Fatalf("%q stitched to itself is %q", written(first), written(got))
		}
	})
}
