package caller

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/audiosocketsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Kinds of AudioSocket messages: a byte of kind, two of length, big-endian.
const (
	kindHangUp  = 0x00
	kindUUID    = 0x01
	kindAudio8  = 0x10
	kindAudio16 = 0x12
	kindError   = 0xff
)

// refusedWithin is how soon a peer that has no room hangs up: the protocol has
// no other way to say so.
const refusedWithin = time.Second

// audioSocket is the telephone exchange's end of Asterisk's AudioSocket: one
// connection for each leg.
type audioSocket struct {
	cfg     Config
	watch   *Progress
	api     *api // nil: nothing is announced
	pacer   *pacer
	plays   []*play // what calls play, in turn: messages with audio
	packets atomic.Uint64
	unsent  atomic.Uint64
}

func newAudioSocket(cfg Config, recs []*Recording, watch *Progress) (*audioSocket, error) {
	if len(recs[0].Legs) > 1 && cfg.API == "" {
		return nil, fmt.Errorf("%s has two legs, and two sockets are one call only where --api says so; give it, or --leg caller", recs[0].Path)
	}
	a := &audioSocket{cfg: cfg, watch: watch, pacer: &pacer{flush: func() {}}}
	if cfg.API != "" {
		a.api = newAPI(cfg.API, cfg.Token)
	}
	for _, rec := range recs {
		kind, rate := byte(kindAudio8), 8000
		if rec.RateHz >= 16000 {
			kind, rate = kindAudio16, 16000
		}
		p := &play{rec: rec}
		for _, side := range rec.Legs {
			pcm, err := resampled(side.PCM, rec.RateHz, rate)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rec.Path, err)
			}
			p.sides = append(p.sides, audioMessages(kind, pcm, rate/50))
		}
		a.plays = append(a.plays, p)
	}
	return a, nil
}

// audioMessages cuts pcm into messages of so many samples, in one piece of
// memory.
func audioMessages(kind byte, pcm []int16, each int) [][]byte {
	n := (len(pcm) + each - 1) / each
	all := make([]byte, 0, n*(3+2*each))
	out := make([][]byte, 0, n)
	for i := range n {
		from := len(all)
		all = append(all, kind)
		all = binary.BigEndian.AppendUint16(all, uint16(2*each))
		for k := i * each; k < (i+1)*each; k++ {
			var v int16
			if k < len(pcm) {
				v = pcm[k]
			}
			all = binary.LittleEndian.AppendUint16(all, uint16(v))
		}
		out = append(out, all[from:])
	}
	return out
}

// run implements way.
func (a *audioSocket) run(ctx context.Context) error {
	a.pacer.run(ctx)
	return nil
}

// place implements way.
func (a *audioSocket) place(ctx context.Context, n int) (o outcome) {
	begin := time.Now()
	call := announce.NewID("call")
	p := a.plays[n%len(a.plays)]
	sockets := make([]*socket, 0, len(p.sides))
	defer func() {
		for _, s := range sockets {
			_ = s.conn.Close()
		}
	}()
	over := make(chan string, len(p.sides)) // each socket's reader sends one value
	var reading sync.WaitGroup
	defer reading.Wait() // after the sockets are closed
	defer func() {
		for _, s := range sockets {
			_ = s.conn.Close()
		}
	}()
	for i, side := range p.rec.Legs {
		id := uuid.New()
		if err := a.announce(ctx, call, id, side.Leg); err != nil {
			return failed(err)
		}
		s, err := a.connect(ctx, id)
		if err != nil {
			return outcome{err: err}
		}
		s.messages = p.sides[i]
		s.from, s.packets = a.cfg.packets(n, len(s.messages))
		s.silent = a.cfg.Silent != audio.Unknown && side.Leg == a.cfg.Silent
		sockets = append(sockets, s)
		reading.Go(func() { over <- s.listen() })
	}
	o = outcome{answered: true, setup: time.Since(begin)}
	a.watch.Up.Add(1)
	defer a.watch.Up.Add(-1)
	connected := time.Now()
	o.end = a.play(ctx, sockets, over)
	held := time.Since(connected)
	o.seconds = held.Seconds()
	if o.end != "" && held < refusedWithin {
		return outcome{refusal: o.end}
	}
	if !a.cfg.DropBye {
		for _, s := range sockets {
			s.hangUp()
		}
	}
	return o
}

