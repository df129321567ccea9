package whipsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to come.
const patience = 10 * time.Second

// heard is what became of a call.
type heard struct {
	call   *source.Call
	pcm    map[audio.Leg][]int16
	lost   time.Duration
	keys   string
	reason error // of the end
}

// server is a source that serves, and what it handed over.
type server struct {
	*Source
	url   string
	stop  func() error
	calls chan *heard // one for each call, when it is over

	mu    sync.Mutex
	begun []*source.Call
	news  chan struct{} // closed and replaced when a call begins or brings a frame
	keys  string

	cancel func()
}

func local() Config {
	cfg := DefaultConfig()
	cfg.UDP = "127.0.0.1:0"
	cfg.JoinWait = 2 * time.Second
	return cfg
}

// serve serves cfg; calls go to handle, or are collected where it is nil.
func serve(t *testing.T, cfg Config, handle source.Handler) *server {
	t.Helper()
	return serveWith(t, cfg, usual(), handle)
}

func serveWith(t *testing.T, cfg Config, alive pulse, handle source.Handler) *server {
	t.Helper()
	src, err := newSource(cfg, alive, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Source: src, calls: make(chan *heard, 2000), news: make(chan struct{})}
	if handle == nil {
		handle = s.collect
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Serve(ctx, handle) }()
	<-src.serving
	s.cancel = cancel
	web := httptest.NewServer(src.Handler())
	s.url = web.URL
	s.stop = sync.OnceValue(func() error {
		cancel()
		err := <-done
		web.Close()
		return err
	})
	t.Cleanup(func() {
		if err := s.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// collect hears a call to its end.
func (s *server) collect(ctx context.Context, call *source.Call) error {
	call.Admitted()
	ctx = context.WithoutCancel(ctx) // as serve has it: calls go on when no more are taken
	h := &heard{call: call, pcm: make(map[audio.Leg][]int16)}
	s.note(func() { s.begun = append(s.begun, call) })
	var ends [3]time.Duration
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if err != nil {
			h.reason = err
			break
		}
		if f.Start < ends[f.Leg] {
			h.reason = errors.New("frames overlap")
			break
		}
		ends[f.Leg] = f.End()
		h.pcm[f.Leg] = append(h.pcm[f.Leg], f.PCM...)
		h.lost += f.Lost
		h.keys += f.Keys
		s.note(func() { s.keys += f.Keys })
	}
	s.calls <- h
	return nil
}

func (s *server) note(what func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what()
	close(s.news)
	s.news = make(chan struct{})
}

// until waits for what is seen with the lock held.
func (s *server) until(t *testing.T, what string, seen func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		ok, news := seen(), s.news
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-late:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// came waits until so many packets were heard.
func (s *server) came(t *testing.T, packets uint64) {
	t.Helper()
	s.until(t, fmt.Sprintf("%d packets", packets), func() bool { return s.Stats().Packets >= packets })
}

// over waits for the end of a call.
func (s *server) over(t *testing.T) *heard {
	t.Helper()
	select {
	case h := <-s.calls:
		return h
	case <-time.After(patience):
		t.Fatalf("no call ended within %v", patience)
		return nil
	}
}

// page is a browser's end of a publication.
type page struct {
	t        *testing.T
	conn     *webrtc.PeerConnection
	tracks   []*line
	senders  map[int]*sender
	location string
	etag     string
	state    chan webrtc.PeerConnectionState
	http     *http.Client
	mu       sync.Mutex // of senders
}

// newPage is a browser that offers these codecs.
func newPage(t *testing.T, mimes ...string) *page {
	t.Helper()
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	if err := engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: 8000}, PayloadType: 126,
	}, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	var set webrtc.SettingEngine
	set.SetIncludeLoopbackCandidate(true)
	set.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.LoggerFactory = &logging.DefaultLoggerFactory{Writer: io.Discard}
	return pageOf(t, webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set)), mimes...)
}

func pageOf(t *testing.T, api *webrtc.API, mimes ...string) *page {
	t.Helper()
	conn, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, conn: conn, state: make(chan webrtc.PeerConnectionState, 100), http: &http.Client{Transport: &http.Transport{}}, senders: make(map[int]*sender)}
	t.Cleanup(p.close)
	conn.OnConnectionStateChange(func(now webrtc.PeerConnectionState) { p.state <- now })
	for _, mime := range mimes {
		p.add(mime, webrtc.RTPTransceiverDirectionSendonly)
	}
	return p
}

func (p *page) close() {
	_ = p.conn.GracefulClose()
	p.http.CloseIdleConnections()
}

func (p *page) add(mime string, direction webrtc.RTPTransceiverDirection) *webrtc.RTPTransceiver {
	p.t.Helper()
	track := &line{mime: mime, id: fmt.Sprintf("audio%d", len(p.tracks)), bound: make(chan struct{})}
	tr, err := p.conn.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: direction})
	if err != nil {
		p.t.Fatal(err)
	}
	p.tracks = append(p.tracks, track)
	return tr
}

// line is a track whose packets are made by the test, payload type and all.
type line struct {
	mime, id string

	mu    sync.Mutex
	out   webrtc.TrackLocalWriter
	ssrc  uint32
	types map[string]uint8 // by MIME type and clock, as negotiated
	bound chan struct{}    // closed then
}

