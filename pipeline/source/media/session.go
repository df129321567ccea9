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
	// Remote is where the stream comes from. What comes from another address
	// is dropped and counted. Port 0 stands for any port. Where Remote is the
	// zero value, the first packet decides.
	Remote netip.AddrPort
	// Reports is where receiver reports go; the zero value for nowhere.
	Reports netip.AddrPort
	// Mux is RTCP on the port of RTP, RFC 5761.
	Mux bool
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
	reason  error         // why; nil for a hang-up
	closed  bool          // the ports are given back
	heard   time.Duration // when the last packet came, or a hold ended
	gone    source.Stats  // of streams that were removed
	ends    [3]time.Duration
}

// Stream is one stream of a session and its pair of ports.
type Stream struct {
	session *Session
	pair    *pair
	cfg     StreamConfig
	track   *Track
	remote  netip.AddrPort // latched
	receive *srtp.Context  // nil where nothing is encrypted
	send    *srtp.Context
	header  rtp.Header   // scratch
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
		st.track = track
	}
	if cfg.Remote != st.cfg.Remote {
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
	add(&s.gone, st.counts())
	s.heard = time.Since(s.began)
	return st.pair.close()
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
		err = errors.Join(err, st.pair.close())
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
	s.began, s.heard = time.Now(), 0
	for _, st := range s.streams {
		add(&s.gone, st.counts())
		st.track, st.stats, st.remote = nil, source.Stats{}, netip.AddrPort{}
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
	s.began, s.heard = time.Now(), 0
	if err := s.poll(time.Now()); err != nil {
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
	var tick *time.Timer
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
		if tick == nil {
			tick = time.NewTimer(s.cfg.Poll)
			defer tick.Stop()
		} else {
			tick.Reset(s.cfg.Poll)
		}
		select {
		case <-tick.C:
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
	if quiet := at - s.heard; quiet >= s.cfg.Timeout && !s.held() {
		s.ended, s.reason = true, fmt.Errorf("no media for %v", s.cfg.Timeout)
		return false, s.over()
	}
	return false, nil
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
		for n := batchSize; n == batchSize; {
			var err error
			if n, err = st.pair.rtp.read(b); err != nil {
				return err
			}
			for i := range n {
				payload, from, came, _ := b.datagram(i)
				st.take(payload, b.plain[:0], from, s.mediaTime(now, came))
			}
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
	return max(s.heard, now.Sub(s.began)-age)
}

// take hears one datagram; plain is room for what it was before encryption.
func (st *Stream) take(payload, plain []byte, from netip.AddrPort, at time.Duration) {
	s := st.session
	if isRTCP(payload) {
		return
	}
	if st.receive != nil {
		var err error
		if payload, err = st.receive.DecryptRTP(plain, payload, &st.header); err != nil {
			st.refused(err)
			return
		}
	}
	if !st.knows(from) {
		st.stats.Stranger++
		return
	}
	s.heard = at
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

// knows reports whether the stream comes from there.
func (st *Stream) knows(from netip.AddrPort) bool {
	if !st.remote.IsValid() {
		want := st.cfg.Remote
		if want.IsValid() && (want.Addr() != from.Addr() || want.Port() != 0 && want.Port() != from.Port()) {
			return false
		}
		st.remote = from
	}
	return from == st.remote
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
		add(&all, st.counts())
	}
	return all
}

// add adds the packets of b to a.
func add(a *source.Stats, b source.Stats) {
	a.Packets += b.Packets
	a.Bytes += b.Bytes
	a.Lost += b.Lost
	a.Late += b.Late
	a.Duplicate += b.Duplicate
	a.Stranger += b.Stranger
	a.Malformed += b.Malformed
	a.Unplaced += b.Unplaced
}
