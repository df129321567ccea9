package pcapsrc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	sipA = "192.0.2.1:5060"
	sipB = "198.51.100.2:5060"
)

// describe is a session description of one audio line.
func describe(at string, types string, attributes ...string) string {
	host, port, _ := strings.Cut(at, ":")
	s := "v=0\r\no=- 1 1 IN IP4 " + host + "\r\ns=-\r\nc=IN IP4 " + host + "\r\nt=0 0\r\nm=audio " + port + " RTP/AVP " + types + "\r\n"
	for _, a := range attributes {
		s += "a=" + a + "\r\n"
	}
	return s
}

// call is the SIP of one call.
type call struct {
	id           string
	offer        string
	answer       string
	inviteAt     time.Duration
	answerAt     time.Duration
	byeAt        time.Duration // 0 for none
	extraHeaders []string
}

func (c call) headers(cseq string, toTag bool) []string {
	to := `To: "Bank" <sip:+15550199@example.org;user=phone>`
	if toTag {
		to += ";tag=b"
	}
	return append([]string{
		"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "Call-ID: " + c.id,
		`From: "Mallory" <sip:+1-555-0100@example.com>;tag=a`, to, "CSeq: " + cseq,
	}, c.extraHeaders...)
}

func (c call) messages() []sent {
	kind := "Content-Type: application/sdp"
	all := []sent{
		{at: c.inviteAt, src: sipA, dst: sipB, payload: sip("INVITE sip:+15550199@example.org SIP/2.0", c.offer, append(c.headers("1 INVITE", false), kind)...)},
		{at: c.inviteAt + ms, src: sipB, dst: sipA, payload: sip("SIP/2.0 100 Trying", "", c.headers("1 INVITE", false)...)},
	}
	if c.answer != "" {
		all = append(all,
			sent{at: c.answerAt, src: sipB, dst: sipA, payload: sip("SIP/2.0 200 OK", c.answer, append(c.headers("1 INVITE", true), kind)...)},
			sent{at: c.answerAt + ms, src: sipA, dst: sipB, payload: sip("ACK sip:+15550199@example.org SIP/2.0", "", c.headers("1 ACK", true)...)})
	}
	if c.byeAt > 0 {
		all = append(all, sent{at: c.byeAt, src: sipA, dst: sipB, payload: sip("BYE sip:+15550199@example.org SIP/2.0", "", c.headers("2 BYE", true)...)})
	}
	return all
}

func plainCall() call {
	return call{id: "x-1@192.0.2.1", offer: describe(phoneA, "0"), answer: describe(phoneB, "0"), answerAt: 50 * ms, byeAt: 5 * time.Second}
}

func TestWhoInvitesIsTheCaller(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	for name, first := range map[string]string{"caller sends first": "a", "callee sends first": "b"} {
		later := map[string]time.Duration{"a": 0, "b": 0}
		later[first] = -60 * ms
		f := one(t, capture(plainEthernet, 65535, plainCall().messages(),
			talk(200*ms+later["a"], phoneA, phoneB, 1, a), talk(200*ms+later["b"], phoneB, phoneA, 2, b)), Options{CalleeFirst: true})
		if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee], heardOf(b)) {
			t.Errorf("%s: the legs are not who invited whom", name)
		}
		for key, want := range map[string]string{"from": "+15550100", "from_name": "Mallory", "to": "+15550199", "to_name": "Bank", "codec": "PCMU/8000"} {
			if f.Attributes[key] != want {
				t.Errorf("%s: %s is %q, want %q", name, key, f.Attributes[key], want)
			}
		}
		if len(f.warnings) != 0 {
			t.Errorf("%s: warnings %q", name, f.warnings)
		}
	}
}

func TestSIPOverIPv6IsRead(t *testing.T) {
	const a, b = "[2001:db8::1]:4000", "[2001:db8::2]:5000"
	six := func(host string, port int) string {
		return fmt.Sprintf("v=0\r\no=- 1 1 IN IP6 %s\r\ns=-\r\nc=IN IP6 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\n", host, host, port)
	}
	c := plainCall()
	c.offer, c.answer = six("2001:db8::1", 4000), six("2001:db8::2", 5000)
	messages := c.messages()
	for i := range messages {
		messages[i].src = strings.NewReplacer("192.0.2.1", "[2001:db8::1]", "198.51.100.2", "[2001:db8::2]").Replace(messages[i].src)
		messages[i].dst = strings.NewReplacer("192.0.2.1", "[2001:db8::1]", "198.51.100.2", "[2001:db8::2]").Replace(messages[i].dst)
	}
	pcm := speech(8000, 1)
	f := one(t, capture(plainEthernet, 65535, messages, talk(200*ms, b, a, 2, pcm)), Options{})
	if !slices.Equal(f.pcm[audio.Callee], heardOf(pcm)) || f.Attributes["from"] != "+15550100" {
		t.Errorf("call %+v", f.Call)
	}
}

