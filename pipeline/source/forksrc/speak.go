package forksrc

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
)

var errOver = errors.New("the call is over")

// listener is a peer that is told events.
type listener struct {
	conn   *websock.Conn
	count  *websock.Counters
	events bool
}

// told is a message with an event. jambonz and mod_audio_fork hand messages of
// types that they do not know on to their application.
type told struct {
	Type  string          `json:"type"`
	Event json.RawMessage `json:"event"` // a CloudEvent
}

// Tell implements [source.Peer].
func (l *listener) Tell(ev sink.Event) {
	if !l.events {
		return
	}
	event, err := ev.CloudEvent()
	if err == nil {
		event, err = json.Marshal(told{"callwarden", event})
	}
	if err != nil || !l.conn.Send(websock.Text, event) {
		l.count.Untold.Add(1)
		return
	}
	l.count.Told.Add(1)
}

// speaker is a listener that can be spoken to.
type speaker struct {
	listener
	stream bool
	outHz  int
}

var (
	_ source.Peer   = (*listener)(nil)
	_ source.Player = (*speaker)(nil)
)

// play is the message that has the other side play audio.
type play struct {
	Type string   `json:"type"` // playAudio
	Data playData `json:"data"`
}

type playData struct {
	ContentType string `json:"audioContentType"` // raw: L16, low byte first
	RateHz      int    `json:"sampleRate"`
	Content     string `json:"audioContent"` // base64
	Text        string `json:"textContent,omitempty"`
	ID          string `json:"id,omitempty"` // jambonz says playDone with it
	Queue       bool   `json:"queuePlay"`    // jambonz: after what is being played
}

// pieceBytes of binary audio go out at a time.
const pieceBytes = 32 << 10

// Play implements [source.Player]. What is played is kept and put in a row by
// the peer.
func (s *speaker) Play(p source.Prompt) error {
	rateHz := 8000 // what mod_audio_fork plays without converting
	if s.stream {
		rateHz = s.outHz
	}
	pcm, err := websock.Resample(p, rateHz)
	if err != nil {
		return err
	}
	content := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		content = binary.LittleEndian.AppendUint16(content, uint16(v))
	}
	sent := false
	if s.stream {
		var pieces [][]byte
		for ; len(content) > pieceBytes; content = content[pieceBytes:] {
			pieces = append(pieces, content[:pieceBytes])
		}
		sent = s.conn.Send(websock.Binary, append(pieces, content)...)
	} else {
		message, err := json.Marshal(play{"playAudio", playData{
			ContentType: "raw", RateHz: rateHz, Content: base64.StdEncoding.EncodeToString(content), Text: p.Text, ID: p.ID, Queue: true,
		}})
		if err != nil {
			return err
		}
		sent = s.conn.Send(websock.Text, message)
	}
	switch {
	case sent:
		s.count.Told.Add(1)
		return nil
	case s.conn.Open():
		err = source.ErrNoRoom
	default:
		err = errOver
	}
	s.count.Untold.Add(1)
	return err
}
