package board

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// Key names a call.
type Key struct{ Tenant, Call string }

func (k Key) String() string { return k.Tenant + "/" + k.Call }

// The states of a call.
const (
	Live  = "live"
	Ended = "ended"
	Lost  = "lost" // nothing was heard of it for so long that it is over, or whoever heard it is gone
)

// Seconds is a time on a call's media clock, or a length of it, to the
// millisecond.
type Seconds float64

func seconds(d time.Duration) Seconds {
	return Seconds(math.Round(d.Seconds()*1000) / 1000)
}

// Duration is s as a duration.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// Millis is a time on the wall clock: milliseconds since 1970; 0 is none.
type Millis int64

func millis(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// Time is m as a time, in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// Row is a call in one line. Whoever has a row may keep it: a call that
// changes gets another one. Times in wall clock are of whoever read the
// events, but for Began.
type Row struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
	State  string `json:"state"`

	// Start is when the call's media clock stood at zero, by the earliest that
	// its events say of it.
	Start Millis `json:"start,omitempty"`
	// Dur is how far its media clock had come when it was last heard of, Seen.
	Dur   Seconds `json:"dur"`
	Seen  Millis  `json:"seen,omitempty"`
	Ended Millis  `json:"ended,omitempty"`
	// Began is what the machine that took the call says; Skew is how far its
	// clock is off, where that is more than it could be late.
	Began Millis  `json:"began,omitempty"`
	Skew  Seconds `json:"skew,omitempty"`

	From      string `json:"from,omitempty"`
	FromName  string `json:"from_name,omitempty"`
	To        string `json:"to,omitempty"`
	ToName    string `json:"to_name,omitempty"`
	FromID    string `json:"from_id,omitempty"` // stand for the numbers where those are masked
	ToID      string `json:"to_id,omitempty"`
	Direction string `json:"direction,omitempty"`
	Codec     string `json:"codec,omitempty"`
	Consent   string `json:"consent,omitempty"`
	Language  string `json:"language,omitempty"`
	CanPlay   bool   `json:"can_play,omitempty"`

	Level     string  `json:"level"`
	Peak      string  `json:"peak"` // the highest so far
	Score     float64 `json:"score"`
	PeakScore float64 `json:"peak_score"`
	LevelAt   Seconds `json:"level_at,omitempty"` // when Level began
	Alert     Millis  `json:"alert,omitempty"`    // the first time of warning or worse
	AlertAt   Seconds `json:"alert_at,omitempty"` // and on the media clock

	Hearing string  `json:"hearing"`
	Reason  string  `json:"reason,omitempty"` // why it is not well heard
	Listen  string  `json:"listen,omitempty"`
	Shed    bool    `json:"shed,omitempty"`
	Lag     Seconds `json:"lag,omitempty"`

	Tactics []Chip    `json:"tactics,omitempty"` // most points first
	Line    []float64 `json:"line,omitempty"`    // seconds, score, seconds, score, …

	Verdict   string `json:"verdict,omitempty"` // "scam" or "not_scam"
	VerdictBy string `json:"verdict_by,omitempty"`
	Ack       string `json:"ack,omitempty"` // who looks after it
	Notes     int    `json:"notes,omitempty"`
	Prompts   int    `json:"prompts,omitempty"`

	version uint64
}

// Version is that of the board when the row came about: of two rows of a call
// the same version is the same row, but for how far its clock has come.
func (r *Row) Version() uint64 { return r.version }

// Key is the name of the row's call.
func (r *Row) Key() Key { return Key{r.Tenant, r.ID} }

// Chip is a tactic of a call: what all findings of it come to.
type Chip struct {
	Tactic string  `json:"tactic"`
	State  string  `json:"state"`
	Muted  bool    `json:"muted,omitempty"` // all of them are
	Points float64 `json:"points,omitempty"`
	N      int     `json:"n"`
}

