package siprecsrc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/pipeline/source/sipstack"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second // of tests that wait for the thing itself

// heard is what a handler was given of one call.
type heard struct {
	call    *source.Call
	mu      sync.Mutex
	samples map[audio.Leg]int
	keys    string
	err     error
	over    chan struct{} // closed when the audio has ended
}

func (h *heard) count(leg audio.Leg) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.samples[leg]
}

// recorder is a source that serves, and what its handler was given.
type recorder struct {
	*Source
	t     testing.TB
	calls chan *heard
	stop  context.CancelFunc
	shut  func()
	ended chan error // Serve's
}

// admitAll hears every call to its end.
func admitAll(ctx context.Context, call *source.Call, h *heard) error {
	call.Admitted()
	for {
		f, err := call.Audio.ReadFrame(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading call %s: %w", call.ID, err)
		}
		h.mu.Lock()
		h.samples[f.Leg] += len(f.PCM)
		h.keys += f.Keys
		h.mu.Unlock()
	}
}

func testConfig(listen ...string) Config {
	cfg := DefaultConfig()
	cfg.Listen = listen
	cfg.Media.Bind = "127.0.0.1"
	cfg.Media.Poll = 10 * time.Millisecond
	cfg.Media.Ports.Min, cfg.Media.Ports.Max = 30000, 39999
	return cfg
}

// serve runs a source until the test ends. The handler's ctx is not Serve's, as
// that of whoever grants a grace time is not.
func serve(t testing.TB, cfg Config, handle func(context.Context, *source.Call, *heard) error, set ...func(*Source)) *recorder {
	t.Helper()
	src, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(src)
	}
	ctx, cancel := context.WithCancel(context.Background())
	grace, end := context.WithCancel(context.Background())
	r := &recorder{Source: src, t: t, calls: make(chan *heard, 4096), stop: cancel, ended: make(chan error, 1)}
	go func() {
		r.ended <- src.Serve(ctx, func(_ context.Context, call *source.Call) error {
			h := &heard{call: call, samples: make(map[audio.Leg]int), over: make(chan struct{})}
			r.calls <- h
			defer close(h.over)
			h.err = handle(grace, call, h)
			return h.err
		})
	}()
	r.shut = sync.OnceFunc(func() {
		cancel()
		end()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(r.shut)
	return r
}

// peer calls the i-th address, and is there until the source is shut.
func (r *recorder) peer(i int) *peer {
	p := newPeer(r.t, r.Addrs()[i])
	r.t.Cleanup(r.shut)
	return p
}

func (r *recorder) next() *heard {
	r.t.Helper()
	select {
	case h := <-r.calls:
		return h
	case <-time.After(patience):
		r.t.Fatal("no call came")
		return nil
	}
}

func wait(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("waited for %s in vain", what)
	}
}

// until waits for a condition that nothing tells of.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// peer is a recording client, or a phone, on the SIP stack of sipgo.
type peer struct {
	t       testing.TB
	to      netip.AddrPort
	network string
	ua      *sipgo.UserAgent
	client  *sipgo.Client
	addr    netip.AddrPort // of its own
	asked   chan *sip.Request
	answer  func(*sip.Request) int // of what it is asked; nil for 200
}

func newPeer(t testing.TB, at net.Addr) *peer {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	ua, err := sipgo.NewUA(
		sipgo.WithUserAgenTLSConfig(&tls.Config{InsecureSkipVerify: true}), //nolint:gosec // of this very test
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet)),
	)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, to: netip.MustParseAddrPort(at.String()), network: at.Network(), ua: ua, asked: make(chan *sip.Request, 64)}
	if p.client, err = sipgo.NewClient(ua, sipgo.WithClientLogger(quiet)); err != nil {
		t.Fatal(err)
	}
	server, err := sipgo.NewServer(ua, sipgo.WithServerLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	on := func(req *sip.Request, tx sip.ServerTransaction) {
		code := 200
		if p.answer != nil {
			code = p.answer(req)
		}
		p.asked <- req
		if !req.IsAck() && code > 0 {
			res := sip.NewResponseFromRequest(req, code, "As Told", nil)
			res.AppendHeader(&sip.ContactHeader{Address: p.uri()})
			_ = tx.Respond(res)
		}
	}
	server.OnBye(on)
	server.OnUpdate(on)
	server.OnInvite(on)
	server.OnAck(on)
	t.Cleanup(func() { _ = sipstack.Close(ua) })
	p.addr = netip.MustParseAddrPort("127.0.0.1:5060")
	if p.network == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p.addr = addrPort(conn.LocalAddr())
		var reading sync.WaitGroup
		reading.Go(func() { _ = server.ServeUDP(conn) })
		t.Cleanup(func() { _ = conn.Close(); reading.Wait() })
		until(t, "the peer reads", func() bool { return ua.TransportLayer().Pool("udp").Size() > 0 })
	}
	return p
}

