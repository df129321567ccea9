package screen

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/detectors/talk"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// library and list are what ships, for a recogniser that lacks some words; they
// take a while to make.
var (
	library = sync.OnceValues(func() (*tactics.Library, error) { return tactics.Load("") })
	list    = sync.OnceValues(func() (*List, error) {
		lib, err := library()
		if err != nil {
			return nil, err
		}
		return Compile(lib.Set, func(w string) bool { return !slices.Contains(lacks, w) })
	})
	// What a small vocabulary lacks: names, and a word of many phrases.
	lacks = []string{"anydesk", "teamviewer", "passcode", "otp", "zelle"}
)

func compiled(t testing.TB) *List {
	t.Helper()
	l, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListHoldsWordsThatTheRecogniserKnows(t *testing.T) {
	l := compiled(t)
	seen := map[string]bool{}
	for _, text := range l.Phrases() {
		for w := range strings.FieldsSeq(text) {
			seen[w] = true
		}
	}
	for _, w := range lacks {
		if seen[w] {
			t.Errorf("%q is in the list", w)
		}
		if !slices.Contains(l.Unheard(), w) {
			t.Errorf("%q is not reported", w)
		}
	}
	// Sound-alikes stand for what is lacking; every tactic keeps words.
	text := "\n" + strings.Join(l.Phrases(), "\n") + "\n"
	for _, want := range []string{"any desk", "team viewer", "verification code", "gift cards", "social security number", "press one"} {
		if !strings.Contains(text, want) {
			t.Errorf("no phrase says %q", want)
		}
	}
	if n := len(l.Phrases()); n < 2000 || n > 12000 {
		t.Errorf("%d phrases: a session takes as long to open as the list is long", n)
	}
	for _, want := range []string{"nine nine", "nine double", "oh", "sick"} {
		if !slices.Contains(l.Digits(), want) {
			t.Errorf("the list of digits has no %q", want)
		}
	}
}

func TestListOfUnknownWordsIsRefused(t *testing.T) {
	lib, err := library()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(lib.Set, func(string) bool { return false }); err == nil {
		t.Error("compiled for a recogniser that knows no word")
	}
}

func TestHonestSentencesMatchNoTactic(t *testing.T) {
	l := &List{set: compiled(t).set}
	l.addTexts(func(string) bool { return true }, honest)
	f := l.NewFinder()
	bad := 0
	for _, text := range l.Phrases() {
		if hits := f.Hits(spokenAs(audio.Caller, 0, text, 1), nil); len(hits) > 0 && hits[0].Worth >= wakeAt {
			t.Logf("%q is %s", text, hits[0].Pattern.Rule())
			bad++
		}
	}
	// Packs go on being written after the sentences were picked.
	if 100*bad > len(l.Phrases()) {
		t.Errorf("%d of %d sentences would wake a call", bad, len(l.Phrases()))
	}
}

// spokenAs is text from a time on, three words a second, each as sure.
func spokenAs(side audio.Leg, from time.Duration, text string, sure float32) transcribe.Segment {
	seg := transcribe.Segment{Leg: side, Final: true, Heard: transcribe.Screened, Start: from, Text: text}
	for w := range strings.FieldsSeq(text) {
		seg.Words = append(seg.Words, transcribe.Word{Text: w, Start: from, End: from + time.Second/3, Confidence: sure})
		from += time.Second / 3
	}
	seg.End = from
	return seg
}

func TestVerdictsGoByLengthConfidenceAndCompany(t *testing.T) {
	l := compiled(t)
	type said struct {
		leg  audio.Leg
		at   float64
		text string
		sure float32
	}
	for _, tt := range []struct {
		name string
		said []said
		want detectors.Verdict // of the last
	}{
		{"a plain ask", []said{{audio.Caller, 1, "please read me the verification code", 0.95}}, detectors.Wake},
		{"an ask the recogniser is not sure of", []said{{audio.Caller, 1, "please read me the verification code", 0.4}}, detectors.Hint},
		{"a short phrase", []said{{audio.Caller, 1, "press one", 1}}, detectors.Hint},
		{"a story alone", []said{{audio.Caller, 1, "there is a warrant for your arrest", 1}}, detectors.Hint},
		{"two stories", []said{{audio.Caller, 1, "there is a warrant for your arrest", 1}, {audio.Caller, 20, "somebody is trying to take money from your account", 1}}, detectors.Wake},
		{"on both legs", []said{{audio.Caller, 1, "there is a warrant for your arrest", 1}, {audio.Callee, 20, "go to the store and buy gift cards", 0.9}}, detectors.Wake},
		{"too long ago", []said{{audio.Caller, 1, "there is a warrant for your arrest", 1}, {audio.Caller, 90, "press one", 1}}, detectors.Hint},
		{"the same again", []said{{audio.Caller, 1, "press one", 1}, {audio.Caller, 20, "press one", 1}, {audio.Caller, 40, "press one", 1}}, detectors.Hint},
		{"nothing after a reason", []said{{audio.Caller, 1, "please read me the verification code", 0.95}, {audio.Caller, 9, "the weather is lovely", 1}}, detectors.Nothing},
		{"a sequel of nothing, and a story", []said{{audio.Caller, 1, "there is a warrant for your arrest", 1}, {audio.Caller, 20, "please take some of the tomatoes", 1}}, detectors.Hint},
		{"phrases apart", []said{{audio.Caller, 1, "gift … card", 1}}, detectors.Nothing},
		{"a warning", []said{{audio.Caller, 1, "never share the verification code with anyone", 1}}, detectors.Nothing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := l.Scorer(nil)
			got := detectors.Nothing
			for i, x := range tt.said {
				seg := spokenAs(x.leg, time.Duration(x.at*1e9), x.text, x.sure)
				seg.Utterance = i
				got = s.Hear(seg)
			}
			if got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestUnfinishedHypothesisIsNoCompanyOfItself(t *testing.T) {
	s := compiled(t).Scorer(nil)
	seg := spokenAs(audio.Caller, time.Second, "there is a warrant for your arrest", 0) // no confidence yet
	seg.Final = false
	for range 5 {
		if got := s.Hear(seg); got == detectors.Wake {
			t.Fatal("heard five times, it wakes")
		}
	}
	seg.Words, seg.Text = nil, "" // taken back
	if got := s.Hear(seg); got != detectors.Nothing {
		t.Errorf("taken back it is %v", got)
	}
	if got := s.Hear(spokenAs(audio.Caller, 9*time.Second, "press one", 1)); got != detectors.Hint {
		t.Errorf("after it, a short phrase is %v", got)
	}
}

func BenchmarkCompile(b *testing.B) {
	lib, err := tactics.Load("")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Compile(lib.Set, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHear(b *testing.B) {
	s := compiled(b).Scorer(nil)
	seg := spokenAs(audio.Caller, 0, "i was wondering whether you could tell me when the parcel will be here because we are out on friday", 0.9)
	b.ReportAllocs()
	for b.Loop() {
		s.Hear(seg)
	}
}

func TestTalkAsAWholeWakesWhereNoPhraseDoes(t *testing.T) {
	l := compiled(t)
	model, err := talk.Load()
	if err != nil {
		t.Fatal(err)
	}
	// What a closed list makes of a fraud on a bad line: no ask survives it.
	fraud := []string{
		"sir it is with the federal department and the officer",
		"oh no what i did not order it",
		"the server sir he is in the network and the savings",
		"what do you mean in my savings oh my god",
		"do as the officer told you sir the server is secure and the case is open",
		"on the phone with you nobody knows of it",
		"the balance sir and the numbers and then the bank cannot stop the officer",
	}
	honest := []string{
		"good evening the garden restaurant can i help you",
		"hello i would like to book a table for saturday evening please",
		"of course for how many people would it be",
		"there will be six of us and one is a small child at half past seven",
		"we have a nice corner by the window away from the door under what name",
		"little please and do you have somewhere to leave the car thank you very much",
	}
	hear := func(opinion Opinion, said []string) bool {
		s := l.Scorer(opinion)
		for i, text := range said {
			seg := spokenAs(audio.Leg(1+i%2), time.Duration(i)*6*time.Second, text, 0.9)
			seg.Utterance = i
			if s.Hear(seg) == detectors.Wake {
				return true
			}
		}
		return false
	}
	if hear(nil, fraud) {
		t.Fatal("a phrase wakes: this says nothing of the talk")
	}
	if !hear(model.NewCall(), fraud) {
		t.Error("the talk of a fraud does not wake")
	}
	if hear(model.NewCall(), honest) {
		t.Error("the talk of an honest call wakes")
	}
}
