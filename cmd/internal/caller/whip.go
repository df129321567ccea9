package caller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/pipeline/source/whipsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// connectWithin is how long a connection may take after the answer; servers
	// give it up then too.
	connectWithin = 15 * time.Second
	// farewell is how long the last events are waited for after a hang-up.
	farewell = 6 * time.Second
	// maxAnswer bounds what an endpoint answers.
	maxAnswer = 256 << 10

	opusName = "opus"
)

// whip publishes calls as browsers do, RFC 9725: a connection for each
// publication.
type whip struct {
	cfg    Config
	watch  *Progress
	api    *webrtc.API
	client *http.Client
	pacer  *pacer
	codec  codec
	plays  []*play // what calls play, in turn
	print  sync.Mutex

	packets, unsent, spoilt, events, reports, lost atomic.Uint64
}

func newWHIP(cfg Config, recs []*Recording, watch *Progress) (*whip, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64 // calls begin many at once
	w := &whip{
		cfg: cfg, watch: watch, pacer: &pacer{flush: func() {}},
		client: &http.Client{Transport: t, Timeout: connectWithin},
	}
	opus := recs[0].opus != nil
	for _, rec := range recs {
		if (rec.opus != nil) != opus {
			return nil, fmt.Errorf("%s and %s are of different codecs; calls play one", recs[0].Path, rec.Path)
		}
		if opus && cfg.TwoPublications && len(rec.Legs) > 1 {
			return nil, fmt.Errorf("--two-publications: the legs of %s are channels of one stream; give WAV files, or one mono file and --leg for each", rec.Path)
		}
	}
	var err error
	if opus {
		w.codec = codec{name: opusName, payload: 111, clockHz: 48000}
	} else if w.codec, err = codecFor(cfg.Codec, recs[0].RateHz); err != nil {
		return nil, fmt.Errorf("%w; Opus is sent of Opus files only, there is no encoder in here", err)
	}
	if err := w.encode(recs); err != nil {
		return nil, err
	}
	w.api, err = w.engine()
	return w, err
}

// encode makes the packets of the recordings.
func (w *whip) encode(recs []*Recording) error {
	encoded := make(map[*Recording]*play) // one recording may be there many times
	for _, rec := range recs {
		if p := encoded[rec]; p != nil {
			w.plays = append(w.plays, p)
			continue
		}
		p := &play{rec: rec}
		encoded[rec] = p
		w.plays = append(w.plays, p)
		if rec.opus != nil {
			p.sides = [][][]byte{rec.opus}
			continue
		}
		for _, side := range rec.Legs {
			payloads, err := w.codec.packets(side.PCM, rec.RateHz)
			if err != nil {
				return fmt.Errorf("%s: %w", rec.Path, err)
			}
			p.sides = append(p.sides, payloads)
		}
	}
	return nil
}

// engine is WebRTC with the one codec that is sent.
func (w *whip) engine() (*webrtc.API, error) {
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: w.capability(), PayloadType: webrtc.PayloadType(w.codec.payload),
	}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	var set webrtc.SettingEngine
	set.LoggerFactory = &logging.DefaultLoggerFactory{Writer: io.Discard}
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if w.cfg.Bind != "" {
		bind := net.ParseIP(w.cfg.Bind)
		set.SetIPFilter(bind.Equal)
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set)), nil
}

func (w *whip) capability() webrtc.RTPCodecCapability {
	c := webrtc.RTPCodecCapability{MimeType: "audio/" + w.codec.name, ClockRate: uint32(w.codec.clockHz)}
	if w.codec.name == opusName {
		c.Channels = 2
		c.SDPFmtpLine = "minptime=10;stereo=1;sprop-stereo=1"
	}
	return c
}

// run implements way.
func (w *whip) run(ctx context.Context) error {
	w.pacer.run(ctx)
	return nil
}

// close implements way.
func (w *whip) close() error {
	w.client.CloseIdleConnections()
	return nil
}

// count implements way.
func (w *whip) count(r *Results) {
	r.Codec = w.codec.name
	r.Packets, r.Unsent, r.Spoilt = w.packets.Load(), w.unsent.Load(), w.spoilt.Load()
	r.Events, r.Reports, r.ReportedLost = w.events.Load(), w.reports.Load(), w.lost.Load()
	r.Behind = float64(w.pacer.lateness().Microseconds()) / 1000
}

