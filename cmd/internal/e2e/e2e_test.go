//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCallsOfOthersGiveTheFindingsOfReplay(t *testing.T) {
	t.Parallel()
	w := startWarden(t, 8080, 4222, fmt.Sprintf(`
sources:
  siprec:
    enabled: true
    listen: ["udp://%s:5060", "tcp://%s:5060"]
    media: {bind: %s}
listen: {mode: full}
`, address, address, address))
	file, rec := call(t, "fraud-code")
	one := mono(t, rec)
	wire := watch(t)

	var want, wantOne []string
	var group sync.WaitGroup
	group.Go(func() { sipp(t, rec, address+":5060") })
	group.Go(func() { baresip(t, one, "sip:srs@"+address+":5060", rec.Length()+time.Second) })
	group.Wait()
	want = findings(replayed(t, file, "--listen", "full"))
	wantOne = findings(replayed(t, one, "--listen", "full"))
	if len(want) == 0 || len(wantOne) == 0 {
		t.Fatalf("replay finds %v in the call, %v in its mix", want, wantOne)
	}
	for range 2 {
		id, events := w.nextEnd(time.Minute)
		last := ending(t, events)
		switch legs := len(events[0].Data.Legs); legs {
		case 2:
			if got := findings(events); !slices.Equal(got, want) {
				t.Errorf("sipp's call %s:\n%s\nreplay:\n%s", id, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if from := events[0].Data.Attributes["from_name"]; from != "Alice" {
				t.Errorf("sipp's caller is %q, want Alice as the metadata says", from)
			}
		case 1:
			if got := findings(events); !slices.Equal(got, wantOne) {
				t.Errorf("baresip's call %s:\n%s\nreplay:\n%s", id, strings.Join(got, "\n"), strings.Join(wantOne, "\n"))
			}
		default:
			t.Errorf("call %s has %d legs", id, legs)
		}
		if last.Data.Reason != "end of audio" {
			t.Errorf("call %s ended with %q", id, last.Data.Reason)
		}
	}
	wire.stop(t)
	t.Run("wire", func(t *testing.T) { wellFormed(t, wire) })
}

// wellFormed has tshark look at what callwarden sent.
func wellFormed(t *testing.T, wire *shark) {
	ours := "ip.src == " + address + " && "
	const failing = "0x00800000" // severity of what is malformed or against the standard
	if bad := wire.ask(t, ours+"(_ws.malformed || _ws.expert.severity >= "+failing+")", "frame.number", "_ws.col.Info", "_ws.expert.message"); len(bad) > 0 {
		t.Errorf("tshark objects to these packets: %q", bad)
	}
	answers := wire.ask(t, "sip.Status-Code == 200 && sip.CSeq.method == \"INVITE\"", "sdp.media", "sdp.media_attr")
	if len(answers) < 2 {
		t.Fatalf("answers to INVITE: %q", answers)
	}
	for _, a := range answers {
		if !strings.Contains(a, "recvonly") {
			t.Errorf("an answer is not recvonly: %q", a)
		}
	}
	reports := wire.ask(t, "rtcp.pt == 201 && udp.srcport >= 20000 && udp.srcport < 30000", "rtcp.ssrc.fraction", "rtcp.ssrc.cum_nr")
	if len(reports) < 4 {
		t.Fatalf("receiver reports: %q", reports)
	}
	for _, r := range reports {
		if strings.TrimSpace(r) != "0|0" {
			t.Errorf("a receiver report tells of losses: fraction and packets %q", r)
		}
	}
}

func TestPeersAreInstalled(t *testing.T) {
	for _, tool := range []string{"sipp", "baresip", "tshark", "protoc", "grpc_python_plugin", python} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Errorf("%v; make e2e installs it", err)
		}
	}
}
