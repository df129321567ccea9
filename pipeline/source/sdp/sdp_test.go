package sdp

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	pion "github.com/pion/sdp/v3"

	"github.com/callwarden/callwarden/pipeline/source/media"
)

const siprec = "v=0\r\no=SRC 2890844526 2890844526 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
	"m=audio 12240 RTP/AVP 0 4 8 101\r\na=sendonly\r\na=label:1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n" +
	"m=audio 22456 RTP/AVP 98\r\na=rtpmap:98 PCMU/8000\r\na=sendonly\r\na=label:2\r\nc=IN IP4 192.0.2.2/127\r\n"

// Descriptions as they come, and what must be read of them.
var offers = []struct {
	name, text string
	want       []Media // Unread and formats are compared apart
	chosen     []string
}{
	{"siprec", siprec, []Media{
		{Kind: "audio", Port: 12240, Proto: "RTP/AVP", Address: netip.MustParseAddr("192.0.2.1"), Label: "1", Direction: SendOnly},
		{Kind: "audio", Port: 22456, Proto: "RTP/AVP", Address: netip.MustParseAddr("192.0.2.2"), Label: "2", Direction: SendOnly},
	}, []string{"PCMU/8000 telephone-event/8000", "PCMU/8000"}},
	{
		"no more than it takes, in LF", "m=audio 4000 RTP/AVP 8\nc=IN IP4 192.0.2.1\n",
		[]Media{{Kind: "audio", Port: 4000, Proto: "RTP/AVP", Address: netip.MustParseAddr("192.0.2.1")}},
		[]string{"PCMA/8000"},
	},
	{
		"attributes of the session count for its lines", "o=- 1 2\r\na=sendonly\r\nc=IN IP6 2001:db8::1\r\nm=audio 4000/2 RTP/SAVP 9\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^20\r\na=rtcp-mux\r\n",
		[]Media{{
			Kind: "audio", Port: 4000, Proto: "RTP/SAVP", Address: netip.MustParseAddr("2001:db8::1"), Direction: SendOnly, Mux: true,
			Crypto: []string{"1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^20"},
		}},
		[]string{"G722/8000"},
	},
	{
		"held by an address of zeros", "c=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\na=sendrecv\na=rtcp:4711 IN IP4 192.0.2.9\n",
		[]Media{{
			Kind: "audio", Port: 4000, Proto: "RTP/AVP", Address: netip.MustParseAddr("0.0.0.0"),
			RTCP: netip.MustParseAddrPort("192.0.2.9:4711"),
		}},
		[]string{"PCMU/8000"},
	},
	{
		"a host name, ICE and what nobody knows", "c=IN IP4 host.example\nm=audio 4000 RTP/AVPF 111 13 126\na=rtpmap:111 opus/48000/2\na=fmtp:111 useinbandfec=1\na=rtpmap:126 telephone-event/48000\na=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\na=ice-ufrag:x\na=mid:0\nz=0 0\nnonsense\n=\n",
		[]Media{{Kind: "audio", Port: 4000, Proto: "RTP/AVPF", Mid: "0"}},
		[]string{"opus/48000/2 CN/8000 telephone-event/48000"},
	},
	{
		"the first that is supported", "m=audio 4000 RTP/AVP 18 96 97 8\na=rtpmap:18 G729/8000\na=rtpmap:96 AMR/8000\na=rtpmap:97 L16/16000\n",
		[]Media{{Kind: "audio", Port: 4000, Proto: "RTP/AVP"}},
		[]string{"L16/16000"},
	},
}

func TestOffersAreReadLiberally(t *testing.T) {
	for _, c := range offers {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Media) != len(c.want) {
				t.Fatalf("%d lines, want %d", len(s.Media), len(c.want))
			}
			for i, m := range s.Media {
				chosen, err := m.Choose()
				if err != nil {
					t.Error(err)
				}
				var names []string
				for _, f := range chosen {
					names = append(names, f.String())
				}
				if got := strings.Join(names, " "); got != c.chosen[i] {
					t.Errorf("line %d: chose %s, want %s", i, got, c.chosen[i])
				}
				m.Unread, m.Formats = nil, nil
				if !reflect.DeepEqual(m, c.want[i]) {
					t.Errorf("line %d:\n got %+v\nwant %+v", i, m, c.want[i])
				}
			}
		})
	}
}

