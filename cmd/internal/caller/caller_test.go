package caller

import (
	"bytes"
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"go.uber.org/goleak"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, cfg Config, rec *Recording) *Results {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := Run(ctx, cfg, []*Recording{rec}, &Progress{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func siprecConfig(to string) Config {
	cfg := DefaultConfig()
	cfg.Way, cfg.To = SIPREC, to
	return cfg
}

func payloads(packets []*rtp.Packet) []byte {
	var all []byte
	for _, p := range packets {
		all = append(all, p.Payload...)
	}
	return all
}

// await waits until ok, which is asked again and again.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestSIPRECSendsEachLegWithItsMetadata(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			peer := newRecorder(t, transport)
			cfg := siprecConfig(peer.addr)
			cfg.Transport, cfg.CA = transport, peer.ca
			cfg.From, cfg.FromName, cfg.Number = "+12025550100", "Anne <&> Ünal", "+12025550101"
			cfg.Headers = []string{"P-Asserted-Identity: <sip:+12025550100@example.com>"}
			rec := twoLegs(310 * time.Millisecond)
			got := run(t, cfg, rec)
			if !got.Good() || got.Answered != 1 || got.Packets != 32 {
				t.Fatalf("results %+v", got)
			}
			s := peer.all()[0]
			for i, law := range []int{0, 1} {
				await(t, "all packets", func() bool { return len(s.legs[i].all()) == 16 })
				packets := s.legs[i].all()
				want := audio.MuLaw.Encode(nil, append(slices.Clone(rec.Legs[law].PCM), make([]int16, 80)...))
				if !bytes.Equal(payloads(packets), want) {
					t.Errorf("leg %d is not what was recorded", i)
				}
				for k, p := range packets {
					if p.SSRC != packets[0].SSRC || p.SequenceNumber != packets[0].SequenceNumber+uint16(k) ||
						p.Timestamp != packets[0].Timestamp+uint32(160*k) || p.Marker != (k == 0) || p.PayloadType != 0 {
						t.Fatalf("leg %d packet %d: %v", i, k, &p.Header)
					}
				}
			}
			if s.legs[0].all()[0].SSRC == s.legs[1].all()[0].SSRC {
				t.Error("both legs have one SSRC")
			}
			for _, want := range []string{
				`aor="sip:+12025550100@127.0.0.1"`, `aor="sip:+12025550101@127.0.0.1"`,
				"Anne &lt;&amp;&gt; Ünal", "<label>1</label>", "<label>2</label>", "urn:ietf:params:xml:ns:recording:1",
			} {
				if !strings.Contains(s.metadata, want) {
					t.Errorf("metadata has no %s:\n%s", want, s.metadata)
				}
			}
			for _, d := range s.offer.MediaDescriptions {
				if _, ok := d.Attribute("sendonly"); !ok {
					t.Errorf("m-line is not sendonly: %v", d.Attributes)
				}
			}
			if h := s.invite.GetHeader("Require"); h == nil || h.Value() != "siprec" {
				t.Errorf("Require is %v", h)
			}
			if h := s.invite.GetHeader("P-Asserted-Identity"); h == nil || !strings.Contains(h.Value(), "+12025550100") {
				t.Errorf("P-Asserted-Identity is %v", h)
			}
			if id := <-peer.byes; id != s.invite.CallID().Value() {
				t.Errorf("BYE of %s", id)
			}
		})
	}
}

func TestSIPRECEncryptsWithTheOfferedKey(t *testing.T) {
	peer := newRecorder(t, "udp")
	cfg := siprecConfig(peer.addr)
	cfg.SRTP = true
	rec := twoLegs(200 * time.Millisecond)
	if got := run(t, cfg, rec); !got.Good() {
		t.Fatalf("results %+v", got)
	}
	s := peer.all()[0]
	for i, l := range s.legs {
		await(t, "all packets", func() bool { return len(l.all()) == 10 })
		crypto, _ := s.offer.MediaDescriptions[i].Attribute("crypto")
		_, inline, _ := strings.Cut(crypto, "inline:")
		key, err := base64.StdEncoding.DecodeString(inline)
		if err != nil {
			t.Fatal(err)
		}
		ctx, err := srtp.CreateContext(key[:16], key[16:], srtp.ProtectionProfileAes128CmHmacSha1_80)
		if err != nil {
			t.Fatal(err)
		}
		var plain []byte
		for _, p := range l.all() {
			raw, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			clear, err := ctx.DecryptRTP(nil, raw, nil)
			if err != nil {
				t.Fatal(err)
			}
			plain = append(plain, clear[12:]...)
		}
		if want := audio.MuLaw.Encode(nil, rec.Legs[i].PCM); !bytes.Equal(plain, want) {
			t.Errorf("leg %d is not what was recorded", i)
		}
	}
}

