package whipsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source"
)

func TestICEThatNeverConnectsIsGone(t *testing.T) {
	t.Parallel()
	cfg := local()
	cfg.ConnectTimeout = time.Second
	s := serve(t, cfg, nil)
	res, _ := ask(t, http.DefaultClient, http.MethodPost, s.url+Path, typeSDP, offerOf(audioLine(0, "")))
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status)
	}
	if h := s.over(t); h.reason == nil || h.reason.Error() != "no connection within 1s" {
		t.Errorf("ended by %v", h.reason)
	}
	s.empty(t)
}

// empty waits until no publication is left.
func (s *server) empty(t *testing.T) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.Source.mu.Lock()
		n := len(s.publications)
		s.Source.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d publications are left", n)
		}
	}
}

func TestFailedDTLSHandshakeIsSaid(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	offer := p.offer()
	i := strings.Index(offer, "a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
	forged := offer[:i] + strings.Repeat("00:", 31) + "00" + offer[i+95:]
	res, answer := ask(t, p.http, http.MethodPost, s.url+Path, typeSDP, forged)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", res.Status, answer)
	}
	if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	if h := s.over(t); h.reason == nil || h.reason.Error() != "the DTLS handshake failed" {
		t.Errorf("ended by %v", h.reason)
	}
	s.empty(t)
}

func TestNoMediaEndsACall(t *testing.T) {
	t.Parallel()
	cfg := local()
	cfg.MediaTimeout = time.Second
	s := serve(t, cfg, nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	p.say(0, 440, 10)
	if h := s.over(t); h.reason == nil || h.reason.Error() != "no media for 1s" || len(h.pcm[0]) < 9*160 {
		t.Errorf("ended by %v after %d samples", h.reason, len(h.pcm[0]))
	}
	s.empty(t)
	p.reaches(webrtc.PeerConnectionStateClosed)
}

// newPageOn is a page whose network is conn, which may be cut.
func newPageOn(t *testing.T, conn net.PacketConn) *page {
	t.Helper()
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	quiet := &logging.DefaultLoggerFactory{Writer: io.Discard}
	var set webrtc.SettingEngine
	set.LoggerFactory = quiet
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn, Logger: quiet.NewLogger("ice")})
	t.Cleanup(func() { _ = mux.Close() })
	set.SetICEUDPMux(mux)
	return pageOf(t, webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set)), mimePCMU)
}

func TestPeerThatVanishesIsGivenUpAndNeverWaitedFor(t *testing.T) {
	t.Parallel()
	s := serveWith(t, local(), pulse{disconnected: 2 * time.Second, lost: 2 * time.Second, beat: 200 * time.Millisecond}, nil)
	wire, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newPageOn(t, wire)
	if _, err := p.conn.CreateDataChannel(Channel, nil); err != nil {
		t.Fatal(err)
	}
	p.publish(s, "")
	p.connected()
	p.say(0, 440, 10)
	s.came(t, 10)
	if err := wire.Close(); err != nil { // nothing gets out or in any more, and nobody is told
		t.Fatal(err)
	}
	peer := s.begun[0].Peer
	const each = 20_000 // bytes, about
	ev := event(strings.Repeat("x", each))
	began := time.Now()
	for range 200 {
		peer.Tell(ev)
	}
	if took := time.Since(began); took > 3*time.Second { // a second before it is given up
		t.Errorf("telling who does not read took %v", took)
	}
	if h := s.over(t); h.reason == nil || h.reason.Error() != "the connection was lost" {
		t.Errorf("ended by %v", h.reason)
	}
	if st := s.Stats(); st.Untold < 100 || st.Told+st.Untold != 200 {
		t.Errorf("told %d, untold %d", st.Told, st.Untold)
	}
	s.empty(t)
}

