package example

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// whistled are tones of 300 ms with 200 ms between them, and a second where
// the pitch is 0.
func whistled(pitches ...float64) []int16 {
	var pcm []int16
	for _, hz := range pitches {
		if hz == 0 {
			pcm = append(pcm, make([]int16, rateHz)...)
			continue
		}
		for i := range rateHz * 3 / 10 {
			pcm = append(pcm, int16(8000*math.Sin(2*math.Pi*hz*float64(i)/rateHz)))
		}
		pcm = append(pcm, make([]int16, rateHz/5)...)
	}
	return pcm
}

func TestConformance(t *testing.T) {
	transcribetest.Run(t, func(*testing.T) transcribetest.Subject {
		return transcribetest.Subject{
			Engine: New(), RateHz: rateHz,
			Speech: whistled(500, 1500, 0, 500, 500, 0, 1500, 1500, 500, 0),
		}
	})
}

func TestWhistlesAreWords(t *testing.T) {
	s, err := New().Open(t.Context(), transcribe.Options{Leg: audio.Caller})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	segments, err := s.Write(t.Context(), audio.Frame{Start: 5 * time.Second, Rate: rateHz, PCM: whistled(0, 500, 1500, 0, 1500)})
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, seg := range append(segments, last...) {
		if seg.Final {
			got = append(got, seg.Start.String()+" "+seg.Text)
		}
	}
	if want := "6s low high, 8s high"; strings.Join(got, ", ") != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// The page shows this package as it is.
func TestPageShowsTheCodeAsItIs(t *testing.T) {
	code, err := os.ReadFile("example.go")
	if err != nil {
		t.Fatal(err)
	}
	test, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/backends.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```go\n"+string(code)+"```\n") {
		t.Error("docs/backends.md does not show example.go as it is: copy it into the code block again")
	}
	begin := strings.Index(string(test), "func TestConformance")
	if end := begin + strings.Index(string(test)[begin:], "\n}\n") + 3; !strings.Contains(string(page), "```go\n"+string(test)[begin:end]+"```\n") {
		t.Error("docs/backends.md does not show TestConformance as it is")
	}
}
