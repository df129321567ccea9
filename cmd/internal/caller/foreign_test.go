package caller

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/rtcp"
)

// answers are SDP answers to an offer of one PCMU line, and where they lead, or
// what is wrong with them.
var answers = []struct{ sdp, rtp, rtcp, err string }{
	{"c=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=recvonly\r\n", "192.0.2.7:4000", "192.0.2.7:4001", ""},
	{"t=0 0\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.8\r\na=rtcp:5001\r\n", "192.0.2.8:4000", "192.0.2.8:5001", ""},
	{"c=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtcp-mux\r\n", "[2001:db8::1]:4000", "[2001:db8::1]:4000", ""},
	{"c=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n", "", "", ""},
	{"c=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n", "", "", "PCMU is not among the formats [8]"},
	{"t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", "", "", "no c= line"},
	{"c=IN IP4 example.com\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n", "", "", `"example.com" is no IP address`},
	{"c=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 99999 RTP/AVP 0\r\n", "", "", "invalid port value"},
	{"c=IN IP4 192.0.2.7\r\nt=0 0\r\n", "", "", "0 m-lines, the offer 1"},
	{"m=audio\r\n", "", "", "reading the answer's SDP"},
}

const sdpHead = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\n"

func pcmu(t testing.TB) *media {
	t.Helper()
	c, err := codecFor("PCMU", 8000)
	if err != nil {
		t.Fatal(err)
	}
	return &media{codec: c, lanes: make([]*lane, 1)}
}

func TestAnswersSayWhereLegsGo(t *testing.T) {
	m := pcmu(t)
	for _, c := range answers {
		ears, err := m.answered([]byte(sdpHead+c.sdp), make([][]byte, 1))
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v does not say %q", c.sdp, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.sdp, err)
		case c.rtp == "":
			if ears[0].rtp.IsValid() {
				t.Errorf("%q: a refused leg goes to %v", c.sdp, ears[0].rtp)
			}
		case ears[0].rtp.String() != c.rtp || ears[0].rtcp.String() != c.rtcp:
			t.Errorf("%q: RTP to %v, RTCP to %v", c.sdp, ears[0].rtp, ears[0].rtcp)
		}
	}
}

// An answer leads to as many places as were offered, or is refused.
func FuzzAnswer(f *testing.F) {
	for _, c := range answers {
		f.Add([]byte(sdpHead + c.sdp))
	}
	m := pcmu(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		ears, err := m.answered(body, make([][]byte, 1))
		if err == nil && len(ears) != 1 {
			t.Errorf("%d places for one leg", len(ears))
		}
	})
}

// Reports of others change the counters of the streams that they name and
// nothing else.
func FuzzReport(f *testing.F) {
	rr, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 7, TotalLost: 3}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rr)
	f.Add(rr[:9])
	f.Add([]byte{0x80, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		named, other := &stream{ssrc: 7}, &stream{ssrc: 8}
		l := &lane{streams: map[uint32]*stream{7: named}}
		l.report(datagram)
		if other.reports.Load() != 0 || named.reports.Load() > 31*uint32(len(datagram)/8+1) {
			t.Errorf("%d reports of %d bytes", named.reports.Load(), len(datagram))
		}
	})
}

// Whatever the peer of an AudioSocket sends, its reader ends with the
// connection and says why.
func FuzzAudioSocketPeer(f *testing.F) {
	f.Add([]byte{kindHangUp, 0, 0})
	f.Add([]byte{kindError, 0, 1, 2})
	f.Add([]byte{kindAudio8, 0, 4, 1, 2, 3, 4, kindHangUp, 0, 0})
	f.Add([]byte{kindAudio8, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			_, _ = theirs.Write(data) // fails where the reader has ended before
			_ = theirs.Close()
		}()
		s := &socket{conn: ours}
		if why := s.listen(); why == "" {
			t.Error("no reason")
		}
	})
}

func TestConfigNamesFlagValueAndRule(t *testing.T) {
	good := DefaultConfig()
	good.Way, good.To = SIPREC, "127.0.0.1:5060"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"--to: say where":                    func(c *Config) { c.To = "" },
		`--to: "x" must be HOST:PORT`:        func(c *Config) { c.To = "x" },
		"--calls: 0 must be at least 1":      func(c *Config) { c.Calls = 0 },
		"--rate: 0 must be above 0":          func(c *Config) { c.Rate = 0 },
		"--duration: -1s must not":           func(c *Config) { c.Span = -1e9 },
		"--again: -1s must not":              func(c *Config) { c.Again = -1e9 },
		"--loss: 1 must be":                  func(c *Config) { c.Loss = 1 },
		"--reorder: -1 must be":              func(c *Config) { c.Reorder = -1 },
		`--codec: "G729" is none of PCMU`:    func(c *Config) { c.Codec = "G729" },
		`--transport: "ws" must be`:          func(c *Config) { c.Transport = "ws" },
		`--header: "X" must be Name: value`:  func(c *Config) { c.Headers = []string{"X"} },
		`--bind: "lo" must be an IP address`: func(c *Config) { c.Bind = "lo" },
		`"fax" is none of`:                   func(c *Config) { c.Way = "fax" },
		`--api: "x" must be http://`:         func(c *Config) { c.Way, c.API = AudioSocket, "x" },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestLocalAddressIsTheOneThatLeadsToThePeer(t *testing.T) {
	for bind, want := range map[string]string{"": "127.0.0.1", "::1": "::1"} {
		got, err := localAddr(bind, "127.0.0.1:5060")
		if err != nil || got != netip.MustParseAddr(want) {
			t.Errorf("bind %q: %v, %v", bind, got, err)
		}
	}
}