func TestAThousandConnectionsLeaveNothingBehind(t *testing.T) {
	const (
		offers     = 970 // as from those who never connect
		connected  = 30
		atOnce     = 10
		goroutines = 10 // more or less of the HTTP client and server
	)
	s := serve(t, local(), func(ctx context.Context, call *source.Call) error {
		call.Admitted()
		for {
			if _, err := call.Audio.ReadFrame(ctx); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
	offer := offerOf(audioLine(0, ""))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	spend := func(n int, once func()) {
		var group sync.WaitGroup
		left := make(chan struct{}, n)
		for range n {
			left <- struct{}{}
		}
		close(left)
		for range atOnce {
			group.Go(func() {
				for range left {
					once()
				}
			})
		}
		group.Wait()
	}
	publish := func() {
		res, text := ask(t, client, http.MethodPost, s.url+Path, typeSDP, offer)
		if res.StatusCode != http.StatusCreated {
			t.Errorf("%s %s", res.Status, text)
			return
		}
		ask(t, client, http.MethodDelete, s.url+res.Header.Get("Location"), "", "")
	}
	settle := func() (goroutines int, heap uint64) {
		client.CloseIdleConnections()
		s.empty(t)
		var m runtime.MemStats
		for range 5 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapInuse
	}
	spend(20, publish) // pools and caches
	before, heap := settle()
	spend(offers, publish)
	spend(connected, func() {
		p := newPage(t, mimePCMU)
		p.publish(s, "")
		p.connected()
		p.hangUp()
		p.close()
	})
	late := time.Now().Add(patience)
	after, grown := settle()
	for after > before+goroutines && time.Now().Before(late) {
		after, grown = settle() // they end a moment after the last word
	}
	if after > before+goroutines {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
	if grown > heap+16<<20 {
		t.Errorf("%d MB of heap before, %d after", heap>>20, grown>>20)
	}
	if st := s.Stats(); st.Begun != 20+offers+connected || st.Calls != 0 {
		t.Errorf("counted %+v", st)
	}
	addr := s.media.String()
	_ = s.stop()
	if c, err := net.ListenPacket("udp", addr); err != nil {
		t.Errorf("the port was not given back: %v", err)
	} else {
		_ = c.Close()
	}
}

func TestPatchAddsCandidates(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	full := p.offer()
	ufrag, pwd := credentials(full)
	var bare, candidates []string
	for line := range strings.Lines(full) {
		if strings.HasPrefix(line, "a=candidate") {
			candidates = append(candidates, line)
		} else if !strings.HasPrefix(line, "a=end-of") {
			bare = append(bare, line)
		}
	}
	res, answer := ask(t, p.http, http.MethodPost, s.url+Path, typeSDP, strings.Join(bare, ""))
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s", res.Status, answer)
	}
	p.location, p.etag = s.url+res.Header.Get("Location"), res.Header.Get("ETag")
	frag := fmt.Sprintf("a=ice-ufrag:%s\r\na=ice-pwd:%s\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n", ufrag, pwd) +
		strings.Join(candidates, "") + "a=candidate:1 1 UDP 2130706431 hidden.local 5000 typ host\r\na=candidate:nonsense\r\na=end-of-candidates\r\n"
	many := "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n" + strings.Repeat(candidates[0], maxCandidates)
	for _, c := range []struct {
		name, kind, match, body string
		status                  int
	}{
		{"no If-Match", typeFragment, "", frag, 428},
		{"another ETag", typeFragment, `"other"`, frag, 412},
		{"another type", "text/plain", p.etag, frag, 415},
		{"rubbish", typeFragment, p.etag, "hello", 400},
		{"empty", typeFragment, p.etag, "", 400},
		{"half credentials", typeFragment, p.etag, "a=ice-ufrag:abcd\r\n", 400},
		{"too large", typeFragment, p.etag, strings.Repeat("a=x\r\n", 5000), 413},
		{"too many", typeFragment, p.etag, many + candidates[0], 400},
		{"as it should be", typeFragment, p.etag, frag, 204},
		{"more than in all", typeFragment, p.etag, many, 422},
	} {
		headers := []string{"If-Match", c.match}
		if c.match == "" {
			headers = nil
		}
		res, text := ask(t, p.http, http.MethodPatch, p.location, c.kind, c.body, headers...)
		if res.StatusCode != c.status {
			t.Errorf("%s: %s %s, want %d", c.name, res.Status, text, c.status)
		}
	}
	if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	p.connected()
	p.hangUp()
	s.over(t)
}

func TestICERestartGoesOnWithTheCall(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	p.say(0, 440, 10)
	s.came(t, 10)
	said := p.conn.RemoteDescription().SDP
	offer, err := p.conn.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(p.conn)
	if err := p.conn.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	ufrag, pwd := credentials(p.conn.LocalDescription().SDP)
	frag := fmt.Sprintf("a=ice-ufrag:%s\r\na=ice-pwd:%s\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n", ufrag, pwd)
	for line := range strings.Lines(p.conn.LocalDescription().SDP) {
		if strings.HasPrefix(line, "a=candidate") {
			frag += line
		}
	}
	res, text := ask(t, p.http, http.MethodPatch, p.location, typeFragment, frag, "If-Match", "*")
	etag := res.Header.Get("ETag")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != typeFragment || etag == "" || etag == p.etag {
		t.Fatalf("%s, ETag %q then %q, %s", res.Status, p.etag, etag, text)
	}
	mine, err := parseFragment([]byte(text))
	if err != nil || mine.ufrag == "" || len(mine.candidates) == 0 {
		t.Fatalf("the answer is %v %q", err, text)
	}
	if was, _ := credentials(said); was == mine.ufrag {
		t.Error("the credentials are the old ones")
	}
	answer := renew(said, mine)
	for _, c := range mine.candidates {
		answer = strings.Replace(answer, "a=rtcp-mux\r\n", "a=rtcp-mux\r\na="+c.text+"\r\n", 1)
	}
	if err := p.conn.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	if res, _ := ask(t, p.http, http.MethodPatch, p.location, typeFragment, "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n", "If-Match", p.etag); res.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("with the old ETag: %s", res.Status)
	}
	p.reaches(webrtc.PeerConnectionStateConnected)
	p.say(0, 440, 20)
	s.came(t, 30)
	p.hangUp()
	h := s.over(t)
	if len(h.pcm[0]) < 29*160 {
		t.Errorf("heard %d samples", len(h.pcm[0]))
	}
	select {
	case <-s.calls:
		t.Error("there was another call")
	default:
	}
}

func TestMediaComesToEveryInterfaceAndOverTCP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		cfg   func(*Config)
		kinds []webrtc.NetworkType
		want  string
	}{
		{"every interface", func(c *Config) { c.UDP = "0.0.0.0:0" }, []webrtc.NetworkType{webrtc.NetworkTypeUDP4}, " udp "},
		{"TCP", func(c *Config) { c.TCP = "127.0.0.1:0" }, []webrtc.NetworkType{webrtc.NetworkTypeTCP4}, " tcp "},
		{"ICE lite", func(c *Config) { c.Lite = true }, []webrtc.NetworkType{webrtc.NetworkTypeUDP4}, "a=ice-lite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := local()
			c.cfg(&cfg)
			s := serve(t, cfg, nil)
			engine := &webrtc.MediaEngine{}
			if err := engine.RegisterDefaultCodecs(); err != nil {
				t.Fatal(err)
			}
			var set webrtc.SettingEngine
			set.LoggerFactory = &logging.DefaultLoggerFactory{Writer: io.Discard}
			set.SetIncludeLoopbackCandidate(true)
			set.SetNetworkTypes(c.kinds)
			set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
			p := pageOf(t, webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(set)), mimePCMU)
			p.publish(s, "")
			if answer := p.conn.RemoteDescription().SDP; !strings.Contains(answer, c.want) {
				t.Errorf("no %q in the answer:\n%s", c.want, answer)
			}
			p.connected()
			p.say(0, 440, 10)
			s.came(t, 10)
			p.hangUp()
			s.over(t)
		})
	}
}

