package siprecsrc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/sdp"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// script is a change of a call, and how each line is answered: "LABEL
// DIRECTION" with a port or "LABEL gone" without one.
type change struct {
	name string
	req  func(*dialed) *sip.Response
	want []string // nil: an answer without a description
	code int      // 0 for 200
}

func lines(s *sdp.Session) (all []string) {
	for _, m := range s.Media {
		direction := m.Direction.String()
		if m.Port == 0 {
			direction = "gone"
		}
		all = append(all, m.Label+" "+direction)
	}
	return all
}

// A call changes as its parties hold, resume, come and go.
func TestCallChangesWithItsOffers(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	d := p.dial(p.siprecInvite())
	first := parseAnswer(t, d.ok)
	h := r.next()
	update := func(contentType, body string) func(*dialed) *sip.Response {
		return func(d *dialed) *sip.Response { return d.do(d.within(sip.UPDATE, contentType, body)) }
	}
	reinvite := func(contentType, body string) func(*dialed) *sip.Response {
		return func(d *dialed) *sip.Response { return d.reinvite(contentType, body) }
	}
	joined := strings.Replace(metadata, "</recording>", `<participant participant_id="p3"><nameID aor="sip:300@x"/></participant>
<participantstreamassoc participant_id="p3"><send>t2</send></participantstreamassoc></recording>`, 1)
	for _, c := range []change{
		{"held", reinvite(typeSDP, offer(2, "1 inactive", "2 inactive")), []string{"1 inactive", "2 inactive"}, 0},
		{"resumed", update(typeSDP, offer(3, "1 sendonly", "2 sendonly")), []string{"1 recvonly", "2 recvonly"}, 0},
		{"the same again", update(typeSDP, offer(3, "1 sendonly", "2 sendonly")), []string{"1 recvonly", "2 recvonly"}, 0},
		{"metadata only", update(typeMeta, joined), nil, 0},
		{"metadata only, by INVITE", reinvite(typeMeta, joined), []string{"1 recvonly", "2 recvonly"}, 0},
		{"nothing at all", reinvite("", ""), []string{"1 recvonly", "2 recvonly"}, 0},
		{"one removed", reinvite(typeSDP, offer(4, "1 sendonly", "2 gone")), []string{"1 recvonly", "2 gone"}, 0},
		{"another in its place", reinvite(mixedType, both(offer(5, "1 sendonly", "2 gone", "3 sendonly"), metadata)), []string{"1 recvonly", "2 gone", "3 recvonly"}, 0},
		{"a third side", reinvite(typeSDP, offer(6, "1 sendonly", "2 sendonly", "3 sendonly")), []string{"1 recvonly", "2 gone", "3 recvonly"}, 0},
		{
			"nothing that can be heard", reinvite(typeSDP, strings.ReplaceAll(offer(7, "1 sendonly"), "RTP/AVP 0 101", "RTP/AVP 18")),
			nil, 488,
		},
		{"metadata that cannot be read", update(typeMeta, "<recording"), nil, 0},
		{"a broken body", update(mixedType, "--simple boundary\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--simple boundary--"), nil, 400},
		{"and back", reinvite(typeSDP, offer(8, "1 sendonly", "2 sendonly", "3 gone")), []string{"1 recvonly", "2 recvonly", "3 gone"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := c.req(d)
			if c.code != 0 {
				if res.StatusCode != c.code {
					t.Errorf("answered %s, want %d", res.StartLine(), c.code)
				}
				return
			}
			if res.StatusCode != sip.StatusOK {
				t.Fatalf("answered %s %v", res.StartLine(), headers(res, "Warning"))
			}
			if c.want == nil {
				if len(res.Body()) > 0 {
					t.Errorf("answered with %q", res.Body())
				}
				return
			}
			answer := parseAnswer(t, res)
			if got := lines(answer); strings.Join(got, ", ") != strings.Join(c.want, ", ") {
				t.Errorf("answered %v, want %v", got, c.want)
			}
			if answer.Media[0].Port != first.Media[0].Port {
				t.Errorf("the first line moved from port %d to %d", first.Media[0].Port, answer.Media[0].Port)
			}
		})
	}
	last := parseAnswer(t, d.reinvite(typeSDP, offer(9, "1 sendonly", "2 sendonly", "3 gone")))
	before := h.count(audio.Callee)
	talk(t, last.Media[1].Port).packets(10)
	until(t, "the new line is heard", func() bool { return h.count(audio.Callee) >= before+10*packet })
	if res := d.bye(); res.StatusCode != sip.StatusOK {
		t.Errorf("BYE: %s", res.StartLine())
	}
	wait(t, "the call's end", h.over)
}

// A session may begin with one stream; the other side's comes later and is
// heard as what it is.
func TestSideThatComesLaterIsHeard(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	d := p.dial(p.request(sip.INVITE, mixedType, both(offer(1, "1 sendonly"), metadata), "Require: siprec"))
	parseAnswer(t, d.ok)
	h := r.next()
	answer := parseAnswer(t, d.reinvite(typeSDP, offer(2, "1 sendonly", "2 sendonly")))
	talk(t, answer.Media[1].Port).packets(5)
	until(t, "the callee is heard", func() bool { return h.count(audio.Callee) >= 5*packet })
	if n := h.count(audio.Caller); n != 0 {
		t.Errorf("%d samples of a caller who said nothing", n)
	}
}