func TestMapDescribesWhatNobodyElseDoes(t *testing.T) {
	pcm := speech(8000, 1)
	packets := talk(0, phoneA, phoneB, 1, pcm)
	for i := range packets {
		packets[i].payload[1] = 96
	}
	file := capture(plainEthernet, 65535, packets)
	if _, _, err := hear(t, file, Options{}); !errors.Is(err, ErrNoCalls) || !strings.Contains(err.Error(), "--map 96=opus/48000/2") {
		t.Errorf("without: %v", err)
	}
	described := Options{Formats: []media.Format{{PayloadType: 96, Encoding: "PCMU", ClockHz: 8000, Channels: 1}}}
	if f := one(t, file, described); !slices.Equal(f.pcm[audio.Unknown], heardOf(pcm)) {
		t.Errorf("heard %d samples", len(f.pcm[audio.Unknown]))
	}
}

func TestIdentityOfTheCallerIsRead(t *testing.T) {
	c := plainCall()
	c.extraHeaders = []string{`P-Asserted-Identity: "Amazon" <sip:+15550111@example.com>`}
	f := one(t, capture(plainEthernet, 65535, c.messages(), talk(200*ms, phoneA, phoneB, 1, speech(1600, 1))), Options{})
	if f.Attributes["asserted_name"] != "Amazon" || f.Attributes["asserted_number"] != "+15550111" {
		t.Errorf("attributes %v", f.Attributes)
	}
}

func TestCallsOnTheSamePortsAreParted(t *testing.T) {
	a, b, c := speech(8000, 1), speech(8000, 2), speech(4800, 3)
	first, second := plainCall(), plainCall()
	first.byeAt = 1400 * ms
	second.id, second.inviteAt, second.answerAt, second.byeAt = "x-2@192.0.2.1", 1600*ms, 1650*ms, 0
	all, _, err := hear(t, capture(plainEthernet, 65535, first.messages(), second.messages(),
		talk(200*ms, phoneA, phoneB, 1, a), talk(200*ms, phoneB, phoneA, 2, b), talk(1700*ms, phoneA, phoneB, 3, c)), Options{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d calls, %v", len(all), err)
	}
	if !slices.Equal(all[0].pcm[audio.Caller], heardOf(a)) || !slices.Equal(all[0].pcm[audio.Callee], heardOf(b)) || !slices.Equal(all[1].pcm[audio.Caller], heardOf(c)) {
		t.Error("the sound of one call is in the other")
	}
	if all[0].Token == all[1].Token || !strings.HasPrefix(all[0].Token, "sip-") || len(all[1].Legs) != 1 {
		t.Errorf("calls %+v and %+v", all[0].Call, all[1].Call)
	}
}

func TestCallsSideBySideAreParted(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	first, second := plainCall(), plainCall()
	second.id, second.offer, second.answer = "y", describe("192.0.2.7:4000", "0"), describe("198.51.100.2:6000", "0")
	all, _, err := hear(t, capture(plainEthernet, 65535, first.messages(), second.messages(),
		talk(200*ms, phoneA, phoneB, 1, a), talk(210*ms, "192.0.2.7:4000", "198.51.100.2:6000", 2, b)), Options{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d calls, %v", len(all), err)
	}
	if !slices.Equal(all[0].pcm[audio.Caller], heardOf(a)) || !slices.Equal(all[1].pcm[audio.Caller], heardOf(b)) {
		t.Error("the sound of one call is in the other")
	}
}

func TestPayloadTypesAreTheDescriptions(t *testing.T) {
	c := plainCall()
	c.offer = describe(phoneA, "96 97", "rtpmap:96 PCMA/8000", "rtpmap:97 telephone-event/8000")
	c.answer = describe(phoneB, "98 97", "rtpmap:98 PCMU/8000", "rtpmap:97 telephone-event/8000")
	pcm := speech(1600, 1)
	toB := talk(200*ms, phoneA, phoneB, 1, pcm) // B takes 98 as PCMU
	for i := range toB {
		toB[i].payload[1] = 98
	}
	digit := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 97, SSRC: 1, SequenceNumber: 4, Timestamp: 800}, Payload: []byte{5, 0x8a, 0, 160}}
	b, err := digit.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	f := one(t, capture(plainEthernet, 65535, c.messages(), toB, []sent{{at: 400 * ms, src: phoneA, dst: phoneB, payload: b}}), Options{})
	if !slices.Equal(f.pcm[audio.Caller][:1600], heardOf(pcm)) || f.keys != "5" || f.Attributes["codec"] != "PCMU/8000" {
		t.Errorf("heard %d samples, keys %q, codec %q", len(f.pcm[audio.Caller]), f.keys, f.Attributes["codec"])
	}
}

