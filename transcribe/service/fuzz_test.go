package service

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/transcribetest"
)

// script turns bytes into the messages of a stream: a kind, and what it needs.
func script(data []byte) (reqs []*callwardenv1.TranscribeRequest) {
	next := func() (b byte) {
		if len(data) > 0 {
			b, data = data[0], data[1:]
		}
		return b
	}
	for len(data) > 0 && len(reqs) < 40 {
		switch kind := next(); kind % 8 {
		case 0:
			reqs = append(reqs, &callwardenv1.TranscribeRequest{})
		case 1:
			reqs = append(reqs, pause())
		case 2, 3:
			reqs = append(reqs, config(func(c *callwardenv1.TranscribeConfig) {
				c.RateHz = []int32{0, 16000, 8000, 48000, 44100, -1, 1}[next()%7]
				c.Encoding = callwardenv1.AudioEncoding(next()%5) - 1
				c.Leg = callwardenv1.Leg(next()%5) - 1
				c.Live, c.Thrifty = kind&16 != 0, kind&32 != 0
				if kind&64 != 0 {
					c.Phrases = []string{"wb wc", strings.ToValidUTF8(string(data[:min(len(data), 3)]), "?")}
					c.Language = "en"
				}
			}))
		default:
			a := &callwardenv1.TranscribeAudio{Again: kind&32 != 0}
			if kind&64 != 0 {
				a.Start = &durationpb.Duration{Seconds: int64(int8(next())), Nanos: int32(next()) * 7_812_500}
			}
			n := int(next()) * 16
			for i := range n {
				a.Samples = append(a.Samples, byte(i/320)*(next()%4))
			}
			reqs = append(reqs, raw(a))
		}
	}
	return reqs
}

// Whatever is sent, the stream ends: well, with as many answers as there were
// messages and one more, or with a named status. The session is closed then,
// and the next stream is heard.
func FuzzStream(f *testing.F) {
	for _, seed := range [][]byte{
		nil,
		{0},
		{1},
		{4, 10},
		{2, 0, 0, 1, 4, 200, 1, 1},
		{2, 2, 2, 1, 4, 200, 4, 200, 1, 4, 10},
		{3, 1, 2, 1, 68, 255, 3, 8},
		{18, 0, 2, 2, 4, 40, 36, 40},
		{2, 0, 0, 0, 2, 0, 0, 0},
		{2, 0, 2, 1, 68, 1, 0, 250, 68, 0, 0, 250},
		{2, 0, 0, 0, 4, 1},
		{66, 0, 0, 0, 1, 2, 3},
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	engine := &transcribetest.Echo{Language: "en-US"}
	r := start(f, engine, nil)
	f.Fuzz(func(t *testing.T, data []byte, closes bool) {
		reqs := script(data)
		l := r.leg(t).send(reqs...)
		answers := 0
		if !closes { // wait for the answers first
			for range reqs {
				if _, err := l.wire.Recv(); err != nil {
					break
				}
				answers++
			}
		}
		_ = l.wire.CloseSend()
		rest, err := l.end()
		answers += len(rest)
		switch status.Code(err) {
		case codes.OK:
			if answers != len(reqs)+1 && closes {
				t.Errorf("%d answers to %d messages", answers, len(reqs))
			}
		case codes.InvalidArgument, codes.FailedPrecondition:
			if reason := reasonOf(err); reason == status.Code(err).String() {
				t.Errorf("%v has no reason", err)
			}
		default:
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
		}
		waitFor(t, "the session to be closed", func() bool { return engine.Now.Load() == 0 })
	})
}
