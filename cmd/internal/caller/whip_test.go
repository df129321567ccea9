package caller

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/source/whipsrc"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// whipServer is a WHIP endpoint whose calls go to l.
func whipServer(t *testing.T, cfg whipsrc.Config, l *ledger) string {
	t.Helper()
	cfg.UDP = "127.0.0.1:0"
	src, err := whipsrc.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, src, l)
	web := httptest.NewServer(src.Handler())
	t.Cleanup(web.Close)
	return web.URL
}

func whipConfig(to string) Config {
	cfg := DefaultConfig()
	cfg.Way, cfg.To, cfg.Bind = WHIP, to, "127.0.0.1"
	return cfg
}

func TestWHIPIsHeardAsSent(t *testing.T) {
	rec := twoLegs(500 * time.Millisecond)
	for _, c := range []struct {
		name, codec string
		two         bool
		want        func(pcm []int16) []int16
	}{
		{"one publication", "PCMU", false, func(pcm []int16) []int16 { return audio.MuLaw.Decode(nil, audio.MuLaw.Encode(nil, pcm)) }},
		{"two publications", "PCMA", true, func(pcm []int16) []int16 { return audio.ALaw.Decode(nil, audio.ALaw.Encode(nil, pcm)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var printed bytes.Buffer
			l := ledger{tell: []sink.Event{{
				ID: "e1", Type: sink.RiskLevel, Tenant: "default", Call: "c", Source: "callwarden/whip",
				Data: &callwardenv1.RiskLevel{Context: &callwardenv1.CallContext{Tenant: "default", Call: "c"}},
			}}}
			cfg := whipConfig(whipServer(t, whipsrc.DefaultConfig(), &l))
			cfg.Codec, cfg.TwoPublications, cfg.From, cfg.Events = c.codec, c.two, "+12025550177", &printed
			pages := 1
			if c.two {
				pages = 2
			}
			got := run(t, cfg, rec)
			if !got.Good() || got.Answered != 1 || got.Packets != 50 || got.Events != uint64(pages) || got.Codec != c.codec {
				t.Fatalf("results %+v", got)
			}
			if n := strings.Count(printed.String(), `"type":"callwarden.risk.level.v1"`); n != pages || !strings.HasSuffix(printed.String(), "\n") {
				t.Errorf("printed %q", printed.String())
			}
			await(t, "a call", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 1 })
			if from := l.calls[0].Attributes["from"]; from != "+12025550177" {
				t.Errorf("from %s", from)
			}
			for _, side := range rec.Legs {
				// The last packets may be on their way when the call is hung up.
				sent := side.PCM[:len(side.PCM)-800]
				if !contains(l.heard[0][side.Leg], c.want(sent)) {
					t.Errorf("what was heard of the %s is not what was sent", side.Leg)
				}
			}
		})
	}
}

func TestWHIPSendsOpusFilesAsTheyAre(t *testing.T) {
	for _, channels := range []int{1, 2} {
		path := filepath.Join(t.TempDir(), "call.opus")
		packets := silk(t)
		packets = slices.Concat(packets, packets)
		if err := os.WriteFile(path, ogg(channels, packets, 7), 0o600); err != nil {
			t.Fatal(err)
		}
		rec, err := OpenOpus(path)
		if err != nil || rec.Length() != time.Duration(len(packets))*packetTime || len(rec.Legs) != channels {
			t.Fatalf("%v of %d legs, %v", rec.Length(), len(rec.Legs), err)
		}
		var l ledger
		got := run(t, whipConfig(whipServer(t, whipsrc.DefaultConfig(), &l)), rec)
		if !got.Good() || got.Packets != uint64(len(packets)) || got.Codec != "opus" {
			t.Fatalf("results %+v", got)
		}
		await(t, "a call", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 1 })
		if n := len(l.heard[0]); n != channels {
			t.Errorf("%d legs were heard of %d channels", n, channels)
		}
		for leg, pcm := range l.heard[0] {
			if len(pcm) < (len(packets)-3)*320 || loudness(pcm) < 500 {
				t.Errorf("%s: %d samples of level %.0f", leg, len(pcm), loudness(pcm))
			}
		}
	}
}

func loudness(pcm []int16) float64 {
	sum := 0.0
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(pcm)))
}

func TestWHIPRefusalsAreTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("bank 0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := whipsrc.DefaultConfig()
	server.TokensFile = file
	var l ledger
	cfg := whipConfig(whipServer(t, server, &l))
	rec := twoLegs(100 * time.Millisecond)
	got := run(t, cfg, rec)
	if got.Good() || got.Refused["401 Unauthorized (the bearer token is missing or wrong)"] != 1 {
		t.Errorf("results %+v", got)
	}
	cfg.Token, cfg.CallID = "0123456789abcdef", "c-1"
	if got := run(t, cfg, rec); !got.Good() {
		t.Errorf("results %+v", got)
	}
	await(t, "a call", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.calls) == 1 })
	if l.calls[0].ID != "c-1" || l.calls[0].Tenant != "bank" {
		t.Errorf("call %s of %s", l.calls[0].ID, l.calls[0].Tenant)
	}
}

func TestWHIPFlagsAreChecked(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		say    string
	}{
		{func(c *Config) { c.To = "127.0.0.1:8080" }, "--to"},
		{func(c *Config) { c.Codec = "L16" }, "--codec"},
		{func(c *Config) { c.CallID = "a b" }, "--call-id"},
	} {
		cfg := whipConfig("http://127.0.0.1:8080")
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%v, want %s", err, c.say)
		}
	}
}

// silk are packets of 20 ms that libopus made.
func silk(t testing.TB) (all [][]byte) {
	t.Helper()
	text, err := os.ReadFile("../../../pipeline/source/media/testdata/opus-silk.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		p, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// ogg is an Ogg file of these packets, with so many segments a page.
func ogg(channels int, packets [][]byte, segments int) []byte {
	head := append([]byte("OpusHead\x01"), byte(channels), 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0)
	var lengths, body []byte
	for _, p := range slices.Concat([][]byte{head, []byte("OpusTags")}, packets) {
		for n := len(p); ; n -= 255 {
			lengths = append(lengths, byte(min(n, 255)))
			if n < 255 {
				break
			}
		}
		body = append(body, p...)
	}
	var out []byte
	for page := range slices.Chunk(lengths, segments) {
		size := 0
		for _, l := range page {
			size += int(l)
		}
		out = append(out, "OggS\x00\x00"...)
		out = append(out, make([]byte, 8)...) // granule position
		out = binary.LittleEndian.AppendUint32(out, 77)
		out = append(out, make([]byte, 8)...) // number, checksum
		out = append(out, byte(len(page)))
		out = append(append(out, page...), body[:size]...)
		body = body[size:]
	}
	return out
}

func TestOggPacketsAreFoundWhereverPagesBreak(t *testing.T) {
	long := append([]byte{0x08}, bytes.Repeat([]byte{1}, 600)...) // SILK of 20 ms
	whole := append([]byte{0x08}, bytes.Repeat([]byte{2}, 254)...)
	want := [][]byte{{0x08, 1}, long, whole, {0x08}}
	for segments := 1; segments < 12; segments++ {
		channels, got, err := parseOgg(ogg(2, want, segments))
		if err != nil || channels != 2 || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d segments a page: %d channels, %d packets, %v", segments, channels, len(got), err)
		}
	}
}

func TestOggFilesThatCannotBeSentAreRefused(t *testing.T) {
	short := [][]byte{{0x00, 1}} // 10 ms
	for _, c := range []struct {
		name string
		file []byte
		say  string
	}{
		{"empty", nil, "no audio"},
		{"a WAV file", bytes.Repeat([]byte("RIFF"), 20), "page 0"},
		{"no Opus", bytes.Replace(ogg(1, silk(t), 7), []byte("OpusHead"), []byte("\x01vorbis."), 1), "OpusHead"},
		{"no channels", ogg(0, silk(t), 7), "0 channels"},
		{"six channels", ogg(6, silk(t), 7), "6 channels"},
		{"packets of 10 ms", ogg(1, short, 7), "--framesize 20"},
		{"headers only", ogg(1, nil, 7), "no audio"},
	} {
		if _, _, err := parseOgg(c.file); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want %q", c.name, err, c.say)
		}
	}
	if _, err := Run(t.Context(), siprecConfig("127.0.0.1:1"), []*Recording{{opus: short}}, &Progress{}); err == nil {
		t.Error("an Opus file was taken for SIPREC")
	}
}

// Packets that are found are of 20 ms and no longer in all than the file.
func FuzzOgg(f *testing.F) {
	f.Add(ogg(1, silk(f), 7))
	f.Add(ogg(2, [][]byte{bytes.Repeat([]byte{8}, 600)}, 1))
	f.Add([]byte("OggS\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		channels, packets, err := parseOgg(b)
		if err != nil {
			return
		}
		if channels < 1 || channels > 2 || len(packets) == 0 {
			t.Fatalf("%d channels, %d packets", channels, len(packets))
		}
		size := 0
		for _, p := range packets {
			size += len(p)
			if opusTime(p) != packetTime {
				t.Fatalf("a packet of %v", opusTime(p))
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes of %d", size, len(b))
		}
	})
}
