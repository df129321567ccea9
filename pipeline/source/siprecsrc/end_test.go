package siprecsrc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/pion/rtp"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// A call that nobody ends is ended, with its reason, and the peer is told.
func TestCallThatNobodyEndsIsEnded(t *testing.T) {
	fast := func(s *Source) { s.t1, s.t2 = 20*time.Millisecond, 80*time.Millisecond }
	short := func(s *Source) { s.cfg.SessionMin = time.Second }
	for _, c := range []struct {
		name   string
		set    func(*Config)
		source func(*Source)
		ack    bool
		extra  []string
		want   string
	}{
		{"no media", func(c *Config) { c.Media.Timeout = time.Second }, fast, true, nil, "no media"},
		{"no ACK", func(*Config) {}, fast, false, nil, errNoAck.Error()},
		{"no refresh", func(*Config) {}, short, true, []string{"Session-Expires: 1;refresher=uac"}, errExpired.Error()},
		{"too long", func(*Config) {}, func(s *Source) { s.cfg.CallMost = 100 * time.Millisecond }, true, nil, errTooLong.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig("udp://127.0.0.1:0")
			c.set(&cfg)
			r := serve(t, cfg, admitAll, c.source)
			p := r.peer(0)
			invite := p.siprecInvite(c.extra...)
			if c.ack {
				d := p.dial(invite)
				parseAnswer(t, d.ok)
			} else {
				parseAnswer(t, p.do(invite))
			}
			h := r.next()
			if got := p.byeFrom(); !strings.Contains(got, c.want) {
				t.Errorf("the BYE says %q, want %q", got, c.want)
			}
			wait(t, "the call's end", h.over)
			if h.err == nil || !strings.Contains(h.err.Error(), c.want) {
				t.Errorf("ended with %v, want %q", h.err, c.want)
			}
			until(t, "it is forgotten", func() bool { n, _ := r.ports.Usage(); return n == 0 && r.Stats().Calls == 0 })
		})
	}
}

// A call on hold brings no media, and is not ended for that.
func TestHeldCallIsNotEndedForWantOfMedia(t *testing.T) {
	cfg := testConfig("udp://127.0.0.1:0")
	cfg.Media.Timeout = time.Second
	r := serve(t, cfg, admitAll)
	p := r.peer(0)
	held := p.dial(p.siprecInvite())
	parseAnswer(t, held.reinvite(typeSDP, offer(2, "1 inactive", "2 inactive")))
	silent := p.dial(p.siprecInvite())
	parseAnswer(t, silent.ok)
	first, second := r.next(), r.next()
	wait(t, "the silent call's end", second.over)
	select {
	case <-first.over:
		t.Errorf("the held call ended with %v", first.err)
	default:
	}
	if res := held.bye(); res.StatusCode != sip.StatusOK {
		t.Errorf("BYE: %s", res.StartLine())
	}
}

// Where the peer leaves refreshing to us we do it, by UPDATE where it knows
// that, and end the call when it knows nothing of it any more.
func TestCallIsRefreshedByUs(t *testing.T) {
	for method, allow := range map[sip.RequestMethod]string{sip.UPDATE: "INVITE, UPDATE, BYE", sip.INVITE: "INVITE, BYE"} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll, func(s *Source) { s.cfg.SessionMin = time.Second })
			p := r.peer(0)
			refreshes := 0
			p.answer = func(req *sip.Request) int {
				if req.Method != method {
					return 200
				}
				if got := headers(req, "Session-Expires"); !slices.Equal(got, []string{"1;refresher=uac"}) {
					t.Errorf("refreshed with %v", got)
				}
				if refreshes++; refreshes > 2 {
					return 481
				}
				return 200
			}
			invite := p.request(sip.INVITE, mixedType, both(offer(1, "1 sendonly", "2 sendonly"), metadata),
				"Require: siprec", "Supported: timer", "Allow: "+allow, "Session-Expires: 1;refresher=uas")
			d := p.dial(invite)
			parseAnswer(t, d.ok)
			if got := headers(d.ok, "Session-Expires"); !slices.Equal(got, []string{"1;refresher=uas"}) {
				t.Errorf("agreed on %v", got)
			}
			if got := p.byeFrom(); !strings.Contains(got, errExpired.Error()) {
				t.Errorf("the BYE says %q", got)
			}
			if refreshes != 3 {
				t.Errorf("refreshed %d times", refreshes)
			}
		})
	}
}

