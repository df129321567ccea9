package voskserver_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/audio"
	"github.com/callwarden/callwarden/transcribe/vosk"
	"github.com/callwarden/callwarden/transcribe/voskserver/voskpb"
)

const rate = 16000

// newVosk is the recogniser behind the servers of these tests.
func newVosk(t testing.TB) *vosk.Engine {
	t.Helper()
	cfg := vosk.DefaultConfig()
	cfg.Library, cfg.Model = installed(t)
	engine, err := vosk.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func installed(t testing.TB) (library, model string) {
	t.Helper()
	dir, err := models.DataDir("")
	if err != nil {
		t.Fatal(err)
	}
	store := models.Open(dir)
	if library, err = store.Path(models.DefaultLibrary); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	if model, err = store.Path(models.DefaultModel); err != nil {
		t.Fatalf("%v\ntype: make models", err)
	}
	return library, model
}

// speech is two sentences; see make-speech.sh beside it.
func speech(t testing.TB) []int16 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "vosk", "testdata", "speech.wav"))
	if err != nil {
		t.Fatal(err)
	}
	return samples(data[44:])
}

func samples(data []byte) []int16 {
	pcm := make([]int16, len(data)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return pcm
}

// recogniser is the part of Vosk's KaldiRecognizer that its servers use, on an
// engine of ours: one result for each piece of audio.
type recogniser struct {
	session transcribe.Session
	rateHz  int
	heard   int
	partial string
}

func (r *recogniser) acceptWaveform(ctx context.Context, data []byte) (final *transcribe.Segment, err error) {
	f := audio.Frame{Start: audio.Span(r.heard, r.rateHz), Rate: r.rateHz, PCM: samples(data)}
	r.heard += len(f.PCM)
	segments, err := r.session.Write(ctx, f)
	return r.take(segments), err
}

func (r *recogniser) finalResult(ctx context.Context) (final transcribe.Segment, err error) {
	segments, err := r.session.Finish(ctx)
	if f := r.take(segments); f != nil {
		final = *f
	}
	return final, err
}

func (r *recogniser) take(segments []transcribe.Segment) (final *transcribe.Segment) {
	for _, s := range segments {
		r.partial = s.Text
		if s.Final {
			r.partial = ""
			final = &s
		}
	}
	return final
}

func voskText(text string) string { return strings.ReplaceAll(text, "…", "[unk]") }

func resultJSON(s transcribe.Segment) string {
	type word struct {
		Conf  float32 `json:"conf"`
		End   float64 `json:"end"`
		Start float64 `json:"start"`
		Word  string  `json:"word"`
	}
	var words []word
	for _, w := range s.Words {
		words = append(words, word{w.Confidence, w.End.Seconds(), w.Start.Seconds(), voskText(w.Text)})
	}
	text, _ := json.Marshal(struct {
		Result []word `json:"result,omitempty"`
		Text   string `json:"text"`
	}{words, voskText(s.Text)})
	return string(text)
}

// webSocketServer does what websocket/asr_server.py of vosk-server does,
// message by message.
func webSocketServer(engine transcribe.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		conn.SetReadLimit(1 << 20)
		ctx := req.Context()
		var rec *recogniser
		var phrases []string
		rateHz := 8000
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if kind == websocket.MessageText && strings.Contains(string(message), "config") {
				var m struct {
					Config struct {
						SampleRate float64  `json:"sample_rate"`
						PhraseList []string `json:"phrase_list"`
					} `json:"config"`
				}
				if err := json.Unmarshal(message, &m); err != nil {
					return
				}
				rateHz, phrases = int(m.Config.SampleRate), nil
				for _, p := range m.Config.PhraseList {
					if p != "[unk]" { // the engine adds it itself
						phrases = append(phrases, strings.ReplaceAll(p, "[unk]", "…"))
					}
				}
				continue
			}
			if rec == nil {
				session, err := engine.Open(ctx, transcribe.Options{RateHz: rateHz, Phrases: phrases})
				if err != nil {
					_ = conn.Close(websocket.StatusInternalError, "")
					return
				}
				defer session.Close()
				rec = &recogniser{session: session, rateHz: rateHz}
			}
			var response string
			stop := false
			if string(message) == `{"eof" : 1}` { // as a string, spaces and all
				final, err := rec.finalResult(ctx)
				if err != nil {
					return
				}
				response, stop = resultJSON(final), true
			} else if final, err := rec.acceptWaveform(ctx, message); err != nil {
				return
			} else if final != nil {
				response = resultJSON(*final)
			} else {
				text, _ := json.Marshal(map[string]string{"partial": voskText(rec.partial)})
				response = string(text)
			}
			if conn.Write(ctx, websocket.MessageText, []byte(response)) != nil {
				return
			}
			if stop {
				_ = conn.Close(websocket.StatusNormalClosure, "")
				return
			}
		}
	})
}

func startWebSocket(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return "ws://" + server.Listener.Addr().String()
}

type (
	request  = voskpb.StreamingRecognitionRequest
	response = voskpb.StreamingRecognitionResponse
	serverOf = grpc.GenericServerStream[request, response]
)

// grpcServer does what grpc/stt_server.py of vosk-server does.
func grpcServer(engine transcribe.Engine) func(stream *serverOf) error {
	return func(stream *serverOf) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		spec := first.GetConfig().GetSpecification()
		session, err := engine.Open(stream.Context(), transcribe.Options{RateHz: int(spec.GetSampleRateHertz())})
		if err != nil {
			return status.Error(codes.Unknown, err.Error())
		}
		defer session.Close()
		rec := &recogniser{session: session, rateHz: int(spec.GetSampleRateHertz())}
		say := func(text string, words []*voskpb.WordInfo, final bool) error {
			return stream.Send(&response{Chunks: []*voskpb.SpeechRecognitionChunk{{
				Alternatives: []*voskpb.SpeechRecognitionAlternative{{Text: text, Words: words}}, Final: final,
			}}})
		}
		result := func(s transcribe.Segment) error {
			var words []*voskpb.WordInfo
			for _, w := range s.Words {
				words = append(words, &voskpb.WordInfo{
					StartTime: durationpb.New(w.Start.Truncate(time.Millisecond)), EndTime: durationpb.New(w.End.Truncate(time.Millisecond)),
					Word: w.Text, Confidence: w.Confidence,
				})
			}
			return say(s.Text, words, true)
		}
		for {
			req, err := stream.Recv()
			if err != nil {
				break
			}
			final, err := rec.acceptWaveform(stream.Context(), req.GetAudioContent())
			switch {
			case err != nil:
				return err
			case final != nil:
				err = result(*final)
			case spec.GetPartialResults():
				err = say(rec.partial, nil, false)
			}
			if err != nil {
				return err
			}
		}
		final, err := rec.finalResult(stream.Context())
		if err != nil {
			return err
		}
		return result(final)
	}
}

func startGRPC(t *testing.T, creds credentials.TransportCredentials, serve func(*serverOf) error) string {
	t.Helper()
	server := grpc.NewServer(grpc.Creds(creds))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "vosk.stt.v1.SttService",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "StreamingRecognize", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return serve(&serverOf{ServerStream: s}) },
		}},
	}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}) // closed when the server has stopped
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return "grpc://" + l.Addr().String()
}

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