func TestSIPRECSendsReportsAndReadsThem(t *testing.T) {
	peer := newRecorder(t, "udp")
	cfg := siprecConfig(peer.addr)
	cfg.Loop, cfg.Span = true, 5100*time.Millisecond // a report is due in any 5 s
	got := run(t, cfg, twoLegs(time.Second))
	if got.Reports < 2 || got.ReportedLost != 6 {
		t.Errorf("%d receiver reports tell of %d lost, want 2 or more and 6", got.Reports, got.ReportedLost)
	}
	for i, l := range peer.all()[0].legs {
		l.await(255)
		l.mu.Lock()
		reports, packets := l.reports, l.packets
		l.mu.Unlock()
		if len(packets) != 255 {
			t.Errorf("leg %d: %d packets, want 255", i, len(packets))
		}
		at := slices.IndexFunc(reports, func(p rtcp.Packet) bool { _, ok := p.(*rtcp.SenderReport); return ok })
		if at < 0 {
			t.Fatalf("leg %d: no sender report in %v", i, reports)
		}
		sr := reports[at].(*rtcp.SenderReport)
		n := sr.PacketCount
		if sr.OctetCount != 160*n || sr.RTPTime != packets[0].Timestamp+160*(n-1) {
			t.Errorf("leg %d: report %v after %d packets from %d", i, sr, n, packets[0].Timestamp)
		}
		if _, ok := reports[len(reports)-1].(*rtcp.Goodbye); !ok {
			t.Errorf("leg %d: the last report is no BYE: %v", i, reports)
		}
	}
}

func TestRefusalIsCountedByItsAnswer(t *testing.T) {
	peer := &recorder{refuse: 503}
	peer.start(t, "udp")
	cfg := siprecConfig(peer.addr)
	cfg.Calls = 3
	got := run(t, cfg, twoLegs(time.Second))
	if got.Good() || got.Answered != 0 || !maps.Equal(got.Refused, map[string]int{"503 Busy": 3}) {
		t.Errorf("results %+v", got)
	}
}

func TestPeerEndsTheCall(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			peer := &recorder{endAfter: 5}
			peer.start(t, transport)
			cfg := siprecConfig(peer.addr)
			cfg.Transport = transport
			cfg.Loop = true
			got := run(t, cfg, twoLegs(time.Second))
			if got.Good() || len(got.Ended) != 1 || got.Ended[`BYE (SIP;cause=200;text="enough")`] != 1 {
				t.Errorf("results %+v", got)
			}
		})
	}
}

func TestInterruptedCallsHangUp(t *testing.T) {
	peer := newRecorder(t, "udp")
	cfg := siprecConfig(peer.addr)
	cfg.Calls, cfg.Rate, cfg.Span, cfg.Loop = 4, 1000, time.Hour, true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := &Progress{}
	go func() {
		for watch.Up.Load() < 4 {
			<-time.After(5 * time.Millisecond)
		}
		cancel()
	}()
	got, err := Run(ctx, cfg, []*Recording{twoLegs(time.Second)}, watch)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Interrupted || got.Answered != 4 || len(got.Failed) != 0 {
		t.Errorf("results %+v", got)
	}
	for range 4 {
		<-peer.byes
	}
}

func TestWhatIsLostAndLateIsAsAsked(t *testing.T) {
	peer := newRecorder(t, "udp")
	cfg := siprecConfig(peer.addr)
	cfg.Loss, cfg.Reorder = 0.2, 10
	cfg.Silent = audio.Callee
	cfg.Calls, cfg.Rate, cfg.Loop, cfg.Span = 10, 1000, true, 2*time.Second
	got := run(t, cfg, twoLegs(time.Second))
	const all = 10 * 100
	if got.Packets+got.Spoilt != all || got.Spoilt < all/10 || got.Spoilt > all*3/10 {
		t.Errorf("%d packets sent, %d lost on purpose of %d", got.Packets, got.Spoilt, all)
	}
	late := 0
	for _, s := range peer.all() {
		if n := len(s.legs[1].all()); n != 0 {
			t.Errorf("%d packets of the silent leg", n)
		}
		seen := map[uint16]bool{}
		packets := s.legs[0].all()
		for i, p := range packets {
			if seen[p.SequenceNumber] {
				t.Errorf("packet %d came twice", p.SequenceNumber)
			}
			seen[p.SequenceNumber] = true
			if i > 0 && int16(p.SequenceNumber-packets[i-1].SequenceNumber) < 0 {
				late++
			}
		}
	}
	if late < 10 || late > 100 {
		t.Errorf("%d packets of %d were late, want about one in twenty", late, all)
	}
}