func (p *peer) uri() sip.Uri {
	return sip.Uri{Scheme: "sip", User: "src", Host: p.addr.Addr().String(), Port: int(p.addr.Port())}
}

// request makes one outside of a dialog.
func (p *peer) request(method sip.RequestMethod, contentType, body string, extra ...string) *sip.Request {
	req := sip.NewRequest(method, sip.Uri{Scheme: "sip", User: "srs", Host: p.to.Addr().String(), Port: int(p.to.Port())})
	req.SetTransport(sip.NetworkToUpper(p.network))
	from := &sip.FromHeader{DisplayName: "Ann", Address: sip.Uri{Scheme: "sip", User: "+15550100", Host: "src.test"}}
	from.Params.Add("tag", sip.GenerateTagN(8))
	id := sip.CallIDHeader(sip.GenerateTagN(12) + "@src.test")
	hops := sip.MaxForwardsHeader(70)
	req.AppendHeader(p.via())
	req.AppendHeader(from)
	req.AppendHeader(&sip.ToHeader{Address: sip.Uri{Scheme: "sip", User: "+15550199", Host: "srs.test"}})
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: method})
	req.AppendHeader(&hops)
	req.AppendHeader(&sip.ContactHeader{Address: p.uri()})
	for _, line := range extra {
		name, value, _ := strings.Cut(line, ":")
		req.AppendHeader(sip.NewHeader(name, strings.TrimSpace(value)))
	}
	if contentType != "" {
		req.AppendHeader(sip.NewHeader("Content-Type", contentType))
	}
	req.SetBody([]byte(body))
	return p.leaving(req)
}

func (p *peer) via() *sip.ViaHeader {
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: sip.NetworkToUpper(p.network),
		Host: p.addr.Addr().String(), Port: int(p.addr.Port()),
	}
	via.Params.Add("branch", sip.GenerateBranch())
	return via
}

func (p *peer) leaving(req *sip.Request) *sip.Request {
	req.SetDestination(p.to.String())
	if p.network == "udp" {
		req.Laddr = sip.Addr{IP: net.IP(p.addr.Addr().AsSlice()), Port: int(p.addr.Port())}
	}
	return req
}

func (p *peer) do(req *sip.Request) *sip.Response {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := p.client.Do(ctx, req, asItIs)
	if err != nil {
		p.t.Fatalf("%s: %v", req.Method, err)
	}
	return res
}

// dialed is a dialog of the peer.
type dialed struct {
	*peer
	invite *sip.Request
	ok     *sip.Response
	seq    uint32
}

// dial sends the INVITE and, where it was answered 200, the ACK.
func (p *peer) dial(req *sip.Request) *dialed {
	p.t.Helper()
	d := &dialed{peer: p, invite: req, ok: p.do(req), seq: 1}
	if d.ok.IsSuccess() {
		d.ack()
	}
	return d
}

// within makes a request of the dialog.
func (d *dialed) within(method sip.RequestMethod, contentType, body string, extra ...string) *sip.Request {
	d.seq++
	req := d.request(method, contentType, body, extra...)
	req.Recipient = d.ok.Contact().Address
	req.ReplaceHeader(sip.HeaderClone(d.invite.From()))
	req.ReplaceHeader(sip.HeaderClone(d.ok.To()))
	req.ReplaceHeader(sip.HeaderClone(d.invite.CallID()))
	req.ReplaceHeader(&sip.CSeqHeader{SeqNo: d.seq, MethodName: method})
	return req
}

func (d *dialed) ack() {
	d.t.Helper()
	req := d.within(sip.ACK, "", "")
	d.seq--
	req.CSeq().SeqNo = d.seq
	if err := d.client.WriteRequest(req, asItIs); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dialed) reinvite(contentType, body string, extra ...string) *sip.Response {
	d.t.Helper()
	res := d.do(d.within(sip.INVITE, contentType, body, extra...))
	if res.IsSuccess() {
		d.ack()
	}
	return res
}

