package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// StreamConfig is what is known of one stream of a call: an m= line.
type StreamConfig struct {
	Leg     audio.Leg
	Formats []Format
	// Remote is where the stream comes from. What comes from another address is
	// dropped and counted; the port is that of the first packet, for not
	// everybody sends from where he receives. Where Remote is the zero value,
	// the first packet decides on both.
	Remote netip.AddrPort
	// SSRC is the source, where it is known; 0 where not. It only tells streams
	// apart that share a port.
	SSRC uint32
	// Reports is where receiver reports go; the zero value for nowhere. Where
	// the peer's own reports come from another port, they go there.
	Reports netip.AddrPort
	// Mux says that reports go out from the port of RTP, RFC 5761. What comes
	// is told apart in any case.
	Mux bool
	// ByeEnds ends the call once all its streams that were heard said goodbye
	// by RTCP and nothing came for two seconds after that. It is for calls that
	// nothing else ends.
	ByeEnds bool
	// Receive is how the stream is encrypted; nil where it is not. What does
	// not prove to be of its key is dropped and counted as a stranger's.
	Receive *Crypto
	// Send encrypts receiver reports.
	Send *Crypto
	// Held says that nothing is to be expected: the media timeout waits.
	Held bool
}

// Session is the audio of one live call. Its streams may be added, changed and
// removed from any goroutine while one goroutine reads.
type Session struct {
	ports *Ports
	cfg   Config
	log   *slog.Logger
	wake  chan struct{} // of one place; anybody sends, ReadFrame receives
	ready []audio.Frame // ReadFrame's

	mu      sync.Mutex
	began   time.Time // zero of the media clock
	streams []*Stream
	ended   bool
	reason  error            // why; nil for a hang-up
	closed  bool             // the ports are given back
	heard   time.Duration    // when the last packet came, or a hold ended
	gone    source.Stats     // of streams that were removed
	ends    [3]time.Duration // of what was told, by leg

	controlAt time.Duration // when RTCP was last looked at
	tick      *time.Timer   // ReadFrame's
}

// Stream is one stream of a session.
type Stream struct {
	session *Session
	pair    *pair
	cfg     StreamConfig
	track   *Track
	remote  netip.AddrPort // where the last packet came from
	heard   time.Duration  // when
	receive *srtp.Context  // nil where nothing is encrypted
	send    *srtp.Context
	header  rtp.Header // scratch
	control control
	stats   source.Stats // what no track counts
}

// NewSession returns a call without streams, whose media clock begins now.
func (p *Ports) NewSession(log *slog.Logger) *Session {
	return &Session{ports: p, cfg: p.cfg, log: log, wake: make(chan struct{}, 1), began: time.Now()}
}

// Began is the zero of the media clock.
func (s *Session) Began() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began
}

// Add opens a pair of ports of the range for a stream. An error wrapping
// [source.ErrBusy] says that there is none, one wrapping [ErrCodec] which
// format cannot be heard.
func (s *Session) Add(cfg StreamConfig) (*Stream, error) {
	return s.add(cfg, s.ports.take)
}

// AddTo adds a stream that is received on the same ports as another. They are
// told apart by their sources, addresses and payload types; where all that is
// the same or unknown, the source that is heard first is the stream that was
// added first.
func (s *Session) AddTo(other *Stream, cfg StreamConfig) (*Stream, error) {
	return s.add(cfg, func() (*pair, error) {
		if !slices.Contains(s.streams, other) {
			return nil, errors.New("adding a stream to ports that are closed")
		}
		return other.pair, nil
	})
}

// AddAt is Add for a port of the caller's choice, outside of the range or not;
// RTCP is on the port after it.
func (s *Session) AddAt(cfg StreamConfig, port int) (*Stream, error) {
	if port < 1 || port > 65534 {
		return nil, fmt.Errorf("media port %d must be from 1 to 65534", port)
	}
	return s.add(cfg, func() (*pair, error) { return openPair(netip.AddrPortFrom(s.ports.bind, uint16(port))) })
}

func (s *Session) add(cfg StreamConfig, open func() (*pair, error)) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("adding a stream: the call is over")
	}
	st := &Stream{session: s}
	if err := st.set(cfg); err != nil {
		return nil, err
	}
	p, err := open()
	if err != nil {
		return nil, err
	}
	st.pair = p
	p.streams = append(p.streams, st)
	s.streams = append(s.streams, st)
	s.heard = time.Since(s.began)
	return st, nil
}

