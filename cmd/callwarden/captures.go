package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/callwarden/callwarden/pipeline/source/filesrc"
	"github.com/callwarden/callwarden/pipeline/source/media"
	"github.com/callwarden/callwarden/pipeline/source/pcapsrc"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// captures opens network captures for a replay.
type captures struct {
	opt   pcapsrc.Options
	speak *scripts // of the script backend; nil for others
	log   *slog.Logger
}

// newCaptures reads --map, each PT=ENCODING/CLOCK or PT=ENCODING/CLOCK/CHANNELS.
func newCaptures(formats []string, calleeFirst bool, log *slog.Logger) (*captures, error) {
	c := &captures{opt: pcapsrc.Options{CalleeFirst: calleeFirst}, log: log}
	for _, text := range formats {
		number, rtpmap, ok := strings.Cut(text, "=")
		payloadType, err := strconv.Atoi(strings.TrimSpace(number))
		if !ok || err != nil {
			return nil, usagef("--map: %q must be a payload type and what it is, such as 96=opus/48000/2", text)
		}
		f, err := media.ParseFormat(payloadType, rtpmap)
		if err == nil {
			err = f.Check()
		}
		if err != nil {
			return nil, usagef("--map: %w", err)
		}
		c.opt.Formats = append(c.opt.Formats, f)
	}
	return c, nil
}

// isCapture reports whether the file is, or is called like, a capture.
func isCapture(path string) bool { return pcapsrc.HasExtension(path) || pcapsrc.IsCapture(path) }

// split finds the calls of a capture; see [filesrc.Config].
func (c *captures) split(ctx context.Context, path string) (parts []filesrc.Part, ok bool, err error) {
	if !isCapture(path) {
		return nil, false, nil
	}
	capture, err := pcapsrc.Open(ctx, path, c.opt)
	if err != nil {
		return nil, true, err
	}
	for _, remark := range capture.Remarks() {
		c.log.Warn("not all of the capture is heard", "file", filepath.Base(path), "why", remark)
	}
	for _, call := range capture.Calls() {
		parts = append(parts, filesrc.Part{
			Token: call.Token, Began: call.Began, Attributes: call.Attributes,
			Open: func(id string) (*filesrc.Recording, error) { return c.open(call, id, path) },
		})
	}
	return parts, true, nil
}

func (c *captures) open(call *pcapsrc.Call, id, path string) (*filesrc.Recording, error) {
	if c.speak != nil {
		text := strings.TrimSuffix(path, filepath.Ext(path))
		if call.Token != "" {
			text += "#" + call.Token
		}
		if _, err := c.speak.read(id, text+".txt"); err != nil {
			return nil, err
		}
	}
	r, err := call.Open()
	if err != nil {
		return nil, err
	}
	return &filesrc.Recording{
		Reader: r, Warnings: r.Warnings, Close: r.Close,
		Info: audio.FileInfo{Encoding: "capture", Legs: call.Legs, Duration: call.Duration},
	}, nil
}
