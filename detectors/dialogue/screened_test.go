package dialogue

import (
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/detectors"
	"github.com/callwarden/callwarden/detectors/risk"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// heardAs is text from a time on, three words a second, each as sure.
func heardAs(how transcribe.Heard, side audio.Leg, utterance int, from float64, text string) transcribe.Segment {
	at := func(i int) time.Duration { return time.Duration(from*1e9) + time.Duration(i)*time.Second/3 }
	seg := transcribe.Segment{Leg: side, Utterance: utterance, Final: true, Heard: how, Text: text, Start: at(0)}
	for i, w := range strings.Fields(text) {
		seg.Words = append(seg.Words, transcribe.Word{Text: w, Start: at(i), End: at(i + 1), Confidence: 0.95})
		seg.End = at(i + 1)
	}
	return seg
}

func TestScreenAndOpenVocabularyTellOneFinding(t *testing.T) {
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	const ask = "please read me the verification code"
	screened := func(at float64) transcribe.Segment {
		return heardAs(transcribe.Screened, audio.Caller, 0, at, ask)
	}
	open := func(u int, at float64, text string) transcribe.Segment {
		return heardAs(transcribe.Openly, audio.Caller, u, at, text)
	}
	for _, tt := range []struct {
		name string
		segs []transcribe.Segment
		want string // tactics confirmed, with their points
	}{
		{"the open vocabulary agrees later", []transcribe.Segment{screened(10), open(1, 10.2, ask)}, "otp_request 6"},
		{"it agreed before", []transcribe.Segment{open(0, 10.2, ask), heardAs(transcribe.Screened, audio.Caller, 1, 10, ask)}, "otp_request 6"},
		{"it heard something else", []transcribe.Segment{screened(10), open(1, 10, "please redeem the very vacation coat by friday noon")}, "otp_request 1"},
		{"it found a warning there", []transcribe.Segment{
			screened(11), open(1, 10, "if somebody says please read me the verification code hang up and never share the code with anyone"),
		}, "official_counter_advice 0"},
		{"it is woken later and hears it from the ring", []transcribe.Segment{
			screened(10), heardAs(transcribe.Screened, audio.Callee, 1, 30, "hello are you there"), open(2, 10.1, ask),
		}, "otp_request 6"},
		{"it is not listening", []transcribe.Segment{screened(10)}, "otp_request 1"},
		{"the screen was not sure", func() []transcribe.Segment {
			seg := heardAs(transcribe.Screened, audio.Caller, 0, 10, "read me the")
			for i := range seg.Words {
				seg.Words[i].Confidence = 0.4
			}
			return []transcribe.Segment{seg}
		}(), ""},
		{"phrases are apart", []transcribe.Segment{heardAs(transcribe.Screened, audio.Caller, 0, 10, "gift … card")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(lib.Set, Config{Protected: audio.Callee})
			ids := map[string]int{}
			var got []string
			take := func(list []detectors.Finding) {
				for _, f := range list {
					ids[f.ID+f.State.String()]++
					if f.State != detectors.Confirmed || f.Muted != "" {
						continue
					}
					points := f.Weight
					if f.Stage == detectors.Protective {
						points = 0
					}
					got = append(got, f.Tactic+" "+string(rune('0'+int(points))))
				}
			}
			for _, seg := range tt.segs {
				take(d.Observe(seg))
			}
			take(d.Finish(time.Minute))
			if list := strings.Join(got, ", "); list != tt.want {
				t.Errorf("confirmed %q, want %q", list, tt.want)
			}
			for id, n := range ids {
				if n > 1 {
					t.Errorf("%s was told %d times", id, n)
				}
			}
		})
	}
}

func TestScreenedFindingWaitsForTheOpenVocabulary(t *testing.T) {
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	d := New(lib.Set, Config{})
	if got := d.Observe(heardAs(transcribe.Screened, audio.Caller, 0, 10, "you must buy gift cards right now")); len(got) != 0 {
		t.Fatalf("told at once: %v", got)
	}
	// The other leg going on shows that time has passed.
	got := d.Observe(heardAs(transcribe.Screened, audio.Callee, 0, 50, "what did you say"))
	if len(got) != 1 || got[0].Tactic != "gift_card_request" {
		t.Fatalf("after its time: %v", got)
	}
	m := risk.NewMeter(risk.DefaultConfig())
	if c := m.Observe(got[0], 50*time.Second); c.Level != risk.Notice {
		t.Errorf("alone it is %v", c.Level)
	}
}

func TestDigitsListAnswersWhereOpenVocabularyHeardNumbers(t *testing.T) {
	lib, err := tactics.Load("")
	if err != nil {
		t.Fatal(err)
	}
	const ask = "please read me the verification code we just sent you"
	for _, tt := range []struct {
		name, open, digits string
		want               bool
	}{
		{"as numbers in another form", "thirty three for six", "three three four six nine two", true},
		{"as sound-alikes", "for to ate one six", "four two eight one six", true},
		{"as ordinary speech", "well i would rather call the bank myself", "one two two eight nine", false},
		{"and counts once", "four seven two nine one six", "four seven two nine one six", true},
		{"not at all", "", "four seven two nine one six", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(lib.Set, Config{Protected: audio.Callee})
			d.Observe(heardAs(transcribe.Openly, audio.Caller, 0, 1, ask))
			found := 0
			take := func(list []detectors.Finding) {
				for _, f := range list {
					if f.Tactic == "otp_readback" && f.State == detectors.Confirmed {
						found++
					}
				}
			}
			take(d.Observe(heardAs(transcribe.AsNumbers, audio.Callee, 1, 8, tt.digits)))
			if found > 0 {
				t.Error("told before the open vocabulary has heard it")
			}
			if tt.open != "" {
				take(d.Observe(heardAs(transcribe.Openly, audio.Callee, 0, 8, tt.open)))
			}
			take(d.Observe(heardAs(transcribe.Openly, audio.Callee, 2, 14, "hello are you still there")))
			take(d.Finish(20 * time.Second))
			if want := map[bool]int{true: 1, false: 0}[tt.want]; found != want {
				t.Errorf("%d read-backs, want %d", found, want)
			}
		})
	}
}