func TestReInviteMovesALeg(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	c := plainCall()
	const moved = "192.0.2.1:4040"
	again := c.messages()
	reInvite := sent{
		at: 1300 * ms, src: sipA, dst: sipB,
		payload: sip("INVITE sip:b SIP/2.0", describe(moved, "8"), append(c.headers("3 INVITE", true), "c: application/sdp")...),
	}
	f := one(t, capture(plainEthernet, 65535, again, []sent{reInvite},
		talk(200*ms, phoneB, phoneA, 1, a), talk(1400*ms, phoneB, moved, 3, b)), Options{})
	if len(f.Legs) != 1 || !slices.Equal(f.pcm[audio.Callee][:8000], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee][len(f.pcm[audio.Callee])-8000:], heardOf(b)) {
		t.Errorf("legs %v, %d samples of the callee", f.Legs, len(f.pcm[audio.Callee]))
	}
}

func TestRelayedVoiceIsHeardOnce(t *testing.T) {
	a := speech(8000, 1)
	c := plainCall()
	relayed := plainCall().messages()
	for i := range relayed { // the same call on the other side of a proxy with a media relay
		relayed[i].at += ms
		relayed[i].payload = []byte(strings.ReplaceAll(strings.ReplaceAll(string(relayed[i].payload), "m=audio 4000", "m=audio 7000"), "m=audio 5000", "m=audio 8000"))
	}
	f := one(t, capture(plainEthernet, 65535, c.messages(), relayed,
		talk(200*ms, phoneA, phoneB, 1, a), talk(201*ms, "192.0.2.1:7000", "198.51.100.2:8000", 1, a)), Options{})
	if len(f.Legs) != 1 || !slices.Equal(f.pcm[audio.Caller], heardOf(a)) {
		t.Errorf("legs %v, %d samples", f.Legs, len(f.pcm[audio.Caller]))
	}
}

func TestTranslatedAddressesAreFoundByPort(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	const outside = "203.0.113.9:4000" // of phone A
	f := one(t, capture(plainEthernet, 65535, plainCall().messages(),
		talk(200*ms, outside, "203.0.113.8:5000", 1, a), talk(200*ms, "203.0.113.8:5000", outside, 2, b)), Options{})
	if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee], heardOf(b)) || f.Attributes["from"] == "" {
		t.Errorf("call %+v", f.Call)
	}
}

func TestSIPOverTCPIsRead(t *testing.T) {
	a := speech(8000, 1)
	c := plainCall()
	var segments []sent
	next := map[string]uint32{sipA: 1000, sipB: 4294967200} // one goes round
	for _, m := range c.messages() {
		for i := 0; i < len(m.payload); i += 100 {
			piece := m.payload[i:min(len(m.payload), i+100)]
			s := sent{at: m.at + time.Duration(i)*time.Microsecond, src: m.src, dst: m.dst, payload: piece, tcp: next[m.src]}
			segments = append(segments, s, s) // each is sent twice
			next[m.src] += uint32(len(piece))
		}
	}
	f := one(t, capture(plainEthernet, 65535, segments, talk(200*ms, phoneA, phoneB, 1, a)), Options{})
	if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || f.Attributes["to"] != "+15550199" {
		t.Errorf("call %+v", f.Call)
	}
}

func TestCallThatCannotBeHeardSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		offer, answer string
		want          string
	}{
		"codec":       {describe(phoneA, "18"), describe(phoneB, "18"), "G729 is not supported"},
		"own codec":   {describe(phoneA, "99", "rtpmap:99 SILK/16000"), describe(phoneB, "99", "rtpmap:99 SILK/16000"), "SILK is not supported"},
		"DTLS":        {describe(phoneA, "0", "fingerprint:sha-256 00:11", "setup:actpass"), describe(phoneB, "0", "fingerprint:sha-256 00:11", "setup:active"), "DTLS"},
		"undescribed": {describe(phoneA, "0"), describe(phoneB, "0"), "--map 120=opus/48000/2"},
	} {
		t.Run(name, func(t *testing.T) {
			call := plainCall()
			call.offer, call.answer = c.offer, c.answer
			media := talk(200*ms, phoneA, phoneB, 1, speech(8000, 1))
			for i := range media {
				media[i].payload[1] = map[string]byte{"codec": 18, "own codec": 99, "undescribed": 120}[name]
			}
			f := one(t, capture(plainEthernet, 65535, call.messages(), media), Options{})
			if len(f.Legs) != 0 || len(f.warnings) != 1 || !strings.Contains(f.warnings[0], c.want) {
				t.Errorf("warnings %q, want %q", f.warnings, c.want)
			}
		})
	}
}

func TestEncryptedVoiceIsHeardWithTheKeysOfSIP(t *testing.T) {
	crypto, err := media.NewCrypto(2, "AES_CM_128_HMAC_SHA1_80")
	if err != nil {
		t.Fatal(err)
	}
	other, err := media.NewCrypto(1, "AES_CM_128_HMAC_SHA1_32")
	if err != nil {
		t.Fatal(err)
	}
	back, err := media.NewCrypto(2, "AES_CM_128_HMAC_SHA1_80")
	if err != nil {
		t.Fatal(err)
	}
	secure := func(s string) string { return strings.ReplaceAll(s, "RTP/AVP", "RTP/SAVP") }
	c := plainCall()
	c.offer = secure(describe(phoneA, "0", "crypto:"+other.Line(), "crypto:"+crypto.Line()))
	c.answer = secure(describe(phoneB, "0", "crypto:"+back.Line()))
	pcm := speech(8000, 1)
	voices := map[string][]sent{}
	for who, key := range map[string]media.Crypto{"a": crypto, "b": back} {
		ctx, err := key.NewContext()
		if err != nil {
			t.Fatal(err)
		}
		packets := talk(200*ms, phoneA, phoneB, 1, pcm)
		if who == "b" {
			packets = talk(200*ms, phoneB, phoneA, 2, pcm)
		}
		encrypt(t, ctx, packets)
		voices[who] = packets
	}
	f := one(t, capture(plainEthernet, 65535, c.messages(), voices["a"], voices["b"]), Options{})
	for _, leg := range []audio.Leg{audio.Caller, audio.Callee} {
		if !slices.Equal(f.pcm[leg], heardOf(pcm)) {
			t.Errorf("the %v is heard otherwise than it was sent; warnings %q", leg, f.warnings)
		}
	}
}

