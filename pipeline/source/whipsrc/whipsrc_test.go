package whipsrc

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/pion/webrtc/v4"

	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestEveryCodecIsHeard(t *testing.T) {
	for _, c := range []struct {
		mime string
		rate int
	}{{mimePCMU, 8000}, {mimePCMA, 8000}, {mimeG722, 16000}} {
		t.Run(c.mime, func(t *testing.T) {
			s := serve(t, local(), nil)
			p := newPage(t, c.mime)
			p.publish(s, "?call=c1&leg=caller&from=%2B12025550123&language=en-US&direction=inbound")
			p.connected()
			p.speakTone(0, c.mime, 440, func(n int) bool { return n == 40 })
			res, _ := ask(t, p.http, http.MethodDelete, p.location, "", "")
			if res.StatusCode != http.StatusOK {
				t.Errorf("DELETE: %s", res.Status)
			}
			h := s.over(t)
			pcm := h.pcm[audio.Caller]
			if len(pcm) < 30*c.rate/50 || power(pcm, c.rate, 440) < 0.9 {
				t.Errorf("heard %d samples, %.2f of them the tone", len(pcm), power(pcm, c.rate, 440))
			}
			if !errors.Is(h.reason, io.EOF) {
				t.Errorf("ended by %v", h.reason)
			}
			if h.call.ID != "c1" || h.call.Language != "en-US" || h.call.Attributes["from"] != "+12025550123" || !h.call.Live {
				t.Errorf("the call is %+v", h.call)
			}
			p.reaches(webrtc.PeerConnectionStateClosed)
		})
	}
}
