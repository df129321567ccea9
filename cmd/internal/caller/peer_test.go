package caller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"

	"github.com/callwarden/callwarden/pipeline/source/sipstack"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// recorder is a session recording server written from the RFCs, which keeps
// all that it gets.
type recorder struct {
	t    *testing.T
	addr string
	ca   string // PEM file, TLS only
	// refuse, where not 0, is the answer to every INVITE.
	refuse int
	// endAfter, where not 0, is after how many packets of a call it is ended.
	endAfter int

	ending   sync.WaitGroup // calls that we end
	mu       sync.Mutex
	sessions []*recorded
	ua       *sipgo.UserAgent
	byes     chan string // Call-ID of each BYE
}

type recorded struct {
	invite   *sip.Request
	offer    sdp.SessionDescription
	metadata string
	legs     []*heardLeg
}

type heardLeg struct {
	conn    *net.UDPConn
	rtcp    *net.UDPConn
	mu      sync.Mutex
	packets []*rtp.Packet
	reports []rtcp.Packet
	done    chan struct{} // closed when conn is
}

func (l *heardLeg) all() []*rtp.Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*rtp.Packet(nil), l.packets...)
}

func newRecorder(t *testing.T, transport string) *recorder {
	t.Helper()
	r := &recorder{}
	r.start(t, transport)
	return r
}

// start serves until the test ends.
func (r *recorder) start(t *testing.T, transport string) {
	t.Helper()
	r.t, r.byes = t, make(chan string, 100)
	quiet := slog.New(slog.DiscardHandler)
	var err error
	r.ua, err = sipgo.NewUA(
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet)),
	)
	if err != nil {
		t.Fatal(err)
	}
	server, err := sipgo.NewServer(r.ua, sipgo.WithServerLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	server.OnInvite(r.onInvite)
	server.OnAck(func(*sip.Request, sip.ServerTransaction) {})
	server.OnBye(func(req *sip.Request, tx sip.ServerTransaction) {
		respond(req, tx, 200, "OK", nil)
		r.byes <- req.CallID().Value()
	})
	var serving sync.WaitGroup
	var closer io.Closer
	switch transport {
	case "udp":
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.addr, closer = conn.LocalAddr().String(), conn
		serving.Go(func() { _ = server.ServeUDP(conn) })
	default:
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.addr, closer = l.Addr().String(), l
		if transport == "tcp" {
			serving.Go(func() { _ = server.ServeTCP(l) })
			break
		}
		var cert tls.Certificate
		cert, r.ca = certificate(t)
		serving.Go(func() { _ = server.ServeTLS(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})) })
	}
	t.Cleanup(func() {
		r.ending.Wait()
		_ = closer.Close()
		serving.Wait()
		_ = sipstack.Close(r.ua)
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range r.sessions {
			for _, l := range s.legs {
				_, _ = l.conn.Close(), l.rtcp.Close()
				<-l.done
			}
		}
	})
}

// certificate of 127.0.0.1, and the file in which it vouches for itself.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "recorder"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func (r *recorder) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	if r.refuse != 0 {
		respond(req, tx, r.refuse, "Busy", nil)
		return
	}
	s, err := r.take(req)
	if err != nil {
		r.t.Errorf("INVITE: %v", err)
		respond(req, tx, 400, "Bad Request", nil)
		return
	}
	res := sip.NewResponseFromRequest(req, 200, "OK", []byte(s.answer()))
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	host, port, _ := net.SplitHostPort(r.addr)
	n, _ := strconv.Atoi(port)
	res.AppendHeader(&sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "srs", Host: host, Port: n}})
	if err := tx.Respond(res); err != nil {
		r.t.Errorf("answering: %v", err)
	}
	if r.endAfter > 0 {
		r.ending.Add(1)
		defer r.ending.Done()
		r.end(req, res, s)
	}
}

// end hangs up once endAfter packets have come.
func (r *recorder) end(req *sip.Request, res *sip.Response, s *recorded) {
	s.legs[0].await(r.endAfter)
	client, err := sipgo.NewClient(r.ua)
	if err != nil {
		r.t.Error(err)
		return
	}
	bye := sip.NewRequest(sip.BYE, *req.Contact().Address.Clone())
	bye.SetTransport(req.Transport())
	from, to := res.To(), req.From()
	bye.AppendHeader(&sip.FromHeader{Address: from.Address, Params: from.Params})
	bye.AppendHeader(&sip.ToHeader{Address: to.Address, Params: to.Params})
	bye.AppendHeader(sip.HeaderClone(req.CallID()))
	bye.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.BYE})
	bye.AppendHeader(sip.NewHeader("Reason", `SIP;cause=200;text="enough"`))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = client.Do(ctx, bye) // over TCP the caller may be gone before its answer is read
}