func encrypt(t *testing.T, ctx *srtp.Context, packets []sent) {
	t.Helper()
	for i := range packets {
		b, err := ctx.EncryptRTP(nil, packets[i].payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		packets[i].payload = b
	}
}

const recordingMetadata = `<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
<datamode>complete</datamode>
<session session_id="s1"/>
<participant participant_id="p1"><nameID aor="sip:+15550100@example.com"><name>Mallory</name></nameID></participant>
<participant participant_id="p2"><nameID aor="sip:+15550199@example.org"><name>Bank</name></nameID></participant>
<stream stream_id="st1" session_id="s1"><label>11</label></stream>
<stream stream_id="st2" session_id="s1"><label>22</label></stream>
<participantstreamassoc participant_id="p1"><send>st1</send><recv>st2</recv></participantstreamassoc>
<participantstreamassoc participant_id="p2"><send>st2</send><recv>st1</recv></participantstreamassoc>
</recording>`

func TestRecordingSessionIsTheCallThatItRecords(t *testing.T) {
	a, b := speech(8000, 1), speech(8000, 2)
	offer := describe("192.0.2.1:4000", "0", "label:11", "sendonly") + "m=audio 4002 RTP/AVP 0\r\na=label:22\r\na=sendonly\r\n"
	body := "--foo\r\nContent-Type: application/sdp\r\n\r\n" + offer + "\r\n--foo\r\nContent-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n" + recordingMetadata + "\r\n--foo--\r\n"
	answer := describe("198.51.100.2:5000", "0", "recvonly") + "m=audio 5002 RTP/AVP 0\r\na=recvonly\r\n"
	c := call{id: "rec", answerAt: 10 * ms}
	headers := []string{"i: rec", "f: <sip:sbc@example.com>;tag=a", "t: <sip:recorder@example.org>", "CSeq: 1 INVITE"}
	messages := []sent{
		{at: 0, src: sipA, dst: sipB, payload: sip("INVITE sip:recorder@example.org SIP/2.0", body, append(headers, "Require: siprec", `c: multipart/mixed;boundary="foo"`)...)},
		{at: c.answerAt, src: sipB, dst: sipA, payload: sip("SIP/2.0 200 OK", answer, append(headers, "c: application/sdp")...)},
	}
	f := one(t, capture(plainEthernet, 65535, messages,
		talk(100*ms, "192.0.2.1:4000", "198.51.100.2:5000", 1, a), talk(100*ms, "192.0.2.1:4002", "198.51.100.2:5002", 2, b)), Options{})
	if !slices.Equal(f.pcm[audio.Caller], heardOf(a)) || !slices.Equal(f.pcm[audio.Callee], heardOf(b)) {
		t.Errorf("the legs are not those of the metadata: %v", f.Legs)
	}
	for key, want := range map[string]string{"from": "+15550100", "from_name": "Mallory", "to": "+15550199", "to_name": "Bank", "session": "s1"} {
		if f.Attributes[key] != want {
			t.Errorf("%s is %q, want %q", key, f.Attributes[key], want)
		}
	}
}

func TestSIPWithoutMediaIsNoCall(t *testing.T) {
	_, _, err := hear(t, capture(plainEthernet, 65535, plainCall().messages()), Options{})
	if !errors.Is(err, ErrNoCalls) || !strings.Contains(err.Error(), "SIP of 1 calls without media") {
		t.Errorf("error %v", err)
	}
}

// parsed are messages and what is read of them.
var parsed = []struct {
	name   string
	data   string
	whole  bool
	ok     bool
	length int // -1 for all
	method string
	body   string
}{
	{"request", "INVITE sip:b SIP/2.0\r\nl: 3\r\n\r\nabcdef", true, true, -1 - 3, "INVITE", "abc"},
	{"response", "SIP/2.0 200 OK\r\nCSeq: 1 BYE\r\n\r\n", false, true, -1, "BYE", ""},
	{"body without a length in a datagram", "ACK sip:b SIP/2.0\r\n\r\nv=0", false, true, -1, "ACK", "v=0"},
	{"no body without a length in a stream", "ACK sip:b SIP/2.0\r\n\r\nv=0", true, true, -1 - 3, "ACK", ""},
	{"more to come", "ACK sip:b SIP/2.0\r\nl: 9\r\n\r\nv=0", true, false, -1, "ACK", ""},
	{"cut datagram", "ACK sip:b SIP/2.0\r\nl: 9\r\n\r\nv=0", false, true, -1, "ACK", "v=0"},
	{"head to come", "ACK sip:b SIP/2.0\r\nl: 9", true, false, -1, "", ""},
	{"cut head", "ACK sip:b SIP/2.0\r\nl: 9", false, true, -1, "ACK", ""},
	{"negative length", "ACK sip:b SIP/2.0\r\nl: -9\r\n\r\nv=0", false, true, -1, "ACK", "v=0"},
	{"no SIP", "GET / HTTP/1.1\r\n\r\n", false, false, 0, "", ""},
	{"nothing", "", false, false, 0, "", ""},
	{"status out of range", "SIP/2.0 999 x\r\n\r\n", false, false, 0, "", ""},
}

func TestSIPMessagesAreReadLiberally(t *testing.T) {
	for _, c := range parsed {
		m, n, ok := parseSIP([]byte(c.data), c.whole)
		want := c.length
		if want < 0 {
			want += len(c.data) + 1
		}
		if ok != c.ok || n != want || ok && (m.method != c.method || string(m.body) != c.body) {
			t.Errorf("%s: %v, %d bytes, method %q, body %q", c.name, ok, n, m.method, m.body)
		}
	}
}

// Whatever the bytes, a message lies within them, and its body is their end.
func FuzzSIP(f *testing.F) {
	for _, c := range parsed {
		f.Add([]byte(c.data), c.whole)
	}
	for _, m := range plainCall().messages() {
		f.Add(m.payload, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, whole bool) {
		m, n, ok := parseSIP(data, whole)
		if n < 0 || n > len(data) || ok && len(m.body) > n {
			t.Fatalf("%d of %d bytes, body of %d", n, len(data), len(m.body))
		}
		if !ok {
			return
		}
		if len(m.headers) > maxHeaders {
			t.Fatalf("%d headers", len(m.headers))
		}
		description, metadata := m.parts()
		if len(description)+len(metadata) > 2*len(m.body) {
			t.Fatal(fmt.Errorf("parts of %d and %d bytes in %d", len(description), len(metadata), len(m.body)))
		}
	})
}