func (l *line) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.types != nil {
		return webrtc.RTPCodecParameters{}, errors.New("bound twice")
	}
	var own webrtc.RTPCodecParameters
	l.types = make(map[string]uint8)
	for _, c := range ctx.CodecParameters() {
		l.types[fmt.Sprintf("%s/%d", strings.ToLower(c.MimeType), c.ClockRate)] = uint8(c.PayloadType)
		if strings.EqualFold(c.MimeType, l.mime) {
			own = c
		}
	}
	if own.MimeType == "" {
		return own, webrtc.ErrUnsupportedCodec
	}
	l.out, l.ssrc = ctx.WriteStream(), uint32(ctx.SSRC())
	close(l.bound)
	return own, nil
}

func (l *line) Unbind(webrtc.TrackLocalContext) error { return nil }
func (l *line) ID() string                            { return l.id }
func (l *line) RID() string                           { return "" }
func (l *line) StreamID() string                      { return "stream" }
func (l *line) Kind() webrtc.RTPCodecType             { return webrtc.RTPCodecTypeAudio }

// offer is the SDP with all candidates.
func (p *page) offer() string {
	p.t.Helper()
	said, err := p.conn.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(p.conn)
	if err := p.conn.SetLocalDescription(said); err != nil {
		p.t.Fatal(err)
	}
	<-gathered
	return p.conn.LocalDescription().SDP
}

// reply is an answer but for its body.
type reply struct {
	Status     string
	StatusCode int
	Header     http.Header
}

// ask sends a request.
func ask(t *testing.T, client *http.Client, method, url, kind, body string, headers ...string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.Status, res.StatusCode, res.Header}, string(text)
}

// publish posts the offer to s with that query and takes the answer.
func (p *page) publish(s *server, query string, headers ...string) {
	p.t.Helper()
	res, answer := ask(p.t, p.http, http.MethodPost, s.url+Path+query, typeSDP, p.offer(), headers...)
	if res.StatusCode != http.StatusCreated {
		p.t.Fatalf("POST: %s %s", res.Status, answer)
	}
	p.location, p.etag = s.url+res.Header.Get("Location"), res.Header.Get("ETag")
	if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.t.Fatal(err)
	}
}

// connected waits for the connection.
func (p *page) connected() {
	p.t.Helper()
	p.reaches(webrtc.PeerConnectionStateConnected)
}

func (p *page) reaches(want webrtc.PeerConnectionState) {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case now := <-p.state:
			if now == want {
				return
			}
		case <-late:
			p.t.Fatalf("not %s within %v", want, patience)
		}
	}
}

// sender makes the RTP packets of one track.
type sender struct {
	*line
	clock     int
	sequence  uint16
	timestamp uint32
}

func (p *page) sender(track int) *sender {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.senders[track]; s != nil {
		return s // which goes on
	}
	s := &sender{line: p.tracks[track], clock: 8000, sequence: 65500, timestamp: 1<<32 - 5000}
	p.senders[track] = s
	if s.mime == webrtc.MimeTypeOpus {
		s.clock = 48000
	}
	<-s.bound
	return s
}

// send writes a packet that lasts so many milliseconds.
func (s *sender) send(t *testing.T, payload []byte, ms int) {
	t.Helper()
	s.write(t, fmt.Sprintf("%s/%d", strings.ToLower(s.mime), s.clock), s.timestamp, payload)
	s.skip(ms)
}

func (s *sender) write(t *testing.T, codec string, timestamp uint32, payload []byte) {
	t.Helper()
	pt, ok := s.types[codec]
	if !ok {
		t.Fatalf("%s was not negotiated: %v", codec, s.types)
	}
	_, err := s.out.WriteRTP(&rtp.Header{
		Version: 2, PayloadType: pt, SequenceNumber: s.sequence, Timestamp: timestamp, SSRC: s.ssrc,
	}, payload)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
}

// skip loses a packet.
func (s *sender) skip(ms int) {
	s.sequence++
	s.timestamp += uint32(s.clock / 1000 * ms)
}

// tone is 20 ms of a tone from sample n on.
func tone(hz, rate, n int) []int16 {
	pcm := make([]int16, rate/50)
	for i := range pcm {
		pcm[i] = int16(8000 * math.Sin(2*math.Pi*float64(hz)*float64(n+i)/float64(rate)))
	}
	return pcm
}

// paced calls send every so many milliseconds until it returns false.
func paced(ms int, send func(n int) bool) {
	pace := time.NewTicker(time.Duration(ms) * time.Millisecond)
	defer pace.Stop()
	for n := 0; send(n); n++ {
		<-pace.C
	}
}

// say sends so many packets of a tone.
func (p *page) say(track, hz, packets int) {
	p.t.Helper()
	s := p.sender(track)
	rate, encode := encoder(s.mime)
	paced(20, func(n int) bool {
		s.send(p.t, encode(tone(hz, rate, n*rate/50)), 20)
		return n+1 < packets
	})
}

// hangUp ends the publication by DELETE.
func (p *page) hangUp() {
	p.t.Helper()
	if res, text := ask(p.t, p.http, http.MethodDelete, p.location, "", ""); res.StatusCode != http.StatusOK {
		p.t.Errorf("DELETE: %s %s", res.Status, text)
	}
}

// power is how much of a tone pcm has, as a share of all.
func power(pcm []int16, rate, hz int) float64 {
	var re, im, all float64
	for i, v := range pcm {
		a := 2 * math.Pi * float64(hz) * float64(i) / float64(rate)
		re += float64(v) * math.Cos(a)
		im += float64(v) * math.Sin(a)
		all += float64(v) * float64(v)
	}
	if all == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / float64(len(pcm)) / all
}
