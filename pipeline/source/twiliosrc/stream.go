package twiliosrc

import (
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/websock"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// dialect is how the peer spells what goes back to it.
type dialect string

const (
	twilio dialect = "twilio" // and SignalWire
	telnyx dialect = "telnyx"
	exotel dialect = "exotel"
)

// Tracks of a stream. What the network hears of the party that it serves is
// inbound; what that party hears is outbound.
const (
	trackInbound  = "inbound"
	trackOutbound = "outbound"
)

// stream is what the peer's first messages say.
type stream struct {
	dialect dialect
	id      string // for what goes back
	call    string // its system's name for the call
	tracks  []string
	format  format
	about   websock.About
	early   []early // what came before it was known which tracks there are
}

// early is a message that waits until the call begins.
type early struct {
	data []byte
	at   time.Duration
}

// Keys of custom parameters that are for us.
const (
	keyTracks = "tracks" // inbound, outbound or both
	keyCaller = "callertrack"
	keySpeak  = "speak"
)

const (
	// Where the start does not say which tracks there are, so much of them is
	// looked at.
	mostEarly = 50
	earlyFor  = 300 * time.Millisecond
	mostOdd   = 10 // messages in a row that cannot be understood
)

// hello reads up to what begins the call.
func hello(c *websock.Conn) (*stream, error) {
	for odd := 0; ; {
		m, _, err := read(c)
		switch {
		case errors.Is(err, errNotJSON), errors.Is(err, errNoEvent):
			return nil, websock.Faultf(websock.Invalid, "message: %v", err)
		case err != nil:
			return nil, err
		case m.event == eventStart:
			s, err := parseStart(m.all, c.Request.URL.Query())
			if err != nil {
				return nil, websock.Faultf(websock.Unsupported, "start: %v", err)
			}
			return s, s.sniff(c)
		case m.event == eventStop:
			return nil, io.EOF
		}
		if m.event != eventConnected {
			if odd++; odd == mostOdd {
				return nil, websock.Faultf(websock.Policy, "the first messages are none of connected and start")
			}
		}
	}
}

// read reads one message. Its bytes are good until the next.
func read(c *websock.Conn) (message, []byte, error) {
	kind, data, err := c.Read()
	if err != nil {
		return message{}, nil, err
	}
	if kind != websock.Text {
		return message{}, nil, websock.Faultf(websock.Unsupported, "a binary message: this protocol has none")
	}
	m, err := parse(data)
	return m, data, err
}

// parseStart reads a start message of any dialect. The URL's query is the
// custom parameters of those that have none.
func parseStart(all fields, query url.Values) (*stream, error) {
	start := all.object("start")
	s := &stream{dialect: twilio, about: websock.About{Other: map[string]string{keyTracks: "", keyCaller: "", keySpeak: "", "token": ""}}}
	first := func(names ...string) string {
		for _, n := range names {
			for _, f := range []fields{start, all} {
				if v := f.text(n); v != "" {
					return v
				}
			}
		}
		return ""
	}
	s.call = first("callsid", "callsessionid", "callid", "callcontrolid")
	switch {
	case first("streamid") != "" || first("callcontrolid") != "":
		s.dialect, s.id = telnyx, first("streamid")
	case first(streamSIDSnake) != "":
		s.dialect, s.id = exotel, first("streamsid")
	default:
		s.id = first("streamsid")
	}
	for _, t := range start.texts("tracks") {
		s.track(t)
	}
	s.track(first("track"))

	own := start.object("mediaformat")
	encoding, rate := own.text("encoding"), own.number("samplerate")
	if encoding == "" && s.dialect == exotel {
		encoding = "l16"
	}
	var err error
	if s.format, err = parseFormat(encoding, rate, own.number("channels")); err != nil {
		return nil, err
	}

	s.about.SetAll(start.said("customparameters"))
	s.about.SetAll(all.said("customparameters"))
	for _, name := range slices.Sorted(maps.Keys(query)) {
		s.about.Set(name, query.Get(name))
	}
	for _, name := range []string{"from", "to", "direction"} {
		s.about.Set(name, first(name))
	}
	s.track(s.about.Other[keyTracks])
	return s, nil
}

// track notes that there is a track of that name, in any of its spellings.
func (s *stream) track(name string) {
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(name, "s")), "_track")
	names := []string{name}
	switch name {
	case trackInbound, trackOutbound:
	case "both":
		names = []string{trackInbound, trackOutbound}
	default:
		return
	}
	for _, n := range names {
		if !slices.Contains(s.tracks, n) {
			s.tracks = append(s.tracks, n)
		}
	}
}

// sniff finds out which tracks there are by what comes, where nobody says.
func (s *stream) sniff(c *websock.Conn) error {
	var since time.Time
	for len(s.tracks) < 2 && len(s.early) < mostEarly && !s.said() {
		m, data, err := read(c)
		var fault *websock.Fault
		if errors.As(err, &fault) || err != nil && !errors.Is(err, errNotJSON) && !errors.Is(err, errNoEvent) {
			if errors.Is(err, io.EOF) && len(s.early) > 0 {
				break // a call of some words
			}
			return err
		}
		s.early = append(s.early, early{slices.Clone(data), time.Since(c.Began)}) // also what is wrong: it is judged with the rest
		if m.event == eventStop || m.event == eventMedia && m.media.track == "" {
			break
		}
		if m.event == eventMedia {
			s.track(m.media.track)
			if since.IsZero() {
				since = time.Now()
			} else if time.Since(since) > earlyFor {
				break
			}
		}
	}
	if len(s.tracks) == 0 {
		s.tracks = []string{trackInbound}
	}
	slices.Sort(s.tracks) // inbound first
	return nil
}

// said reports whether the start has named the tracks.
func (s *stream) said() bool { return len(s.tracks) > 0 && len(s.early) == 0 }

// leg is whose voice a track is. The party that the network serves has placed
// the call, unless the call is outbound: then it was called. The parameter
// caller_track overrides that.
func (s *stream) leg(track string) audio.Leg {
	caller := trackInbound
	if s.about.Direction == "outbound" {
		caller = trackOutbound
	}
	switch name := strings.TrimSuffix(strings.ToLower(s.about.Other[keyCaller]), "_track"); name {
	case trackInbound, trackOutbound:
		caller = name
	}
	if track == caller {
		return audio.Caller
	}
	return audio.Callee
}