// Call is everything that is known of a call.
type Call struct {
	Row        *Row              `json:"row"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Backend    string            `json:"backend,omitempty"`
	Model      string            `json:"model,omitempty"`
	Legs       []Leg             `json:"legs,omitempty"`
	Findings   []Finding         `json:"findings,omitempty"`
	Shares     []Share           `json:"shares,omitempty"` // those of the last step
	Advice     []Advice          `json:"advice,omitempty"` // newest last
	Curve      []Point           `json:"curve,omitempty"`
	Steps      []Step            `json:"steps,omitempty"`
	Status     []Status          `json:"status,omitempty"`
	Actions    []Action          `json:"actions,omitempty"` // oldest first
	Segments   []Segment         `json:"segments,omitempty"`
	Earlier    int               `json:"earlier,omitempty"` // segments before the first of Segments
	Dropped    int               `json:"dropped,omitempty"` // segments for which there was no room: the first ones
	Levels     []Strip           `json:"levels,omitempty"`
	End        *End              `json:"ended,omitempty"`
}

// Leg is how one side is heard.
type Leg struct {
	Leg       string   `json:"leg"`
	Hearing   string   `json:"hearing,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Heard     Seconds  `json:"heard,omitempty"`
	Dropped   Seconds  `json:"dropped,omitempty"`
	Lost      Seconds  `json:"lost,omitempty"`
	Lag       Seconds  `json:"lag,omitempty"`
	RateHz    int32    `json:"rate_hz,omitempty"`
	LowHz     int32    `json:"low_hz,omitempty"`
	HighHz    int32    `json:"high_hz,omitempty"`
	NoiseDBFS *float64 `json:"noise_dbfs,omitempty"`
	HumHz     int32    `json:"hum_hz,omitempty"`
	Clipped   bool     `json:"clipped,omitempty"`
}

// Finding is a tactic heard in one place.
type Finding struct {
	ID         string  `json:"id"`
	Tactic     string  `json:"tactic"`
	Stage      string  `json:"stage,omitempty"`
	Leg        string  `json:"leg"`
	Start      Seconds `json:"start"`
	End        Seconds `json:"end"`
	Words      string  `json:"words,omitempty"`
	Confidence float64 `json:"confidence,omitempty"`
	State      string  `json:"state"`
	Rule       string  `json:"rule,omitempty"`
	Pack       string  `json:"pack,omitempty"`
	MutedBy    string  `json:"muted_by,omitempty"`
	Points     float64 `json:"points,omitempty"` // when it was reported
	Share      float64 `json:"share,omitempty"`  // of the score at the last change of level
	Why        string  `json:"why,omitempty"`    // the rule that gave or limited that
	At         Seconds `json:"at"`               // when it was last reported

	version uint64
}

// Share is what one finding, or the "talk" as a whole, gave to the score.
type Share struct {
	Finding string  `json:"finding"`
	Tactic  string  `json:"tactic,omitempty"`
	Points  float64 `json:"points"`
	Why     string  `json:"why,omitempty"`
}

// Step is a change of level and what the score came from then. Its shares,
// largest first, sum to the score.
type Step struct {
	At       Seconds `json:"at"`
	Level    string  `json:"level"`
	Previous string  `json:"previous"`
	Score    float64 `json:"score"`
	Shares   []Share `json:"shares,omitempty"`
	Advice   string  `json:"advice_id,omitempty"`
}

// Advice is what a person could do or say when the level changed.
type Advice struct {
	ID       string  `json:"id"`
	Language string  `json:"language,omitempty"`
	Text     string  `json:"text"`
	Level    string  `json:"level"`
	At       Seconds `json:"at"`
}

// Status is how the call was heard from some time on.
type Status struct {
	At      Seconds `json:"at"`
	Hearing string  `json:"hearing"`
	Reason  string  `json:"reason,omitempty"`
	Listen  string  `json:"listen,omitempty"`
	Shed    bool    `json:"shed,omitempty"`
}

