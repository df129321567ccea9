package whipsrc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestEveryCodecIsHeard(t *testing.T) {
	for _, c := range []struct {
		mime string
		rate int
	}{{mimePCMU, 8000}, {mimePCMA, 8000}, {mimeG722, 16000}} {
		t.Run(c.mime, func(t *testing.T) {
			t.Parallel()
			s := serve(t, local(), nil)
			p := newPage(t, c.mime)
			p.publish(s, "?call=c1&from=%2B12025550123&language=en-US&direction=inbound&listen=full&hypotheses=1")
			p.connected()
			p.say(0, 440, 40)
			s.came(t, 40)
			p.hangUp()
			h := s.over(t)
			pcm := h.pcm[audio.Unknown]
			if len(pcm) < 38*c.rate/50 || power(pcm, c.rate, 440) < 0.9 {
				t.Errorf("heard %d samples, %.2f of them the tone", len(pcm), power(pcm, c.rate, 440))
			}
			if !errors.Is(h.reason, io.EOF) {
				t.Errorf("ended by %v", h.reason)
			}
			call := h.call
			if call.ID != "c1" || call.Tenant != "default" || call.Language != "en-US" || call.Listen != "full" || !call.Hypotheses ||
				call.Attributes["from"] != "+12025550123" || !call.Live || call.Began.IsZero() {
				t.Errorf("the call is %+v", call)
			}
			p.reaches(webrtc.PeerConnectionStateClosed)
			if st := s.Stats(); st.Packets != 40 || st.Begun != 1 || st.Calls != 0 || st.Legs != 0 {
				t.Errorf("counted %+v", st)
			}
		})
	}
}

// opus reads packets that libopus made, which are those of the media package's
// own tests.
func opus(t testing.TB, name string) (all [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../media/testdata/opus-" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		p, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestOpusIsHeard(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, webrtc.MimeTypeOpus)
	p.publish(s, "")
	p.connected()
	packets, line := opus(t, "silk"), p.sender(0)
	paced(20, func(n int) bool { line.send(t, packets[n%len(packets)], 20); return n < 40 })
	s.came(t, 39)
	p.hangUp()
	pcm := s.over(t).pcm[audio.Unknown]
	if len(pcm) < 38*320 || power(pcm[len(pcm)/2:], 16000, 440) < 0.5 {
		t.Errorf("heard %d samples, %.2f of them the tone", len(pcm), power(pcm, 16000, 440))
	}
}

func TestStereoTrackIsTwoLegs(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, webrtc.MimeTypeOpus)
	p.publish(s, "?stereo=legs")
	if answer := p.conn.RemoteDescription().SDP; !strings.Contains(answer, ";stereo=1\r\n") {
		t.Errorf("stereo is not asked for:\n%s", answer)
	}
	p.connected()
	packets, line := opus(t, "celt"), p.sender(0) // 440 Hz on the left, 1000 on the right
	paced(10, func(n int) bool { line.send(t, packets[n%len(packets)], 10); return n < 79 })
	s.came(t, 75)
	p.hangUp()
	h := s.over(t)
	for leg, hz := range map[audio.Leg]int{audio.Caller: 440, audio.Callee: 1000} {
		pcm := h.pcm[leg]
		if len(pcm) < 70*160 {
			t.Fatalf("%s: heard %d samples", leg, len(pcm))
		}
		pcm = pcm[3200:6400] // within one run of the packets
		if own, other := power(pcm, 16000, hz), power(pcm, 16000, 1440-hz); own < 10*other || own < 0.2 {
			t.Errorf("%s: %.3f is its own tone, %.3f the other's", leg, own, other)
		}
	}
	if st := s.Stats(); st.Packets < 70 || st.Packets > 80 { // once, not for each leg
		t.Errorf("counted %d packets", st.Packets)
	}
}

func TestTwoTracksAreTwoLegs(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU, mimePCMU)
	p.publish(s, "?leg=callee")
	p.connected()
	var both sync.WaitGroup
	both.Go(func() { p.say(0, 440, 40) })
	both.Go(func() { p.say(1, 1000, 40) })
	both.Wait()
	s.came(t, 78)
	p.hangUp()
	h := s.over(t)
	for leg, hz := range map[audio.Leg]int{audio.Callee: 440, audio.Caller: 1000} {
		if pcm := h.pcm[leg]; len(pcm) < 38*160 || power(pcm, 8000, hz) < 0.9 {
			t.Errorf("%s: heard %d samples, %.2f of them its tone", leg, len(pcm), power(pcm, 8000, hz))
		}
	}
}

