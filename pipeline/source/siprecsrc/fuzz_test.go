package siprecsrc

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

// FuzzRequest: whatever request the stack can read, it is looked at without
// panic, and what it is answered has no line ends but its own.
func FuzzRequest(f *testing.F) {
	for _, c := range torture {
		f.Add(c.text)
	}
	f.Add(strings.Replace(message("INVITE", "Content-Type: application/sdp"), "Content-Length: 0", "Session-Expires: 90;refresher=uas\r\nk: timer\r\nRequire: siprec\r\nRecord-Route: <sip:p;lr>", 1) + offer(1, "1 sendonly"))
	f.Add(message("UPDATE", "P-Asserted-Identity: \"x\" <tel:+1>\r\nIdentity: a.b.c;info=<x>\r\nX-Trunk: east"))
	f.Fuzz(func(t *testing.T, text string) {
		msg, err := sip.ParseMessage([]byte(text))
		req, ok := msg.(*sip.Request)
		if err != nil || !ok || req.Via() == nil {
			return
		}
		s := &Source{cfg: DefaultConfig(), trunks: []trunk{{Trunk: Trunk{Name: "x", Header: "X-Trunk: east"}}}}
		no := check(req)
		if no == nil {
			_, no = s.contentOf(req)
			if _, refused := s.agree(req); no == nil {
				no = refused
			}
			supportsSiprec(req)
			partyOf(req, "From")
			s.trunkOf(req)
			s.store.Attributes(func(name string) []string { return headers(req, name) }, time.Unix(1, 0))
		}
		if no == nil {
			no = refuse(200, "OK")
		}
		res := response(req, "ours", no, nil)
		g := &guard{cfg: s.cfg}
		flood, _ := g.answer([]byte(text), verdict{503, "Service Unavailable"}, netip.MustParseAddrPort("192.0.2.1:5060"))
		for _, answer := range []string{res.String(), string(flood)} {
			head, _, _ := strings.Cut(answer, "\r\n\r\n")
			if strings.ContainsAny(strings.ReplaceAll(head, "\r\n", ""), "\r") {
				t.Fatalf("a bare carriage return in %q", answer)
			}
		}
	})
}
