package audio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mewkiz/flac"
	"github.com/mewkiz/flac/frame"
	"github.com/mewkiz/flac/meta"
)

// tone is n samples of a sine at half of full scale.
func tone(n int, hz, rateHz float64) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(16384 * math.Sin(2*math.Pi*hz*float64(i)/rateHz))
	}
	return pcm
}

// chunk is one RIFF chunk with its padding.
func chunk(id string, body []byte) []byte {
	out := append([]byte(id), binary.LittleEndian.AppendUint32(nil, uint32(len(body)))...)
	out = append(out, body...)
	if len(body)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

// riff is a whole file of chunks.
func riff(chunks ...[]byte) []byte {
	body := append([]byte("WAVE"), bytes.Join(chunks, nil)...)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// fmtChunk is a plain fmt chunk.
func fmtChunk(codec wavCodec, channels, rateHz, bits int) []byte {
	return chunk("fmt ", fmtBody(codec, channels, rateHz, bits))
}

func fmtBody(codec wavCodec, channels, rateHz, bits int) []byte {
	le := binary.LittleEndian
	block := channels * ((bits + 7) / 8)
	b := le.AppendUint16(nil, uint16(codec))
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rateHz))
	b = le.AppendUint32(b, uint32(rateHz*block))
	b = le.AppendUint16(b, uint16(block))
	return le.AppendUint16(b, uint16(bits))
}

// extensible is a fmt chunk whose codec is in its GUID.
func extensible(codec wavCodec, channels, rateHz, bits, valid int) []byte {
	le := binary.LittleEndian
	b := fmtBody(wavExtensible, channels, rateHz, bits)
	b = le.AppendUint16(b, 22)
	b = le.AppendUint16(b, uint16(valid))
	b = le.AppendUint32(b, 3)
	b = le.AppendUint16(b, uint16(codec))
	b = append(b, "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"...)
	return chunk("fmt ", b)
}

// encode stores 16-bit samples as codec and bits would.
func encode(codec wavCodec, bits int, pcm []int16) (out []byte) {
	le := binary.LittleEndian
	for _, v := range pcm {
		switch {
		case codec == wavMuLaw:
			out = MuLaw.Encode(out, []int16{v})
		case codec == wavALaw:
			out = ALaw.Encode(out, []int16{v})
		case codec == wavFloat && bits == 32:
			out = le.AppendUint32(out, math.Float32bits(float32(v)/32768))
		case codec == wavFloat:
			out = le.AppendUint64(out, math.Float64bits(float64(v)/32768))
		case bits == 8:
			out = append(out, byte(v>>8)+128)
		case bits == 16:
			out = le.AppendUint16(out, uint16(v))
		case bits == 24:
			out = append(out, 0, byte(v), byte(v>>8))
		case bits == 32:
			out = le.AppendUint32(out, uint32(int32(v)<<16))
		}
	}
	return out
}

// withSizes overwrites the RIFF and data sizes of a file.
func withSizes(file []byte, riffBytes, dataBytes uint32) []byte {
	file = bytes.Clone(file)
	binary.LittleEndian.PutUint32(file[4:], riffBytes)
	at := bytes.Index(file, []byte("data"))
	binary.LittleEndian.PutUint32(file[at+4:], dataBytes)
	return file
}

// rf64 is file with its sizes moved into a ds64 chunk.
func rf64(file []byte) []byte {
	le := binary.LittleEndian
	at := bytes.Index(file, []byte("data"))
	dataBytes := le.Uint32(file[at+4:])
	ds64 := le.AppendUint64(nil, uint64(len(file)+36-8))
	ds64 = le.AppendUint64(ds64, uint64(dataBytes))
	ds64 = le.AppendUint64(ds64, 0)
	ds64 = le.AppendUint32(ds64, 0)
	out := append([]byte("RF64\xff\xff\xff\xffWAVE"), chunk("ds64", ds64)...)
	out = append(out, file[12:]...)
	at = bytes.LastIndex(out, []byte("data"))
	le.PutUint32(out[at+4:], 0xffffffff)
	return out
}

