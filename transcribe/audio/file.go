package audio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// FileOptions say how a recording is read.
type FileOptions struct {
	// CallerRight: the caller is on the right channel of a stereo recording;
	// otherwise on the left.
	CallerRight bool
	// Frame is how long a frame is, [DefaultFileFrame] where it is 0.
	Frame time.Duration
}

// DefaultFileFrame is short enough that a replay in real time alerts as a live
// call would, and long enough that its handling costs nothing beside decoding.
const DefaultFileFrame = 50 * time.Millisecond

// FileInfo is what a recording's header tells.
type FileInfo struct {
	Encoding string        // as people write it: "PCM 16 bit", "µ-law", "FLAC 16 bit"
	RateHz   int           // samples a second
	Channels int           // 1 or 2
	Legs     []Leg         // those that ReadFrame yields, the left channel's first
	Duration time.Duration // of what is there (WAV) or declared (FLAC); 0 where only reading will tell
}

// File is a recorded call being read. It takes the same memory however long
// the recording is.
type File struct {
	name     string
	closer   io.Closer
	info     FileInfo
	dec      samples
	block    []int16 // interleaved samples of one frame time
	pending  []Frame // legs of the block that are still to be handed out
	heard    int     // samples a channel so far
	cut      bool
	warnings []string
	err      error // sticky: how it ended
}

var _ Reader = (*File)(nil)

// OpenFile opens the WAV or FLAC recording at path; the content says which it
// is, not the name. An error that is [ErrFormat] means that the file cannot be
// heard, any other that it could not be read; both name the file. The caller
// closes the File.
func OpenFile(path string, opt FileOptions) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the path
	}
	size := int64(-1)
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		size = st.Size()
	}
	file, err := NewFile(f, path, size, opt)
	if err != nil {
		f.Close()
		return nil, err
	}
	file.closer = f
	return file, nil
}

