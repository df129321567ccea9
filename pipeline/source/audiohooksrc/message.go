package audiohooksrc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const version = "2" // of the protocol

// noUUID is the conversation of a connection probe.
const noUUID = "00000000-0000-0000-0000-000000000000"

// Types of messages that clients send.
const (
	typeOpen      = "open"
	typeClose     = "close"
	typePing      = "ping"
	typePaused    = "paused"
	typeResumed   = "resumed"
	typeDiscarded = "discarded"
	typeUpdate    = "update"
	typeError     = "error"
)

// Types of messages that we send.
const (
	typeOpened     = "opened"
	typeClosed     = "closed"
	typePong       = "pong"
	typeUpdated    = "updated"
	typeEvent      = "event"
	typeDisconnect = "disconnect"
)

// Reasons of a disconnect.
const (
	reasonCompleted    = "completed"
	reasonUnauthorized = "unauthorized"
	reasonError        = "error"
)

// position is a duration of ISO 8601 in the protocol's form: PT12.345S.
type position time.Duration

var durations = regexp.MustCompile(`^PT(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{0,9}(?:\.\d{1,12})?)S)?$`)

const longest = 1000 * time.Hour // of a position; far above what a call lasts

func (p *position) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New("is no string")
	}
	m := durations.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[2] == "" && (m[3] == "" || m[3] == ".") {
		return errors.New("is no duration such as PT1.5S")
	}
	total := 0.0
	for i, unit := range []float64{3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		v, err := strconv.ParseFloat(m[i+1], 64)
		if err != nil {
			return errors.New("is no duration such as PT1.5S")
		}
		total += v * unit
	}
	if total > longest.Seconds() {
		return fmt.Errorf("is above %v", longest)
	}
	*p = position(math.Round(total*1e6) * 1e3) // microseconds are exact in a float
	return nil
}

func (p position) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

func (p position) String() string {
	s := strconv.FormatFloat(time.Duration(p).Round(time.Microsecond).Seconds(), 'f', 6, 64)
	return "PT" + strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "S"
}

// message is one that a client sends.
type message struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Seq        uint64          `json:"seq"`
	ServerSeq  uint64          `json:"serverseq"`
	Position   *position       `json:"position"`
	Parameters json.RawMessage `json:"parameters"`
}

// reply is one that we send.
type reply struct {
	Version    string `json:"version"`
	ID         string `json:"id"`
	Type       string `json:"type"`
	Seq        uint64 `json:"seq"`
	ClientSeq  uint64 `json:"clientseq"`
	Parameters any    `json:"parameters"`
}

// none are the parameters of messages that have none.
type none struct{}

// media is a format of audio, offered or chosen.
type media struct {
	Type     string   `json:"type"`
	Format   string   `json:"format"`
	Channels []string `json:"channels"`
	Rate     int      `json:"rate"`
}

const (
	external = "external" // channel of whoever the contact centre talks to
	internal = "internal" // channel of the agent, or of the queue before
)

type openParameters struct {
	Organization string `json:"organizationId"`
	Conversation string `json:"conversationId"`
	Participant  struct {
		ID      string `json:"id"`
		ANI     string `json:"ani"`
		ANIName string `json:"aniName"`
		DNIS    string `json:"dnis"`
	} `json:"participant"`
	Media              []media `json:"media"`
	Language           string  `json:"language"`
	SupportedLanguages bool    `json:"supportedLanguages"`
	Continued          []struct {
		ID string `json:"id"`
	} `json:"continuedSessions"`
	Custom json.RawMessage `json:"customConfig"`
}

type openedParameters struct {
	Media              []media  `json:"media"`
	SupportedLanguages []string `json:"supportedLanguages,omitempty"`
}

// gap is what the client did not send: in discarded, and in resumed.
type gap struct {
	Start     *position `json:"start"`
	Discarded *position `json:"discarded"`
}

type closeParameters struct {
	Reason string `json:"reason"` // end, error, disconnect or reconnect
}

type errorParameters struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type updateParameters struct {
	Language string `json:"language"`
}

type disconnectParameters struct {
	Reason string `json:"reason"`
	Info   string `json:"info,omitempty"`
}

type eventParameters struct {
	Entities []entity `json:"entities"`
}

var uuids = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func isUUID(s string) bool { return uuids.MatchString(s) }

// maxText bounds a message that is no audio. The protocol's own limit.
const maxText = 64 << 10 // bytes

// parse reads a message. Its errors say what is wrong with it, and quote
// nothing of what somebody may have said.
func parse(data []byte) (message, error) {
	var m message
	if len(data) > maxText {
		return m, fmt.Errorf("a message of %d bytes: the limit is %d", len(data), maxText)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, notJSON(err)
	}
	switch {
	case m.Version != version:
		return m, fmt.Errorf("version: must be %q", version)
	case !isUUID(m.ID):
		return m, errors.New("id: must be a UUID")
	case m.Type == "" || len(m.Type) > 64:
		return m, errors.New("type: must be 1 to 64 characters")
	case m.Seq == 0:
		return m, errors.New("seq: must be above 0")
	case m.Position == nil:
		return m, errors.New("position: must be there")
	case len(m.Parameters) == 0 || m.Parameters[0] != '{':
		return m, errors.New("parameters: must be an object")
	}
	return m, nil
}

// into reads the parameters of m.
func (m *message) into(parameters any) error {
	if err := json.Unmarshal(m.Parameters, parameters); err != nil {
		return fmt.Errorf("parameters of %s: %w", m.Type, notJSON(err))
	}
	return nil
}

// notJSON is err without the value that it quotes.
func notJSON(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s: is a %s", kind.Field, kind.Value)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON from byte %d on", syntax.Offset)
	}
	return err
}

// check says what is wrong with an open.
func (o *openParameters) check() error {
	switch {
	case !isUUID(o.Organization):
		return errors.New("organizationId: must be a UUID")
	case !isUUID(o.Conversation):
		return errors.New("conversationId: must be a UUID")
	case len(o.Media) == 0:
		return errors.New("media: none is offered")
	case len(o.Media) > 64:
		return fmt.Errorf("media: %d are offered, the limit is 64", len(o.Media))
	case len(o.Continued) > 64:
		return fmt.Errorf("continuedSessions: %d, the limit is 64", len(o.Continued))
	}
	return nil
}

// probes reports whether the client only tries the connection.
func (o *openParameters) probes() bool { return o.Conversation == noUUID }

// choose picks what we like best of what is offered: both parties apart rather
// than one, then PCMU, which is all that a telephone call has in half the
// bytes; else what comes first.
func choose(offered []media) (media, error) {
	best, points := -1, 0
	for i, m := range offered {
		if p := m.worth(); p > points {
			best, points = i, p
		}
	}
	if best < 0 {
		return media{}, errors.New("media: none that is offered can be heard: audio of PCMU or L16 at 8000 to 48000 Hz, with the channels external, internal or both")
	}
	return offered[best], nil
}

// worth is 0 for what we cannot hear.
func (m media) worth() int {
	if m.Type != "audio" || m.Rate < 8000 || m.Rate > 48000 {
		return 0
	}
	points := 1
	switch m.Format {
	case "PCMU":
		if m.Rate != 8000 {
			return 0
		}
	case "L16":
	default:
		return 0
	}
	switch len(m.Channels) {
	case 1:
	case 2:
		if m.Channels[0] == m.Channels[1] {
			return 0
		}
		points += 2
	default:
		return 0
	}
	for _, c := range m.Channels {
		if c != external && c != internal {
			return 0
		}
	}
	if m.Format == "PCMU" {
		points++
	}
	return points
}