// flacFile is pcm as FLAC of two verbatim channels.
func flacFile(t testing.TB, left, right []int16) []byte {
	t.Helper()
	const block = 1024
	var out bytes.Buffer
	enc, err := flac.NewEncoder(&out, &meta.StreamInfo{
		BlockSizeMin: block, BlockSizeMax: block,
		SampleRate: 8000, NChannels: 2, BitsPerSample: 16, NSamples: uint64(len(left)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(left); at += block {
		end := min(at+block, len(left))
		f := &frame.Frame{Header: frame.Header{
			HasFixedBlockSize: true, BlockSize: uint16(end - at),
			SampleRate: 8000, Channels: frame.ChannelsLR, BitsPerSample: 16, Num: uint64(at / block),
		}}
		for _, pcm := range [][]int16{left, right} {
			sub := &frame.Subframe{SubHeader: frame.SubHeader{Pred: frame.PredVerbatim}, NSamples: end - at}
			for _, v := range pcm[at:end] {
				sub.Samples = append(sub.Samples, int32(v))
			}
			f.Subframes = append(f.Subframes, sub)
		}
		if err := enc.WriteFrame(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readAll hears b and returns each leg's samples.
func readAll(t testing.TB, b []byte, opt FileOptions) (*File, map[Leg][]int16) {
	t.Helper()
	f, err := NewFile(bytes.NewReader(b), "call.wav", int64(len(b)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return f, drainFile(t, f)
}

func drainFile(t testing.TB, f *File) map[Leg][]int16 {
	t.Helper()
	legs := map[Leg][]int16{}
	for {
		fr, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return legs
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := Span(len(legs[fr.Leg]), fr.Rate); fr.Start != want {
			t.Fatalf("%v frame starts at %v, want %v", fr.Leg, fr.Start, want)
		}
		if len(fr.PCM) == 0 {
			t.Fatalf("empty %v frame at %v", fr.Leg, fr.Start)
		}
		legs[fr.Leg] = append(legs[fr.Leg], fr.PCM...)
	}
}

// closeTo reports whether the samples differ by no more than tolerance.
func closeTo(a, b []int16, tolerance int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if d := int(a[i]) - int(b[i]); d > tolerance || d < -tolerance {
			return false
		}
	}
	return true
}

const toneLen = 1001 // odd, so that padding and rests matter

// good are files with 1001 samples of a 440 Hz tone on the left or only
// channel, and of 700 Hz on the right.
func good(t testing.TB) []goodFile {
	var out []goodFile
	left, right := tone(toneLen, 440, 8000), tone(toneLen, 700, 8000)
	stereo := make([]int16, 0, 2*toneLen)
	for i := range left {
		stereo = append(stereo, left[i], right[i])
	}
	encodings := []struct {
		codec     wavCodec
		bits      int
		tolerance int
	}{
		{wavPCM, 8, 255},
		{wavPCM, 16, 0},
		{wavPCM, 24, 0},
		{wavPCM, 32, 0},
		{wavFloat, 32, 0},
		{wavFloat, 64, 0},
		{wavMuLaw, 8, 512},
		{wavALaw, 8, 512},
	}
	for _, e := range encodings {
		for channels, pcm := range map[int][]int16{1: left, 2: stereo} {
			name := fmt.Sprintf("%v %d bit, %d channels", e.codec, e.bits, channels)
			data := chunk("data", encode(e.codec, e.bits, pcm))
			out = append(out,
				goodFile{name, riff(fmtChunk(e.codec, channels, 8000, e.bits), data), channels, e.tolerance},
				goodFile{name + ", extensible", riff(extensible(e.codec, channels, 8000, e.bits, e.bits), data), channels, e.tolerance})
		}
	}
	mono16 := riff(fmtChunk(wavPCM, 1, 8000, 16), chunk("data", encode(wavPCM, 16, left)))
	wide := fmtBody(wavPCM, 1, 8000, 24) // 24 bits in 32
	binary.LittleEndian.PutUint16(wide[12:], 4)
	odd := fmtBody(wavPCM, 1, 8000, 12) // 12 bits in 16
	out = append(out,
		goodFile{"chunks before the data", riff(chunk("JUNK", make([]byte, 29)), chunk("LIST", []byte("INFOISFT\x05\x00\x00\x00sox!\x00\x00")), fmtChunk(wavPCM, 1, 8000, 16), chunk("bext", make([]byte, 603)), chunk("fact", make([]byte, 4)), chunk("data", encode(wavPCM, 16, left)), chunk("id3 ", make([]byte, 77))), 1, 0},
		goodFile{"24 bits in 32", riff(chunk("fmt ", wide), chunk("data", encode(wavPCM, 32, left))), 1, 0},
		goodFile{"12 bits in 16", riff(chunk("fmt ", odd), chunk("data", encode(wavPCM, 16, left))), 1, 0},
		goodFile{"RF64", rf64(mono16), 1, 0},
		goodFile{"streamed, all ones", withSizes(mono16, 0xffffffff, 0xffffffff), 1, 0},
		goodFile{"streamed, zero", withSizes(mono16, 0, 0), 1, 0},
		goodFile{"streamed, header length only", withSizes(mono16, 36, 0), 1, 0},
		goodFile{"streamed by sox", withSizes(mono16, 0x7ffff024, 0x7ffff000), 1, 0},
		goodFile{"FLAC", flacFile(t, left, right), 2, 0},
	)
	return out
}

type goodFile struct {
	name      string
	file      []byte
	channels  int
	tolerance int
}

func TestFileHearsEveryEncoding(t *testing.T) {
	left, right := tone(toneLen, 440, 8000), tone(toneLen, 700, 8000)
	for _, g := range good(t) {
		t.Run(g.name, func(t *testing.T) {
			f, legs := readAll(t, g.file, FileOptions{})
			want := map[Leg][]int16{Unknown: left}
			if g.channels == 2 {
				want = map[Leg][]int16{Caller: left, Callee: right}
			}
			if len(legs) != len(want) {
				t.Fatalf("%d legs, want %d", len(legs), len(want))
			}
			for leg, pcm := range want {
				if !closeTo(legs[leg], pcm, g.tolerance) {
					t.Errorf("%v: %d samples, not the %d that were written", leg, len(legs[leg]), len(pcm))
				}
			}
			if f.Truncated() {
				t.Error("said to be truncated")
			}
			if f.Info().Duration != Span(toneLen, 8000) || f.Heard() != f.Info().Duration {
				t.Errorf("lasts %v, heard %v, want %v", f.Info().Duration, f.Heard(), Span(toneLen, 8000))
			}
			if streamed := strings.HasPrefix(g.name, "streamed"); streamed != (len(f.Warnings()) == 1) {
				t.Errorf("warnings %q", f.Warnings())
			}
		})
	}
}

func TestFileCallerRightSwapsLegs(t *testing.T) {
	left, right := tone(800, 440, 8000), tone(800, 700, 8000)
	var b bytes.Buffer
	if err := WriteWAV(&b, WAVPCM16, 8000, left, right); err != nil {
		t.Fatal(err)
	}
	f, legs := readAll(t, b.Bytes(), FileOptions{CallerRight: true})
	if !closeTo(legs[Caller], right, 0) || !closeTo(legs[Callee], left, 0) {
		t.Error("caller is not the right channel")
	}
	if got := f.Info().Legs; len(got) != 2 || got[0] != Callee || got[1] != Caller {
		t.Errorf("legs %v", got)
	}
}

func TestFileInterleavesLegsInFramesOfTheAskedLength(t *testing.T) {
	var b bytes.Buffer
	if err := WriteWAV(&b, WAVMuLaw, 8000, tone(400, 440, 8000), tone(400, 700, 8000)); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(&b, "call.wav", -1, FileOptions{Frame: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		fr, err := f.ReadFrame(context.Background())
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%v@%v+%d", fr.Leg, fr.Start, len(fr.PCM)))
	}
	want := "caller@0s+160 callee@0s+160 caller@20ms+160 callee@20ms+160 caller@40ms+80 callee@40ms+80"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestFileCutShortIsHeardAndSaid(t *testing.T) {
	pcm := tone(8000, 440, 8000)
	var b bytes.Buffer
	if err := WriteWAV(&b, WAVPCM16, 8000, pcm); err != nil {
		t.Fatal(err)
	}
	cut := b.Bytes()[:44+2*3000+1] // in the middle of a sample
	f, legs := readAll(t, cut, FileOptions{})
	if !closeTo(legs[Unknown], pcm[:3000], 0) {
		t.Errorf("heard %d samples, want 3000", len(legs[Unknown]))
	}
	if !f.Truncated() || len(f.Warnings()) != 1 || !strings.Contains(f.Warnings()[0], "375ms") {
		t.Errorf("truncated %v, warnings %q", f.Truncated(), f.Warnings())
	}

	whole := flacFile(t, pcm, pcm)
	f, legs = readAll(t, whole[:len(whole)*2/3], FileOptions{})
	if got := legs[Caller]; len(got) == 0 || !closeTo(got, pcm[:len(got)], 0) || !f.Truncated() {
		t.Errorf("FLAC: heard %d samples, truncated %v", len(got), f.Truncated())
	}
}

func TestFileOf4GBIsNeitherAllocatedNorCutAt4GB(t *testing.T) {
	// A data chunk of 5 GB of which 2 MB are read: sizes come from ds64.
	h := rf64(riff(fmtChunk(wavPCM, 1, 8000, 16), chunk("data", nil)))
	at := bytes.Index(h, []byte("ds64"))
	const size = 5 << 30
	binary.LittleEndian.PutUint64(h[at+8+8:], size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := NewFile(io.MultiReader(bytes.NewReader(h), zeros{}), "call.wav", int64(len(h))+size, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := Span(size/2, 8000); f.Info().Duration != want {
		t.Errorf("lasts %v, want %v", f.Info().Duration, want)
	}
	for range 2500 {
		if _, err := f.ReadFrame(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("allocated %d MB for 2 MB of samples", got>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// bad are files that cannot be heard, and what the message must say.
var bad = []struct {
	name string
	file []byte
	says string
}{
	{"empty", nil, "empty"},
	{"text", []byte("From: somebody\nSubject: a call\n"), "not a WAV file"},
	{"short text", []byte("hi"), "not a WAV file"},
	{"MP3", []byte("ID3\x04\x00\x00\x00\x00\x00\x21TSSE\x00\x00\x00\x0f\x00\x00\x03Lavf"), "MP3"},
	{"Ogg", []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00"), "Ogg"},
	{"AVI", []byte("RIFF\x10\x00\x00\x00AVI LIST\x00\x00\x00\x00"), "not a WAV file"},
	{"header only", []byte("RIFF\x04\x00\x00\x00WAVE"), "before a fmt chunk"},
	{"no data", riff(fmtChunk(wavPCM, 1, 8000, 16)), "before a data chunk"},
	{"0 samples", riff(fmtChunk(wavPCM, 1, 8000, 16), chunk("data", nil)), "0 samples"},
	{"0 samples and a tag", riff(fmtChunk(wavPCM, 1, 8000, 16), chunk("data", nil), chunk("LIST", make([]byte, 40))), "0 samples"},
	{"less than a sample", riff(fmtChunk(wavPCM, 2, 8000, 16), chunk("data", []byte{1, 2, 3})), "0 samples"},
	{"data first", riff(chunk("data", make([]byte, 100)), fmtChunk(wavPCM, 1, 8000, 16)), "before any fmt"},
	{"8 channels at 96 kHz", riff(fmtChunk(wavPCM, 8, 96000, 16), chunk("data", make([]byte, 160))), "8 channels: 3 or more channels are not supported"},
	{"0 channels", riff(fmtChunk(wavPCM, 0, 8000, 16), chunk("data", make([]byte, 160))), "0 channels"},
	{"96 kHz", riff(fmtChunk(wavPCM, 1, 96000, 16), chunk("data", make([]byte, 160))), "96000 Hz"},
	{"0 Hz", riff(fmtChunk(wavPCM, 1, 0, 16), chunk("data", make([]byte, 160))), "0 Hz"},
	{"GSM", riff(fmtChunk(0x31, 1, 8000, 0), chunk("data", make([]byte, 65))), "GSM 6.10"},
	{"IMA ADPCM", riff(fmtChunk(0x11, 1, 8000, 4), chunk("data", make([]byte, 256))), "IMA ADPCM"},
	{"MP3 in WAV", riff(fmtChunk(0x55, 1, 8000, 0), chunk("data", make([]byte, 256))), "MP3"},
	{"unknown codec", riff(fmtChunk(0x4242, 1, 8000, 16), chunk("data", make([]byte, 256))), "0x4242"},
	{"GSM, extensible", riff(extensible(0x31, 1, 8000, 8, 8), chunk("data", make([]byte, 65))), "GSM 6.10"},
	{"foreign GUID", riff(bytes.Replace(extensible(wavPCM, 1, 8000, 16, 16), []byte("\x38\x9b\x71"), []byte("abc"), 1), chunk("data", make([]byte, 64))), "sub-format"},
	{"PCM of 40 bits", riff(fmtChunk(wavPCM, 1, 8000, 40), chunk("data", make([]byte, 64))), "PCM of 40 bits"},
	{"PCM of 0 bits", riff(fmtChunk(wavPCM, 1, 8000, 0), chunk("data", make([]byte, 64))), "PCM of 0 bits"},
	{"float of 16 bits", riff(fmtChunk(wavFloat, 1, 8000, 16), chunk("data", make([]byte, 64))), "float of 16 bits"},
	{"short fmt", riff(chunk("fmt ", make([]byte, 14)), chunk("data", make([]byte, 64))), "fmt chunk is 14 bytes"},
	{"short extensible fmt", riff(chunk("fmt ", fmtBody(wavExtensible, 1, 8000, 16)), chunk("data", make([]byte, 64))), "extensible"},
	{"a chunk of 4 GB", []byte("RIFF\xff\xff\xff\xffWAVEJUNK\xfe\xff\xff\xffabc"), `"JUNK" chunk of 4294967294 bytes`},
	{"a fmt chunk of 4 GB", append([]byte("RIFF\xff\xff\xff\xffWAVEfmt \xf0\xff\xff\xff"), make([]byte, 64)...), "fmt chunk"},
	{"a short ds64", []byte("RF64\xff\xff\xff\xffWAVEds64\x04\x00\x00\x00abcd"), "ds64 chunk is 4 bytes"},
	{"FLAC of nothing", []byte("fLaC"), "FLAC"},
	{"FLAC of noise", []byte("fLaC\x00\x00\x00\x22aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ""},
}

func TestFileRefusesWhatCannotBeHeard(t *testing.T) {
	for _, b := range bad {
		t.Run(b.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "call.wav")
			if err := os.WriteFile(path, b.file, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := OpenFile(path, FileOptions{})
			if err == nil {
				f.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v is not ErrFormat", err)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), b.says) {
				t.Errorf("%q names not both the file and %q", err, b.says)
			}
		})
	}
}

func TestFileThatCannotBeReadIsNoFormatError(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenFile(filepath.Join(dir, "none.wav"), FileOptions{}); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrFormat) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenFile(dir, FileOptions{}); err == nil || errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory: %v", err)
	}
	broken := errors.New("disk on fire")
	file := riff(fmtChunk(wavPCM, 1, 8000, 16), chunk("data", make([]byte, 64000)))
	f, err := NewFile(io.MultiReader(bytes.NewReader(file[:40000]), failing{broken}), "call.wav", -1, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.ReadFrame(context.Background())
	}
	if !errors.Is(err, broken) || errors.Is(err, ErrFormat) || f.Truncated() {
		t.Errorf("a disk that fails: %v, truncated %v", err, f.Truncated())
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFileStopsWithItsContext(t *testing.T) {
	f, err := NewFile(bytes.NewReader(good(t)[0].file), "call.wav", -1, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.ReadFrame(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := f.ReadFrame(context.Background()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestFrameBelongsToItsReceiver(t *testing.T) {
	g := good(t)[len(good(t))-1]
	f, err := NewFile(bytes.NewReader(g.file), g.name, -1, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := f.ReadFrame(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	kept := append([]int16(nil), first.PCM...)
	first.PCM = append(first.PCM, 1, 2, 3)
	drainRest := func() {
		for {
			fr, err := f.ReadFrame(context.Background())
			if err != nil {
				return
			}
			if fr.Leg == Callee && fr.Start == 0 && !closeTo(fr.PCM, tone(len(fr.PCM), 700, 8000), 0) {
				t.Error("appending to one leg's frame wrote into the other's")
			}
		}
	}
	drainRest()
	if !closeTo(first.PCM[:len(kept)], kept, 0) {
		t.Error("reading on changed a frame that was given away")
	}
}

func TestWriteWAVIsReadBack(t *testing.T) {
	left, right := tone(9001, 440, 8000), tone(8000, 700, 8000)
	for _, enc := range []struct {
		enc       WAVEncoding
		name      string
		tolerance int
	}{{WAVPCM16, "PCM 16 bit", 0}, {WAVMuLaw, "µ-law", 512}, {WAVALaw, "A-law", 512}} {
		var b bytes.Buffer
		if err := WriteWAV(&b, enc.enc, 8000, left, right); err != nil {
			t.Fatal(err)
		}
		f, legs := readAll(t, b.Bytes(), FileOptions{})
		if f.Info().Encoding != enc.name || f.Info().RateHz != 8000 || len(f.Warnings()) > 0 {
			t.Errorf("%s: %+v, %q", enc.name, f.Info(), f.Warnings())
		}
		if !closeTo(legs[Caller], left, enc.tolerance) || !closeTo(legs[Callee], append(right, make([]int16, 1001)...), enc.tolerance) {
			t.Errorf("%s: not what was written", enc.name)
		}
	}
	if err := WriteWAV(io.Discard, WAVPCM16, 8000); err == nil {
		t.Error("a file of no channels was written")
	}
}

// FuzzRIFF: whatever the bytes, the reader neither panics nor takes memory
// beyond a constant and a multiple of the input's size, and no more samples
// come out than bytes went in.
func FuzzRIFF(f *testing.F) {
	for _, g := range good(f) {
		if g.name != "FLAC" {
			f.Add(g.file)
			f.Add(g.file[:len(g.file)/2])
		}
	}
	for _, b := range bad {
		f.Add(b.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.HasPrefix(b, []byte("fLaC")) || bytes.HasPrefix(b, []byte("ID3")) {
			return // a compressed format: other limits
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		samples := 0
		file, err := NewFile(bytes.NewReader(b), "call.wav", int64(len(b)), FileOptions{})
		for err == nil {
			var fr Frame
			if fr, err = file.ReadFrame(context.Background()); err == nil {
				samples += len(fr.PCM)
			}
		}
		runtime.ReadMemStats(&after)
		if samples > len(b) {
			t.Errorf("%d samples of %d bytes", samples, len(b))
		}
		// 64 KB of read buffer and a frame of 50 ms; per byte in, at most a
		// sample (2), its place in go-audio's buffer and ours, and rounding up.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(256<<10+64*len(b)); got > limit {
			t.Errorf("%d bytes allocated for %d bytes of input", got, len(b))
		}
	})
}

// FuzzFLAC: a damaged FLAC file ends in an error or early, never in a panic.
func FuzzFLAC(f *testing.F) {
	f.Add(flacFile(f, tone(3000, 440, 8000), tone(3000, 700, 8000)))
	f.Add([]byte("fLaC"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := NewFile(bytes.NewReader(b), "call.flac", int64(len(b)), FileOptions{})
		for range 1000 {
			if err != nil {
				return
			}
			_, err = file.ReadFrame(context.Background())
		}
	})
}
