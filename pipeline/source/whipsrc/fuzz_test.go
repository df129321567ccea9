package whipsrc

import (
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/source/media"
)

// What is read of an offer is one or two tracks with a codec that can be heard,
// and every refusal has a status of the client's fault.
func FuzzOffer(f *testing.F) {
	for _, c := range badOffers() {
		f.Add([]byte(c.offer))
	}
	f.Add([]byte(offerOf(audioLine(0, ""))))
	f.Add([]byte(offerOf(audioLine(0, "a=fmtp:0 x\r\n"), audioLine(1, ""), videoLine)))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, no := parseOffer(body)
		if (o == nil) == (no == nil) {
			t.Fatal("neither an offer nor a refusal, or both")
		}
		if no != nil {
			if no.status < 400 || no.status > 499 || no.Error() == "" {
				t.Fatalf("refused with %d %q", no.status, no.Error())
			}
			return
		}
		if n := len(o.audio); n < 1 || n > maxAudio {
			t.Fatalf("%d tracks", n)
		}
		for _, s := range o.audio {
			heard := false
			for _, format := range s.formats {
				heard = heard || format.Kind() == media.Audio
			}
			cfg := media.DefaultTrackConfig(0)
			cfg.Formats = s.formats
			if _, err := media.NewTrack(cfg); err != nil || !heard {
				t.Fatalf("track of %v: %v", s.formats, err)
			}
		}
	})
}

// Whatever is read of a fragment is safe to be put in a description: one line
// each, legal credentials, not too much of it; and what is written of that can be
// read again.
func FuzzFragment(f *testing.F) {
	f.Add("a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n" +
		"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\na=end-of-candidates\r\n")
	f.Add("a=ice-ufrag:abc\na=ice-pwd:x")
	f.Add("m=\na=mid:\x00\na=candidate:")
	f.Add("a=candidate:\r00")
	f.Add("hello")
	f.Fuzz(func(t *testing.T, body string) {
		frag, err := parseFragment([]byte(body))
		if err != nil {
			return
		}
		if len(frag.candidates) > maxCandidates {
			t.Fatalf("%d candidates", len(frag.candidates))
		}
		for _, c := range frag.candidates {
			if strings.ContainsAny(c.text+c.mid, "\r\n") {
				t.Fatalf("candidate of two lines: %q", c)
			}
		}
		if frag.ufrag == "" {
			return
		}
		renewed := renew(offerOf(audioLine(0, "")), frag)
		if ufrag, pwd := credentials(renewed); ufrag != frag.ufrag || pwd != frag.pwd {
			t.Fatalf("%q %q became %q %q", frag.ufrag, frag.pwd, ufrag, pwd)
		}
		again, err := parseFragment([]byte(write(renewed)))
		if err != nil || again.ufrag != frag.ufrag || again.pwd != frag.pwd {
			t.Fatalf("written and read again: %+v, %v", again, err)
		}
	})
}

// FuzzPackets has a publication hear what comes: no packet, whatever is in it,
// stops those after it, and what is heard is in order.
func FuzzPackets(f *testing.F) {
	for _, name := range []string{"silk", "celt", "hybrid"} {
		for i, p := range opus(f, name) {
			if i < 3 {
				f.Add(p, byte(i), true)
			}
		}
	}
	f.Add([]byte{0xff, 0xff}, byte(3), false)
	f.Fuzz(func(t *testing.T, payload []byte, second byte, stereo bool) {
		about := &publish{stereo: stereo}
		o := &offer{audio: []section{{formats: []media.Format{{PayloadType: 111, Encoding: "opus", ClockHz: 48000, Channels: 2}}}}}
		src := &Source{cfg: DefaultConfig()}
		p, no := src.newPublication("t", about, o)
		if no != nil {
			t.Fatal(no)
		}
		for n := range byte(6) {
			packet := []byte{0x80, 111, 0, n + n*(second&1), 0, 0, n * 3, 0xc0, 0, 0, 0, 1}
			p.push(append(packet, payload...), 0)
			if n == second%6 {
				p.push(payload, 0)
			}
		}
		p.push([]byte{0x80, 111, 0, 100, 0, 0, 100, 0, 0, 0, 0, 1, 0x08, 1, 2, 3}, 0) // SILK
		p.end(nil)
		frames, ended, _ := p.take(nil, true)
		if !ended {
			t.Fatal("it has not ended")
		}
		legs := 1
		if stereo {
			legs = 2
		}
		ends := map[string]int64{}
		for _, f := range frames {
			if f.Rate != 16000 || f.Start.Nanoseconds() < ends[f.Leg.String()] {
				t.Fatalf("frame of %s at %v with %d Hz", f.Leg, f.Start, f.Rate)
			}
			ends[f.Leg.String()] = f.End().Nanoseconds()
		}
		if len(ends) > legs {
			t.Fatalf("%d legs", len(ends))
		}
	})
}

var _ webrtc.TrackLocal = (*line)(nil)
