package siprecsrc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
)

// What cannot be taken is refused with what is wrong with it.
func TestRequestsAreRefusedByName(t *testing.T) {
	cfg := testConfig("tcp://127.0.0.1:0")
	cfg.Plain = "refuse"
	r := serve(t, cfg, admitAll)
	p := r.peer(0)
	lineOf := func(text string) string {
		return both(strings.Replace(offer(1, "1 sendonly"), "RTP/AVP 0 101\r\n", text+"\r\n", 1), metadata)
	}
	invite := func(contentType, body string, extra ...string) *sip.Request {
		return p.request(sip.INVITE, contentType, body, append([]string{"Require: siprec"}, extra...)...)
	}
	edit := func(f func(*sip.Request)) *sip.Request {
		req := p.siprecInvite()
		f(req)
		return req
	}
	for _, c := range []struct {
		name string
		req  *sip.Request
		code int
		says string // in a header
	}{
		{"no codec that is known", invite(mixedType, lineOf("RTP/AVP 18")), 488, "G729 is not supported"},
		{"keys that are not", invite(mixedType, lineOf("RTP/SAVP 0")), 488, "without a=crypto"},
		{"keys of another suite", invite(mixedType, lineOf("RTP/SAVP 0\r\na=crypto:1 F8_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj")), 488, "F8_128"},
		{"no offer", invite("", ""), 488, "has to offer"},
		{"metadata only", invite(typeMeta, metadata), 488, "has to offer"},
		{"no session description", invite(typeSDP, "hello"), 400, "no lines"},
		{"500 lines", invite(typeSDP, offer(1, strings.Split(strings.Repeat("1 sendonly,", 500), ",")...)), 400, "more than 16 m= lines"},
		{"a type that nobody knows", invite("text/plain", "hello"), 415, typeSDP},
		{"a packed body", invite(mixedType, both(offer(1, "1 sendonly"), metadata), "Content-Encoding: gzip"), 415, "identity"},
		{"an extension that nobody knows", invite(mixedType, both(offer(1, "1 sendonly"), metadata), "Require: foo, timer", "Require: bar"), 420, "foo, bar"},
		{"a timer that is too short", invite(typeSDP, offer(1, "1 sendonly"), "Supported: timer", "Session-Expires: 30"), 422, "90"},
		{"a timer that is none", invite(typeSDP, offer(1, "1 sendonly"), "x: soon"), 400, ""},
		{"no Contact", edit(func(req *sip.Request) { req.RemoveHeader("Contact") }), 400, ""},
		{"no tag", edit(func(req *sip.Request) { req.From().Params = nil }), 400, ""},
		{"another version", edit(func(req *sip.Request) { req.SipVersion = "SIP/3.0" }), 505, ""},
		{"another method's CSeq", edit(func(req *sip.Request) { req.CSeq().MethodName = sip.BYE }), 400, ""},
		{"a dialog that is not", edit(func(req *sip.Request) { req.To().Params.Add("tag", "x") }), 481, ""},
		{"a phone", p.request(sip.INVITE, typeSDP, offer(1, "1 sendrecv")), 403, "only recording"},
		{"a BYE of nothing", p.request(sip.BYE, "", ""), 481, ""},
		{"an UPDATE of nothing", p.request(sip.UPDATE, "", ""), 481, ""},
		{"an INFO of nothing", p.request(sip.INFO, "", ""), 481, ""},
		{"another method", p.request(sip.REGISTER, "", ""), 405, "UPDATE"},
		{"OPTIONS", p.request(sip.OPTIONS, "", ""), 200, "rs-metadata"},
		{"a body of 1 MB", invite(mixedType, both(offer(1, "1 sendonly"), strings.Repeat(" ", 1<<20))), 413, ""},
		{"and the connection lives", p.siprecInvite(), 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := p.do(c.req)
			if res.StatusCode != c.code || !strings.Contains(res.String(), c.says) {
				t.Errorf("answered\n%s\nwant %d with %q", res, c.code, c.says)
			}
			if c.code != 200 && c.req.IsInvite() && tagOf(res.To().Params) == "" {
				t.Error("the answer has no To tag")
			}
		})
	}
	if taken, _ := r.ports.Usage(); taken > 4 {
		t.Errorf("refused calls keep %d ports", taken)
	}
}

