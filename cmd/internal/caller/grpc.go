package caller

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/callwarden/callwarden/pipeline/source/announce"
	"github.com/callwarden/callwarden/proto/callwarden/callclient"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	// callsPerConnection is how many calls share one, as those of one machine do.
	callsPerConnection = 100
	// streamQueue is how much audio may wait for a server that does not take it.
	streamQueue = 5 * time.Second
	// lastWordsWithin is how long a server may take to judge a call's last words.
	lastWordsWithin = 20 * time.Second
)

// grpcCalls is a client of callwarden.v1.CallService.
type grpcCalls struct {
	cfg     Config
	watch   *Progress
	clients []*callclient.Client
	span    int // packets in a message
	pacer   *pacer
	plays   []*grpcPlay // what calls play, in turn
	print   sync.Mutex

	packets, unsent, events atomic.Uint64
}

// grpcPlay is a recording as messages.
type grpcPlay struct {
	open     *callwardenv1.CallOpen
	messages [][]callclient.Audio
}

func (c Config) validateGRPC() error {
	if _, _, err := net.SplitHostPort(c.To); err != nil {
		return fmt.Errorf("--to: %q must be HOST:PORT", c.To)
	}
	if strings.EqualFold(c.Codec, "G722") {
		return fmt.Errorf("--codec: CallService takes no %s: use PCMU, PCMA or L16", c.Codec)
	}
	if c.Message < packetTime || c.Message > time.Second || c.Message%packetTime != 0 {
		return fmt.Errorf("--message: %v must be a multiple of %v, at most 1s", c.Message, packetTime)
	}
	return nil
}

func newGRPC(cfg Config, recs []*Recording, watch *Progress) (*grpcCalls, error) {
	g := &grpcCalls{cfg: cfg, watch: watch, span: int(cfg.Message / packetTime), pacer: &pacer{flush: func() {}}}
	for _, rec := range recs {
		p, err := newGRPCPlay(cfg, rec, g.span)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rec.Path, err)
		}
		g.plays = append(g.plays, p)
	}
	to := callclient.Config{Address: "passthrough:///" + cfg.To, Token: cfg.Token}
	if cfg.CA != "" || cfg.Insecure {
		roots, err := cfg.roots()
		if err != nil {
			return nil, err
		}
		host, _, _ := net.SplitHostPort(cfg.To)
		to.TLS = &tls.Config{
			MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots, InsecureSkipVerify: cfg.Insecure, //nolint:gosec // when the user says so
		}
	}
	for range (cfg.Calls + callsPerConnection - 1) / callsPerConnection {
		client, err := callclient.Dial(to)
		if err != nil {
			return nil, err
		}
		g.clients = append(g.clients, client)
	}
	return g, nil
}

// newGRPCPlay encodes rec in messages of so many packets.
func newGRPCPlay(cfg Config, rec *Recording, span int) (*grpcPlay, error) {
	p := &grpcPlay{open: &callwardenv1.CallOpen{
		From: cfg.From, FromName: cfg.FromName, To: cfg.Number, ToName: cfg.NumberName, RateHz: 8000,
		Wants: &callwardenv1.CallWants{Transcripts: cfg.Events != nil, Prompts: cfg.Events != nil},
	}}
	size := 1
	switch strings.ToUpper(cfg.Codec) {
	case "PCMU":
		p.open.Encoding = callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU
	case "PCMA":
		p.open.Encoding = callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA
	default:
		p.open.Encoding, size = callwardenv1.AudioEncoding_AUDIO_ENCODING_LINEAR16, 2
		if rec.RateHz >= 16000 {
			p.open.RateHz = 16000
		}
	}
	each := span * int(p.open.RateHz) / 50 * size // bytes
	for _, side := range rec.Legs {
		leg := callwardenv1.Leg(side.Leg)
		p.open.Legs = append(p.open.Legs, leg)
		pcm, err := resampled(side.PCM, rec.RateHz, int(p.open.RateHz))
		if err != nil {
			return nil, err
		}
		samples := samplesOf(p.open.Encoding, pcm)
		for i := 0; i*each < len(samples); i++ {
			if len(p.messages) <= i {
				p.messages = append(p.messages, nil)
			}
			if cfg.Silent == audio.Unknown || side.Leg != cfg.Silent {
				p.messages[i] = append(p.messages[i], callclient.Audio{Leg: leg, Samples: samples[i*each : min((i+1)*each, len(samples))]})
			}
		}
	}
	return p, nil
}

func samplesOf(encoding callwardenv1.AudioEncoding, pcm []int16) []byte {
	switch encoding {
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMU:
		return audio.MuLaw.Encode(nil, pcm)
	case callwardenv1.AudioEncoding_AUDIO_ENCODING_PCMA:
		return audio.ALaw.Encode(nil, pcm)
	}
	samples := make([]byte, 0, 2*len(pcm))
	for _, v := range pcm {
		samples = binary.LittleEndian.AppendUint16(samples, uint16(v))
	}
	return samples
}

// run implements way.
func (g *grpcCalls) run(ctx context.Context) error {
	g.pacer.run(ctx)
	return nil
}

