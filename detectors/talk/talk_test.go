package talk

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const small = "# a record\nbias\t-1\nread\t4\nread me\t6\nthank\t-8\n# cod\t2\n"

func model(t testing.TB, text string) *Model {
	t.Helper()
	m, err := Read("small", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func said(leg audio.Leg, text string) transcribe.Segment {
	return transcribe.Segment{Leg: leg, Final: true, Text: text}
}

func TestOpinionIsTheDampedSumOfWhatWasSaid(t *testing.T) {
	c := model(t, small).NewCall()
	if o := c.Opinion(); o.LogOdds != -1 || o.Known != 0 {
		t.Errorf("before a word: %+v", o)
	}
	c.Observe(said(audio.Caller, "Please read me the 6-digit code."))
	c.Observe(said(audio.Callee, "Reading."))
	o := c.Opinion()
	if want := -1 + (4+6)/math.Sqrt(2+Damping); math.Abs(o.LogOdds-want) > 1e-9 || o.Known != 2 {
		t.Errorf("%+v, want log odds %g from 2 grams", o, want)
	}
	if o.For != [detectors.OpinionWords]string{"read me", "read"} || o.Against[0] != "" {
		t.Errorf("for %q, against %q", o.For, o.Against)
	}
	c.Observe(said(audio.Callee, "thanks"))
	if o := c.Opinion(); o.LogOdds >= -1+(4+6)/math.Sqrt(2+Damping) || o.Against[0] != "thank" {
		t.Errorf("thanked: %+v", o)
	}
}

func TestWordsCountOnceAndOnlyWhenTheyStand(t *testing.T) {
	c := model(t, small).NewCall()
	c.Observe(transcribe.Segment{Text: "read me"}) // not final
	if o := c.Opinion(); o.Known != 0 {
		t.Errorf("unfinished words count: %+v", o)
	}
	c.Observe(said(audio.Caller, "read me"))
	once := c.Opinion()
	c.Observe(said(audio.Callee, "read me")) // an echo
	if again := c.Opinion(); again != once {
		t.Errorf("echo changed %+v to %+v", once, again)
	}
}

func TestNormalizeKeepsStemsAndHidesNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"reading reads read":       "read read read",
		"four seven twenty 9 code": "# cod",
		"the passes you'll codes":  "the pas you cod",
		"":                         "",
	} {
		got := strings.Join(Normalize(strings.Fields(in), nil), " ")
		if got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestGramsAreWordsPairsAndPairsWithAGap(t *testing.T) {
	var got []string
	for g := range Grams([]string{"a", "b", "c"}) {
		got = append(got, g.Text())
		if g.Hash != hash(offset, g.Text()) {
			t.Errorf("hash of %q is not that of its text", g.Text())
		}
	}
	if want := []string{"a", "a b", "a * c", "b", "b c", "c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadNamesTheLineThatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"empty":     {"", "f: no weights"},
		"no tab":    {"bias\t0\nread 4\n", "f:2: want a gram"},
		"no number": {"bias\t0\nread\tmuch\n", `f:2: weight "much"`},
		"infinite":  {"bias\tInf\n", "f:1: weight"},
		"no bias":   {"read\t4\n", "f:1: the first weight"},
		"twice":     {"bias\t0\nread\t4\nread\t5\n", `f:3: "read" is there already`},
	} {
		if _, err := Read("f", strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// The model that is shipped knows a plain fraud from a plain errand. Neither is
// among the calls that it was trained on.
func TestShippedModelTellsAFraudFromAnErrand(t *testing.T) {
	m, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	opinion := func(turns ...string) float64 {
		c := m.NewCall()
		for _, text := range turns {
			c.Observe(said(audio.Unknown, text))
		}
		return c.Opinion().LogOdds
	}
	fraud := opinion(
		"This is the fraud department, somebody has just tried to take money from your account.",
		"Oh my god, I did not do that.",
		"Do not worry, I will stop it for you. I have sent you a verification code, please read it to me now.",
		"It says do not share it with anybody.", "That is for other people. Read me the code quickly or the money is gone.")
	errand := opinion(
		"Hello, I am ringing about my appointment on Tuesday.", "Of course, what was the name please?",
		"Harris. Could I move it to the afternoon?", "Yes, half past two would be free.", "Lovely, thank you, see you then. Bye.")
	if fraud < errand+2 {
		t.Errorf("fraud %.1f, errand %.1f: want at least 2 between them", fraud, errand)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small)
	f.Add("bias\t0\n#\t1\n# * #\t-1\n")
	f.Add("bias")
	// Whatever the file says, a call is judged without a panic, and the opinion
	// is a number.
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Read("f", strings.NewReader(text))
		if err != nil {
			return
		}
		c := m.NewCall()
		c.Observe(said(audio.Caller, text))
		if o := c.Opinion(); math.IsNaN(o.LogOdds) {
			t.Errorf("opinion %+v", o)
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	m, err := Load()
	if err != nil {
		b.Fatal(err)
	}
	c := m.NewCall()
	seg := said(audio.Caller, "so i told her that we would come over on sunday if the weather is nice and bring the cake")
	b.ReportAllocs()
	for b.Loop() {
		c.Observe(seg)
		_ = c.Opinion()
	}
}