// NewFile is OpenFile for a recording that is read from r, which it does not
// close: of size bytes, -1 where that is not known. name is what errors call it.
func NewFile(r io.Reader, name string, size int64, opt FileOptions) (*File, error) {
	f := &File{name: name}
	br := bufio.NewReaderSize(r, 64<<10)
	if err := f.open(br, size); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case f.info.Channels == 1:
		f.info.Legs = []Leg{Unknown}
	case opt.CallerRight:
		f.info.Legs = []Leg{Callee, Caller}
	default:
		f.info.Legs = []Leg{Caller, Callee}
	}
	if opt.Frame <= 0 {
		opt.Frame = DefaultFileFrame
	}
	perFrame := max(1, int(opt.Frame.Seconds()*float64(f.info.RateHz)))
	f.block = make([]int16, perFrame*f.info.Channels)
	f.pending = make([]Frame, 0, f.info.Channels)

	// A recording without a sample is refused here and not at the first
	// frame: that is where callers look for files that cannot be heard.
	if err := f.fill(); err != nil {
		if errors.Is(err, io.EOF) {
			err = formatErrorf("it holds 0 samples of sound")
			if f.cut {
				err = formatErrorf("it is cut short before its first sound")
			}
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func (f *File) open(r *bufio.Reader, size int64) error {
	magic, err := r.Peek(12)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	id := func(at int) string { return string(magic[min(at, len(magic)):min(at+4, len(magic))]) }
	switch {
	case len(magic) == 0:
		return formatErrorf("the file is empty")
	case (id(0) == "RIFF" || id(0) == "RF64" || id(0) == "BW64") && id(8) == "WAVE":
		return f.openWAV(r, size)
	case id(0) == "fLaC" || (id(0) + "   ")[:3] == "ID3" && isFLACAfterID3(r):
		return f.openFLAC(r)
	}
	return formatErrorf("%s; WAV and FLAC can be heard; convert it, for example with: ffmpeg -i IN -c:a pcm_s16le OUT.wav", whatElse(magic))
}

// isFLACAfterID3 looks past an ID3v2 tag, whose size is in four bytes of seven
// bits each.
func isFLACAfterID3(r *bufio.Reader) bool {
	head, err := r.Peek(10)
	if err != nil {
		return false
	}
	n := int(head[6]&0x7f)<<21 | int(head[7]&0x7f)<<14 | int(head[8]&0x7f)<<7 | int(head[9]&0x7f)
	if n > 32<<10 { // more than fits our look-ahead: cover art, so an MP3
		return false
	}
	all, err := r.Peek(10 + n + 4)
	return err == nil && string(all[10+n:]) == "fLaC"
}

// whatElse names what a file is that is neither WAV nor FLAC.
func whatElse(magic []byte) string {
	has := func(at int, id string) bool {
		return len(magic) >= at+len(id) && string(magic[at:at+len(id)]) == id
	}
	switch {
	case has(0, "ID3"), has(0, "\xff\xfb"), has(0, "\xff\xf3"), has(0, "\xff\xf2"):
		return "this is an MP3 file"
	case has(0, "OggS"):
		return "this is an Ogg file"
	case has(4, "ftyp"):
		return "this is an MP4 file"
	case has(0, "FORM"):
		return "this is an AIFF file"
	case has(0, "RIFX"):
		return "this is a big-endian WAV file (RIFX)"
	case has(0, ".snd"):
		return "this is a Sun audio file"
	case has(0, "#!AMR"):
		return "this is an AMR file"
	case has(0, "\x1aE\xdf\xa3"):
		return "this is a Matroska or WebM file"
	case has(0, "NIST"):
		return "this is a NIST Sphere file"
	}
	return "not a WAV file"
}

func (f *File) openWAV(r *bufio.Reader, size int64) error {
	dec, h, err := openWAV(r, size)
	if err != nil {
		return err
	}
	f.dec = dec
	f.warnings = h.warnings
	f.info.RateHz, f.info.Channels = h.rateHz, h.channels
	f.info.Encoding = h.codec.String()
	if h.codec == wavPCM || h.codec == wavFloat {
		f.info.Encoding = fmt.Sprintf("%v %d bit", h.codec, 8*h.sampleBytes)
	}
	bytes := h.dataBytes
	if size >= 0 && (bytes < 0 || size-h.headerBytes < bytes) {
		bytes = size - h.headerBytes
	}
	if bytes > 0 {
		f.info.Duration = Span(int(bytes/int64(h.channels*h.sampleBytes)), h.rateHz)
	}
	return nil
}

func (f *File) openFLAC(r *bufio.Reader) error {
	dec, err := openFLAC(r)
	if err != nil {
		return err
	}
	info := dec.stream.Info
	f.dec = dec
	f.info.RateHz, f.info.Channels = int(info.SampleRate), int(info.NChannels)
	f.info.Encoding = fmt.Sprintf("FLAC %d bit", info.BitsPerSample)
	f.info.Duration = Span(int(info.NSamples), f.info.RateHz)
	return nil
}

// Info is what the header told when the file was opened.
func (f *File) Info() FileInfo { return f.info }

// Heard is how much of the recording has been read so far.
func (f *File) Heard() time.Duration { return Span(f.heard, f.info.RateHz) }

// Truncated reports, once ReadFrame has returned io.EOF, whether the file ends
// before the length that its header declares.
func (f *File) Truncated() bool { return f.cut }

// Warnings are sentences about what was found wrong with the file and heard
// nevertheless. They are complete once ReadFrame has returned io.EOF.
func (f *File) Warnings() []string { return f.warnings }

// ReadFrame implements [Reader]. It never waits, so ctx is only looked at
// between frames. Of a file that ends early it returns what is there and then
// io.EOF; see [File.Truncated].
func (f *File) ReadFrame(ctx context.Context) (Frame, error) {
	if err := ctx.Err(); err != nil {
		return Frame{}, err
	}
	if len(f.pending) == 0 {
		if err := f.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				return Frame{}, io.EOF
			}
			return Frame{}, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	frame := f.pending[0]
	f.pending = append(f.pending[:0], f.pending[1:]...)
	return frame, nil
}

// fill decodes the next block and queues one frame a leg.
func (f *File) fill() error {
	if f.err != nil {
		return f.err
	}
	n, err := f.dec.read(f.block)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
		f.cut = true
		w := fmt.Sprintf("the file is cut short: its first %v are there and were heard", f.Heard().Round(time.Millisecond))
		f.warnings = append(f.warnings, w)
	}
	if err != nil {
		f.err = err
		return err
	}
	channels := f.info.Channels
	n /= channels
	pcm := make([]int16, n*channels) // the receiver's to keep
	for c, leg := range f.info.Legs {
		one := pcm[c*n : (c+1)*n : (c+1)*n]
		for i := range one {
			one[i] = f.block[i*channels+c]
		}
		f.pending = append(f.pending, Frame{Leg: leg, Start: f.Heard(), Rate: f.info.RateHz, PCM: one})
	}
	f.heard += n
	return nil
}

// Close closes the file. Frames that were read stay good.
func (f *File) Close() error {
	f.err = io.EOF
	f.pending = nil
	if f.closer == nil {
		return nil
	}
	closer := f.closer
	f.closer = nil
	return closer.Close()
}
