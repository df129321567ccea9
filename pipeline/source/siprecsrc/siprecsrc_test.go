package siprecsrc

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/transcribe/audio"
)

func TestRecordingSessionIsHeardOverEachTransport(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			cfg := testConfig(network + "://127.0.0.1:0")
			if network == "tls" {
				cfg.TLS.Certificate, cfg.TLS.Key = certificate(t)
			}
			r := serve(t, cfg, admitAll)
			p := r.peer(0)
			d := p.dial(p.siprecInvite())
			answer := parseAnswer(t, d.ok)
			if len(answer.Media) != 2 {
				t.Fatalf("%d lines were answered", len(answer.Media))
			}
			for i, m := range answer.Media {
				if m.Direction != sdp.RecvOnly || m.Label != []string{"1", "2"}[i] || m.Port == 0 || m.Formats[0].Encoding != "PCMU" {
					t.Errorf("line %d was answered %+v", i, m)
				}
			}
			if contact := d.ok.Contact(); !contact.Params.Has("+sip.srs") || contact.Address.Port != int(p.to.Port()) {
				t.Errorf("Contact is %s", contact.Value())
			}
			h := r.next()
			want := map[string]string{
				"from": "+15550111", "from_name": "Ann Example", "to": "+15550122", "to_name": "Bank", "codec": "PCMU",
			}
			if !maps.Equal(h.call.Attributes, want) {
				t.Errorf("attributes %v, want %v", h.call.Attributes, want)
			}
			if !slices.Equal(h.call.Legs, []audio.Leg{audio.Caller, audio.Callee}) || !h.call.Live || h.call.Tenant != "default" {
				t.Errorf("call %+v", h.call)
			}
			if name := strings.Split(string(*d.invite.CallID()), "@")[0]; !strings.HasPrefix(h.call.ID, name) || strings.ContainsAny(h.call.ID, ".@ *>") {
				t.Errorf("call id %q of Call-ID %q", h.call.ID, *d.invite.CallID())
			}
			talk(t, answer.Media[0].Port).packets(10)
			talk(t, answer.Media[1].Port).packets(20)
			until(t, "both legs are heard", func() bool {
				return h.count(audio.Caller) >= 10*packet && h.count(audio.Callee) >= 20*packet
			})
			if s := r.Stats(); s.Calls != 1 || s.Legs != 2 || s.Begun != 1 || s.Packets != 30 {
				t.Errorf("stats %+v", s)
			}
			if res := d.bye(); res.StatusCode != sip.StatusOK {
				t.Errorf("BYE was answered %s", res.StartLine())
			}
			wait(t, "the call's end", h.over)
			if h.err != nil {
				t.Errorf("a hang-up ended with %v", h.err)
			}
			until(t, "all is given back", func() bool {
				taken, _ := r.ports.Usage()
				return r.Stats().Calls == 0 && taken == 0
			})
			if s := r.Stats(); s.Packets != 30 {
				t.Errorf("packets are forgotten with their call: %+v", s)
			}
		})
	}
}