// Metadata that cannot be read costs the names and numbers, not the call.
func TestCallWithUnreadableMetadataIsHeard(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	for name, text := range map[string]string{
		"no XML":         "hello",
		"an entity bomb": `<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><recording>&b;</recording>`,
	} {
		d := p.dial(p.request(sip.INVITE, mixedType, both(offer(1, "1 sendonly", "2 sendonly"), text), "Require: siprec"))
		parseAnswer(t, d.ok)
		if call := r.next().call; len(call.Legs) != 2 || call.Attributes["from"] != "" {
			t.Errorf("%s: %+v", name, call)
		}
	}
}

// What there is no room for gets the answer that is configured, before 200.
func TestCallWithoutRoomIsAnsweredBusy(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(*Config)
		handle func(context.Context, *source.Call, *heard) error
		calls  int // that are taken
		code   int
	}{
		"the machine is full": {func(*Config) {}, func(_ context.Context, call *source.Call, _ *heard) error {
			return fmt.Errorf("call %s: %w", call.ID, source.ErrBusy)
		}, 0, 503},
		"to be told otherwise": {func(c *Config) { c.Busy = 486; c.Calls = 2 }, admitAll, 2, 486},
		"calls":                {func(c *Config) { c.Calls = 1 }, admitAll, 1, 503},
		"ports":                {func(c *Config) { c.Media.Ports.Min, c.Media.Ports.Max = 39000, 39003 }, admitAll, 1, 503},
		"a fault":              {func(*Config) {}, func(context.Context, *source.Call, *heard) error { return errors.New("fault") }, 0, 500},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig("udp://127.0.0.1:0")
			c.set(&cfg)
			r := serve(t, cfg, c.handle)
			p := r.peer(0)
			var taken *dialed
			for range c.calls {
				taken = p.dial(p.siprecInvite())
				parseAnswer(t, taken.ok)
			}
			res := p.do(p.siprecInvite())
			after := len(headers(res, "Retry-After")) == 1
			if res.StatusCode != c.code || after != (c.code == 503) {
				t.Errorf("answered %s, Retry-After %v", res.StartLine(), after)
			}
			if s := r.Stats(); s.Refused != 1 || s.Begun != uint64(c.calls) {
				t.Errorf("stats %+v", s)
			}
			if taken == nil {
				if n, _ := r.ports.Usage(); n != 0 {
					t.Errorf("%d ports are kept", n)
				}
				return
			}
			// When one has ended there is room again.
			taken.bye()
			until(t, "there is room", func() bool { return p.dial(p.siprecInvite()).ok.IsSuccess() })
		})
	}
}

// A CANCEL ends a call that nobody has decided on yet.
func TestCancelEndsACallThatWaits(t *testing.T) {
	asked := make(chan struct{})
	r := serve(t, testConfig("udp://127.0.0.1:0"), func(ctx context.Context, call *source.Call, _ *heard) error {
		close(asked)
		for {
			if _, err := call.Audio.ReadFrame(ctx); err != nil {
				return err
			}
		}
	})
	p := r.peer(0)
	invite := p.siprecInvite()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tx, err := p.client.TransactionRequest(ctx, invite, asItIs)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Terminate()
	wait(t, "the call", asked)
	req := p.request(sip.CANCEL, "", "")
	for _, name := range []string{"Via", "From", "To", "Call-ID"} {
		req.ReplaceHeader(sip.HeaderClone(invite.GetHeader(name)))
	}
	if res := p.do(req); res.StatusCode != sip.StatusOK {
		t.Errorf("CANCEL: %s", res.StartLine())
	}
	for final := false; !final; {
		select {
		case res := <-tx.Responses():
			if final = !res.IsProvisional(); final && res.StatusCode != 487 {
				t.Errorf("INVITE: %s", res.StartLine())
			}
		case <-ctx.Done():
			t.Fatal("the INVITE is not answered")
		}
	}
	h := r.next()
	wait(t, "the call's end", h.over)
	if !errors.Is(h.err, errCancelled) {
		t.Errorf("ended with %v", h.err)
	}
	until(t, "all is given back", func() bool { n, _ := r.ports.Usage(); return n == 0 })
	if res := p.do(p.request(sip.CANCEL, "", "")); res.StatusCode != 481 {
		t.Errorf("a CANCEL of nothing: %s", res.StartLine())
	}
}