// A refresh of theirs begins the interval anew; one without a timer ends it.
func TestPeerRefreshesTheCall(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	d := p.dial(p.siprecInvite("Session-Expires: 1800", "Min-SE: 90"))
	if got := headers(d.ok, "Session-Expires"); !slices.Equal(got, []string{"1800;refresher=uac"}) || !slices.Contains(tokens(d.ok, "Require"), "timer") {
		t.Errorf("agreed on %v, Require %v", got, tokens(d.ok, "Require"))
	}
	res := d.do(d.within(sip.UPDATE, "", "", "Supported: timer", "Session-Expires: 600;refresher=uac"))
	if got := headers(res, "Session-Expires"); res.StatusCode != sip.StatusOK || !slices.Equal(got, []string{"600;refresher=uac"}) {
		t.Errorf("%s %v", res.StartLine(), got)
	}
	if res := d.do(d.within(sip.UPDATE, "", "", "Supported: timer", "Session-Expires: 30")); !strings.HasPrefix(res.StartLine(), "SIP/2.0 422 ") {
		t.Errorf("too short: %s", res.StartLine())
	}
	res = d.do(d.within(sip.UPDATE, "", ""))
	if got := headers(res, "Session-Expires"); res.StatusCode != sip.StatusOK || len(got) != 0 {
		t.Errorf("without: %s %v", res.StartLine(), got)
	}
}

// When intake stops, new calls are sent elsewhere, and those that are there go
// on until their handlers return.
func TestDrainLetsCallsEnd(t *testing.T) {
	release := make(chan struct{})
	r := serve(t, testConfig("udp://127.0.0.1:0"), func(ctx context.Context, call *source.Call, h *heard) error {
		hearing, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-release:
				cancel()
			case <-hearing.Done():
			}
		}()
		return admitAll(hearing, call, h)
	})
	p := r.peer(0)
	d := p.dial(p.siprecInvite())
	answer := parseAnswer(t, d.ok)
	h := r.next()
	r.stop()
	until(t, "new calls are refused", func() bool { return p.do(p.siprecInvite()).StatusCode == sip.StatusServiceUnavailable })
	if res := p.do(p.request(sip.OPTIONS, "", "")); res.StatusCode != sip.StatusServiceUnavailable || len(headers(res, "Retry-After")) != 1 {
		t.Errorf("OPTIONS: %s", res.StartLine())
	}
	talk(t, answer.Media[0].Port).packets(5)
	until(t, "the call is heard on", func() bool { return h.count(audio.Caller) >= 5*packet })
	if res := d.reinvite(typeSDP, offer(2, "1 inactive", "2 inactive")); res.StatusCode != sip.StatusOK {
		t.Errorf("a change: %s", res.StartLine())
	}
	close(release)
	if got := p.byeFrom(); !strings.Contains(got, "the recorder ends the call") {
		t.Errorf("the BYE says %q", got)
	}
	r.shut()
	if !errors.Is(h.err, context.Canceled) {
		t.Errorf("ended with %v", h.err)
	}
}

// A BYE of ours over a connection goes where the INVITE came from.
func TestByeGoesOverTheConnection(t *testing.T) {
	for _, network := range []string{"tcp", "tls"} {
		cfg := testConfig(network + "://127.0.0.1:0")
		cfg.Media.Timeout = time.Second
		if network == "tls" {
			cfg.TLS.Certificate, cfg.TLS.Key = certificate(t)
		}
		r := serve(t, cfg, admitAll)
		p := r.peer(0)
		parseAnswer(t, p.dial(p.siprecInvite()).ok)
		if got := p.byeFrom(); !strings.Contains(got, "no media") {
			t.Errorf("%s: the BYE says %q", network, got)
		}
	}
}