// Action is what a person did about the call.
type Action struct {
	ID       string `json:"id"`
	Action   string `json:"action"`
	Who      string `json:"who"`
	When     Millis `json:"when"`
	Note     string `json:"note,omitempty"`
	UndoneBy string `json:"undone_by,omitempty"`
	Undone   Millis `json:"undone,omitempty"`
}

// End is how the call ended.
type End struct {
	Reason   string   `json:"reason"`
	Complete bool     `json:"complete"`
	Warnings []string `json:"warnings,omitempty"`
	Tactics  []string `json:"tactics,omitempty"`
}

// Segment is one stretch of speech. N is its place in the call and stays the
// same while the segment changes.
type Segment struct {
	N         int     `json:"n"`
	Leg       string  `json:"leg"`
	Utterance int32   `json:"u"`
	Heard     string  `json:"heard,omitempty"`
	Final     bool    `json:"final,omitempty"`
	Start     Seconds `json:"start"`
	End       Seconds `json:"end"`
	Text      string  `json:"text"`
	Words     []Word  `json:"words,omitempty"`

	version uint64
}

// Word is one word of a segment, in JSON ["word",start,end,confidence].
type Word struct {
	Text       string
	Start, End float32 // seconds
	Confidence float32
}

// MarshalJSON writes w as an array.
func (w Word) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w.Text); err != nil {
		return nil, err
	}
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return fmt.Appendf(nil, "[%s,%.3f,%.3f,%.2f]", text, w.Start, w.End, w.Confidence), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (w *Word) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&w.Text, &w.Start, &w.End, &w.Confidence})
}

// Point is a place on the risk curve, in JSON [seconds,score,"level"].
type Point struct {
	At    Seconds
	Score float64
	Level string
}

// MarshalJSON writes p as an array.
func (p Point) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%.3f,%.2f,%q]", float64(p.At), p.Score, p.Level), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Point) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&p.At, &p.Score, &p.Level})
}

// Strip is how loud a leg was: a byte for each step of the media clock, dB
// below full scale, 255 where nothing came.
type Strip struct {
	Leg   string  `json:"leg"`
	Step  Seconds `json:"step"`
	From  int     `json:"from,omitempty"` // step of the first byte
	Below []byte  `json:"below"`          // base64 in JSON
}

// The words for the wire's enums are their names without the enum's own.

func levelName(l callwardenv1.Level) string {
	if l <= callwardenv1.Level_LEVEL_UNSPECIFIED || l > callwardenv1.Level_LEVEL_CRITICAL {
		return "none"
	}
	return short(l.String(), "LEVEL_")
}

func hearingName(h callwardenv1.Hearing) string {
	if h == callwardenv1.Hearing_HEARING_UNSPECIFIED {
		return "unknown"
	}
	return short(h.String(), "HEARING_")
}

func legName(l callwardenv1.Leg) string {
	if l == callwardenv1.Leg_LEG_UNSPECIFIED {
		return "unknown"
	}
	return short(l.String(), "LEG_")
}

func stateName(s callwardenv1.FindingState) string { return short(s.String(), "FINDING_STATE_") }
func stageName(s callwardenv1.Stage) string        { return short(s.String(), "STAGE_") }
func heardName(h callwardenv1.Heard) string        { return short(h.String(), "HEARD_") }

// ActionName is the word for an action, such as "not_scam".
func ActionName(a callwardenv1.Action) string { return short(a.String(), "ACTION_") }

// ActionOf is the action that a word is for, ok false where there is none.
func ActionOf(name string) (a callwardenv1.Action, ok bool) {
	v, ok := callwardenv1.Action_value["ACTION_"+strings.ToUpper(name)]
	return callwardenv1.Action(v), ok && v != 0
}

func short(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// LevelRank is 0 for "none" to 3 for "critical"; of no other word it is -1.
func LevelRank(level string) int {
	switch level {
	case "none":
		return 0
	case "notice":
		return 1
	case "warning":
		return 2
	case "critical":
		return 3
	}
	return -1
}

// sourceOf is the way in that an event names.
func sourceOf(ev sink.Event) string { return strings.TrimPrefix(ev.Source, "callwarden/") }