func TestAdvertisedAddressesStandInPlaceOfOurs(t *testing.T) {
	t.Parallel()
	cfg := local()
	cfg.Advertise = []string{"192.0.2.7"}
	s := serve(t, cfg, nil)
	res, answer := ask(t, http.DefaultClient, http.MethodPost, s.url+Path, typeSDP, offerOf(audioLine(0, "")))
	if res.StatusCode != http.StatusCreated || !strings.Contains(answer, " 192.0.2.7 ") || strings.Contains(answer, " 127.0.0.1 ") {
		t.Errorf("%s\n%s", res.Status, answer)
	}
	ask(t, http.DefaultClient, http.MethodDelete, s.url+res.Header.Get("Location"), "", "")
	http.DefaultClient.CloseIdleConnections()
	s.over(t)
}

func TestAddressesThatCannotBeHadAreSaid(t *testing.T) {
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		change func(*Config)
		say    string
	}{
		{func(c *Config) { c.UDP = taken.LocalAddr().String() }, "udp: "},
		{func(c *Config) { c.TCP = l.Addr().String() }, "tcp: "},
		{func(c *Config) { c.Listen = l.Addr().String() }, "listen: "},
		{func(c *Config) { c.UDP, c.Interfaces = "0.0.0.0:0", []string{"none0"} }, "udp: no interface"},
		{func(c *Config) { c.TokensFile = t.TempDir() + "/none" }, "tokens_file: "},
		{func(c *Config) { c.Listen, c.TLS = "127.0.0.1:0", TLSConfig{"none", "none"} }, "tls: "},
		{func(c *Config) { c.ICEServers = []ICEServer{{URL: "turn:x", Username: "u", CredentialFile: "none"}} }, "ice_servers[0].credential_file: "},
	} {
		cfg := local()
		c.change(&cfg)
		if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), c.say) {
			t.Errorf("%v, want %q", err, c.say)
		}
	}
}

func TestOwnHTTPAddressIsServed(t *testing.T) {
	t.Parallel()
	cfg := local()
	cfg.Listen = "127.0.0.1:0"
	s := serve(t, cfg, nil)
	if all := s.Addrs(); len(all) != 2 {
		t.Fatalf("addresses %v", all)
	}
	s.url = "http://" + s.Addrs()[0].String()
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	p.hangUp()
	s.over(t)
}

func TestPeerThatOpensTooMuchIsEnded(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	for n := range maxChannels + 1 {
		if _, err := p.conn.CreateDataChannel(fmt.Sprint(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	p.publish(s, "")
	if h := s.over(t); h.reason == nil || h.reason.Error() != "too many data channels" {
		t.Errorf("ended by %v", h.reason)
	}
	s.empty(t)
}

func TestWhoGoesBeforeTheAnswerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := serve(t, local(), func(ctx context.Context, call *source.Call) error {
		close(asked)
		_, err := call.Audio.ReadFrame(ctx) // and never says that it listens
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+Path, strings.NewReader(offerOf(audioLine(0, ""))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", typeSDP)
	go func() {
		<-asked
		cancel()
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	if res, err := client.Do(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("answered %s", res.Status)
	}
	s.empty(t)
}