// The same INVITE is one call however often it comes: again, or by another way.
func TestInviteThatComesAgainIsTheSameCall(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	invite := p.siprecInvite()
	d := &dialed{peer: p, invite: invite, seq: 1}
	d.ok = p.do(invite)
	if again := p.do(p.leaving(invite.Clone())); string(again.Body()) != string(d.ok.Body()) || tagOf(again.To().Params) != tagOf(d.ok.To().Params) {
		t.Errorf("a retransmission was answered\n%s\nbefore\n%s", again, d.ok)
	}
	forked := p.leaving(invite.Clone())
	forked.ReplaceHeader(p.via())
	if res := p.do(forked); res.StatusCode != 482 {
		t.Errorf("by another way: %s", res.StartLine())
	}
	d.ack()
	first := r.next()
	d.bye()
	wait(t, "the call's end", first.over)

	// Its Call-ID may be used again: that is another call.
	reused := p.siprecInvite()
	reused.ReplaceHeader(sip.HeaderClone(invite.CallID()))
	parseAnswer(t, p.dial(reused).ok)
	if second := r.next(); second.call.ID == first.call.ID {
		t.Errorf("two calls have the id %q", first.call.ID)
	}
	if s := r.Stats(); s.Begun != 2 {
		t.Errorf("stats %+v", s)
	}
}

