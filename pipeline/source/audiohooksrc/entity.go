package audiohooksrc

import (
	"encoding/json"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// entity is one thing told to the agent's desktop in an event message. Clients
// pass over types that they do not know.
type entity struct {
	Type string `json:"type"`
	Data any    `json:"data"`
}

// Types of entities that the contact centre's own desktop knows.
const (
	entityTranscript = "transcript"
	entityAssist     = "agentassist"
)

// assist is what Agent Assist shows: suggestions of the kind faq, whose answer
// is HTML.
type assist struct {
	ID          string       `json:"id"`
	Suggestions []suggestion `json:"suggestions"`
}

type suggestion struct {
	Type       string   `json:"type"`
	ID         string   `json:"id"`
	Confidence float64  `json:"confidence"`
	Position   position `json:"position"`
	Question   string   `json:"question"`
	Answer     string   `json:"answer"`
}

type transcript struct {
	ID           string        `json:"id"`
	Channel      string        `json:"channel"`
	IsFinal      bool          `json:"isFinal"`
	Offset       position      `json:"offset"`
	Duration     position      `json:"duration"`
	Alternatives []alternative `json:"alternatives"`
}

type alternative struct {
	Confidence      float64          `json:"confidence"`
	Languages       []string         `json:"languages,omitempty"`
	Interpretations []interpretation `json:"interpretations"`
}

type interpretation struct {
	Type       string       `json:"type"`
	Transcript string       `json:"transcript"`
	Tokens     []spokenWord `json:"tokens"`
}

type spokenWord struct {
	Type       string   `json:"type"`
	Value      string   `json:"value"`
	Confidence float64  `json:"confidence"`
	Offset     position `json:"offset"`
	Duration   position `json:"duration"`
}

// entitiesOf are what ev is to a desktop: what its own parts can show, and but
// for transcripts the event itself, with its CloudEvents type as the entity's.
// Times are on the media clock, which from is the session's begin of.
func entitiesOf(ev sink.Event, channelOf func(callwardenv1.Leg) string, language string, from time.Duration) []entity {
	switch d := ev.Data.(type) {
	case *callwardenv1.TranscriptSegment:
		return []entity{{entityTranscript, transcriptOf(ev, d, channelOf, language, from)}}
	case *callwardenv1.RiskLevel:
		if e, ok := assistOf(ev, d, from); ok {
			return append([]entity{e}, itself(ev)...)
		}
	}
	return itself(ev)
}

func itself(ev sink.Event) []entity {
	data, err := ev.JSON()
	if err != nil {
		return nil
	}
	return []entity{{string(ev.Type), json.RawMessage(data)}}
}

// idOf is the UUID that stands for an id of ours: the same for the same.
func idOf(what ...string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(strings.Join(what, " "))).String()
}

// assistOf is what to say to the agent when the level rises. A level that falls
// is no suggestion.
func assistOf(ev sink.Event, l *callwardenv1.RiskLevel, from time.Duration) (entity, bool) {
	text := l.GetAdvice().GetText()
	if l.GetLevel() <= l.GetPrevious() || text == "" {
		return entity{}, false
	}
	level := strings.ToLower(strings.TrimPrefix(l.GetLevel().String(), "LEVEL_"))
	question := "Fraud: " + level
	if names := tacticsOf(l); len(names) > 0 {
		question += " (" + strings.Join(names, ", ") + ")"
	}
	return entity{entityAssist, assist{
		ID: idOf(ev.ID),
		Suggestions: []suggestion{{
			Type: "faq", ID: idOf(ev.ID, l.GetAdvice().GetId()), Confidence: certainty(l.GetLevel()),
			Position: position(max(0, ev.At-from)), Question: question, Answer: html.EscapeString(text),
		}},
	}}, true
}

// certainty is the confidence that Agent Assist sorts suggestions by.
func certainty(l callwardenv1.Level) float64 {
	switch l {
	case callwardenv1.Level_LEVEL_CRITICAL:
		return 1
	case callwardenv1.Level_LEVEL_WARNING:
		return 0.8
	}
	return 0.5
}

// tacticsOf are the tactics of a level, those with the most points first.
func tacticsOf(l *callwardenv1.RiskLevel) []string {
	var names []string
	for _, c := range l.GetContributions() {
		name := strings.ReplaceAll(c.GetTactic(), "_", " ")
		if name != "" && c.GetPoints() > 0 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func transcriptOf(ev sink.Event, s *callwardenv1.TranscriptSegment, channelOf func(callwardenv1.Leg) string, language string, from time.Duration) transcript {
	at := func(d time.Duration) position { return position(max(0, d-from)) }
	words := make([]spokenWord, 0, len(s.GetWords()))
	sum := 0.0
	for _, w := range s.GetWords() {
		words = append(words, spokenWord{
			"word", w.GetText(), float64(w.GetConfidence()),
			at(w.GetStart().AsDuration()), position(max(0, w.GetEnd().AsDuration()-w.GetStart().AsDuration())),
		})
		sum += float64(w.GetConfidence())
	}
	alt := alternative{Confidence: 1, Interpretations: []interpretation{{"display", s.GetText(), words}}}
	if len(words) > 0 {
		alt.Confidence = sum / float64(len(words))
	}
	if language != "" {
		alt.Languages = []string{language}
	}
	return transcript{
		// A segment replaces the one before it of the same utterance.
		ID:      idOf(ev.Tenant, ev.Call, s.GetLeg().String(), s.GetHeard().String(), fmt.Sprint(s.GetUtterance())),
		Channel: channelOf(s.GetLeg()), IsFinal: s.GetFinal(),
		Offset: at(s.GetStart().AsDuration()), Duration: position(max(0, s.GetEnd().AsDuration()-s.GetStart().AsDuration())),
		Alternatives: []alternative{alt},
	}
}