// place implements way.
func (w *whip) place(ctx context.Context, n int) (o outcome) {
	begin := time.Now()
	p := w.plays[n%len(w.plays)]
	var all []*publication
	defer func() {
		for _, pub := range all {
			_ = pub.conn.GracefulClose()
			w.reports.Add(pub.reports.Load())
			w.lost.Add(pub.lost.Load())
		}
	}()
	id := w.cfg.CallID
	switch {
	case id != "" && (w.cfg.Calls > 1 || w.cfg.Again > 0):
		id = fmt.Sprintf("%s-%d", id, n)
	case id == "" && w.cfg.TwoPublications:
		id = announce.NewID("call")
	}
	for _, sides := range w.shares(p) {
		pub, err := w.publication(p, n, id, sides)
		if err != nil {
			return failed(err)
		}
		all = append(all, pub)
		if err := pub.publish(ctx); err != nil {
			return failed(err)
		}
	}
	o = outcome{answered: true, setup: time.Since(begin)}
	w.watch.Up.Add(1)
	defer w.watch.Up.Add(-1)
	for _, pub := range all {
		if err := pub.connected(ctx); err != nil {
			o.err = err
			return o
		}
	}
	up := time.Now()
	o.end = w.play(ctx, all)
	o.seconds = time.Since(up).Seconds()
	if o.end == "" && !w.cfg.DropBye {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		for _, pub := range all {
			_, _, err := w.ask(ending, http.MethodDelete, pub.location, "", "")
			o.err = errors.Join(o.err, err)
		}
		for _, pub := range all {
			pub.leave(ending)
		}
	}
	return o
}

// shares are the legs of each publication of a call.
func (w *whip) shares(p *play) [][]int {
	switch {
	case len(p.sides) > 1 && w.cfg.TwoPublications:
		return [][]int{{0}, {1}}
	case len(p.sides) > 1:
		return [][]int{{0, 1}}
	}
	return [][]int{{0}}
}

// publication is one connection.
type publication struct {
	way      *whip
	conn     *webrtc.PeerConnection
	url      string
	location string
	voices   []*voice
	up, gone chan struct{} // closed when it is connected, and when it is not any more
	once     [2]sync.Once

	reports, lost atomic.Uint64
}

// publication readies one that brings these legs of call n.
func (w *whip) publication(p *play, n int, id string, sides []int) (*publication, error) {
	conn, err := w.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	pub := &publication{way: w, conn: conn, up: make(chan struct{}), gone: make(chan struct{})}
	pub.url = w.urlOf(p, id, sides)
	if err := pub.prepare(p, n, sides); err != nil {
		return nil, errors.Join(err, conn.GracefulClose())
	}
	return pub, nil
}

func (pub *publication) prepare(p *play, n int, sides []int) error {
	w := pub.way
	pub.conn.OnConnectionStateChange(func(now webrtc.PeerConnectionState) {
		switch now {
		case webrtc.PeerConnectionStateConnected:
			pub.once[0].Do(func() { close(pub.up) })
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			pub.once[1].Do(func() { close(pub.gone) })
		}
	})
	data, err := pub.conn.CreateDataChannel(whipsrc.Channel, nil)
	if err != nil {
		return err
	}
	data.OnMessage(w.event)
	for _, side := range sides {
		track, err := webrtc.NewTrackLocalStaticRTP(w.capability(), fmt.Sprintf("leg%d", side), "call")
		if err != nil {
			return err
		}
		t, err := pub.conn.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		go pub.listen(t.Sender()) // ends with the connection
		v := &voice{
			way: w, track: track, payloads: p.sides[side], loss: w.cfg.Loss,
			sequence: uint16(rand.Uint32()), timestamp: rand.Uint32(),
		}
		v.from, v.packets = w.cfg.packets(n, len(v.payloads))
		v.silent = w.cfg.Silent != audio.Unknown && p.rec.Legs[side].Leg == w.cfg.Silent
		pub.voices = append(pub.voices, v)
	}
	return nil
}

