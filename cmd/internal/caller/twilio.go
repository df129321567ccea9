package caller

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// Dialects of Twilio's media streams.
const (
	dialectTwilio     = "twilio"
	dialectTelnyx     = "telnyx"
	dialectSignalWire = "signalwire"
	dialectExotel     = "exotel"
)

// Dialects are the names that [Config.Dialect] may have.
func Dialects() []string {
	return []string{dialectTwilio, dialectTelnyx, dialectSignalWire, dialectExotel}
}

func (c Config) validateTwilio() error {
	if !slices.Contains(Dialects(), c.Dialect) {
		return fmt.Errorf("--dialect: %q must be one of %s", c.Dialect, strings.Join(Dialects(), ", "))
	}
	codec := strings.ToUpper(c.Codec)
	switch {
	case c.Dialect == dialectTwilio && codec != "PCMU",
		c.Dialect == dialectSignalWire && codec != "PCMU" && codec != "L16":
		return fmt.Errorf("--codec: %s has no %s", c.Dialect, c.Codec)
	case c.AuthToken != "" && c.Dialect != dialectTwilio:
		return fmt.Errorf("--auth-token: %s does not sign", c.Dialect)
	}
	return nil
}

// twilioSpeech is one dialect of the protocol.
type twilioSpeech struct {
	cfg    Config
	coding codec
	plays  []*twilioPlay
	outHz  int // samples a second of what comes back
	size   int // bytes of one of them
}

// twilioPlay is a recording as payloads in base64, by leg.
type twilioPlay struct {
	tracks   []string
	payloads [][][]byte
}

func newTwilioSpeech(cfg Config, recs []*Recording) (*twilioSpeech, error) {
	t := &twilioSpeech{cfg: cfg, outHz: 8000, size: 1}
	var err error
	if t.coding, err = codecFor(cfg.Codec, recs[0].RateHz); err != nil {
		return nil, err
	}
	if t.coding.name == "L16" {
		t.size, t.outHz = 2, t.coding.rateHz
		if cfg.Dialect != dialectTelnyx { // that is as RTP has it
			t.coding.encode = littleEndian
		}
	}
	done := make(map[*Recording]*twilioPlay) // one recording may be there many times
	for _, rec := range recs {
		p := done[rec]
		if p == nil {
			if p, err = t.play(rec); err != nil {
				return nil, fmt.Errorf("%s: %w", rec.Path, err)
			}
			done[rec] = p
		}
		t.plays = append(t.plays, p)
	}
	return t, nil
}

func littleEndian(pcm []int16) []byte {
	out := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		out = binary.LittleEndian.AppendUint16(out, uint16(v))
	}
	return out
}

func (t *twilioSpeech) play(rec *Recording) (*twilioPlay, error) {
	p := &twilioPlay{}
	for _, side := range rec.Legs {
		packets, err := t.coding.packets(silence(side, t.cfg.Silent), rec.RateHz)
		if err != nil {
			return nil, err
		}
		text := make([][]byte, len(packets))
		for i, b := range packets {
			text[i] = base64.StdEncoding.AppendEncode(nil, b)
		}
		track := "inbound" // who calls the number that the network serves
		if side.Leg == audio.Callee {
			track = "outbound"
		}
		p.tracks, p.payloads = append(p.tracks, track), append(p.payloads, text)
	}
	return p, nil
}

func (t *twilioSpeech) codec() string { return t.coding.name }

func (t *twilioSpeech) of(n int) *twilioPlay { return t.plays[n%len(t.plays)] }

// length implements speech.
func (t *twilioSpeech) length(n int) int { return len(t.of(n).payloads[0]) }