// take reads the INVITE and opens ports for its legs.
func (r *recorder) take(req *sip.Request) (*recorded, error) {
	s := &recorded{invite: req}
	kind, params, err := mime.ParseMediaType(req.GetHeader("Content-Type").Value())
	if err != nil {
		return nil, err
	}
	description := string(req.Body())
	if kind == "multipart/mixed" {
		parts := multipart.NewReader(strings.NewReader(description), params["boundary"])
		for {
			p, err := parts.NextPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			body, err := io.ReadAll(p)
			if err != nil {
				return nil, err
			}
			switch p.Header.Get("Content-Type") {
			case "application/sdp":
				description = string(body)
			case "application/rs-metadata+xml":
				s.metadata = string(body)
			}
		}
	}
	if err := s.offer.UnmarshalString(description); err != nil {
		return nil, err
	}
	for range s.offer.MediaDescriptions {
		l, err := listenLeg()
		if err != nil {
			return nil, err
		}
		s.legs = append(s.legs, l)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions = append(r.sessions, s)
	return s, nil
}

// await waits until n packets were read, at most ten seconds.
func (l *heardLeg) await(n int) {
	for deadline := time.Now().Add(10 * time.Second); len(l.all()) < n && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
}

func listenLeg() (*heardLeg, error) {
	l := &heardLeg{done: make(chan struct{})}
	var err error
	for range 100 {
		if l.conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return nil, err
		}
		l.rtcp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: l.port() + 1})
		if err == nil {
			break
		}
		_ = l.conn.Close()
	}
	if err != nil {
		return nil, err
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := l.conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			p := &rtp.Packet{}
			if err := p.Unmarshal(append([]byte(nil), buf[:n]...)); err != nil {
				panic(fmt.Sprintf("not RTP: %v", err))
			}
			l.mu.Lock()
			l.packets = append(l.packets, p)
			l.mu.Unlock()
		}
	})
	reading.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := l.rtcp.ReadFromUDP(buf)
			if err != nil {
				return
			}
			packets, err := rtcp.Unmarshal(buf[:n])
			if err != nil {
				continue // encrypted
			}
			l.mu.Lock()
			l.reports = append(l.reports, packets...)
			l.mu.Unlock()
			if sr, ok := packets[0].(*rtcp.SenderReport); ok { // say that three are lost
				rr, _ := (&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: sr.SSRC, TotalLost: 3}}}).Marshal()
				_, _ = l.rtcp.WriteToUDP(rr, from)
			}
		}
	})
	go func() { reading.Wait(); close(l.done) }() // ends when the test closes the sockets
	return l, nil
}

func (l *heardLeg) port() int { return l.conn.LocalAddr().(*net.UDPAddr).Port }

func (s *recorded) answer() string {
	out := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
	for i, d := range s.offer.MediaDescriptions {
		out += fmt.Sprintf("m=audio %d %s %s\r\na=recvonly\r\n", s.legs[i].port(), strings.Join(d.MediaName.Protos, "/"), strings.Join(d.MediaName.Formats, " "))
		if v, ok := d.Attribute("crypto"); ok {
			out += "a=crypto:" + v + "\r\n"
		}
	}
	return out
}

// twoLegs is a call of so long whose legs differ in every sample.
func twoLegs(length time.Duration) *Recording {
	n := int(length.Seconds() * 8000)
	r := &Recording{Path: "two.wav", RateHz: 8000, Legs: []Side{{Leg: audio.Caller}, {Leg: audio.Callee}}}
	for i := range n {
		r.Legs[0].PCM = append(r.Legs[0].PCM, int16(i*37))
		r.Legs[1].PCM = append(r.Legs[1].PCM, int16(-i*53-1))
	}
	return r
}

// all are the sessions so far.
func (r *recorder) all() []*recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*recorded(nil), r.sessions...)
}
