package callclient_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/fansink"
	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/pipeline/source/grpcsrc"
	"github.com/callwarden/callwarden/proto/callwarden/callclient"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// serve answers as callwarden serve does, with a recogniser that hears a fraud
// in whatever is said.
func serve() (address string, stop func()) {
	events := fansink.New()
	cfg := grpcsrc.DefaultConfig()
	cfg.Listen, cfg.Events, cfg.Publish = "127.0.0.1:0", events, events.Publish
	src, err := grpcsrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = src.Serve(ctx, func(ctx context.Context, call *source.Call) error {
			call.Admitted()
			about := &callwardenv1.CallContext{Tenant: call.Tenant, Call: call.ID, Source: call.Source}
			tell := func(typ sink.Type, ev sink.Event) {
				ev.ID, ev.Type, ev.Tenant, ev.Call = sink.EventID(call.Tenant, call.ID, typ), typ, call.Tenant, call.ID
				_ = events.Publish(ctx, ev)
				call.Peer.Tell(ev)
			}
			tell(sink.CallStarted, sink.Event{Data: &callwardenv1.CallStarted{Context: about, Attributes: call.Attributes}})
			heard := time.Duration(0)
			for f := range frames(ctx, call) {
				heard = max(heard, f.End())
			}
			tell(sink.RiskLevel, sink.Event{Data: &callwardenv1.RiskLevel{Context: about, Level: callwardenv1.Level_LEVEL_CRITICAL, Advice: &callwardenv1.Advice{Text: "Do not read the code to anybody."}}})
			tell(sink.CallEnded, sink.Event{Data: &callwardenv1.CallEnded{Context: about, Reason: fmt.Sprint(heard)}})
			return nil
		})
	}()
	return src.Addr().String(), func() { cancel(); <-served }
}

// frames are the audio of a call until it ends.
func frames(ctx context.Context, call *source.Call) iter.Seq[audio.Frame] {
	return func(yield func(audio.Frame) bool) {
		for f, err := call.Audio.ReadFrame(ctx); err == nil && yield(f); f, err = call.Audio.ReadFrame(ctx) {
		}
	}
}

// A call is sent, and what is found in it comes back on the same stream.
func ExampleClient_Begin() {
	address, stop := serve()
	defer stop()

	client, err := callclient.Dial(callclient.Config{Address: address})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	call, err := client.Begin(ctx, &callwardenv1.CallOpen{Id: "call-1", Tenant: "bank", From: "+12025550123", RateHz: 8000})
	if err != nil {
		panic(err)
	}
	go func() { // what the parties say, as it comes; ends with the call
		const frame = 20 * time.Millisecond
		for at := frame; at <= 3*time.Second; at += frame {
			err := call.Send(
				callclient.Audio{Leg: callwardenv1.Leg_LEG_CALLER, Start: at, PCM: make([]int16, 160)},
				callclient.Audio{Leg: callwardenv1.Leg_LEG_CALLEE, Start: at, PCM: make([]int16, 160)},
			)
			if err != nil {
				return // Responses says why
			}
		}
		_ = call.HangUp("")
	}()
	for r, err := range call.Responses() {
		if err != nil {
			reason, retry := callclient.Reason(err)
			fmt.Println("ended:", reason, retry, err)
			break
		}
		if level := r.GetEvent().GetLevel(); level != nil {
			fmt.Println(level.GetLevel(), level.GetAdvice().GetText())
		}
		if ended := r.GetEvent().GetEnded(); ended != nil {
			fmt.Println("heard", ended.GetReason())
		}
	}
	// Output:
	// LEVEL_CRITICAL Do not read the code to anybody.
	// heard 3.02s
}

// What is found in all calls, and what a person makes of one.
func ExampleClient_Watch() {
	address, stop := serve()
	defer stop()

	client, err := callclient.Dial(callclient.Config{Address: address})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for r, err := range client.Watch(ctx, &callwardenv1.WatchRequest{Level: callwardenv1.Level_LEVEL_WARNING}) {
		if err != nil {
			panic(err)
		}
		switch {
		case r.GetCurrent() != nil:
			fmt.Println(r.GetCurrent().GetCalls(), "calls go on")
			call, err := client.Begin(ctx, &callwardenv1.CallOpen{Id: "call-2", RateHz: 8000})
			if err != nil {
				panic(err)
			}
			if err := call.HangUp(""); err != nil {
				panic(err)
			}
		case r.GetState() != nil:
			fmt.Println("call", r.GetState().GetLevel().GetLevel().GetContext().GetCall(), r.GetState().GetLevel().GetLevel().GetLevel())
		case r.GetEvent().GetEnded() != nil:
			if _, err := client.Verdict(ctx, &callwardenv1.VerdictRequest{Call: "call-2", Action: callwardenv1.Action_ACTION_NOT_SCAM, Who: "ann", Note: "a rehearsal"}); err != nil {
				panic(err)
			}
		case r.GetEvent().GetAction() != nil:
			fmt.Println(r.GetEvent().GetAction().GetWho(), "says", r.GetEvent().GetAction().GetAction())
			return
		}
	}
	// Output:
	// 0 calls go on
	// call call-2 LEVEL_CRITICAL
	// ann says ACTION_NOT_SCAM
}