// open implements speech.
func (t *twilioSpeech) open(n int, id string) (first []wsMessage, query url.Values) {
	type m = map[string]any
	params := t.cfg.params()
	var start any
	switch t.cfg.Dialect {
	case dialectTelnyx:
		start = m{
			"event": "start", "sequence_number": "1", "stream_id": id, "start": m{
				"user_id": id, "call_control_id": "v2:" + id, "call_session_id": id, "from": params["from"], "to": params["to"],
				"media_format": m{"encoding": t.coding.name, "sample_rate": t.coding.clockHz, "channels": 1},
			},
		}
		query = make(url.Values)
		for name, value := range params {
			query.Set(name, value)
		}
	case dialectExotel:
		encoding := map[string]string{"L16": "base64", "PCMU": "audio/x-mulaw", "PCMA": "audio/x-alaw"}[t.coding.name]
		start = m{
			"event": "start", "sequence_number": "1", "stream_sid": id, "start": m{
				"stream_sid": id, "call_sid": id, "account_sid": "callwarden", "from": params["from"], "to": params["to"], "custom_parameters": params,
				"media_format": m{"encoding": encoding, "sample_rate": strconv.Itoa(t.coding.rateHz)},
			},
		}
	default:
		encoding := "audio/x-mulaw"
		if t.coding.name == "L16" {
			encoding = fmt.Sprintf("L16@%dh", t.coding.rateHz)
		}
		start = m{
			"event": "start", "sequenceNumber": "1", "streamSid": id, "start": m{
				"accountSid": "callwarden", "streamSid": id, "callSid": id, "tracks": t.of(n).tracks, "customParameters": params,
				"mediaFormat": m{"encoding": encoding, "sampleRate": t.coding.rateHz, "channels": 1},
			},
		}
	}
	connected := m{"event": "connected", "version": "1.0.0"}
	if t.cfg.Dialect == dialectTwilio || t.cfg.Dialect == dialectSignalWire {
		connected["protocol"] = "Call"
	}
	for _, v := range []any{connected, start} {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err) // maps of texts and numbers
		}
		first = append(first, wsMessage{websocket.MessageText, data})
	}
	return first, query
}

// packets implements speech.
func (t *twilioSpeech) packets(n int, id string, k, at int) []wsMessage {
	p := t.of(n)
	all := make([]wsMessage, len(p.tracks))
	for i, track := range p.tracks {
		payload := p.payloads[i][at%len(p.payloads[i])]
		sequence, stamp := int64(2+k*len(p.tracks)+i), (time.Duration(k) * packetTime).Milliseconds()
		b := make([]byte, 0, len(payload)+256)
		snake := t.cfg.Dialect == dialectTelnyx || t.cfg.Dialect == dialectExotel
		if snake {
			b = append(b, `{"event":"media","sequence_number":"`...)
		} else {
			b = append(b, `{"event":"media","sequenceNumber":"`...)
		}
		b = strconv.AppendInt(b, sequence, 10)
		b = append(b, `","media":{`...)
		if t.cfg.Dialect != dialectExotel || len(p.tracks) > 1 {
			b = append(append(append(b, `"track":"`...), track...), `",`...)
		}
		b = strconv.AppendInt(append(b, `"chunk":"`...), int64(k+1), 10)
		b = strconv.AppendInt(append(b, `","timestamp":"`...), stamp, 10)
		b = append(append(append(b, `","payload":"`...), payload...), `"},"`...)
		b = append(b, map[string]string{dialectTelnyx: "stream_id", dialectExotel: "stream_sid"}[t.cfg.Dialect]...)
		if !snake {
			b = append(b, "streamSid"...)
		}
		b = append(append(append(b, `":"`...), id...), `"}`...)
		all[i] = wsMessage{websocket.MessageText, b}
	}
	return all
}

// hear implements speech: media and marks.
func (t *twilioSpeech) hear(_ websocket.MessageType, data []byte) (h heardBack) {
	var m struct {
		Event string `json:"event"`
		Media struct {
			Payload []byte `json:"payload"`
		} `json:"media"`
		Mark struct {
			Name string `json:"name"`
		} `json:"mark"`
	}
	if json.Unmarshal(data, &m) != nil {
		return h
	}
	switch m.Event {
	case "media":
		h.sound = audio.Span(len(m.Media.Payload)/t.size, t.outHz)
	case "mark": // goes back once what came before it was played
		h.prompt, h.answer = m.Mark.Name, data
	}
	return h
}

// bye implements speech.
func (t *twilioSpeech) bye(id string) []byte {
	key := "streamSid"
	switch t.cfg.Dialect {
	case dialectTelnyx:
		key = "stream_id"
	case dialectExotel:
		key = "stream_sid"
	}
	return fmt.Appendf(nil, `{"event":"stop","%s":"%s"}`, key, id)
}