// A change that is older than what was is refused; one that overtakes an ACK is
// not.
func TestChangesComeInOrder(t *testing.T) {
	r := serve(t, testConfig("udp://127.0.0.1:0"), admitAll)
	p := r.peer(0)
	d := &dialed{peer: p, invite: p.siprecInvite(), seq: 1}
	d.ok = p.do(d.invite)
	if res := d.reinvite(typeSDP, offer(2, "1 sendonly", "2 sendonly")); res.StatusCode != sip.StatusOK {
		t.Errorf("before the ACK of the one before: %s", res.StartLine())
	}
	seq := d.seq
	d.seq += 5
	if res := d.do(d.within(sip.UPDATE, "", "")); res.StatusCode != sip.StatusOK {
		t.Errorf("UPDATE: %s", res.StartLine())
	}
	d.seq = seq
	if res := d.do(d.within(sip.UPDATE, "", "")); res.StatusCode != sip.StatusInternalServerError {
		t.Errorf("out of order: %s", res.StartLine())
	}
}

// A phone that simply calls is one leg, heard as the configuration says.
func TestPhoneThatCallsIsHeard(t *testing.T) {
	for plain, want := range map[string]audio.Leg{"unknown": audio.Unknown, "caller": audio.Caller, "callee": audio.Callee} {
		cfg := testConfig("udp://127.0.0.1:0")
		cfg.Plain = plain
		r := serve(t, cfg, admitAll)
		p := r.peer(0)
		body := strings.ReplaceAll(offer(1, "x sendrecv"), "a=label:x\r\n", "")
		d := p.dial(p.request(sip.INVITE, typeSDP, body))
		answer := parseAnswer(t, d.ok)
		if answer.Media[0].Direction != sdp.RecvOnly || d.ok.Contact().Params.Has("+sip.srs") {
			t.Errorf("answered %s %s", d.ok.Contact().Value(), d.ok.Body())
		}
		h := r.next()
		if len(h.call.Legs) != 1 || h.call.Legs[0] != want {
			t.Errorf("%s: legs %v", plain, h.call.Legs)
		}
		if a := h.call.Attributes; a["from"] != "+15550100" || a["from_name"] != "Ann" || a["to"] != "+15550199" {
			t.Errorf("attributes %v", a)
		}
		talk(t, answer.Media[0].Port).packets(5)
		until(t, "the phone is heard", func() bool { return h.count(want) >= 5*packet })
	}
}

func TestHeadersAndTrunksSayWhereACallComesFrom(t *testing.T) {
	cfg := testConfig("tcp://127.0.0.1:0")
	cfg.Headers = map[string]string{"consent": "X-Consent", "direction": "X-Direction"}
	cfg.Trunks = []Trunk{
		{Name: "far", Peers: []string{"192.0.2.0/24"}},
		{Name: "wrong", User: "somebody"},
		{Name: "east", Tenant: "bank-a", Peers: []string{"127.0.0.0/8"}, User: "srs", Header: "X-Trunk: East"},
		{Name: "any"},
	}
	r := serve(t, cfg, admitAll)
	p := r.peer(0)
	for trunk, want := range map[string][2]string{"east": {"east", "bank-a"}, "west": {"any", "default"}} {
		d := p.dial(p.siprecInvite("X-Trunk: "+trunk, "x-consent: yes", "X-Direction: inbound",
			`P-Asserted-Identity: "Shop" <sip:+15550177@carrier.test>`))
		parseAnswer(t, d.ok)
		call := r.next().call
		if call.Attributes["trunk"] != want[0] || call.Tenant != want[1] {
			t.Errorf("%s: trunk %q tenant %q, want %v", trunk, call.Attributes["trunk"], call.Tenant, want)
		}
		for key, value := range map[string]string{
			"consent": "yes", "direction": "inbound", "asserted_number": "+15550177", "asserted_name": "Shop", "from": "+15550111",
		} {
			if call.Attributes[key] != value {
				t.Errorf("%s is %q, want %q", key, call.Attributes[key], value)
			}
		}
	}
}

// A call that is none of ours to hear is not refused, which would alarm the
// network: its streams are inactive until it hangs up, and no port is open.
func TestCallThatIsExemptIsTakenAndNotHeard(t *testing.T) {
	r := serve(t, testConfig("tcp://127.0.0.1:0"), func(context.Context, *source.Call, *heard) error { return nil })
	p := r.peer(0)
	d := p.dial(p.siprecInvite())
	if got := lines(parseAnswer(t, d.ok)); fmt.Sprint(got) != "[1 inactive 2 inactive]" {
		t.Errorf("answered %v", got)
	}
	if got := lines(parseAnswer(t, d.reinvite(typeSDP, offer(2, "1 sendonly")))); fmt.Sprint(got) != "[1 inactive]" {
		t.Errorf("a change was answered %v", got)
	}
	if taken, _ := r.ports.Usage(); taken != 0 {
		t.Errorf("%d ports are open", taken)
	}
	if s := r.Stats(); s.Calls != 0 || s.Begun != 0 {
		t.Errorf("stats %+v", s)
	}
	if res := d.bye(); res.StatusCode != sip.StatusOK {
		t.Errorf("BYE: %s", res.StartLine())
	}
	d = p.dial(p.siprecInvite())
	parseAnswer(t, d.ok)
	r.stop()
	if !strings.Contains(p.byeFrom(), "cause=200") {
		t.Error("the end of serving does not end a call that nobody hears")
	}
}