// Port is where the stream is received; RTCP is on the port after it.
func (st *Stream) Port() int { return int(st.pair.rtp.local.Port()) }

// Config is what the stream was last told.
func (st *Stream) Config() StreamConfig {
	st.session.mu.Lock()
	defer st.session.mu.Unlock()
	return st.cfg
}

// Change tells the stream what is different from now on, as a re-INVITE does.
// After an error it goes on as before.
func (st *Stream) Change(cfg StreamConfig) error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Since(s.began)
	return st.set(cfg)
}

// set is called with the session's lock held.
func (st *Stream) set(cfg StreamConfig) error {
	receive, err := rekey(st.receive, st.cfg.Receive, cfg.Receive)
	if err != nil {
		return err
	}
	send, err := rekey(st.send, st.cfg.Send, cfg.Send)
	if err != nil {
		return err
	}
	if st.track != nil && cfg.Leg == st.cfg.Leg {
		if err := st.track.SetFormats(cfg.Formats); err != nil {
			return err
		}
	} else {
		tc := DefaultTrackConfig(cfg.Leg)
		tc.Formats, tc.Window, tc.Span = cfg.Formats, st.session.cfg.Window, st.session.cfg.Poll
		tc.After = st.session.ends[cfg.Leg]
		track, err := NewTrack(tc)
		if err != nil {
			return err
		}
		if st.track != nil {
			st.session.gone.Add(st.counts())
			st.stats = source.Stats{}
		}
		st.track = track
	}
	cfg.Remote = netip.AddrPortFrom(cfg.Remote.Addr().Unmap(), cfg.Remote.Port())
	if cfg.Remote.Addr() != st.cfg.Remote.Addr() {
		st.remote = netip.AddrPort{}
	}
	st.receive, st.send = receive, send
	st.cfg = cfg
	return nil
}

// rekey returns the context for a stream that went from one line to another:
// the old one where nothing changed, for it knows how often the sequence
// numbers have begun anew.
func rekey(old *srtp.Context, was, is *Crypto) (*srtp.Context, error) {
	if is == nil {
		return nil, nil
	}
	if old != nil && was != nil && was.Equal(*is) {
		return old, nil
	}
	return is.NewContext()
}

// Remove ends the stream and gives its ports back. What it counted stays in the
// session's counts.
func (st *Stream) Remove() error {
	s := st.session
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.streams, st)
	if i < 0 {
		return nil
	}
	s.streams = slices.Delete(s.streams, i, i+1)
	s.gone.Add(st.counts())
	s.heard = time.Since(s.began)
	return st.leave()
}

// leave gives the ports back unless another stream is received there.
func (st *Stream) leave() error {
	p := st.pair
	p.streams = slices.DeleteFunc(p.streams, func(o *Stream) bool { return o == st })
	if len(p.streams) > 0 {
		return nil
	}
	return p.close()
}

// End ends the call: ReadFrame returns what came until now and then reason, or
// io.EOF where it is nil. Only the first End counts.
func (s *Session) End(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended, s.reason = true, reason
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close gives all ports back. It may be called once no ReadFrame runs.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.ended = true, true
	var err error
	for _, st := range s.streams {
		err = errors.Join(err, st.leave())
	}
	return err
}

// Await blocks until media comes; the call's media clock then begins with it.
// It is for ports that wait for calls: an End or a timeout before is forgotten.
// It returns ctx.Err() when ctx ends first.
func (s *Session) Await(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	if err := s.restart(); err != nil {
		return err
	}
	for {
		came, err := s.waiting()
		if came || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// restart forgets the call that was.
func (s *Session) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("awaiting media: the session is closed")
	}
	s.ended, s.reason, s.ready = false, nil, nil
	s.ends = [3]time.Duration{}
	s.began, s.heard, s.controlAt = time.Now(), 0, 0
	for _, st := range s.streams {
		s.gone.Add(st.counts())
		st.track, st.stats, st.remote, st.control = nil, source.Stats{}, netip.AddrPort{}, control{}
		if err := st.set(st.cfg); err != nil {
			return err
		}
	}
	return nil
}