// announce says what is known of the call before its socket opens.
func (a *audioSocket) announce(ctx context.Context, call string, id uuid.UUID, leg audio.Leg) error {
	if a.api == nil {
		return nil
	}
	what := audiosocketsrc.Announcement{Call: a.cfg.announcement(), Leg: announce.Leg(leg)}
	what.Call.Call = call
	return a.api.do(ctx, http.MethodPut, "/v1/audiosocket/calls/"+id.String(), what, nil)
}

// play sends sockets to their end, until ctx ends, or until the peer ends the
// call, and returns why it did.
func (a *audioSocket) play(ctx context.Context, sockets []*socket, over <-chan string) (end string) {
	all := make([]paced, len(sockets))
	for i, s := range sockets {
		all[i] = s
	}
	playing := a.pacer.add(all...)
	ended := make(chan struct{})
	go func() { // ends with the sockets' packets, which stop ends too
		for _, p := range playing {
			<-p.done
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	case end = <-over:
	}
	a.pacer.stop(playing...)
	<-ended
	for _, s := range sockets {
		a.packets.Add(s.sent)
		a.unsent.Add(s.unsent)
	}
	return end
}

func (a *audioSocket) connect(ctx context.Context, id uuid.UUID) (*socket, error) {
	d := net.Dialer{Timeout: hangUpWithin}
	if a.cfg.Bind != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.cfg.Bind)}
	}
	conn, err := d.DialContext(ctx, "tcp", a.cfg.To)
	if err != nil {
		return nil, err
	}
	hello := append([]byte{kindUUID, 0, 16}, id[:]...)
	if _, err := conn.Write(hello); err != nil {
		_ = conn.Close()
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &socket{conn: conn, raw: raw}, nil
}

// socket sends one leg. Its packets are of the pacer's goroutine.
type socket struct {
	conn         net.Conn
	raw          syscall.RawConn
	messages     [][]byte
	from         int // message that it begins with
	packets      int
	silent       bool
	rest         []byte // of a message that the peer took in part
	sent, unsent uint64
}

// packet implements paced. A peer that does not take its audio loses it whole
// message by message: waiting for it would delay all other calls.
func (s *socket) packet(n int) (more bool) {
	more = n+1 < s.packets
	if s.silent {
		return more
	}
	message := s.messages[(s.from+n)%len(s.messages)]
	if len(s.rest) > 0 {
		s.rest = s.rest[s.write(s.rest):]
	}
	if len(s.rest) > 0 {
		s.unsent++
		return more
	}
	switch took := s.write(message); took {
	case 0:
		s.unsent++
	default:
		s.rest = message[took:]
		s.sent++
	}
	return more
}

// write takes what the system takes now.
func (s *socket) write(b []byte) (took int) {
	_ = s.raw.Write(func(fd uintptr) bool { // an error is a closed socket, which its reader tells
		n, err := syscall.Write(int(fd), b)
		if err == nil {
			took = n
		}
		return true
	})
	return took
}

// hangUp ends the call as Asterisk does.
func (s *socket) hangUp() {
	_ = s.conn.SetWriteDeadline(time.Now().Add(hangUpWithin))
	if _, err := s.conn.Write(slices.Concat(s.rest, []byte{kindHangUp, 0, 0})); err != nil {
		s.unsent++
	}
}

// listen reads what the peer sends until it ends the call, and returns how.
func (s *socket) listen() string {
	var head [3]byte
	for {
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return endOf(err)
		}
		if _, err := io.CopyN(io.Discard, s.conn, int64(binary.BigEndian.Uint16(head[1:]))); err != nil {
			return endOf(err)
		}
		switch head[0] {
		case kindHangUp:
			return "hung up"
		case kindError:
			return "error message"
		}
	}
}

func endOf(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	}
	return strings.TrimSpace(err.Error())
}

// count implements way.
func (a *audioSocket) count(r *Results) {
	r.Codec = "L16"
	r.Packets, r.Unsent = a.packets.Load(), a.unsent.Load()
	r.Behind = float64(a.pacer.lateness().Microseconds()) / 1000
}

// close implements way.
func (a *audioSocket) close() error {
	if a.api != nil {
		a.api.close()
	}
	return nil
}