// A source that listens everywhere says of itself the address that its peer
// reached, and speaks from there.
func TestPeerIsToldTheAddressThatItReached(t *testing.T) {
	for _, listen := range []string{"udp://0.0.0.0:0", "udp://[::]:0", "tcp://[::]:0"} {
		cfg := testConfig(listen)
		cfg.Media.Bind, cfg.Media.Timeout = "0.0.0.0", time.Second
		r := serve(t, cfg, admitAll)
		at := r.listeners[0]
		at.addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.addr.Port())
		p := newPeer(t, at)
		t.Cleanup(r.shut)
		d := p.dial(p.siprecInvite())
		if m := parseAnswer(t, d.ok).Media[0]; m.Address.String() != "127.0.0.1" {
			t.Errorf("%s: media goes to %v", listen, m.Address)
		}
		if contact := d.ok.Contact().Address; contact.Host != "127.0.0.1" || contact.Port != int(at.addr.Port()) {
			t.Errorf("%s: Contact is %s", listen, contact.String())
		}
		for bye := false; !bye; {
			select {
			case req := <-p.asked:
				if bye = req.Method == sip.BYE; bye && req.Source() != at.String() {
					t.Errorf("%s: the BYE comes from %s, want %s", listen, req.Source(), at)
				}
			case <-time.After(patience):
				t.Fatal("no BYE came")
			}
		}
	}
}

// Peers are told the contact and the media address of the configuration, where
// they cannot see ours.
func TestConfiguredAddressesAreTold(t *testing.T) {
	cfg := testConfig("udp://127.0.0.1:0")
	cfg.Contact, cfg.Media.Advertise = "192.0.2.10:5070", "192.0.2.11"
	r := serve(t, cfg, admitAll)
	p := r.peer(0)
	res := p.do(p.siprecInvite())
	if got := parseAnswer(t, res).Media[0].Address.String(); got != "192.0.2.11" {
		t.Errorf("media goes to %s", got)
	}
	if c := res.Contact().Address; c.Host != "192.0.2.10" || c.Port != 5070 {
		t.Errorf("Contact is %s", c.String())
	}
}

// What is encrypted is heard by the key of the offer, and by no other.
func TestEncryptedStreamIsHeard(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	ours, err := media.NewCrypto(3, "AES_CM_128_HMAC_SHA1_80")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.ReplaceAll(offer(1, "1 sendonly"), "RTP/AVP 0 101\r\n", "RTP/SAVP 0\r\na=crypto:1 UNKNOWN inline:x\r\na=crypto:"+ours.Line()+"\r\n")
	d := p.dial(p.request(sip.INVITE, mixedType, both(body, metadata), "Require: siprec"))
	answer := parseAnswer(t, d.ok)
	m := answer.Media[0]
	if m.Proto != "RTP/SAVP" || len(m.Crypto) != 1 || !strings.HasPrefix(m.Crypto[0], "3 AES_CM_128_HMAC_SHA1_80 inline:") || m.Crypto[0] == ours.Line() {
		t.Fatalf("answered %+v", m)
	}
	key, err := ours.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	h := r.next()
	k := talk(t, m.Port)
	for seq := range 10 {
		plain, err := (&rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: uint16(seq), Timestamp: uint32(seq) * packet, SSRC: 0x70000000},
			Payload: make([]byte, packet),
		}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := key.EncryptRTP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.conn.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it is heard", func() bool { return h.count(audio.Caller) >= 10*packet })
	k.packets(5) // in the clear
	until(t, "what is not of the key is counted", func() bool { return r.Stats().Stranger >= 5 })
	// The same key again is answered with the same.
	again := parseAnswer(t, d.reinvite(typeSDP, strings.Replace(body, "o=src 1 1", "o=src 1 2", 1)))
	if again.Media[0].Crypto[0] != m.Crypto[0] {
		t.Error("a change that is none changes our key")
	}
}

// Media from another address than the offer's is a stranger's, unless the
// configuration says otherwise.
func TestMediaComesFromWhereTheOfferSays(t *testing.T) {
	for from, want := range map[string]bool{"offer": false, "any": true} {
		cfg := testConfig("udp://127.0.0.1:0")
		cfg.MediaFrom = from
		r := serve(t, cfg, admitAll)
		p := r.peer(0)
		body := strings.ReplaceAll(offer(1, "1 sendonly"), "c=IN IP4 127.0.0.1", "c=IN IP4 192.0.2.1")
		d := p.dial(p.request(sip.INVITE, typeSDP, body, "Require: siprec"))
		talk(t, parseAnswer(t, d.ok).Media[0].Port).packets(5)
		h := r.next()
		until(t, "the packets are counted", func() bool { s := r.Stats(); return s.Packets+s.Stranger >= 5 })
		if got := r.Stats().Packets == 5; got != want {
			t.Errorf("media_from %s: heard %v, stats %+v", from, got, r.Stats())
		}
		_ = h
	}
}

