package caller

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/coder/websocket"

	"github.com/callwarden/callwarden/transcribe/audio"
)

// forkSpeech is what jambonz and FreeSWITCH say.
type forkSpeech struct {
	cfg   Config
	plays []*forkPlay
}

// forkPlay is a recording as messages, its channels interleaved.
type forkPlay struct {
	rateHz, channels int
	messages         [][]byte
}

func (c Config) validateFork() error {
	if c.SampleRate != 0 && (c.SampleRate < 8000 || c.SampleRate > 48000) {
		return fmt.Errorf("--sample-rate: %d must be 8000 to 48000 Hz", c.SampleRate)
	}
	return nil
}

func newForkSpeech(cfg Config, recs []*Recording) (*forkSpeech, error) {
	f := &forkSpeech{cfg: cfg}
	done := make(map[*Recording]*forkPlay) // one recording may be there many times
	for _, rec := range recs {
		p := done[rec]
		if p == nil {
			var err error
			if p, err = newForkPlay(rec, cfg); err != nil {
				return nil, fmt.Errorf("%s: %w", rec.Path, err)
			}
			done[rec] = p
		}
		f.plays = append(f.plays, p)
	}
	return f, nil
}

func newForkPlay(rec *Recording, cfg Config) (*forkPlay, error) {
	p := &forkPlay{rateHz: cfg.SampleRate, channels: len(rec.Legs)}
	if p.rateHz == 0 {
		p.rateHz = min(max(rec.RateHz, 8000), 48000)
	}
	var sides [][]int16
	for _, side := range rec.Legs {
		pcm, err := resampled(silence(side, cfg.Silent), rec.RateHz, p.rateHz)
		if err != nil {
			return nil, err
		}
		sides = append(sides, pcm)
	}
	each := p.rateHz / 50
	for from := 0; from < len(sides[0]); from += each {
		b := make([]byte, 0, 2*each*len(sides))
		for i := from; i < from+each; i++ {
			for _, pcm := range sides {
				v := int16(0)
				if i < len(pcm) {
					v = pcm[i]
				}
				b = binary.LittleEndian.AppendUint16(b, uint16(v))
			}
		}
		p.messages = append(p.messages, b)
	}
	return p, nil
}

func (f *forkSpeech) codec() string { return "L16" }

func (f *forkSpeech) of(n int) *forkPlay { return f.plays[n%len(f.plays)] }

// length implements speech.
func (f *forkSpeech) length(n int) int { return len(f.of(n).messages) }

// open implements speech.
func (f *forkSpeech) open(n int, id string) (first []wsMessage, query url.Values) {
	p := f.of(n)
	about := map[string]any{"callSid": id, "direction": "inbound", "sampleRate": p.rateHz, "mixType": "mono"}
	if p.channels == 2 {
		about["mixType"] = "stereo"
	}
	for name, value := range f.cfg.params() {
		about[name] = value
	}
	data, err := json.Marshal(about)
	if err != nil {
		panic(err) // a map of texts and numbers
	}
	return []wsMessage{{websocket.MessageText, data}}, nil
}

// packets implements speech.
func (f *forkSpeech) packets(n int, _ string, _, at int) []wsMessage {
	p := f.of(n)
	return []wsMessage{{websocket.MessageBinary, p.messages[at%len(p.messages)]}}
}

// hear implements speech: events, and audio that is to be played.
func (f *forkSpeech) hear(kind websocket.MessageType, data []byte) (h heardBack) {
	if kind == websocket.MessageBinary {
		return heardBack{sound: audio.Span(len(data)/2, 8000), prompt: "streamed"}
	}
	var m struct {
		Type  string          `json:"type"`
		Event json.RawMessage `json:"event"`
		Data  struct {
			Content string `json:"audioContent"`
			RateHz  int    `json:"sampleRate"`
			ID      string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(data, &m) != nil {
		return h
	}
	switch m.Type {
	case "playAudio":
		h.prompt = m.Data.ID
		h.sound = audio.Span(base64.StdEncoding.DecodedLen(len(m.Data.Content))/2, m.Data.RateHz)
		h.answer = fmt.Appendf(nil, `{"type":"playDone","data":{"id":%q}}`, m.Data.ID)
	case "callwarden":
		h.event = m.Event
	}
	return h
}

// bye implements speech: the connection's end is the call's.
func (f *forkSpeech) bye(string) []byte { return nil }
