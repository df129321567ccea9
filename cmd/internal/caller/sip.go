package caller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"

	_ "github.com/callwarden/callwarden/pipeline/source/sipstack" // the settings of the SIP library
)

const (
	// hangUpWithin is how long the answer to a BYE is waited for.
	hangUpWithin = 5 * time.Second
	product      = "callwarden-call"
)

// siprec is a session recording client (RFC 7866), or with Config.NoRecord a
// telephone.
type siprec struct {
	*media
	watch   *Progress
	agent   *sipgo.UserAgent
	server  *sipgo.Server
	dialogs sipgo.DialogUA
	conn    *servedConn // UDP only
	target  sip.Uri
	calls   sync.Map // *sipCall by Call-ID
}

// sipCall is a call that was answered, as requests of the peer find it.
type sipCall struct {
	session *sipgo.DialogClientSession
	offer   []byte
	over    chan string // why the peer ends it; the handler of BYE sends one value at most
	bye     sync.Once
}

func newSIPREC(cfg Config, recs []*Recording, watch *Progress) (*siprec, error) {
	m, err := newMedia(cfg, recs, cfg.To)
	if err != nil {
		return nil, err
	}
	s := &siprec{media: m, watch: watch}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *siprec) open() error {
	host, port, err := net.SplitHostPort(s.cfg.To)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("--to: port %q is no number", port)
	}
	s.target = sip.Uri{Scheme: "sip", User: s.user(), Host: sipHostOf(host), Port: number, UriParams: sip.NewParams()}
	s.target.UriParams.Add("transport", s.cfg.Transport)

	tlsConfig, err := s.cfg.tls(host)
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler) // what goes wrong is counted
	s.agent, err = sipgo.NewUA(
		sipgo.WithUserAgent(product), sipgo.WithUserAgenTLSConfig(tlsConfig),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet)),
	)
	if err != nil {
		return err
	}
	s.server, err = sipgo.NewServer(s.agent, sipgo.WithServerLogger(quiet))
	if err != nil {
		return err
	}
	s.server.OnBye(s.onBye)
	s.server.OnInvite(s.onChange)
	s.server.OnUpdate(s.onChange)
	s.server.OnOptions(func(req *sip.Request, tx sip.ServerTransaction) { respond(req, tx, 200, "OK", nil) })
	s.server.OnAck(func(*sip.Request, sip.ServerTransaction) {})

	options := []sipgo.ClientOption{sipgo.WithClientLogger(quiet), sipgo.WithClientNAT()}
	contact := sip.Uri{Scheme: "sip", User: "src", Host: sipHost(s.local), UriParams: sip.NewParams()}
	contact.UriParams.Add("transport", s.cfg.Transport)
	if s.cfg.Transport == "udp" {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.local, 0)))
		if err != nil {
			return err
		}
		_ = conn.SetReadBuffer(4 << 20) // best effort: answers to many calls at once
		s.conn = &servedConn{UDPConn: conn, served: make(chan struct{})}
		contact.Port = s.conn.LocalAddr().(*net.UDPAddr).Port
		options = append(options, sipgo.WithClientConnectionAddr(s.conn.LocalAddr().String()),
			sipgo.WithClientAddr(s.conn.LocalAddr().String()))
	} else {
		// Without a port the library puts in the connection's own: the peer
		// answers and asks on the connection that is there.
		options = append(options, sipgo.WithClientHostname(sipHost(s.local)))
	}
	client, err := sipgo.NewClient(s.agent, options...)
	if err != nil {
		return err
	}
	header := sip.ContactHeader{Address: contact, Params: sip.NewParams()}
	if !s.cfg.NoRecord {
		header.Params.Add("+sip.src", "") // RFC 7866 6.1.1
	}
	s.dialogs = sipgo.DialogUA{Client: client, ContactHDR: header}
	return nil
}

// servedConn tells when the library reads from it: before that, it would open
// a second socket for the same port to send.
type servedConn struct {
	*net.UDPConn
	served chan struct{} // closed at the first read
	once   sync.Once
}

// ReadFrom implements net.PacketConn.
func (c *servedConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.once.Do(func() { close(c.served) })
	return c.UDPConn.ReadFrom(b)
}

// user is whom the INVITE is sent to: the recorder, or the number called.
func (s *siprec) user() string {
	if s.cfg.NoRecord {
		return s.cfg.Number
	}
	return "srs"
}

// sipHostOf is host as a SIP URI has it.
func sipHostOf(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return sipHost(ip)
	}
	return host
}