func TestTwoPublicationsAreOneCall(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	agent, customer := newPage(t, mimePCMU), newPage(t, mimeG722)
	agent.publish(s, "?call=bank-1&leg=agent&to=%2B12025550199")
	customer.publish(s, "?call=bank-1&leg=customer&from=%2B12025550123")
	agent.connected()
	customer.connected()
	var both sync.WaitGroup
	both.Go(func() { agent.say(0, 440, 50) })
	both.Go(func() { customer.say(0, 1000, 40) })
	both.Wait()
	s.came(t, 88)
	customer.hangUp()
	agent.say(0, 440, 10) // the call goes on with one leg
	s.came(t, 98)
	agent.hangUp()
	h := s.over(t)
	if h.call.ID != "bank-1" || len(h.call.Warnings()) != 0 {
		t.Errorf("call %s, warnings %q", h.call.ID, h.call.Warnings())
	}
	want := map[string]string{"from": "+12025550123", "to": "+12025550199", "caller_role": "customer", "callee_role": "agent", "codec": "opus"}
	for key, value := range want {
		if h.call.Attributes[key] != value {
			t.Errorf("attribute %s is %q, want %q", key, h.call.Attributes[key], value)
		}
	}
	if pcm := h.pcm[audio.Caller]; len(pcm) < 38*320 || power(pcm, 16000, 1000) < 0.9 {
		t.Errorf("the customer: %d samples, %.2f the tone", len(pcm), power(pcm, 16000, 1000))
	}
	if pcm := h.pcm[audio.Callee]; len(pcm) < 58*160 {
		t.Errorf("the agent: %d samples", len(pcm))
	}
	select {
	case <-s.calls:
		t.Error("there was a second call")
	default:
	}
}

func TestSecondPublicationThatNeverComesIsSaid(t *testing.T) {
	t.Parallel()
	cfg := local()
	cfg.JoinWait = 100 * time.Millisecond
	s := serve(t, cfg, nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "?call=c&leg=caller")
	p.connected()
	p.say(0, 440, 20)
	s.came(t, 20)
	p.hangUp()
	h := s.over(t)
	if w := h.call.Warnings(); len(w) != 1 || !strings.Contains(w[0], "callee") || h.call.Attributes["missing_leg"] != "callee" {
		t.Errorf("warnings %q, attributes %v", w, h.call.Attributes)
	}
	if len(h.pcm[audio.Caller]) < 18*160 {
		t.Errorf("heard %d samples: what came while it waited is lost", len(h.pcm[audio.Caller]))
	}
}

func TestLostPacketsAreConcealed(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	line := p.sender(0)
	paced(20, func(n int) bool {
		if n%10 == 5 {
			line.skip(20)
		} else {
			line.send(t, audio.MuLaw.Encode(nil, tone(400, 8000, n*160)), 20)
		}
		return n < 49
	})
	s.came(t, 45)
	p.hangUp()
	h := s.over(t)
	if h.lost != 5*20*time.Millisecond {
		t.Errorf("%v were made up, want 100ms", h.lost)
	}
	if pcm := h.pcm[audio.Unknown]; len(pcm) != 50*160 || power(pcm, 8000, 400) < 0.9 {
		t.Errorf("%d samples, %.2f of them the tone", len(pcm), power(pcm, 8000, 400))
	}
	if st := s.Stats(); st.Lost != 5 {
		t.Errorf("counted %+v", st)
	}
}

func TestKeypadDigitsAreHeard(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	p.say(0, 440, 5)
	line := p.sender(0)
	for _, digit := range []byte{4, 2} {
		for range 3 { // RFC 4733: the end is sent three times
			line.write(t, "audio/telephone-event/8000", line.timestamp, []byte{digit, 0x8a, 3, 32})
			line.sequence++
		}
		line.timestamp += 800
	}
	s.until(t, "five packets and two digits", func() bool { return s.keys == "42" })
	p.hangUp()
	if h := s.over(t); h.keys != "42" {
		t.Errorf("heard keys %q", h.keys)
	}
}

// event is one of a call.
func event(id string) sink.Event {
	return sink.Event{
		ID: id, Type: sink.RiskLevel, Tenant: "default", Call: "c", Source: "callwarden/whip",
		Data: &callwardenv1.RiskLevel{Context: &callwardenv1.CallContext{Tenant: "default", Call: "c"}},
	}
}

