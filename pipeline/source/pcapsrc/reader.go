package pcapsrc

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// Legs are told the time this often while packets of any leg come.
	tellEvery = 60 * time.Millisecond
	// A capture's times are the network's: what comes in a burst was held up
	// somewhere and is heard.
	maxLead = 5 * time.Second
)

// Reader is the audio of a call; see [audio.Reader].
type Reader struct {
	legs    []*legReader
	streams []*streamReader
	ready   []audio.Frame
	told    time.Duration
	ended   bool
	call    *Call
	close   func() error
}

type legReader struct {
	track *media.Track
	last  *streamReader // whose formats the track has
}

// streamReader is one stream with its next packet.
type streamReader struct {
	voice
	leg       *legReader
	file      container
	cursor    cursor
	decoder   decoder
	fragments fragments
	clock     clock
	context   *srtp.Context
	zero      time.Duration // the call's beginning
	clockHz   int           // where packets are placed by their own clock
	began     time.Duration
	ticks     int64
	timestamp uint32
	started   bool

	packet []byte // the next; empty when there is none
	at     time.Duration
}

// read opens the call's streams in r.
func (c *Call) read(r io.ReaderAt) (*Reader, error) {
	out := &Reader{call: c}
	zero := notEnded
	for _, l := range c.legs {
		cfg := media.DefaultTrackConfig(l.leg)
		cfg.Formats, cfg.MaxLead = l.streams[0].formats, maxLead
		track, err := media.NewTrack(cfg)
		if err != nil {
			return nil, err
		}
		leg := &legReader{track: track}
		out.legs = append(out.legs, leg)
		for _, s := range l.streams {
			sr := &streamReader{voice: s, leg: leg, cursor: s.index.cursor()}
			sr.file = container{window: window{r: r, size: c.capture.size, ahead: readOne}, ng: c.capture.ng, nics: c.capture.nics}
			if s.crypto != nil {
				if sr.context, err = s.crypto.NewContext(); err != nil {
					return nil, err
				}
			}
			if s.byClock(s.formats) {
				sr.clockHz = s.clock(s.formats)
			}
			out.streams = append(out.streams, sr)
			if s.began != noTime {
				zero = min(zero, s.began)
			}
		}
	}
	for _, s := range out.streams {
		s.zero = zero
		if zero == notEnded {
			s.zero = 0
		}
		if err := s.advance(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Warnings are sentences about what was wrong with the call's packets and heard
// nevertheless.
func (r *Reader) Warnings() []string {
	all := slices.Clone(r.call.warnings)
	for i, l := range r.legs {
		st := l.track.Stats()
		if st.Unsupported > 0 {
			all = append(all, fmt.Sprintf("%d packets of the %s are of payload types that nobody describes", st.Unsupported, r.call.Legs[i]))
		}
		if st.Malformed > 0 {
			all = append(all, fmt.Sprintf("%d packets of the %s could not be understood", st.Malformed, r.call.Legs[i]))
		}
	}
	return all
}

// Close gives the file back.
func (r *Reader) Close() error { return r.close() }

// ReadFrame is an [audio.Reader]'s.
func (r *Reader) ReadFrame(ctx context.Context) (audio.Frame, error) {
	for len(r.ready) == 0 {
		if err := ctx.Err(); err != nil {
			return audio.Frame{}, err
		}
		if r.ended {
			return audio.Frame{}, io.EOF
		}
		r.ready = r.ready[:0]
		if err := r.step(); err != nil {
			return audio.Frame{}, err
		}
	}
	f := r.ready[0]
	r.ready = r.ready[1:]
	return f, nil
}

// step takes the packet that came first of those that are left.
func (r *Reader) step() error {
	var next *streamReader
	for _, s := range r.streams {
		if len(s.packet) > 0 && (next == nil || s.at < next.at) {
			next = s
		}
	}
	if next == nil {
		r.ended = true
		for _, l := range r.legs {
			r.ready = l.track.Flush(r.ready)
		}
		return nil
	}
	if next.at >= r.told+tellEvery {
		r.told = next.at
		for _, l := range r.legs {
			r.ready = l.track.Advance(r.ready, next.at)
		}
	}
	if next.leg.last != next {
		if err := next.leg.track.SetFormats(next.formats); err != nil {
			return err
		}
		next.leg.last = next
	}
	r.ready = next.leg.track.Push(r.ready, next.packet, next.at)
	return next.advance()
}

// advance reads the stream's next packet.
func (s *streamReader) advance() error {
	s.packet = s.packet[:0]
	for len(s.packet) == 0 {
		at, ok := s.cursor.next()
		if !ok {
			return nil
		}
		p, err := s.file.at(at)
		if err != nil {
			return fmt.Errorf("reading the capture again: %w", err)
		}
		s.at = max(s.at, s.clock.read(&p)-s.zero)
		s.take(&p)
		if s.context != nil && len(s.packet) > 0 {
			s.decrypt()
		}
	}
	return nil
}

// take copies the packet of the stream out of one of the capture.
func (s *streamReader) take(p *packet) {
	if !s.decoder.decode(p.link, p.data, p.cut) {
		return
	}
	if s.decoder.isPiece {
		whole := s.decoder.piece
		data, _ := s.fragments.add(whole, p.ref, s.at)
		s.decoder = decoder{}
		if data == nil || !s.decoder.transport(whole.proto, whole.src, whole.dst, data) {
			return
		}
	}
	d := &s.decoder.datagram
	if d.src != s.src || d.dst != s.dst || !isRTP(d.payload) {
		return
	}
	s.packet = append(s.packet, d.payload...)
	if d.cut {
		s.packet[0] &^= 0x20 // the padding is what was cut off
	}
	s.place()
}

// place sets the packet's time by its own clock where the capture's is none.
func (s *streamReader) place() {
	if s.clockHz == 0 {
		return
	}
	timestamp := binary.BigEndian.Uint32(s.packet[4:])
	if !s.started {
		s.started, s.began = true, s.at
	} else if step := int32(timestamp - s.timestamp); step > 0 && step < 1<<20 {
		s.ticks += int64(step)
	}
	s.timestamp = timestamp
	s.at = s.began + time.Duration(s.ticks)*time.Second/time.Duration(s.clockHz)
}

// decrypt takes the encryption off the packet. One that cannot be is left out;
// the track counts it as lost.
func (s *streamReader) decrypt() {
	plain, err := s.context.DecryptRTP(nil, s.packet, nil)
	if err != nil {
		s.packet = s.packet[:0]
		return
	}
	s.packet = append(s.packet[:0], plain...)
}
