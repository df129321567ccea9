package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/pipeline/source/grpcsrc"
	"github.com/callwarden/callwarden/proto/callwarden/callclient"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// A fraud that comes in over gRPC is told on its stream and to who watches, and
// what an analyst makes of it is published with it.
func TestFraudOverGRPCIsToldBackAndJudged(t *testing.T) {
	s := startServer(t, fraudInShort, func(c *serveConfig) {
		c.Sources.GRPC.Enabled = true
		c.Sources.GRPC.Config.Listen = "127.0.0.1:0"
		c.Back.Sources.GRPC.Prompt = "customer"
	})
	address := s.entrance(grpcsrc.Name).addresses()
	client, err := callclient.Dial(callclient.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	var told bytes.Buffer
	cfg := caller.DefaultConfig()
	cfg.Way, cfg.To, cfg.Codec, cfg.Events = caller.GRPC, address, "PCMA", &told
	calling := make(chan *caller.Results, 1)
	seen, judged := "", false
	for r, err := range client.Watch(t.Context(), &callwardenv1.WatchRequest{Level: callwardenv1.Level_LEVEL_WARNING}) {
		if err != nil {
			t.Fatal(err)
		}
		switch ev := r.GetEvent(); {
		case r.GetCurrent() != nil:
			go func() { // ends with the call
				results, err := caller.Run(t.Context(), cfg, []*caller.Recording{tones(shortCall)}, &caller.Progress{})
				if err != nil {
					t.Error(err)
				}
				calling <- results
			}()
		case r.GetState() != nil:
			seen = r.GetState().GetStarted().GetStarted().GetContext().GetCall()
			if r.GetState().GetStatus() == nil || len(r.GetState().GetFindings()) == 0 {
				t.Errorf("the call comes into view as %v", r.GetState())
			}
		case ev.GetEnded() != nil:
			if _, err := client.Verdict(t.Context(), &callwardenv1.VerdictRequest{Call: seen, Action: callwardenv1.Action_ACTION_SCAM, Who: "ann"}); err != nil {
				t.Fatal(err)
			}
		case ev.GetAction().GetAction() == callwardenv1.Action_ACTION_SCAM:
			judged = true
		}
		if judged {
			break
		}
	}
	if got := <-calling; !got.Good() || got.Answered != 1 {
		t.Fatalf("%+v", got)
	}
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"started":{"context":{"tenant":"default","call":"` + seen, `"status":{`, `"transcript":{`, `"finding":{`, "LEVEL_CRITICAL", `"prompt":{"id":"customer"`, "ACTION_PROMPT_PLAYED", `"ended":{`,
	} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("the caller is not told of %s:\n%s", want, told.String())
		}
	}
	if n := strings.Count(told.String(), `"prompt":{`); n != 1 {
		t.Errorf("%d prompts", n)
	}
	actions := s.out.events(t, "call.action")
	if len(actions) != 2 || actions[1].Subject != seen {
		t.Errorf("published actions %+v", actions)
	}
}