func TestEventsComeByTheDataChannelWhoeverOpensIt(t *testing.T) {
	for _, label := range []string{Channel, "the page's own"} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := serve(t, local(), nil)
			p := newPage(t, mimePCMU)
			got := make(chan string, 10)
			own, err := p.conn.CreateDataChannel(label, nil)
			if err != nil {
				t.Fatal(err)
			}
			listen := func(d *webrtc.DataChannel) {
				d.OnMessage(func(m webrtc.DataChannelMessage) {
					if m.IsString {
						got <- string(m.Data)
					}
				})
			}
			listen(own)
			p.conn.OnDataChannel(listen)
			p.publish(s, "")
			s.until(t, "the call", func() bool { return len(s.begun) == 1 })
			peer := s.begun[0].Peer
			peer.Tell(event("before")) // there is no connection yet
			p.connected()
			first := <-got
			peer.Tell(event("after"))
			for i, text := range []string{first, <-got} {
				ev, err := sink.ParseCloudEvent([]byte(text))
				if want := []string{"before", "after"}[i]; err != nil || ev.ID != want || ev.Type != sink.RiskLevel {
					t.Errorf("event %d is %+v, %v", i, ev, err)
				}
			}
			peer.Tell(event("last")) // just before the end
			p.hangUp()
			select {
			case text := <-got:
				if !strings.Contains(text, `"last"`) {
					t.Errorf("the last event is %s", text)
				}
			case <-time.After(patience):
				t.Error("the last event did not come")
			}
			s.over(t)
			p.reaches(webrtc.PeerConnectionStateClosed)
			if st := s.Stats(); st.Told != 3 || st.Untold != 0 {
				t.Errorf("told %d, untold %d", st.Told, st.Untold)
			}
		})
	}
}

func TestPageWithoutADataChannelIsNotTold(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.hangUp()
	if h := s.over(t); h.call.Peer != nil {
		t.Errorf("its peer is %T", h.call.Peer)
	}
}

func TestPromptIsHeardInThePage(t *testing.T) {
	for _, mime := range []string{mimePCMU, mimeG722} {
		t.Run(mime, func(t *testing.T) {
			t.Parallel()
			s := serve(t, local(), nil)
			p := newPage(t)
			tr := p.add(mime, webrtc.RTPTransceiverDirectionSendrecv)
			if err := tr.SetCodecPreferences([]webrtc.RTPCodecParameters{{
				RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: mime, ClockRate: 8000},
			}}); err != nil {
				t.Fatal(err)
			}
			got := make(chan []byte, 200)
			p.conn.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
				for {
					packet, _, err := track.ReadRTP()
					if err != nil {
						return
					}
					got <- packet.Payload
				}
			})
			p.publish(s, "")
			p.connected()
			s.until(t, "the call", func() bool { return len(s.begun) == 1 })
			player, ok := s.begun[0].Peer.(source.Player)
			if !ok {
				t.Fatalf("the peer is %T", s.begun[0].Peer)
			}
			prompt := source.Prompt{ID: "hang_up", Rate: 16000, PCM: make([]int16, 16000)}
			for i := range prompt.PCM {
				prompt.PCM[i] = int16(8000 * math.Sin(2*math.Pi*600*float64(i)/16000))
			}
			if err := player.Play(prompt); err != nil {
				t.Fatal(err)
			}
			var payloads []byte
			for range 45 {
				select {
				case payload := <-got:
					payloads = append(payloads, payload...)
				case <-time.After(patience):
					t.Fatalf("heard %d bytes of the prompt", len(payloads))
				}
			}
			rate, pcm := 8000, audio.MuLaw.Decode(nil, payloads)
			if mime == mimeG722 {
				var d audio.G722Decoder
				rate, pcm = 16000, d.Decode(nil, payloads)
			}
			if share := power(pcm, rate, 600); share < 0.9 {
				t.Errorf("%.2f of what was heard is the prompt", share)
			}
			p.hangUp()
			s.over(t)
			p.reaches(webrtc.PeerConnectionStateClosed)
			if err := player.Play(prompt); err == nil {
				t.Error("a prompt was taken after the end")
			}
		})
	}
}

func TestPromptNeedsACodecThatWeCanWrite(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t)
	tr := p.add(webrtc.MimeTypeOpus, webrtc.RTPTransceiverDirectionSendrecv)
	if err := tr.SetCodecPreferences([]webrtc.RTPCodecParameters{{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2},
	}}); err != nil {
		t.Fatal(err)
	}
	p.publish(s, "")
	p.hangUp()
	if h := s.over(t); h.call.Peer != nil {
		t.Errorf("its peer is %T", h.call.Peer)
	}
}

func TestCallsGoOnWhenNoMoreAreTaken(t *testing.T) {
	t.Parallel()
	s := serve(t, local(), nil)
	p := newPage(t, mimePCMU)
	p.publish(s, "")
	p.connected()
	p.say(0, 440, 10)
	late := newPage(t, mimePCMU)
	offer := late.offer()
	s.cancel()
	for { // until the source has seen it
		res, _ := ask(t, late.http, http.MethodPost, s.url+Path, typeSDP, offer)
		if res.StatusCode == http.StatusServiceUnavailable {
			break
		}
		t.Errorf("a publication after the end: %s", res.Status)
	}
	select {
	case h := <-s.calls:
		t.Fatalf("the call was ended: %v", h.reason)
	default:
	}
	p.hangUp()
	s.over(t)
}