// waiting polls once and reports whether a call began.
func (s *Session) waiting() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	// What is there came since the last look.
	s.began, s.heard, s.controlAt = now.Add(-s.cfg.Poll), 0, 0
	if err := s.poll(now); err != nil {
		return false, err
	}
	for _, st := range s.streams {
		if st.track.Stats().Packets > 0 {
			return true, nil
		}
	}
	return false, nil
}

var _ audio.Reader = (*Session)(nil)

// ReadFrame returns the next frame of any leg; see [audio.Reader]. Beside
// io.EOF and ctx.Err() it returns why the call ended otherwise, such as "no
// media for 1m0s".
func (s *Session) ReadFrame(ctx context.Context) (audio.Frame, error) {
	for {
		if len(s.ready) > 0 {
			f := s.ready[0]
			s.ready = s.ready[1:]
			return f, nil
		}
		more, err := s.round()
		if err != nil {
			return audio.Frame{}, err
		}
		if more {
			continue
		}
		if s.tick == nil {
			s.tick = time.NewTimer(s.cfg.Poll)
		} else {
			s.tick.Reset(s.cfg.Poll)
		}
		select {
		case <-s.tick.C:
		case <-s.wake:
		case <-ctx.Done():
			return audio.Frame{}, ctx.Err()
		}
	}
}

// round polls once and reports whether frames are ready. It returns why the
// call ended when it did.
func (s *Session) round() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, s.over()
	}
	now := time.Now()
	s.ready = s.ready[:0]
	if err := s.poll(now); err != nil {
		return false, err
	}
	at := now.Sub(s.began)
	ended := s.ended
	for _, st := range s.streams {
		if ended {
			s.ready = st.track.Flush(s.ready)
		} else {
			s.ready = st.track.Advance(s.ready, at)
		}
	}
	s.order()
	if len(s.ready) > 0 {
		return true, nil
	}
	if ended {
		return false, s.over()
	}
	if s.endsAt(at) {
		s.ended = true
		return false, s.over()
	}
	return false, nil
}

// endsAt reports whether the call is over without having been ended.
func (s *Session) endsAt(at time.Duration) bool {
	if s.saidGoodbye(at) {
		return true
	}
	if at-s.heard < s.cfg.Timeout || s.held() {
		return false
	}
	s.reason = fmt.Errorf("no media for %v", s.cfg.Timeout)
	return true
}

// over is why the call ended.
func (s *Session) over() error {
	if s.reason == nil {
		return io.EOF
	}
	return s.reason
}

// held reports whether nothing is to be expected of any stream.
func (s *Session) held() bool {
	return len(s.streams) > 0 && !slices.ContainsFunc(s.streams, func(st *Stream) bool { return !st.cfg.Held })
}

// order puts the frames of a round in the order of the media clock and takes
// out what another stream of the same leg has told already.
func (s *Session) order() {
	slices.SortStableFunc(s.ready, func(a, b audio.Frame) int { return cmp.Compare(a.End(), b.End()) })
	kept := s.ready[:0]
	for _, f := range s.ready {
		if f.Start < s.ends[f.Leg] {
			continue
		}
		s.ends[f.Leg] = f.End()
		kept = append(kept, f)
	}
	s.ready = kept
}

// batches are shared by all sessions: reading takes microseconds.
var batches = sync.Pool{New: func() any { return newBatch() }}

// poll reads all that came.
func (s *Session) poll(now time.Time) error {
	b, _ := batches.Get().(*batch)
	defer batches.Put(b)
	for _, st := range s.streams {
		if st.pair.streams[0] != st {
			continue // its ports were read
		}
		if err := s.drain(st.pair.rtp, b, now, st.pair); err != nil {
			return err
		}
	}
	at := now.Sub(s.began)
	if at-s.controlAt < controlEvery {
		return nil
	}
	s.controlAt = at
	for _, st := range s.streams {
		if st.pair.streams[0] == st {
			if err := s.drain(st.pair.rtcp, b, now, st.pair); err != nil {
				return err
			}
		}
		st.sendReport(at)
	}
	return nil
}

// maxBatches is how much of a port is read at a time: 500 datagrams, of some
// three that are due. What a flood brings beyond is the kernel's to drop.
const maxBatches = 32

