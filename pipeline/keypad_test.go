package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// keyed adds keys to the frames of a leg from a time on, one a frame.
type keyed struct {
	audio.Reader
	leg  audio.Leg
	from time.Duration
	keys string
}

func (k *keyed) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := k.Reader.ReadFrame(ctx)
	if err == nil && f.Leg == k.leg && f.Start >= k.from && k.keys != "" {
		f.Keys, k.keys = k.keys[:1], k.keys[1:]
	}
	return f, err
}

func TestKeypadDigitsAnswerAnAskAndAreMasked(t *testing.T) {
	const ask = `
caller: this is the security department of your bank
callee: oh no what happened
caller: we just sent a six digit code to your phone please type the code on your keypad now and read me the code
callee: okay`
	tr := transcript(t, ask)
	var out memory
	call := recorded(tr.Duration() + 10*time.Second)
	call.Audio = &keyed{call.Audio, audio.Callee, tr.Duration(), "472916#"}
	if err := newPipeline(t, DefaultConfig(), scripted(tr), &out).Listen(context.Background(), call); err != nil {
		t.Fatal(err)
	}
	answered := false
	for _, f := range of[*callwardenv1.RiskFinding](&out) {
		answered = answered || f.Finding.Tactic == "otp_readback" && f.Finding.State == callwardenv1.FindingState_FINDING_STATE_CONFIRMED
	}
	if !answered {
		t.Error("a code that was typed after an ask is no read-back")
	}
	var pressed []string
	for _, s := range of[*callwardenv1.TranscriptSegment](&out) {
		if s.Heard == callwardenv1.Heard_HEARD_KEYPAD {
			pressed = append(pressed, s.Text+s.Words[0].Text)
		}
	}
	if got, want := strings.Join(pressed, " "), "## ## ## ## ## ## poundpound"; got != want {
		t.Errorf("told as %q, want %q", got, want)
	}
}