func (c Config) tls(host string) (*tls.Config, error) {
	t := &tls.Config{ServerName: host, InsecureSkipVerify: c.Insecure, MinVersion: tls.VersionTLS12} //nolint:gosec // only where it is asked for
	if c.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: %s holds no PEM certificate", c.CA)
	}
	return t, nil
}

// run implements way.
func (s *siprec) run(ctx context.Context) error {
	var group sync.WaitGroup
	if s.conn != nil {
		group.Go(func() { _ = s.server.ServeUDP(s.conn) }) // ends when conn is closed
	}
	s.media.run(ctx)
	// The stack is closed last: for what it is given once it is, it would open
	// a socket of its own.
	if s.conn != nil {
		_ = s.conn.Close()
	}
	group.Wait()
	return s.agent.Close()
}

// invite is call n's first request.
func (s *siprec) invite(n int, offer []byte) *sip.Request {
	who := s.cfg.parties(s.local)
	req := sip.NewRequest(sip.INVITE, s.target)
	req.SetTransport(strings.ToUpper(s.cfg.Transport))
	from := &sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: "src", Host: sipHost(s.local)}, Params: sip.NewParams()}
	to := &sip.ToHeader{Address: sip.Uri{Scheme: "sip", User: s.target.User, Host: s.target.Host}, Params: sip.NewParams()}
	if s.cfg.NoRecord {
		from.DisplayName, from.Address.User, to.DisplayName = s.cfg.FromName, s.cfg.From, s.cfg.NumberName
	}
	from.Params.Add("tag", sip.GenerateTagN(16))
	id := sip.CallIDHeader(uuid.NewString())
	req.AppendHeader(from)
	req.AppendHeader(to)
	req.AppendHeader(&id)
	req.AppendHeader(sip.NewHeader("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE, OPTIONS"))
	req.AppendHeader(sip.NewHeader("Supported", "timer"))
	req.AppendHeader(sip.NewHeader("User-Agent", product))
	for _, h := range s.cfg.Headers {
		name, value, _ := strings.Cut(h, ":")
		req.AppendHeader(sip.NewHeader(strings.TrimSpace(name), strings.TrimSpace(value)))
	}
	if s.cfg.NoRecord {
		req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
		req.SetBody(offer)
		return req
	}
	req.AppendHeader(sip.NewHeader("Require", "siprec"))
	body, contentType := siprecBody(offer, metadata(s.turn(n).rec, who, time.Now()))
	req.AppendHeader(sip.NewHeader("Content-Type", contentType))
	req.SetBody(body)
	return req
}

// place implements way.
func (s *siprec) place(ctx context.Context, n int) (o outcome) {
	keys := make([][]byte, len(s.lanes))
	for i := range keys {
		keys[i] = newKey()
	}
	offer := s.offer(keys)
	if s.conn != nil {
		<-s.conn.served
	}
	begin := time.Now()
	session, err := s.dialogs.WriteInvite(ctx, s.invite(n, offer))
	if err != nil {
		return outcome{err: sipError(err)}
	}
	defer session.Close()
	call := &sipCall{session: session, offer: offer, over: make(chan string, 1)}
	id := session.InviteRequest.CallID().Value()
	s.calls.Store(id, call)
	defer s.calls.Delete(id)
	if err := session.WaitAnswer(ctx, sipgo.AnswerOptions{}); err != nil {
		return notAnswered(err)
	}
	o = outcome{answered: true, setup: time.Since(begin)}
	s.watch.Up.Add(1)
	defer s.watch.Up.Add(-1)
	if err := session.Ack(ctx); err != nil {
		o.err = sipError(err)
		return o
	}
	streams, err := s.streams(n, session.InviteResponse.Body(), keys)
	if err != nil {
		o.err = err
	} else {
		answered := time.Now()
		due, then, stop := refresh(ctx, session)
		o.end = s.play(ctx, streams, call.over, due, then)
		stop()
		o.seconds = time.Since(answered).Seconds()
	}
	if o.end == "" && !s.cfg.DropBye {
		if err := hangUp(ctx, session); err != nil && o.err == nil {
			o.err = fmt.Errorf("hanging up: %w", err)
		}
	}
	return o
}