// drain reads a socket until there is no more.
func (s *Session) drain(from *socket, b *batch, now time.Time, p *pair) error {
	for range maxBatches {
		n, err := from.read(b)
		if err != nil {
			return err
		}
		for i := range n {
			d := b.datagram(i)
			if d.overflow > from.overflow {
				p.streams[0].stats.Unplaced += uint64(d.overflow - from.overflow)
				from.overflow = d.overflow
			}
			at := s.mediaTime(now, d.came)
			if isRTCP(d.payload) {
				p.hearControl(d.payload, b.plain[:0], d.from, at)
			} else if st := p.streamOf(d.payload, d.from); st != nil {
				st.take(d.payload, b.plain[:0], d.from, at)
			} else {
				p.streams[0].stats.Stranger++
			}
		}
		if n < batchSize {
			break
		}
	}
	return nil
}

// mediaTime is when a datagram came. The kernel tells it by a clock that may be
// set; how long ago that was is right all the same, but for the moment in which
// it is.
func (s *Session) mediaTime(now, came time.Time) time.Duration {
	age := time.Duration(0)
	if !came.IsZero() {
		age = max(0, now.Round(0).Sub(came))
	}
	return max(0, now.Sub(s.began)-age)
}

// take hears one datagram; plain is room for what it was before encryption.
func (st *Stream) take(payload, plain []byte, from netip.AddrPort, at time.Duration) {
	if !st.knows(from, at) {
		st.stats.Stranger++
		return
	}
	if st.receive != nil {
		var err error
		if payload, err = st.receive.DecryptRTP(plain, payload, &st.header); err != nil {
			st.refused(err)
			return
		}
	}
	s := st.session
	st.remote, st.heard = from, at
	s.heard = max(s.heard, at)
	s.ready = st.track.Push(s.ready, payload, at)
}

// refused counts what could not be decrypted.
func (st *Stream) refused(err error) {
	switch {
	case errors.Is(err, srtp.ErrFailedToVerifyAuthTag), errors.Is(err, srtp.ErrMKINotFound):
		st.stats.Stranger++
	case st.header.Version == 2:
		st.stats.Duplicate++ // or so old that it might be
	default:
		st.stats.Malformed++
	}
}

// portYields is how long a peer's port must have been silent for another of his
// to be heard.
const portYields = time.Second

// knows reports whether the stream comes from there.
func (st *Stream) knows(from netip.AddrPort, at time.Duration) bool {
	switch {
	case from == st.remote:
		return true
	case st.remote.IsValid():
		return from.Addr() == st.remote.Addr() && at-st.heard >= portYields
	}
	return !st.cfg.Remote.Addr().IsValid() || st.cfg.Remote.Addr() == from.Addr()
}

// streamOf finds the stream of a packet among those that share its port; nil
// for none.
func (p *pair) streamOf(datagram []byte, from netip.AddrPort) *Stream {
	if len(p.streams) == 1 {
		return p.streams[0]
	}
	ssrc, payloadType, ok := SSRC(datagram)
	if !ok {
		return p.streams[0] // to be counted there
	}
	for _, st := range p.streams {
		if st.cfg.SSRC == ssrc && ssrc != 0 || st.cfg.SSRC == 0 && st.track.order.started && st.track.order.ssrc == ssrc && st.remote == from {
			return st
		}
	}
	var changed *Stream
	for _, st := range p.streams {
		if st.cfg.SSRC != 0 || !st.track.takes(payloadType) || !st.mayComeFrom(from) {
			continue
		}
		if !st.track.order.started {
			return st
		}
		if changed == nil || st.heard < changed.heard {
			changed = st // who was silent for longest has a new source
		}
	}
	return changed
}

// mayComeFrom reports whether the stream was heard from there, or not at all
// and might.
func (st *Stream) mayComeFrom(from netip.AddrPort) bool {
	if st.remote.IsValid() {
		return st.remote == from
	}
	return !st.cfg.Remote.Addr().IsValid() || st.cfg.Remote.Addr() == from.Addr()
}

// counts are those of the stream so far.
func (st *Stream) counts() source.Stats {
	t := st.track.Stats()
	all := st.stats
	all.Packets += t.Packets
	all.Bytes += t.Bytes
	all.Lost += t.Lost
	all.Late += t.Late
	all.Duplicate += t.Duplicate
	all.Malformed += t.Malformed + t.Unsupported
	all.Stranger += t.Foreign
	all.Unplaced += t.Early
	return all
}

// Stats are what the session counted of packets. It may be called from any
// goroutine.
func (s *Session) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.gone
	for _, st := range s.streams {
		all.Add(st.counts())
	}
	return all
}
