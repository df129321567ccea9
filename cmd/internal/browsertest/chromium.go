// Package browsertest drives a real Chromium, headless, for the tests and
// figures of the pages that callwarden serves: it opens pages, waits for what
// they show, gives them a recording as their microphone and collects what they
// complain of. A Chromium that is missing is an error that says what to type.
//
// A test that imports it belongs behind the tag e2e: make e2e installs what it
// needs.
package browsertest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/chromedp/chromedp"
)

// Config is what a Chromium is started with.
type Config struct {
	// Microphone is the WAV file that every page hears from its beginning when
	// it opens a microphone: once, and silence after it. Without one, pages
	// hear the beeps of Chromium's own.
	Microphone string
	// Refuse refuses pages the microphone, as a person does who clicks "block".
	Refuse bool
	// Dir is an empty folder for what the browser keeps; without one it has a
	// folder that goes with it.
	Dir string
}

// Elsewhere is a name that this machine has in the browser, so that a page which
// comes from it is one from another machine: without https browsers give it no
// microphone.
const Elsewhere = "elsewhere.test"

// names are those that Chromium goes by, the first that is there counts.
var names = [...]string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}

// ErrMissing says that there is no Chromium on this machine.
var ErrMissing = errors.New("there is no Chromium here; type: sudo apt-get install chromium, or make browser")

// Find is the Chromium of this machine, or ErrMissing.
func Find() (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}

// Options start the Chromium that cfg describes, for
// [chromedp.NewExecAllocator]: it asks nobody outside of this machine for
// anything, and talks WebRTC with the loopback interface.
func Options(cfg Config) ([]chromedp.ExecAllocatorOption, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(path),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("allow-loopback-in-peer-connection", true),
		chromedp.Flag("host-resolver-rules", "MAP "+Elsewhere+" 127.0.0.1"),
		// Addresses as .local names would ask the whole network who they are.
		chromedp.Flag("disable-features", "Translate,WebRtcHideLocalIpsWithMdns,OptimizationHints,MediaRouter"),
	)
	if !cfg.Refuse {
		options = append(options, chromedp.Flag("use-fake-ui-for-media-stream", true))
	} else {
		options = append(options, chromedp.Flag("deny-permission-prompts", true))
	}
	if cfg.Microphone != "" {
		file, err := filepath.Abs(cfg.Microphone)
		if err != nil {
			return nil, fmt.Errorf("the microphone's recording: %w", err)
		}
		options = append(options, chromedp.Flag("use-file-for-fake-audio-capture", file+"%noloop"))
	}
	if cfg.Dir != "" {
		options = append(options, chromedp.UserDataDir(cfg.Dir))
	}
	return options, nil
}
