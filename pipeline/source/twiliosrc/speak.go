package twiliosrc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/websock"
)

const (
	// piece is how much of a prompt a message holds: within what all dialects
	// take, which is 100 ms to 30 s.
	piece = 200 * time.Millisecond
	// mostUnheard is how many prompts may be on their way. The network keeps
	// them and plays one after the other.
	mostUnheard = 4
)

var errOver = errors.New("the call is over")

// speaking is whether and in which encoding a stream of the format same can be
// spoken into, by the value of speak.
func speaking(value string, same format) (f format, can bool, err error) {
	switch strings.ToLower(value) {
	case speakNo, "false", "0":
		return format{}, false, nil
	case speakSame, "yes", "true", "1":
		return same, true, nil
	case "":
		return format{}, false, fmt.Errorf("%q must be no, same, or an encoding such as PCMU/8000", value)
	}
	f, err = parseFormat(value, 0, 0)
	return f, err == nil, err
}

// speaker is a peer into whose call prompts are said. The protocol has no shape
// for events.
type speaker struct {
	conn    *websock.Conn
	stream  *stream
	format  format
	count   *websock.Counters
	big     func() bool // the byte order of L16
	unheard atomic.Int32
}

var _ source.Player = (*speaker)(nil)

// Tell implements [source.Peer].
func (p *speaker) Tell(sink.Event) {}

// Play implements [source.Player]: the whole prompt goes to the network, which
// plays it, and says by a mark when it has.
func (p *speaker) Play(prompt source.Prompt) error {
	if p.unheard.Add(1) > mostUnheard {
		p.unheard.Add(-1)
		return source.ErrNoRoom
	}
	messages, err := p.messages(prompt)
	if err == nil && !p.conn.Send(websock.Text, messages...) {
		err = errOver
		if p.conn.Open() {
			err = source.ErrNoRoom
		}
	}
	if err != nil {
		p.unheard.Add(-1)
		p.count.Untold.Add(1)
		return err
	}
	p.count.Told.Add(1)
	return nil
}

// markOf is the name of the mark after a prompt.
const markOf = "callwarden "

// heard takes the mark that the network sends back.
func (p *speaker) heard(name string) {
	if strings.HasPrefix(name, markOf) && p.unheard.Load() > 0 {
		p.unheard.Add(-1)
	}
}

// messages are the prompt and its mark.
func (p *speaker) messages(prompt source.Prompt) ([][]byte, error) {
	pcm, err := websock.Resample(prompt, p.format.rateHz)
	if err != nil {
		return nil, err
	}
	each := int(piece * time.Duration(p.format.rateHz) / time.Second)
	if rest := len(pcm) % each; rest > 0 {
		pcm = append(pcm[:len(pcm):len(pcm)], make([]int16, each-rest)...) // to silence
	}
	payload := p.format.encode(pcm, p.big())
	size := len(payload) * each / max(len(pcm), 1)
	var all [][]byte
	for ; len(payload) > 0; payload = payload[size:] {
		m, err := p.message(eventMedia, map[string]string{"payload": base64.StdEncoding.EncodeToString(payload[:size])})
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	mark, err := p.message(eventMark, map[string]string{"name": markOf + prompt.ID})
	return append(all, mark), err
}

// message is one in the peer's dialect.
func (p *speaker) message(event string, what map[string]string) ([]byte, error) {
	key := map[dialect]string{twilio: "streamSid", telnyx: "stream_id", exotel: "stream_sid"}[p.stream.dialect]
	return json.Marshal(map[string]any{"event": event, key: p.stream.id, event: what})
}
