package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/cmd/internal/caller"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// call is the load client: recorded calls sent as telephone networks send
// them.
type call struct {
	*app
	cfg caller.Config

	callerSide string
	leg        string
	only       audio.Leg // of leg
	silent     string
	events     bool
	loss       string
	asJSON     bool
	quiet      bool
}

func newCall(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Send recorded calls as telephone networks do, one or thousands at once",
		Long: `Sends a recorded call, WAV or FLAC, to callwarden or to any other recorder, in one
of the ways in which telephone networks do, and tells what became of it. The
legs of a stereo recording are sent apart, the left channel as the caller. With
--calls as many are sent as wanted, begun at --rate a second; they play the
files in turn.

The exit code is 0 only where every call was answered and came to its own end.`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(newCallSIPREC(a), newCallRTP(a), newCallAudioSocket(a), newCallWHIP(a), newCallAudioHook(a), newCallGRPC(a), newCallTwilio(a), newCallFork(a))
	return cmd
}

func newCallSIPREC(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.SIPREC)
	cmd.Short = "Send calls as a session border controller forks them: SIPREC"
	cmd.Long = `Sends a recorded call as the session recording client of a session border
controller does (RFC 7866): an INVITE with SDP and recording metadata, RTP for
each leg, RTCP, and BYE at the end.`
	cmd.Example = `  callwarden call siprec call.wav --to 127.0.0.1:5060
  callwarden call siprec call.wav --to 127.0.0.1:5060 --calls 1000 --rate 50 --loop --duration 2m
  callwarden call siprec call.wav --to sbc.example:5061 --transport tls --tls-ca ca.pem --srtp
  callwarden call siprec call.wav --to 127.0.0.1:5060 --loss 5% --reorder 10 --drop-bye
  callwarden call siprec call.wav --to 127.0.0.1:5060 --header 'P-Asserted-Identity: "Bank" <sip:+12025550123@example.com>'`
	f := cmd.Flags()
	c.addRTP(cmd)
	f.StringVar(&c.cfg.Transport, "transport", c.cfg.Transport, "of SIP: udp, tcp or tls")
	f.StringVar(&c.cfg.CA, "tls-ca", "", "PEM file of the authority that signed the server's certificate")
	f.BoolVar(&c.cfg.Insecure, "tls-insecure", false, "take any certificate")
	f.BoolVar(&c.cfg.SRTP, "srtp", false, "encrypt the audio; the key is in the SDP (RFC 4568)")
	f.StringArrayVar(&c.cfg.Headers, "header", nil, "another header of the INVITE, 'Name: value'; may be given again")
	f.BoolVar(&c.cfg.NoRecord, "plain", false, "a plain INVITE as a telephone sends it, without recording metadata")
	_ = cmd.RegisterFlagCompletionFunc("transport", cobra.FixedCompletions([]string{"udp", "tcp", "tls"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCallRTP(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.RTP)
	cmd.Short = "Send calls as plain RTP, to known or announced ports"
	cmd.Long = `Sends a recorded call as plain RTP: to ports that are known, one for each leg, or
through the HTTP interface at which calls are announced and which gives the
ports of each.`
	cmd.Example = `  callwarden call rtp call.wav --to 127.0.0.1:4000,127.0.0.1:4002
  callwarden call rtp mono.wav --to 127.0.0.1:4000 --codec PCMA
  callwarden call rtp call.wav --to http://127.0.0.1:8080 --calls 100`
	c.addRTP(cmd)
	c.addToken(cmd)
	cmd.Flags().Lookup("to").Usage = "where the calls go: HOST:PORT for each leg by comma, or the http URL that announces ports"
	return cmd
}

func newCallAudioSocket(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.AudioSocket)
	cmd.Short = "Send calls as Asterisk's AudioSocket does"
	cmd.Long = `Sends a recorded call as Asterisk's AudioSocket does: a TCP connection for each
leg. With --api the numbers and which two sockets are one call are told first.`
	cmd.Example = `  callwarden call audiosocket mono.wav --to 127.0.0.1:9092
  callwarden call audiosocket call.wav --to 127.0.0.1:9092 --leg caller
  callwarden call audiosocket call.wav --to 127.0.0.1:9092 --api http://127.0.0.1:8080`
	c.addToken(cmd)
	cmd.Flags().StringVar(&c.cfg.API, "api", "", "http URL at which calls are announced")
	return cmd
}

func newCallWHIP(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.WHIP)
	cmd.Short = "Publish calls as browsers do: WebRTC by WHIP"
	cmd.Long = `Publishes a recorded call as a browser does (RFC 9725): an SDP offer by HTTP, ICE,
DTLS, encrypted audio, and a data channel by which the call's events come back.
The legs of a stereo recording are two audio tracks of one publication, or with
--two-publications a publication each, as from two people's browsers.

Besides WAV and FLAC it takes Opus files of 20 ms packets, as opusenc makes them;
those of two channels are sent as one stereo track.`
	cmd.Example = `  callwarden call whip call.wav --to http://127.0.0.1:8080
  callwarden call whip call.wav --to http://127.0.0.1:8080 --events
  callwarden call whip call.wav --to http://127.0.0.1:8080 --two-publications --codec G722
  callwarden call whip agent.wav --to https://warden.example/v1/whip --token T --call-id 4711 --leg callee
  opusenc call.wav call.opus && callwarden call whip call.opus --to http://127.0.0.1:8080 --calls 300 --rate 20 --loop --duration 1m`
	c.addToken(cmd)
	f := cmd.Flags()
	f.Lookup("to").Usage = "where the calls go: the http URL of the WHIP endpoint, or of callwarden"
	f.Lookup("leg").Usage = "send only one leg of a stereo recording, or whose voice another is: caller or callee"
	codecs := slices.DeleteFunc(caller.Codecs(), func(name string) bool { return name == "L16" })
	f.StringVar(&c.cfg.Codec, "codec", c.cfg.Codec, "of the audio: "+strings.Join(codecs, ", "))
	f.StringVar(&c.loss, "loss", "0%", "share of the packets that is lost on purpose, such as 5%")
	f.StringVar(&c.cfg.CallID, "call-id", "", "id of the call; with --leg, publications of the same one are heard together")
	f.BoolVar(&c.cfg.TwoPublications, "two-publications", false, "publish each leg by itself")
	f.BoolVar(&c.events, "events", false, "print the events that come back, as lines of JSON before the results")
	_ = cmd.RegisterFlagCompletionFunc("codec", cobra.FixedCompletions(codecs, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCallAudioHook(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.AudioHook)
	cmd.Short = "Send calls as a contact centre does: Genesys AudioHook"
	cmd.Long = `Sends a recorded call as Genesys Cloud's AudioHook does: a WebSocket for each
call, both legs interleaved, the caller as the channel external. What comes back
for the agent's desktop is counted, and printed with --events. "answered after"
is how long the answer opened took, for which contact centres wait 5 s.`
	cmd.Example = `  callwarden call audiohook call.wav --to ws://127.0.0.1:8080/v1/audiohook/
  callwarden call audiohook call.wav --to ws://127.0.0.1:8080/v1/audiohook/ --events
  callwarden call audiohook call.wav --to wss://warden.example/v1/audiohook/ --api-key K --client-secret c2VjcmV0
  callwarden call audiohook call.wav --to ws://127.0.0.1:8080/v1/audiohook/ --calls 500 --rate 50 --loop --duration 1m`
	c.addToken(cmd)
	f := cmd.Flags()
	f.Lookup("to").Usage = "where the calls go: the ws or wss URL"
	f.StringVar(&c.cfg.Codec, "codec", c.cfg.Codec, "of the audio: PCMU, L16")
	f.StringVar(&c.cfg.APIKey, "api-key", "", "API key to show")
	f.StringVar(&c.cfg.ClientSecret, "client-secret", "", "secret that signs the requests, in base64")
	f.StringVar(&c.cfg.CA, "tls-ca", "", "PEM file of the authority that signed the server's certificate")
	f.BoolVar(&c.cfg.Insecure, "tls-insecure", false, "take any certificate")
	f.BoolVar(&c.events, "events", false, "print what comes back, as lines of JSON before the results")
	_ = cmd.RegisterFlagCompletionFunc("codec", cobra.FixedCompletions([]string{"PCMU", "L16"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCallGRPC(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.GRPC)
	cmd.Short = "Send calls as programs do: gRPC streams of CallService"
	cmd.Long = `Sends a recorded call as a program does that speaks callwarden.v1.CallService: one
stream for each call, both legs in it. What is found comes back on it, is counted,
and printed with --events. "answered after" is until the call is listened to.`
	cmd.Example = `  callwarden call grpc call.wav --to 127.0.0.1:8082
  callwarden call grpc call.wav --to 127.0.0.1:8082 --events
  callwarden call grpc call.wav --to warden.example:8082 --tls-ca ca.pem --token T
  callwarden call grpc call.wav --to 127.0.0.1:8082 --calls 300 --rate 50 --loop --duration 1m`
	c.addToken(cmd)
	f := cmd.Flags()
	f.Lookup("token").Usage = "bearer token"
	f.StringVar(&c.cfg.Codec, "codec", c.cfg.Codec, "of the audio: PCMU, PCMA, L16")
	f.DurationVar(&c.cfg.Message, "message", c.cfg.Message, "audio in a message")
	f.StringVar(&c.cfg.CA, "tls-ca", "", "speak TLS: PEM file of the authority that signed the server's certificate")
	f.BoolVar(&c.cfg.Insecure, "tls-insecure", false, "speak TLS, and take any certificate")
	f.BoolVar(&c.events, "events", false, "print what comes back, as lines of JSON before the results")
	_ = cmd.RegisterFlagCompletionFunc("codec", cobra.FixedCompletions([]string{"PCMU", "PCMA", "L16"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCallTwilio(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.Twilio)
	cmd.Short = "Send calls as Twilio Media Streams does, or Telnyx, SignalWire, Exotel"
	cmd.Long = `Sends a recorded call as Twilio Media Streams does, or one of those that speak
its protocol in a dialect: a WebSocket for each call, the audio in JSON, the
caller as the inbound track. Prompts that come back are counted, told with
--events, and answered with their mark after the time that they last.`
	cmd.Example = `  callwarden call twilio call.wav --to ws://127.0.0.1:8080/v1/twilio/
  callwarden call twilio call.wav --to wss://warden.example/v1/twilio/ --auth-token 12345678901234567890123456789012
  callwarden call twilio call.wav --to ws://127.0.0.1:8080/v1/twilio/ --speak same --events
  callwarden call twilio call.wav --to ws://127.0.0.1:8080/v1/twilio/ --dialect telnyx --codec L16 --reorder 5
  callwarden call twilio call.wav --to ws://127.0.0.1:8080/v1/twilio/ --leg caller --calls 1000 --rate 50 --loop --duration 1m`
	f := cmd.Flags()
	f.StringVar(&c.cfg.Codec, "codec", c.cfg.Codec, "of the audio: "+strings.Join(caller.Codecs(), ", ")+"; not every dialect has every one")
	f.StringVar(&c.cfg.Dialect, "dialect", c.cfg.Dialect, "whose: "+strings.Join(caller.Dialects(), ", "))
	f.StringVar(&c.cfg.AuthToken, "auth-token", "", "of the Twilio account; signs the requests")
	c.addWebSocket(cmd)
	_ = cmd.RegisterFlagCompletionFunc("codec", cobra.FixedCompletions(caller.Codecs(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("dialect", cobra.FixedCompletions(caller.Dialects(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newCallFork(a *app) *cobra.Command {
	c, cmd := newCallWay(a, caller.Fork)
	cmd.Short = "Send calls as FreeSWITCH and jambonz fork them"
	cmd.Long = `Sends a recorded call as jambonz's listen verb and FreeSWITCH's mod_audio_fork
do: a WebSocket for each call, JSON that describes it, then 16-bit audio, both
legs interleaved. Events and prompts that come back are counted, and told with
--events.`
	cmd.Example = `  callwarden call fork call.wav --to ws://127.0.0.1:8080/v1/fork/ --events
  callwarden call fork call.wav --to ws://127.0.0.1:8080/v1/fork/ --sample-rate 48000 --param queue=fraud
  callwarden call fork call.wav --to ws://127.0.0.1:8080/v1/fork/ --speak json --events
  callwarden call fork call.wav --to ws://127.0.0.1:8080/v1/fork/ --calls 1000 --rate 50 --loop --duration 1m`
	cmd.Flags().IntVar(&c.cfg.SampleRate, "sample-rate", 0, "of the audio in Hz (default: the recording's)")
	c.addWebSocket(cmd)
	return cmd
}

// addWebSocket adds the flags of ways that send audio in messages.
func (c *call) addWebSocket(cmd *cobra.Command) {
	c.addToken(cmd)
	f := cmd.Flags()
	f.Lookup("to").Usage = "where the calls go: the ws or wss URL"
	f.StringArrayVar(&c.cfg.Params, "param", nil, "what is said of the call, NAME=VALUE; may be given again")
	f.StringVar(&c.cfg.Speak, "speak", "", "tell that prompts can be played, and how: same, PCMU/8000 (twilio); json, stream (fork)")
	f.StringVar(&c.loss, "loss", "0%", "share of the messages that is lost on purpose, such as 5%")
	f.IntVar(&c.cfg.Reorder, "reorder", 0, "send one message in twenty up to so many packets late")
	f.DurationVar(&c.cfg.Jitter, "jitter", 0, "now and then send nothing for up to so long, and then all of it")
	f.StringVar(&c.cfg.CA, "tls-ca", "", "PEM file of the authority that signed the server's certificate")
	f.BoolVar(&c.cfg.Insecure, "tls-insecure", false, "take any certificate")
	f.BoolVar(&c.events, "events", false, "print what comes back, as lines of JSON before the results")
}

// newCallWay is a command with the flags that all ways have.
func newCallWay(a *app, way string) (*call, *cobra.Command) {
	c := &call{app: a, cfg: caller.DefaultConfig()}
	c.cfg.Way = way
	cmd := &cobra.Command{
		Use:  way + " FILE…",
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args) },
	}
	f := cmd.Flags()
	f.StringVar(&c.cfg.To, "to", "", "where the calls go: HOST:PORT")
	f.StringVar(&c.cfg.Bind, "bind", "", "local IP address (default: the one that leads there)")
	f.IntVar(&c.cfg.Calls, "calls", c.cfg.Calls, "calls in all")
	f.Float64Var(&c.cfg.Rate, "rate", c.cfg.Rate, "calls begun a second")
	f.DurationVar(&c.cfg.Span, "duration", 0, "how long a call lasts (default: the recording; with --loop until interrupted)")
	f.DurationVar(&c.cfg.Again, "again", 0, "for so long, place another call when one is over")
	f.BoolVar(&c.cfg.Stagger, "stagger", false, "begin the first calls somewhere in the middle, each elsewhere")
	f.BoolVar(&c.cfg.Loop, "loop", false, "begin the recording again at its end")
	f.StringVar(&c.cfg.From, "from", c.cfg.From, "number of the caller")
	f.StringVar(&c.cfg.FromName, "from-name", "", "name of the caller")
	f.StringVar(&c.cfg.Number, "to-number", c.cfg.Number, "number that is called")
	f.StringVar(&c.cfg.NumberName, "to-name", "", "name of who is called")
	f.StringVar(&c.callerSide, "caller", "left", "channel of the caller in a stereo recording: left or right")
	f.StringVar(&c.leg, "leg", "", "send only one leg: caller or callee")
	f.StringVar(&c.silent, "silent", "", "leg that is there but sends nothing: caller or callee")
	f.BoolVar(&c.cfg.DropBye, "drop-bye", false, "end without saying so")
	f.BoolVar(&c.asJSON, "json", false, "print the results as JSON")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print results only where something went wrong")
	_ = cmd.RegisterFlagCompletionFunc("caller", cobra.FixedCompletions([]string{"left", "right"}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"leg", "silent"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions([]string{"caller", "callee"}, cobra.ShellCompDirectiveNoFileComp))
	}
	return c, cmd
}

func (c *call) addRTP(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.cfg.Codec, "codec", c.cfg.Codec, "of the audio: "+strings.Join(caller.Codecs(), ", "))
	f.StringVar(&c.loss, "loss", "0%", "share of the packets that is lost on purpose, such as 5%")
	f.IntVar(&c.cfg.Reorder, "reorder", 0, "send one packet in twenty up to so many packets late")
	f.BoolVar(&c.cfg.NoRTCP, "no-rtcp", false, "send no RTCP")
	_ = cmd.RegisterFlagCompletionFunc("codec", cobra.FixedCompletions(caller.Codecs(), cobra.ShellCompDirectiveNoFileComp))
}

func (c *call) addToken(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.cfg.Token, "token", "", "bearer token of the http interface")
}

func (c *call) run(ctx context.Context, paths []string) error {
	if err := c.flags(); err != nil {
		return err
	}
	var recs []*caller.Recording
	for _, path := range paths {
		rec, err := c.recording(path)
		if err != nil {
			return err
		}
		recs = append(recs, rec)
	}
	if err := c.cfg.Validate(); err != nil {
		return usagef("%w", err)
	}
	if c.events {
		c.cfg.Events = c.out
	}
	watch := &caller.Progress{}
	bar := newCallBar(c.err, c.cfg, recs, watch)
	results, err := caller.Run(ctx, c.cfg, recs, watch)
	bar.close()
	if results == nil {
		return err
	}
	switch {
	case c.asJSON:
		enc := json.NewEncoder(c.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	case !c.quiet || !results.Good():
		printCalls(c.out, results)
	}
	if err == nil && !results.Good() {
		err = &quietError{fmt.Errorf("not every call was taken and came to its own end")}
	}
	return err
}

// flags reads those that stand for something else.
func (c *call) flags() (err error) {
	if c.callerSide != "left" && c.callerSide != "right" {
		return usagef("--caller: %q must be left or right", c.callerSide)
	}
	if c.cfg.Silent, err = someLeg("--silent", c.silent); err != nil {
		return err
	}
	if c.only, err = someLeg("--leg", c.leg); err != nil {
		return err
	}
	if c.loss != "" {
		if c.cfg.Loss, err = share(c.loss); err != nil {
			return usagef("--loss: %w", err)
		}
	}
	return nil
}

// recording opens the file with what the flags say of its legs.
func (c *call) recording(path string) (*caller.Recording, error) {
	open := func(path string) (*caller.Recording, error) { return caller.Open(path, c.callerSide == "right") }
	if c.cfg.Way == caller.WHIP && caller.IsOpus(path) {
		open = caller.OpenOpus
	}
	rec, err := open(path)
	if err != nil || c.only == audio.Unknown {
		return rec, err
	}
	if c.cfg.Way == caller.WHIP && len(rec.Legs) == 1 {
		rec.Legs[0].Leg = c.only
		return rec, nil
	}
	if rec, err = rec.Only(c.only); err != nil {
		return nil, usagef("--leg: %w", err)
	}
	return rec, nil
}

// someLeg is the leg named by a flag, Unknown where it is empty.
func someLeg(flag, name string) (audio.Leg, error) {
	switch name {
	case "":
		return audio.Unknown, nil
	case "caller":
		return audio.Caller, nil
	case "callee":
		return audio.Callee, nil
	}
	return audio.Unknown, usagef("%s: %q must be caller or callee", flag, name)
}

// share reads 5% or 0.05.
func share(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q must be a share such as 5%%", s)
	}
	if percent {
		v /= 100
	}
	return v, nil
}

func printCalls(out io.Writer, r *caller.Results) {
	fmt.Fprintf(out, "%d of %d calls answered", r.Answered, r.Placed)
	if r.Interrupted {
		fmt.Fprint(out, ", interrupted")
	}
	fmt.Fprintf(out, " in %.0f s\n", r.WallS)
	if t := r.Setup; t != nil {
		fmt.Fprintf(out, "answered after  p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms\n", t.P50, t.P90, t.P99, t.Max)
	}
	fmt.Fprintf(out, "%d packets sent, none more than %.1f ms late", r.Packets, r.Behind)
	if r.Spoilt > 0 {
		fmt.Fprintf(out, "; %d lost on purpose", r.Spoilt)
	}
	if r.Unsent > 0 {
		fmt.Fprintf(out, "; %d could not be sent", r.Unsent)
	}
	fmt.Fprintln(out)
	if r.Events > 0 {
		fmt.Fprintf(out, "%d events came back\n", r.Events)
	}
	if r.Prompts > 0 {
		fmt.Fprintf(out, "%d prompts came back\n", r.Prompts)
	}
	if r.Reports > 0 {
		fmt.Fprintf(out, "%d lost, say %d receiver reports\n", r.ReportedLost, r.Reports)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, group := range []struct {
		title  string
		counts map[string]int
	}{{"refused", r.Refused}, {"failed", r.Failed}, {"ended by the peer", r.Ended}} {
		for _, why := range slices.Sorted(maps.Keys(group.counts)) {
			fmt.Fprintf(w, "%s\t%d\t%s\n", group.title, group.counts[why], why)
		}
	}
	_ = w.Flush() // to a terminal or a pipe; a broken one shows elsewhere
}

// callBar shows on a terminal how far the calls are.
type callBar struct {
	bars progress.Writer // nil where there is no terminal
	stop func()
}

func newCallBar(out io.Writer, cfg caller.Config, recs []*caller.Recording, watch *caller.Progress) *callBar {
	width, ok := terminal(out)
	if !ok {
		return &callBar{}
	}
	var last time.Duration
	for _, r := range recs {
		last = max(last, r.Length())
	}
	if cfg.Loop || cfg.Span > 0 && cfg.Span < last {
		last = cfg.Span
	}
	begins := time.Duration(float64(cfg.Calls-1) / cfg.Rate * float64(time.Second))
	b := &callBar{bars: newBars(out, width)}
	b.bars.SetMessageLength(max(20, min(60, width/2)))
	t := &progress.Tracker{Total: (max(begins, cfg.Again) + last).Milliseconds()}
	if cfg.Loop && cfg.Span == 0 {
		t.Total = 0 // nobody knows
	}
	begin := time.Now()
	show := func() {
		t.UpdateMessage(fmt.Sprintf("%d calls up, %d over, %d refused, %d failed", watch.Up.Load(), watch.Over.Load(), watch.Refused.Load(), watch.Failed.Load()))
		t.SetValue(min(time.Since(begin).Milliseconds(), max(t.Total-1, 0)))
	}
	show()
	b.bars.AppendTracker(t)
	go b.bars.Render() // ends with close, which waits for it
	tick := time.NewTicker(200 * time.Millisecond)
	over, shown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(shown)
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				show()
			}
		}
	}()
	b.stop = func() {
		tick.Stop()
		close(over)
		<-shown
		t.MarkAsDone()
	}
	return b
}

func (b *callBar) close() {
	if b.bars == nil {
		return
	}
	b.stop()
	stopBars(b.bars)
}