// place implements way.
func (g *grpcCalls) place(ctx context.Context, n int) (o outcome) {
	p := g.plays[n%len(g.plays)]
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, end) // until the call is up
	begin := time.Now()
	open := &callwardenv1.CallOpen{
		Id: announce.NewID("call"), From: p.open.From, FromName: p.open.FromName, To: p.open.To, ToName: p.open.ToName,
		RateHz: p.open.RateHz, Encoding: p.open.Encoding, Legs: p.open.Legs, Wants: p.open.Wants,
	}
	call, err := g.clients[n%len(g.clients)].Begin(life, open)
	if err != nil {
		return refusedCall(err)
	}
	stop()
	o = outcome{answered: true, setup: time.Since(begin)}
	g.watch.Up.Add(1)
	defer g.watch.Up.Add(-1)
	connected := time.Now()
	s := &grpcStream{g: g, call: call, play: p, waiting: make(chan []callclient.Audio, int(streamQueue/g.cfg.Message))}
	s.from, s.packets = g.cfg.packets(n, len(p.messages)*g.span)
	s.from /= g.span

	var working sync.WaitGroup
	defer working.Wait()
	defer end()
	over := make(chan error, 1) // holds why the call ended, nil where as it should
	working.Go(func() { over <- g.listen(call) })
	ended, told := g.play(ctx, s, over)
	o.seconds = time.Since(connected).Seconds()
	switch {
	case told && ended == nil:
		o.end = "ended by the server"
	case told:
		o.end = describe(ended)
	case g.cfg.DropBye:
	default:
		o.err = hangUpCall(call, over)
	}
	return o
}

// play sends s to its end, until ctx ends, or until the server ends the call:
// then it returns why.
func (g *grpcCalls) play(ctx context.Context, s *grpcStream, over <-chan error) (why error, ended bool) {
	sent := make(chan struct{})
	go func() { defer close(sent); s.send() }() // ends when waiting is closed
	playing := g.pacer.add(s)
	select {
	case <-playing[0].done:
	case <-ctx.Done():
	case why = <-over:
		ended = true
	}
	g.pacer.stop(playing...)
	close(s.waiting)
	if !ended {
		select {
		case <-sent:
		case why = <-over:
			ended = true
		}
	}
	<-sent
	return why, ended
}

// hangUpCall waits until the server has judged the last words.
func hangUpCall(call *callclient.Call, over <-chan error) error {
	if err := call.HangUp(""); err != nil {
		return fmt.Errorf("hanging up: %w", err)
	}
	late := time.NewTimer(lastWordsWithin)
	defer late.Stop()
	select {
	case err := <-over:
		if err != nil {
			return fmt.Errorf("%s", describe(err))
		}
		return nil
	case <-late.C:
		return fmt.Errorf("the last words were not judged within %v", lastWordsWithin)
	}
}

// listen counts what comes back until the call ends.
func (g *grpcCalls) listen(call *callclient.Call) error {
	for r, err := range call.Responses() {
		if err != nil {
			return err
		}
		g.events.Add(1)
		if g.cfg.Events == nil {
			continue
		}
		if p := r.GetPrompt(); p != nil {
			p.Samples = nil // for ears, not for eyes
		}
		data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r)
		var line bytes.Buffer
		if err == nil && json.Compact(&line, data) == nil {
			line.WriteByte('\n')
			g.print.Lock()
			_, _ = g.cfg.Events.Write(line.Bytes()) // to a terminal or a pipe; a broken one shows elsewhere
			g.print.Unlock()
		}
	}
	return nil
}

// refusedCall is a call that was not opened: refused for a reason, or failed.
func refusedCall(err error) outcome {
	if reason, _ := callclient.Reason(err); reason != "" {
		return outcome{refusal: describe(err)}
	}
	return outcome{err: fmt.Errorf("%s", describe(err))}
}

// describe is an error of gRPC without what differs from call to call.
func describe(err error) string {
	s := status.Convert(err)
	if reason, _ := callclient.Reason(err); reason != "" {
		return reason
	}
	return s.Code().String() + ": " + s.Message()
}

// count implements way.
func (g *grpcCalls) count(r *Results) {
	r.Packets, r.Unsent, r.Events = g.packets.Load(), g.unsent.Load(), g.events.Load()
	r.Behind = float64(g.pacer.lateness().Microseconds()) / 1000
}

// close implements way.
func (g *grpcCalls) close() error {
	for _, c := range g.clients {
		_ = c.Close() // the calls are over
	}
	return nil
}

// grpcStream is one call's audio. packet is of the pacer's goroutine.
type grpcStream struct {
	g       *grpcCalls
	call    *callclient.Call
	play    *grpcPlay
	from    int                     // message that it begins with
	packets int                     // of 20 ms
	waiting chan []callclient.Audio // packet sends, play closes, send takes
}

// packet implements paced: a message goes out when its packets are there.
func (s *grpcStream) packet(n int) (more bool) {
	more = n+1 < s.packets
	if (n+1)%s.g.span == 0 || !more {
		select {
		case s.waiting <- s.play.messages[(s.from+n/s.g.span)%len(s.play.messages)]:
		default:
			s.g.unsent.Add(1)
		}
	}
	return more
}

// send sends until nothing more comes; after an error what comes is lost.
func (s *grpcStream) send() {
	broken := false
	for m := range s.waiting {
		if !broken {
			broken = s.call.Send(m...) != nil
		}
		if broken {
			s.g.unsent.Add(1)
			continue
		}
		s.g.packets.Add(1)
	}
}