// urlOf is where the publication is posted, with what is known of the call.
func (w *whip) urlOf(p *play, id string, sides []int) string {
	u, _ := url.Parse(w.cfg.To) // checked by Validate
	if u.Path == "" || u.Path == "/" {
		u.Path = whipsrc.Path
	}
	q := u.Query()
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("from", w.cfg.From)
	set("from_name", w.cfg.FromName)
	set("to", w.cfg.Number)
	set("to_name", w.cfg.NumberName)
	set("call", id)
	if leg := p.rec.Legs[sides[0]].Leg; leg != audio.Unknown {
		q.Set("leg", leg.String())
	}
	if p.rec.opus != nil && len(p.rec.Legs) > 1 {
		q.Set("stereo", "legs")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// publish posts the offer and takes the answer.
func (pub *publication) publish(ctx context.Context) error {
	offer, err := pub.conn.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pub.conn)
	if err := pub.conn.SetLocalDescription(offer); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return ctx.Err()
	}
	answer, header, err := pub.way.ask(ctx, http.MethodPost, pub.url, "application/sdp", pub.conn.LocalDescription().SDP)
	if err != nil {
		return err
	}
	where, err := url.Parse(pub.url)
	if err == nil {
		where, err = where.Parse(header.Get("Location"))
	}
	if err != nil || header.Get("Location") == "" {
		return errors.New("the endpoint does not say where the publication is: no Location")
	}
	pub.location = where.String()
	return pub.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// ask sends a request; an answer that is no success is a refusal.
func (w *whip) ask(ctx context.Context, method, to, kind, body string) (string, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return "", nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if w.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+w.cfg.Token)
	}
	res, err := w.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which is another for each call
		}
		return "", nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", nil, err
	}
	if res.StatusCode/100 != 2 {
		var said struct {
			Detail string `json:"detail"`
		}
		_ = json.Unmarshal(text, &said) // others answer in other ways
		return "", nil, &refusedError{res.Status, said.Detail}
	}
	return string(text), res.Header, nil
}

// connected waits for the connection.
func (pub *publication) connected(ctx context.Context) error {
	t := time.NewTimer(connectWithin)
	defer t.Stop()
	select {
	case <-pub.up:
		return nil
	case <-pub.gone:
		return errors.New("no connection came about")
	case <-t.C:
		return fmt.Errorf("no connection within %v", connectWithin)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave waits for the peer to have told all, and closed the connection.
func (pub *publication) leave(ctx context.Context) {
	select {
	case <-pub.gone:
	case <-ctx.Done():
	}
}

// play sends the voices to their end, until ctx ends or a connection does, and
// returns why the peer ended it.
func (w *whip) play(ctx context.Context, all []*publication) (end string) {
	var voices []paced
	for _, pub := range all {
		for _, v := range pub.voices {
			voices = append(voices, v)
		}
	}
	playing := w.pacer.add(voices...)
	ended := make(chan struct{})
	go func() { // ends with the voices, which stop ends too
		for _, p := range playing {
			<-p.done
		}
		close(ended)
	}()
	first, second := all[0].gone, chan struct{}(nil)
	if len(all) > 1 {
		second = all[1].gone
	}
	select {
	case <-ended:
	case <-ctx.Done():
	case <-first:
		end = "connection closed"
	case <-second:
		end = "connection closed"
	}
	w.pacer.stop(playing...)
	<-ended
	return end
}

// event takes what comes by the data channel.
func (w *whip) event(m webrtc.DataChannelMessage) {
	w.events.Add(1)
	if w.cfg.Events == nil {
		return
	}
	w.print.Lock()
	defer w.print.Unlock()
	_, _ = w.cfg.Events.Write(append(slices.Clone(m.Data), '\n')) // a broken pipe shows elsewhere
}

// listen takes the receiver's reports.
func (pub *publication) listen(sender *webrtc.RTPSender) {
	packet := make([]byte, 1500)
	for {
		n, _, err := sender.Read(packet)
		if err != nil {
			return
		}
		all, err := rtcp.Unmarshal(packet[:n])
		if err != nil {
			continue
		}
		for _, p := range all {
			if r, ok := p.(*rtcp.ReceiverReport); ok {
				pub.reports.Add(1)
				for _, about := range r.Reports {
					pub.lost.Store(uint64(about.TotalLost))
				}
			}
		}
	}
}

// voice sends one track. Its packets are of the pacer's goroutine.
type voice struct {
	way      *whip
	track    *webrtc.TrackLocalStaticRTP
	payloads [][]byte
	from     int // payload that it begins with
	packets  int
	silent   bool
	loss     float64

	sequence  uint16
	timestamp uint32
	packetBuf rtp.Packet
}

// packet implements paced.
func (v *voice) packet(n int) (more bool) {
	more = n+1 < v.packets
	if v.silent {
		return more
	}
	if v.loss > 0 && rand.Float64() < v.loss {
		v.way.spoilt.Add(1)
		return more
	}
	p := &v.packetBuf
	p.Header = rtp.Header{
		Version: 2, Marker: n == 0, SequenceNumber: v.sequence + uint16(n), Timestamp: v.timestamp + uint32(n)*v.way.codec.tick(),
	}
	p.Payload = v.payloads[(v.from+n)%len(v.payloads)]
	if v.track.WriteRTP(p) != nil { // the connection has ended
		v.way.unsent.Add(1)
		return more
	}
	v.way.packets.Add(1)
	return more
}