// streams are those of the legs of call n that the answer takes.
func (s *siprec) streams(n int, answer []byte, keys [][]byte) ([]*stream, error) {
	ears, err := s.answered(answer, keys)
	if err != nil {
		return nil, err
	}
	var all []*stream
	for i, e := range ears {
		if !e.rtp.IsValid() {
			continue
		}
		one, err := s.stream(n, i, e)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) < len(ears) {
		return all, fmt.Errorf("%d of %d legs were refused in the answer's SDP", len(ears)-len(all), len(ears))
	}
	return all, nil
}

func hangUp(ctx context.Context, session *sipgo.DialogClientSession) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpWithin)
	defer cancel()
	err := session.Bye(ctx)
	var answer sipgo.ErrDialogResponse
	if errors.As(err, &answer) {
		return fmt.Errorf("BYE was answered %s", answerOf(answer.Res))
	}
	if err != nil {
		return sipError(err)
	}
	return nil
}

// notAnswered tells a refusal from no answer at all.
func notAnswered(err error) outcome {
	var refused *sipgo.ErrDialogResponse
	if errors.As(err, &refused) {
		return outcome{refusal: answerOf(refused.Res)}
	}
	return outcome{err: sipError(err)}
}

func answerOf(r *sip.Response) string {
	s := fmt.Sprintf("%d %s", r.StatusCode, r.Reason)
	if h := r.GetHeader("Warning"); h != nil {
		s += " (" + h.Value() + ")"
	}
	return s
}

// sipError says what the library means, in the same words for all calls.
func sipError(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted before the answer")
	case errors.Is(err, sip.ErrTransactionTimeout), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer")
	case errors.Is(err, sip.ErrTransactionTransport):
		return fmt.Errorf("sending: %w", err)
	}
	return err
}

// refresh gives a tick whenever the session must be refreshed by us, and what
// refreshes it (RFC 4028 7.2). stop ends the ticks.
func refresh(ctx context.Context, session *sipgo.DialogClientSession) (due <-chan time.Time, then, stop func()) {
	h := session.InviteResponse.GetHeader("Session-Expires")
	if h == nil {
		return nil, func() {}, func() {}
	}
	value, params, _ := strings.Cut(h.Value(), ";")
	seconds, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || seconds < 2 || !strings.Contains(strings.ToLower(params), "refresher=uac") {
		return nil, func() {}, func() {}
	}
	ticker := time.NewTicker(time.Duration(seconds) * time.Second / 2)
	then = func() {
		req := sip.NewRequest(sip.UPDATE, *session.InviteResponse.Contact().Address.Clone())
		req.AppendHeader(sip.NewHeader("Session-Expires", h.Value()))
		req.AppendHeader(sip.NewHeader("Supported", "timer"))
		asking, cancel := context.WithTimeout(ctx, hangUpWithin)
		defer cancel()
		_, _ = session.Do(asking, req) // where it is refused, the peer ends the call and says so
	}
	return ticker.C, then, ticker.Stop
}

func (s *siprec) find(req *sip.Request) *sipCall {
	id := req.CallID()
	if id == nil {
		return nil
	}
	c, ok := s.calls.Load(id.Value())
	if !ok {
		return nil
	}
	return c.(*sipCall)
}

// onBye takes the peer's BYE.
func (s *siprec) onBye(req *sip.Request, tx sip.ServerTransaction) {
	call := s.find(req)
	if call == nil {
		respond(req, tx, 481, "Call/Transaction Does Not Exist", nil)
		return
	}
	respond(req, tx, 200, "OK", nil)
	why := "BYE"
	if h := req.GetHeader("Reason"); h != nil {
		why += " (" + h.Value() + ")"
	}
	call.bye.Do(func() { call.over <- why })
}

// onChange takes a re-INVITE or UPDATE: nothing of the call changes for it but
// its age.
func (s *siprec) onChange(req *sip.Request, tx sip.ServerTransaction) {
	call := s.find(req)
	if call == nil {
		respond(req, tx, 481, "Call/Transaction Does Not Exist", nil)
		return
	}
	var body []byte
	if req.IsInvite() || len(req.Body()) > 0 {
		body = call.offer
	}
	respond(req, tx, 200, "OK", body)
}

func respond(req *sip.Request, tx sip.ServerTransaction, code int, reason string, body []byte) {
	res := sip.NewResponseFromRequest(req, code, reason, body)
	if body != nil {
		res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	}
	if h := req.GetHeader("Session-Expires"); h != nil && code == 200 {
		res.AppendHeader(sip.NewHeader("Session-Expires", h.Value()))
	}
	_ = tx.Respond(res) // a peer that is gone needs no answer
}

// close implements way.
func (s *siprec) close() error {
	return s.media.close()
}
