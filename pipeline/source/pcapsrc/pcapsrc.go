// Package pcapsrc takes recorded calls in from network captures, pcap and
// pcapng: RTP over IPv4 and IPv6 below whatever carries them, and the SIP and
// SIPREC in the same file, which say what is in it.
//
// A capture is read twice, so it may be larger than the memory: first to find
// the calls in it, keeping two or three bytes for each packet of RTP, then call
// by call.
package pcapsrc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Options say what a capture does not.
type Options struct {
	// Formats are payload types that SIP in the capture does not speak of,
	// beside those of RFC 3551.
	Formats []media.Format
	// CalleeFirst says that where no SIP tells who called, the stream that
	// begins first is the callee's.
	CalleeFirst bool
}

// ErrNoCalls says that a capture holds nothing that can be heard.
var ErrNoCalls = errors.New("no calls")

// IsCapture reports whether the file at path is a capture by how it begins;
// false also where it cannot be read.
func IsCapture(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	_, err = openContainer(f, info.Size())
	return err == nil
}

// Extensions are those of captures, in lower case.
func Extensions() []string { return []string{".pcap", ".pcapng"} }

// HasExtension reports whether path is called like a capture.
func HasExtension(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	for _, e := range Extensions() {
		if e == ext {
			return true
		}
	}
	return false
}

// Capture is a file in which calls were found.
type Capture struct {
	path  string
	size  int64
	nics  []nic
	ng    bool
	calls []*Call
	// remarks are sentences about the capture as a whole.
	remarks []string
}

// Open reads the whole capture at path and finds the calls in it. An error
// wrapping ErrFormat says that it is none, one wrapping ErrNoCalls that there
// is nothing to hear in it, and why.
func Open(ctx context.Context, path string, opt Options) (*Capture, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return open(ctx, path, f, info.Size(), opt)
}

func open(ctx context.Context, path string, r io.ReaderAt, size int64, opt Options) (*Capture, error) {
	file, err := openContainer(r, size)
	if err != nil {
		return nil, err
	}
	s, err := scan(ctx, file)
	if err != nil {
		return nil, err
	}
	finder := finder{scanner: s, opt: opt}
	c := &Capture{path: path, size: size, nics: file.nics, ng: file.ng}
	c.calls = finder.find()
	for _, call := range c.calls {
		call.capture = c
	}
	c.remarks = append(s.remarks(), finder.remarks...)
	if len(c.calls) == 0 {
		return nil, fmt.Errorf("%w in %d packets%s", ErrNoCalls, s.packets, finder.why(c.remarks))
	}
	return c, nil
}

// Calls are the calls of the capture, in the order in which their media began.
func (c *Capture) Calls() []*Call { return c.calls }

// Remarks are sentences about what was not heard in the capture, and why.
func (c *Capture) Remarks() []string { return c.remarks }

// Call is one call of a capture.
type Call struct {
	// Token tells the calls of a capture apart; empty where there is one.
	Token      string
	Legs       []audio.Leg
	Attributes map[string]string
	Began      time.Time // of its first packet of media
	Duration   time.Duration

	capture  *Capture
	legs     []legStreams
	dialog   *dialog // nil without SIP
	warnings []string
	deaf     error // why it cannot be heard
}

// Open reads the call's audio, which the caller closes. An error wrapping
// media.ErrCodec, or one that names the encryption, says why the call cannot
// be heard.
func (c *Call) Open() (*Reader, error) {
	if c.deaf != nil {
		return nil, c.deaf
	}
	f, err := os.Open(c.capture.path)
	if err != nil {
		return nil, err
	}
	r, err := c.read(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.close = f.Close
	return r, nil
}
