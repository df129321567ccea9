// Package models knows which speech models and native libraries callwarden
// can use: where each comes from, its checksums and its licence. It installs
// them into a per-user data folder, verifies them and says where they are.
package models

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"

	"go.yaml.in/yaml/v4"
)

//go:embed manifest.yaml
var manifest []byte

// Names of the entries that are used where the user names none: for speech,
// and for telling it from other sounds.
const (
	DefaultLibrary = "libvosk"
	DefaultModel   = "vosk-small-en-us"
	VoiceLibrary   = "libonnxruntime"
	VoiceModel     = "silero-vad"
	SherpaLibrary  = "libsherpa-onnx" // needs VoiceLibrary
)

// Kind is what an entry of the manifest is.
type Kind string

const (
	Model   Kind = "model"   // a folder
	Library Kind = "library" // one shared object
)

// Entry is one model or library of the manifest.
type Entry struct {
	Name      string   `yaml:"name" json:"name"`
	Kind      Kind     `yaml:"kind" json:"kind"`
	About     string   `yaml:"about" json:"about"`
	Version   string   `yaml:"version" json:"version"`
	Language  string   `yaml:"language" json:"language,omitempty"` // BCP 47
	RateHz    int      `yaml:"rate_hz" json:"rate_hz,omitempty"`
	Platforms []string `yaml:"platforms" json:"platforms,omitempty"` // GOOS/GOARCH; none means any
	Licence   string   `yaml:"licence" json:"licence"`
	Source    Source   `yaml:"source" json:"source"`
	Files     []File   `yaml:"files" json:"files"`
	// Optional entries are installed only by name.
	Optional bool `yaml:"optional" json:"optional,omitempty"`
}

// Source is the npm package that an entry is taken from.
type Source struct {
	Package string `yaml:"package" json:"package"`
	Version string `yaml:"version" json:"version"`
	Path    string `yaml:"path" json:"path"` // folder inside the archive
	Bytes   int64  `yaml:"bytes" json:"bytes"`
	SHA256  string `yaml:"sha256" json:"sha256"` // of the archive
}

// File is one file of an entry; Path is below Source.Path in the archive and
// below the entry's folder once installed.
type File struct {
	Path   string `yaml:"path" json:"path"`
	Bytes  int64  `yaml:"bytes" json:"bytes"`
	SHA256 string `yaml:"sha256" json:"sha256"`
}

// Bytes is the size of the entry once installed.
func (e Entry) Bytes() int64 {
	var n int64
	for _, f := range e.Files {
		n += f.Bytes
	}
	return n
}

// Supported reports whether the entry runs on this machine's operating system
// and processor.
func (e Entry) Supported() bool {
	return len(e.Platforms) == 0 || slices.Contains(e.Platforms, runtime.GOOS+"/"+runtime.GOARCH)
}

// folder is the entry's name below the data folder. It carries the version,
// so a new version never writes into files that a running process has mapped.
func (e Entry) folder() string { return e.Name + "-" + e.Version }

// Names and versions become file names and arguments of npm, so they may not
// begin with a dot or a dash.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// parseManifest reads a manifest and refuses whatever would make an install
// write outside its folder or skip a check.
func parseManifest(data []byte) ([]Entry, error) {
	var entries []Entry
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&entries); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if err := e.validate(); err != nil {
			return nil, fmt.Errorf("manifest: entry %q: %w", e.Name, err)
		}
		if seen[e.Name] {
			return nil, fmt.Errorf("manifest: entry %q: named twice", e.Name)
		}
		seen[e.Name] = true
	}
	return entries, nil
}

func (e Entry) validate() error {
	for _, s := range []string{e.Name, e.Version, e.Source.Package, e.Source.Version} {
		if !plainName.MatchString(s) {
			return fmt.Errorf("%q is not a plain name", s)
		}
	}
	switch {
	case e.Kind != Model && e.Kind != Library:
		return fmt.Errorf("kind: %q is neither %q nor %q", e.Kind, Model, Library)
	case len(e.Files) == 0:
		return fmt.Errorf("files: none")
	case e.Kind == Library && len(e.Files) != 1:
		return fmt.Errorf("files: a library has one, not %d", len(e.Files))
	case e.Licence == "":
		return fmt.Errorf("licence: missing")
	case !isSHA256(e.Source.SHA256):
		return fmt.Errorf("source.sha256: %q is no SHA-256", e.Source.SHA256)
	case e.Source.Bytes <= 0:
		return fmt.Errorf("source.bytes: %d must be above 0", e.Source.Bytes)
	case !isInside(e.Source.Path):
		return fmt.Errorf("source.path: %q must be relative and stay inside the archive", e.Source.Path)
	}
	for _, f := range e.Files {
		switch {
		case !isInside(f.Path):
			return fmt.Errorf("files: path %q must be relative and stay inside the folder", f.Path)
		case f.Bytes < 0:
			return fmt.Errorf("files: %s: bytes: %d is negative", f.Path, f.Bytes)
		case !isSHA256(f.SHA256):
			return fmt.Errorf("files: %s: sha256: %q is no SHA-256", f.Path, f.SHA256)
		}
	}
	return nil
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

func isInside(p string) bool {
	return p != "" && p != "." && !path.IsAbs(p) && path.Clean(p) == p && p != ".." && !bytes.HasPrefix([]byte(p), []byte("../"))
}