// Who may not call is not answered, and who floods us is not remembered.
func TestStrangersAndFloodsAreKeptOut(t *testing.T) {
	cfg := testConfig("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
	cfg.Allow = []string{"192.0.2.0/24"}
	r := serve(t, cfg, admitAll)
	conn, err := net.Dial("tcp", r.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stranger's connection is kept: %v", err)
	}
	udp, err := net.Dial("udp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write([]byte("OPTIONS sip:x SIP/2.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	until(t, "both are counted", func() bool { return r.Stats().Stranger == 2 })

	cfg = testConfig("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
	cfg.InvitesPerSecond, cfg.Connections = 5, 2
	r = serve(t, cfg, admitAll)
	p := r.peer(0)
	codes := map[int]int{}
	began := time.Now()
	for range 30 {
		res := p.do(p.siprecInvite())
		codes[res.StatusCode]++
		if res.StatusCode == sip.StatusServiceUnavailable && len(headers(res, "Retry-After")) != 1 {
			t.Error("no Retry-After")
		}
	}
	took := time.Since(began)
	if most := 11 + int(5*took.Seconds()); codes[200] < 10 || codes[200] > most || codes[200]+codes[503] != 30 {
		t.Errorf("30 calls in %v were answered %v, want at most %d taken", took, codes, most)
	}
	if res := p.do(p.request(sip.OPTIONS, "", "")); res.StatusCode != sip.StatusOK {
		t.Errorf("OPTIONS during a flood: %s", res.StartLine())
	}
	var open []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", r.Addrs()[1].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	if err := open[2].SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := open[2].Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("a connection too many is kept: %v", err)
	}
}

// What the stack remembers of senders is bounded: it begins anew, and calls go
// on.
func TestReadingBeginsAnewAfterManySenders(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll, func(s *Source) { s.listeners[0].udp.senders = maxSenders - 1 })
	first, second := r.peer(0), r.peer(0)
	d := first.dial(first.siprecInvite()) // the last sender of the old reading
	parseAnswer(t, d.ok)
	for range 3 {
		if res := second.do(second.request(sip.OPTIONS, "", "")); res.StatusCode != sip.StatusOK {
			t.Errorf("OPTIONS: %s", res.StartLine())
		}
	}
	if res := d.bye(); res.StatusCode != sip.StatusOK {
		t.Errorf("BYE: %s", res.StartLine())
	}
}

// torture is what RFC 4475 has of messages that are wrong, and worse: one line
// for each, with what is at least expected of an answer.
var torture = []struct {
	name, text string
	code       string // "" for no answer
}{
	{"not SIP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	{"nothing but lines", "\r\n\r\n\r\n\r\n", ""},
	{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\xff\r\n\r\n", ""},
	{"no headers", "INVITE sip:x SIP/2.0\r\n\r\n", ""},
	{"no Via", "OPTIONS sip:x SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x>\r\nContent-Length: 0\r\n\r\n", ""},
	{"a negative length", message("OPTIONS", "Content-Length: -999"), "400"},
	{"a length without end", message("OPTIONS", "Content-Length: 99999999999999999999"), "400"},
	{"a length longer than the body", message("OPTIONS", "Content-Length: 400"), "400"},
	{"CSeq too large", message("OPTIONS", "CSeq: 36893488147419103232 OPTIONS"), ""},
	{"another method in CSeq", message("OPTIONS", "CSeq: 8 INVITE"), "400"},
	{"an unknown scheme", strings.Replace(message("INVITE", "Content-Length: 0"), "sip:srs@127.0.0.1", "nobodyKnowsThisScheme:totallyopaque", 1), "416"},
	{"another version", strings.Replace(message("OPTIONS", "Content-Length: 0"), " SIP/2.0", " SIP/7.0", 1), "505"},
	{"a method of odd characters", message("!interesting-Method0123456789_*+`.%indeed'~", "Content-Length: 0"), "405"},
	{"an unknown method with CSeq of another", message("NEWMETHOD", "CSeq: 8 INVITE"), "405"},
	{"an unknown transport", strings.Replace(message("OPTIONS", "Content-Length: 0"), "SIP/2.0/UDP", "SIP/2.0/UNKNOWN", 1), "200"},
	{"a long header", message("OPTIONS", "X-Long: "+strings.Repeat("x", 8000)), "200"},
	{"escaped headers in the URI", strings.Replace(message("INVITE", "Content-Length: 0"), "sip:srs@127.0.0.1", "sip:srs@127.0.0.1?Route=%3Csip:x%3E", 1), "4"},
	{"an open quote", message("OPTIONS", `Contact: "Open <sip:a@b>`), ""},
	{"a date that is none", message("OPTIONS", "Date: Fri, 32 Foo 2010 99:99:99 XST"), "200"},
	{"no final line end", strings.TrimRight(message("OPTIONS", "Content-Length: 0"), "\r\n"), ""},
	{"folded lines", message("OPTIONS", "Subject: one\r\n two\r\n\tthree"), "200"},
	{"a response that nobody waits for", "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", ""},
	{"a response of a strange code", "SIP/2.0 4294967301 better not break the receiver\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\r\n", ""},
}

// message is a request with one header of interest.
func message(method, header string) string {
	text := method + " sip:srs@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK" + sip.GenerateTagN(12) +
		"\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:srs@c>\r\nCall-ID: " + sip.GenerateTagN(12) + "\r\nMax-Forwards: 70\r\nContact: <sip:a@127.0.0.1>\r\n"
	if !strings.HasPrefix(header, "CSeq:") {
		text += "CSeq: 8 " + method + "\r\n"
	}
	if !strings.HasPrefix(header, "Content-Length:") {
		text += "Content-Length: 0\r\n"
	}
	return text + header + "\r\n\r\n"
}

// Whatever comes, it is answered as it deserves or not at all, and the next
// request is answered.
func TestTortureMessagesDoNoHarm(t *testing.T) {
	cfg := testConfig("udp://127.0.0.1:0", "tcp://127.0.0.1:0")
	r := serve(t, cfg, admitAll)
	for _, c := range torture {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("udp", r.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte(c.text)); err != nil {
				t.Fatal(err)
			}
			// The last answer that comes is that of a request that is right.
			if _, err := conn.Write([]byte(message("OPTIONS", "Subject: last"))); err != nil {
				t.Fatal(err)
			}
			var got []string
			want := 1
			if c.code != "" {
				want = 2
			}
			for len(got) < want {
				b := make([]byte, 65536)
				n, err := conn.Read(b)
				if err != nil {
					t.Fatalf("%d answers, then %v", len(got), err)
				}
				got = append(got, strings.TrimPrefix(string(b[:n]), "SIP/2.0 "))
			}
			found := c.code == ""
			for _, res := range got {
				found = found || strings.HasPrefix(strings.TrimPrefix(res, "SIP/7.0 "), c.code)
			}
			if !found {
				t.Errorf("answered %.60q, want %s", got, c.code)
			}
		})
	}
	// Over TCP the worst ends its own connection.
	for _, c := range torture {
		conn, err := net.Dial("tcp", r.Addrs()[1].String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(strings.ReplaceAll(c.text, "/UDP", "/TCP"))); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	p := r.peer(1)
	parseAnswer(t, p.do(p.siprecInvite()))
}

// Headers without end, and a body that never comes, end their connection.
func TestEndlessHeadersEndTheirConnection(t *testing.T) {
	r := serve(t, testConfig("tcp://127.0.0.1:0"), admitAll)
	conn, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Write([]byte("OPTIONS sip:x SIP/2.0\r\n"))
	for err == nil {
		_, err = conn.Write([]byte("X-More: " + strings.Repeat("x", 1000) + "\r\n"))
	}
	if errors.Is(err, context.DeadlineExceeded) || r.Stats().Malformed == 0 {
		t.Errorf("%v, stats %+v", err, r.Stats())
	}

	conn, err = net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.Replace(message("OPTIONS", "X: y"), "Content-Length: 0\r\n", "", 1)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, " 400 ") {
		t.Errorf("without Content-Length: %q %v", line, err)
	}
}