func (d *dialed) bye() *sip.Response {
	d.t.Helper()
	return d.do(d.within(sip.BYE, "", ""))
}

// byeFrom waits for the recorder's own BYE and returns its Reason.
func (p *peer) byeFrom() string {
	p.t.Helper()
	for {
		select {
		case req := <-p.asked:
			if req.Method == sip.BYE {
				return strings.Join(headers(req, "Reason"), " ")
			}
		case <-time.After(patience):
			p.t.Fatal("no BYE came")
		}
	}
}

func parseAnswer(t testing.TB, res *sip.Response) *sdp.Session {
	t.Helper()
	if res.StatusCode != sip.StatusOK {
		t.Fatalf("answered %s %v", res.StartLine(), headers(res, "Warning"))
	}
	s, err := sdp.Parse(res.Body())
	if err != nil {
		t.Fatalf("answer %q: %v", res.Body(), err)
	}
	return s
}

// talker sends PCMU from 127.0.0.1 to a port.
type talker struct {
	t    testing.TB
	conn net.Conn
	ssrc uint32
	seq  uint16
}

var ssrcs atomic.Uint32

func talk(t testing.TB, port int) *talker {
	t.Helper()
	conn, err := net.Dial("udp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &talker{t: t, conn: conn, ssrc: ssrcs.Add(1)}
}

const packet = 160 // samples of 20 ms

func (k *talker) packets(n int) {
	k.t.Helper()
	for range n {
		b := make([]byte, 12+packet)
		b[0], b[1] = 0x80, 0
		binary.BigEndian.PutUint16(b[2:], k.seq)
		binary.BigEndian.PutUint32(b[4:], uint32(k.seq)*packet)
		binary.BigEndian.PutUint32(b[8:], k.ssrc)
		for i := range b[12:] {
			b[12+i] = byte(0x80 + i%64)
		}
		k.seq++
		if _, err := k.conn.Write(b); err != nil && !errors.Is(err, net.ErrClosed) {
			return // an ICMP error: nobody listens there any more
		}
	}
}

// offer describes m= lines: "LABEL DIRECTION" each, PCMU and keypad events.
func offer(version int, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=src 1 %d IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n", version)
	for i, l := range lines {
		label, direction, _ := strings.Cut(l, " ")
		port := 41000 + 2*i
		if direction == "gone" {
			port, direction = 0, "inactive"
		}
		fmt.Fprintf(&b, "m=audio %d RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=label:%s\r\na=%s\r\n", port, label, direction)
	}
	return b.String()
}

const metadata = `<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode>
<session session_id="s1"/>
<participant participant_id="p1"><nameID aor="sip:+15550111@carrier.test"><name>Ann Example</name></nameID></participant>
<participant participant_id="p2"><nameID aor="sip:+15550122@bank.test"><name>Bank</name></nameID></participant>
<stream stream_id="t1" session_id="s1"><label>1</label></stream><stream stream_id="t2" session_id="s1"><label>2</label></stream>
<participantstreamassoc participant_id="p1"><send>t1</send><recv>t2</recv></participantstreamassoc>
<participantstreamassoc participant_id="p2"><send>t2</send><recv>t1</recv></participantstreamassoc></recording>`

const mixedType = `multipart/mixed; boundary="simple boundary"`

func both(sdp, meta string) string {
	return "This is the preamble.\r\n--simple boundary\r\nContent-Type: application/sdp\r\n\r\n" + sdp +
		"\r\n--simple boundary\r\nContent-Type: Application/RS-Metadata+XML; charset=utf-8\r\nContent-Disposition: recording-session\r\n\r\n" +
		meta + "\r\n--simple boundary--\r\n"
}

// siprecInvite is what border controllers send.
func (p *peer) siprecInvite(extra ...string) *sip.Request {
	return p.request(sip.INVITE, mixedType, both(offer(1, "1 sendonly", "2 sendonly"), metadata),
		append([]string{"Require: siprec", "Supported: timer", "Allow: INVITE, ACK, BYE, UPDATE"}, extra...)...)
}

// certificate makes a certificate of 127.0.0.1 and returns its files.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "callwarden test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
