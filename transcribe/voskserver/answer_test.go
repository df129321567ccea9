package voskserver

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/stream"
	"github.com/callwarden/callwarden/transcribe/voskserver/voskpb"
)

var answers = []struct {
	name, json string
	text       string
	words      []string
	final      bool
	refused    string
}{
	{name: "partial", json: `{"partial" : "gift card"}`, text: "gift card"},
	{name: "nothing yet", json: `{ "partial" : "" }`},
	{name: "result", json: `{"result" : [{"conf" : 0.5, "end" : 1.11, "start" : 0.87, "word" : "gift"}], "text" : "gift"}`, text: "gift", words: []string{"gift"}, final: true},
	{name: "result without words", json: `{"text" : "gift card"}`, text: "gift card", final: true},
	{name: "nothing was said", json: `{"text" : ""}`, final: true},
	{name: "alternatives", json: `{"alternatives" : [{"confidence" : 200.1, "result" : [{"end" : 1, "start" : 0, "word" : "gift"}], "text" : "gift"}, {"confidence" : 1, "text" : "lift"}]}`, text: "gift", words: []string{"gift"}, final: true},
	{name: "speech in no phrase", json: `{"partial" : "[unk] gift [unk] [unk] card [unk]"}`, text: "gift … card"},
	{name: "speech in no phrase, with words", json: `{"text" : "[unk] gift [unk]", "result" : [{"word" : "[unk]", "start" : 0, "end" : 1}, {"word" : "gift", "start" : 1, "end" : 2}, {"word" : "[unk]", "start" : 2, "end" : 3}]}`, text: "gift", words: []string{"gift"}, final: true},
	{name: "no JSON", json: `partial`, refused: "no JSON"},
	{name: "another kind of JSON", json: `[1]`, refused: "no JSON"},
	{name: "another message", json: `{"status" : "ok"}`, refused: "neither"},
	{name: "negative time", json: `{"text" : "a", "result" : [{"word" : "a", "start" : -1, "end" : 1}]}`, refused: "from -1"},
	{name: "endless", json: `{"text" : "a", "result" : [{"word" : "a", "start" : 1, "end" : 1e300}]}`, refused: "1e+300"},
	{name: "too many words", json: `{"text" : "a", "result" : [` + strings.Repeat(`{},`, maxWords) + `{}]}`, refused: "at most"},
}

func TestAnswersAreReadOrRefused(t *testing.T) {
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parseAnswer([]byte(tt.json))
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("%v, want an error with %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, w := range h.Words {
				words = append(words, w.Text)
			}
			if h.Text != tt.text || h.Final != tt.final || !slices.Equal(words, tt.words) {
				t.Errorf("%+v, want %q %q final %v", h, tt.text, tt.words, tt.final)
			}
		})
	}
}

// Whatever a server answers is refused, or a hypothesis with times that a
// clock can hold.
func FuzzAnswer(f *testing.F) {
	for _, tt := range answers {
		f.Add([]byte(tt.json))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseAnswer(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("took %q", data)
		}
		sound(t, h)
	})
}

// The same of the messages of the gRPC service.
func FuzzResponse(f *testing.F) {
	for _, tt := range answers {
		if h, err := parseAnswer([]byte(tt.json)); err == nil {
			words := []*voskpb.WordInfo{}
			for _, w := range h.Words {
				words = append(words, &voskpb.WordInfo{Word: w.Text, Confidence: w.Confidence})
			}
			data, err := proto.Marshal(&voskpb.StreamingRecognitionResponse{Chunks: []*voskpb.SpeechRecognitionChunk{{
				Alternatives: []*voskpb.SpeechRecognitionAlternative{{Text: h.Text, Words: words}}, Final: h.Final,
			}}})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r voskpb.StreamingRecognitionResponse
		if proto.Unmarshal(data, &r) != nil {
			return
		}
		said, err := parseResponse(&r)
		if err != nil {
			return
		}
		for _, h := range said {
			sound(t, h)
		}
	})
}

func sound(t *testing.T, h stream.Hypothesis) {
	t.Helper()
	bad := func(w transcribe.Word) bool {
		return w.Start < 0 || w.End < w.Start || w.End > maxSeconds*time.Second || w.Text == unknown
	}
	if slices.ContainsFunc(h.Words, bad) {
		t.Fatalf("words %v", h.Words)
	}
	if slices.Contains(strings.Fields(h.Text), unknown) {
		t.Fatalf("text %q", h.Text)
	}
}