func TestWhatCannotBeHeardIsRefusedByName(t *testing.T) {
	for line, want := range map[string]string{
		"m=audio 4000 RTP/AVP 18\n":                                           "G729 is not supported",
		"m=audio 4000 RTP/AVP 96\na=rtpmap:96 AMR-WB/16000\n":                 "AMR-WB is not supported",
		"m=audio 4000 RTP/AVP 96 97\n":                                        `payload types "96 97" mean nothing`,
		"m=audio 4000 RTP/AVP\n":                                              "mean nothing",
		"m=audio 4000 RTP/AVP 101\na=rtpmap:101 telephone-event/8000\n":       "mean nothing",
		"m=video 4000 RTP/AVP 96\n":                                           `"video" is not heard`,
		"m=audio 0 RTP/AVP 0\n":                                               "not used",
		"m=audio 4000 udp 0\n":                                                "send RTP/AVP or RTP/SAVP",
		"m=audio 4000 RTP/SAVP 0\n":                                           "without a=crypto",
		"m=audio 4000 UDP/TLS/RTP/SAVPF 0\na=fingerprint:sha-256 00:11\n":     "DTLS",
		"a=fingerprint:sha-256 00:11\nm=audio 4000 UDP/TLS/RTP/SAVP 0\n":      "DTLS",
		"m=audio 4000 RTP/AVP 200 x -1\na=rtpmap:200 PCMU/8000\na=rtpmap:x\n": "mean nothing",
		"m=audio 4000 RTP/AVP 96\na=rtpmap:96 PCMU/99999999999999999999\n":    "mean nothing",
		"m=message 4000 TCP/MSRP *\na=rtpmap:\na=fmtp:\na=rtcp:0\n":           `"message" is not heard`,
	} {
		s, err := Parse([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		_, err = s.Media[0].Choose()
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, ErrRefused) && !errors.Is(err, media.ErrCodec) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

// bad are descriptions that are refused whole, and why.
var bad = map[string]string{
	"":                         "no lines",
	"hello":                    "no lines",
	"v=0\r\n":                  "no m= line",
	"m=audio\n":                "want KIND PORT PROTO",
	"m=audio x RTP/AVP 0\n":    `port "x"`,
	"m=audio 70000 RTP/AVP 0":  "from 0 to 65535",
	"m=audio -1 RTP/AVP 0":     "from 0 to 65535",
	strings.Repeat("a=x\n", 1): "no m= line",
	strings.Repeat("m=audio 4000 RTP/AVP 0\n", 500):                        "more than 16 m= lines",
	"m=audio 4000 RTP/AVP 0\n" + strings.Repeat("a=x:"+"y\r\n", maxSize/6): "limit",
}

func TestBadDescriptionsAreRefused(t *testing.T) {
	for text, want := range bad {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestHoldIsSeen(t *testing.T) {
	for attribute, want := range map[string]bool{"sendonly": false, "sendrecv": false, "recvonly": true, "inactive": true} {
		s, err := Parse([]byte("c=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=" + attribute + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		m := s.Media[0]
		if m.Held() != want || (Reply(&m) == Inactive) != want {
			t.Errorf("%s: held %v, reply %v", attribute, m.Held(), Reply(&m))
		}
	}
}

func TestReportsGoWhereTheyAreWanted(t *testing.T) {
	for attributes, want := range map[string]string{
		"":                            "192.0.2.1:4001",
		"a=rtcp:4711\n":               "192.0.2.1:4711",
		"a=rtcp:9 IN IP4 192.0.2.7\n": "192.0.2.7:9",
		"a=rtcp-mux\n":                "192.0.2.1:4000",
		"c=IN IP4 0.0.0.0\n":          "invalid AddrPort",
	} {
		s, err := Parse([]byte("c=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n" + attributes))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Media[0].Reports().String(); got != want {
			t.Errorf("%q: %s, want %s", attributes, got, want)
		}
	}
}

// answerTo answers as a recorder does: what can be heard is received.
func answerTo(s *Session) *Answer {
	a := &Answer{Address: netip.MustParseAddr("192.0.2.77"), Session: 7, Version: 1}
	for i := range s.Media {
		l := Line{Offer: &s.Media[i], Direction: Reply(&s.Media[i]), Mux: s.Media[i].Mux}
		if formats, err := s.Media[i].Choose(); err == nil {
			l.Port, l.Formats = 20000+2*i, formats
		}
		if len(s.Media[i].Crypto) > 0 && l.Port > 0 {
			l.Crypto = "1 AES_CM_128_HMAC_SHA1_80 inline:x"
		}
		a.Lines = append(a.Lines, l)
	}
	return a
}

func TestAnswerSaysForEachLineWhatIsReceived(t *testing.T) {
	s, err := Parse([]byte("o=x 1 1 IN IP4 192.0.2.1\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 18 8 101\na=rtpmap:101 telephone-event/8000\na=sendonly\na=label:9\n" +
		"m=video 4002 RTP/AVP 96\na=label:v\nm=audio 4004 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\na=inactive\na=mid:2\na=rtcp-mux\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := "v=0\r\no=callwarden 7 1 IN IP4 192.0.2.77\r\ns=-\r\nc=IN IP4 192.0.2.77\r\nt=0 0\r\n" +
		"m=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=recvonly\r\na=label:9\r\n" +
		"m=video 0 RTP/AVP 96\r\na=label:v\r\n" +
		"m=audio 20004 RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\na=rtcp-mux\r\na=inactive\r\na=mid:2\r\n"
	a := answerTo(s)
	if got := string(a.Marshal()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Codecs(a.Lines); got != "PCMA, PCMU" {
		t.Errorf("codecs %q", got)
	}
}

// Whatever is offered, what is read is bounded, and the answer is a session
// description, by another's reading too, with a line for each that was offered.
func FuzzOffer(f *testing.F) {
	for _, c := range offers {
		f.Add([]byte(c.text))
	}
	for text := range bad {
		if len(text) < 4096 {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if len(s.Media) > maxMedia {
			t.Fatalf("%d m= lines", len(s.Media))
		}
		for _, m := range s.Media {
			if len(m.Formats) > maxFormats || len(m.Crypto) > 2*maxCrypto {
				t.Fatalf("%d formats, %d keys", len(m.Formats), len(m.Crypto))
			}
		}
		answer := answerTo(s).Marshal()
		again, err := Parse(answer)
		if err != nil || len(again.Media) != len(s.Media) {
			t.Fatalf("answer %q: %v", answer, err)
		}
		var other pion.SessionDescription
		if err := other.Unmarshal(answer); err != nil {
			// It knows a closed list of media kinds and protocols.
			if known(s) {
				t.Fatalf("answer %q: %v", answer, err)
			}
			return
		}
		if len(other.MediaDescriptions) != len(s.Media) {
			t.Fatalf("answer %q has %d lines, want %d", answer, len(other.MediaDescriptions), len(s.Media))
		}
	})
}

func known(s *Session) bool {
	for _, m := range s.Media {
		if m.Kind != "audio" || m.Proto != "RTP/AVP" {
			return false
		}
	}
	return true
}