// An answer goes the way that its request came, however long that was.
func TestLongAnswerGoesOverUDP(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	invite := p.siprecInvite()
	for i := range 8 {
		invite.AppendHeader(sip.NewHeader("Via", fmt.Sprintf("SIP/2.0/UDP proxy%d.example:5060;branch=z9hG4bK%s", i, strings.Repeat("x", 150))))
		invite.AppendHeader(sip.NewHeader("Record-Route", fmt.Sprintf("<sip:proxy%d.example;lr;x=%s>", i, strings.Repeat("y", 100))))
	}
	res := p.do(invite)
	parseAnswer(t, res)
	if n := len(res.String()); n < 2500 || len(headers(res, "Record-Route")) != 8 {
		t.Errorf("an answer of %d bytes with %d routes", n, len(headers(res, "Record-Route")))
	}
}

// Only clients with a certificate of ours are let in, where that is asked for.
func TestClientsShowTheirCertificate(t *testing.T) {
	cfg := testConfig("tls://127.0.0.1:0")
	cfg.TLS.Certificate, cfg.TLS.Key = certificate(t)
	clientCert, clientKey := certificate(t)
	cfg.TLS.ClientCA = clientCert
	r := serve(t, cfg, admitAll)
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{
		"without": {InsecureSkipVerify: true},                                        //nolint:gosec // of this very test
		"with":    {InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}, //nolint:gosec // of this very test
	} {
		conn, err := tls.Dial("tcp", r.Addrs()[0].String(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write([]byte(strings.Replace(message("OPTIONS", "X: y"), "/UDP", "/TLS", 1)))
		answer := make([]byte, 12)
		if err == nil {
			_, err = conn.Read(answer)
		}
		if (err == nil) != (name == "with") {
			t.Errorf("%s a certificate: %v", name, err)
		}
		_ = conn.Close()
	}
}

// New says which key is wrong, and leaves nothing open.
func TestAddressThatCannotBeHadIsAnError(t *testing.T) {
	first, err := New(testConfig("udp://127.0.0.1:0", "tcp://127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	taken := testConfig("tcp://127.0.0.1:0", "udp://"+first.Addrs()[0].String())
	if _, err := New(taken, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), `listen[1]: "udp://127.0.0.1:`) {
		t.Errorf("an address that is taken: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	second, err := New(testConfig("udp://"+first.Addrs()[0].String()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("an address that was given back: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkInvite sets calls up, 50 a second, and reports how long an INVITE
// waits for its 200.
func BenchmarkInvite(b *testing.B) {
	r := serve(b, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	var took []time.Duration
	pace := time.NewTicker(time.Second / 50)
	defer pace.Stop()
	for b.Loop() {
		<-pace.C
		invite := p.siprecInvite()
		began := time.Now()
		d := p.dial(invite)
		took = append(took, time.Since(began))
		if !d.ok.IsSuccess() {
			b.Fatal(d.ok.StartLine())
		}
		d.bye()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}

// FuzzBody: whatever a body is, it is read or refused by an error of ours, and
// what is read of it is bounded.
func FuzzBody(f *testing.F) {
	f.Add(mixedType, both(offer(1, "1 sendonly", "2 sendonly"), metadata))
	f.Add("multipart/mixed;boundary=a=b", "--a=b\ncontent-type: application/sdp\n\nm=audio 1 RTP/AVP 0\n--a=b--")
	f.Add("multipart/mixed", "--x\r\n\r\n--x--")
	f.Add(typeSDP, offer(1, "1 sendonly"))
	f.Add(typeMeta, metadata)
	f.Add(";;;", "x")
	f.Fuzz(func(t *testing.T, kind, body string) {
		c, err := parseBody(kind, []byte(body))
		if err != nil {
			if !errors.Is(err, errBody) && !errors.Is(err, errType) {
				t.Errorf("error %v", err)
			}
			return
		}
		if c.offer != nil && (len(c.offer.Media) == 0 || len(c.offer.Media) > 16) {
			t.Errorf("%d m= lines", len(c.offer.Media))
		}
	})
}

// Bodies as they come, and what must be found in them.
func TestBodyIsReadHoweverItIsPacked(t *testing.T) {
	sd, md := offer(1, "1 sendonly"), metadata
	for _, c := range []struct {
		name, kind, body string
		offer, recording bool
	}{
		{"as RFC 7866 has it", mixedType, both(sd, md), true, true},
		{"metadata first", mixedType, "--simple boundary\r\nContent-Type: application/rs-metadata+xml\r\n\r\n" + md +
			"\r\n--simple boundary\r\nContent-Type: application/sdp\r\n\r\n" + sd + "\r\n--simple boundary--", true, true},
		{"names in capitals, an older type", "Multipart/Mixed;Boundary=B", "--B\r\nCONTENT-TYPE: APPLICATION/SDP\r\n\r\n" + sd +
			"\r\n--B\r\ncontent-type:application/rs-metadata\r\n\r\n" + md + "\r\n--B--\r\n", true, true},
		{"LF only, never closed", "multipart/mixed; boundary=b", "--b\nContent-Type: application/sdp\n\n" + strings.ReplaceAll(sd, "\r", "") +
			"\n--b\nContent-Type: application/rs-metadata+xml\n\n" + md + "\n", true, true},
		{"a boundary that should be quoted", "multipart/mixed;boundary=--=_Part=1;charset=x", "----=_Part=1\r\nContent-Type: application/sdp\r\n\r\n" + sd + "\r\n----=_Part=1--", true, false},
		{"a part that nobody knows", mixedType, strings.Replace(both(sd, md), "--simple boundary\r\n", "--simple boundary\r\nContent-Type: text/plain\r\n\r\nhello\r\n--simple boundary\r\n", 1), true, true},
		{"SDP only", "application/sdp ; charset=utf-8", sd, true, false},
		{"metadata only", typeMeta, md, false, true},
		{"nothing", "", "", false, false},
	} {
		got, err := parseBody(c.kind, []byte(c.body))
		if err != nil || (got.offer != nil) != c.offer || (got.recording != nil) != c.recording || got.unread != nil {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
}

// pipe is a connection that yields given bytes in given portions.
type pipe struct {
	*counted
	in  []byte
	cut int
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, errors.New("the end")
	}
	n := copy(b, p.in[:min(p.cut, len(p.in))])
	p.in = p.in[n:]
	return n, nil
}

func (*pipe) Write(b []byte) (int, error)      { return len(b), nil }
func (*pipe) SetReadDeadline(time.Time) error  { return nil }
func (*pipe) SetWriteDeadline(time.Time) error { return nil }

// framed is what the stack is given of in, arriving in portions of cut bytes.
func framed(in []byte, cut int) []byte {
	g := &guard{cfg: DefaultConfig(), invites: bucket{rate: 1e9}, request: bucket{rate: 1e9}}
	g.cfg.BodyBytes = 4096
	m := &messages{Conn: &pipe{in: slices.Clone(in), cut: cut}, guard: g}
	var out []byte
	b := make([]byte, 1000)
	for {
		n, err := m.Read(b)
		out = append(out, b[:n]...)
		if err != nil {
			return out
		}
	}
}

// FuzzFraming: what the stack is given does not depend on how it arrives, and
// is never more than what came.
func FuzzFraming(f *testing.F) {
	for _, c := range torture {
		f.Add([]byte(c.text), 7)
	}
	f.Add([]byte(message("OPTIONS", "a: b")+message("INVITE", "Content-Length: 3")+"abc"+message("INVITE", "Content-Length: 5000")+strings.Repeat("x", 5000)+message("BYE", "l: 0")), 100)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		if cut < 1 {
			cut = 1
		}
		whole, parts := framed(in, len(in)+1), framed(in, cut)
		if len(whole) > len(in) || len(parts) > len(in) {
			t.Fatalf("%d and %d bytes of %d", len(whole), len(parts), len(in))
		}
		// What is still to come may be handed on at once or not at all.
		n := min(len(whole), len(parts))
		if string(whole[:n]) != string(parts[:n]) {
			t.Fatalf("whole %q, in parts %q", whole, parts)
		}
	})
}

func TestLongBodiesAreTakenOutOfTheStream(t *testing.T) {
	first, long, last := message("OPTIONS", "a: b"), message("INVITE", "Content-Length: 5000")+strings.Repeat("x", 5000), message("BYE", "c: d")
	for _, cut := range []int{1, 7, 1000, 1 << 20} {
		if got := string(framed([]byte("\r\n\r\n"+first+long+last), cut)); got != "\r\n\r\n"+first+last {
			t.Errorf("in portions of %d: %q", cut, got)
		}
	}
}
