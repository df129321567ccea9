// Package filesrc takes recorded calls in from files and folders.
package filesrc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Name is the way in that calls and events carry.
const Name = "file"

// Config says which recordings are heard and how.
type Config struct {
	Paths       []string // files, and folders that are searched for recordings
	Tenant      string
	CallerRight bool    // stereo: the caller is on the right channel
	Speed       float64 // 1 is real time; 0 is as fast as it goes
	Parallel    int     // calls at once

	// Extensions, in lower case, are those that folders are searched for.
	Extensions []string
	// Open opens the recording of a call; OpenAudio where it is nil. It may
	// be called from several goroutines.
	Open func(call, path string) (*Recording, error)
	// Split, where not nil, finds the calls of a file that may hold several;
	// ok is false for a recording of one call, which Open opens.
	Split func(ctx context.Context, path string) (calls []Part, ok bool, err error)
}

// Part is one of the calls that a file holds.
type Part struct {
	Token      string // ends its id; empty where the file's own id will do
	Began      time.Time
	Attributes map[string]string
	Open       func(call string) (*Recording, error) // as of Config
}

// Recording is one file being read.
type Recording struct {
	audio.Reader
	Info     audio.FileInfo
	Warnings func() []string // see source.Call
	Close    func() error
}

// DefaultConfig hears recordings as fast as it goes, one call a core.
func DefaultConfig() Config {
	return Config{
		Tenant: "default", Parallel: runtime.GOMAXPROCS(0),
		Extensions: []string{".wav", ".wave", ".flac"},
	}
}

// OpenAudio opens a WAV or FLAC file. callerRight says that the caller of a
// stereo recording is on the right channel.
func OpenAudio(path string, callerRight bool) (*Recording, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{CallerRight: callerRight})
	if err != nil {
		return nil, err
	}
	return &Recording{Reader: f, Info: f.Info(), Warnings: f.Warnings, Close: f.Close}, nil
}

// Validate says which key is wrong and what it must be.
func (c Config) Validate() error {
	switch {
	case len(c.Paths) == 0:
		return errors.New("file.paths: must name a file or folder")
	case c.Speed < 0:
		return fmt.Errorf("file.speed: %v must be 0 or above", c.Speed)
	case c.Parallel < 1:
		return fmt.Errorf("file.parallel: %d must be at least 1", c.Parallel)
	}
	return nil
}

// FileError is one recording that was not heard, or not to its end.
type FileError struct {
	Path string // with # and the part's token for one call of several
	Err  error
}

func (e *FileError) Error() string {
	if msg := e.Err.Error(); strings.Contains(msg, e.Path) {
		return msg
	} else {
		return e.Path + ": " + msg
	}
}

func (e *FileError) Unwrap() error { return e.Err }

// Source serves each recording once.
type Source struct {
	cfg   Config
	files []string
	bad   []error // paths that are no recordings
}

var _ source.Source = (*Source)(nil)

// New finds the recordings that cfg names. A path that is missing or holds
// none is an error of Serve's, after the others have been heard.
func New(cfg Config) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg}
	seen := make(map[string]bool)
	for _, path := range cfg.Paths {
		found, err := find(path, cfg.Extensions)
		if err != nil {
			s.bad = append(s.bad, &FileError{Path: path, Err: err})
		}
		for _, f := range found {
			if !seen[f] {
				seen[f] = true
				s.files = append(s.files, f)
			}
		}
	}
	return s, nil
}

// Files are the recordings found, in the order in which they are begun.
func (s *Source) Files() []string { return s.files }

// find returns path itself, or the recordings below it in lexical order.
func find(path string, extensions []string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var found []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && slices.Contains(extensions, strings.ToLower(filepath.Ext(p))) {
			found = append(found, p)
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no recordings in this folder: %s files are looked for", strings.Join(extensions, ", "))
	}
	return found, err
}

// Serve hears every recording, several at once, and returns when the last is
// over. Its error joins a [FileError] for each that was not heard to its end.
func (s *Source) Serve(ctx context.Context, handle source.Handler) error {
	var group errgroup.Group
	group.SetLimit(s.cfg.Parallel)
	var errs []*error // of each call, in the order in which they begin
	begin := func(path string, id func() (string, error), part Part) {
		err := new(error)
		errs = append(errs, err)
		group.Go(func() error {
			if e := s.one(ctx, path, id, part, handle); e != nil {
				*err = &FileError{Path: part.of(path), Err: e}
			}
			return nil
		})
	}
	for _, path := range s.files {
		parts, err := s.split(ctx, path)
		if err != nil {
			err = &FileError{Path: path, Err: err}
			errs = append(errs, &err)
		}
		id := sync.OnceValues(func() (string, error) { return callID(path) })
		for _, part := range parts {
			begin(path, id, part)
		}
	}
	_ = group.Wait() // each error stands in errs
	all := slices.Clone(s.bad)
	for _, err := range errs {
		all = append(all, *err)
	}
	return errors.Join(all...)
}

// of names the part for people: the file, and which call of several.
func (p Part) of(path string) string {
	if p.Token == "" {
		return path
	}
	return path + "#" + p.Token
}

// split returns the calls of a file.
func (s *Source) split(ctx context.Context, path string) ([]Part, error) {
	if s.cfg.Split != nil && ctx.Err() == nil {
		if parts, ok, err := s.cfg.Split(ctx, path); ok || err != nil {
			return parts, err
		}
	}
	return []Part{{Open: func(call string) (*Recording, error) { return s.cfg.open(call, path) }}}, nil
}

func (s *Source) one(ctx context.Context, path string, fileID func() (string, error), part Part, handle source.Handler) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	id, err := fileID()
	if err != nil {
		return err
	}
	if part.Token != "" {
		id += "-" + part.Token
	}
	rec, err := part.Open(id)
	if err != nil {
		return err
	}
	defer func() { _ = rec.Close() }() // it was only read
	info := rec.Info
	call := &source.Call{
		ID:         id,
		Tenant:     s.cfg.Tenant,
		Source:     Name,
		Legs:       info.Legs,
		Attributes: map[string]string{"encoding": info.Encoding},
		Began:      part.Began,
		Duration:   info.Duration,
		Audio:      rec,
		Warnings:   rec.Warnings,
	}
	if info.RateHz != 0 {
		call.Attributes["rate"] = fmt.Sprint(info.RateHz)
		call.Attributes["channels"] = fmt.Sprint(info.Channels)
	}
	maps.Copy(call.Attributes, part.Attributes)
	call.Attributes["file"] = filepath.Base(part.of(path))
	if s.cfg.Speed > 0 {
		call.Audio = &paced{r: rec, speed: s.cfg.Speed}
	}
	return handle(ctx, call)
}

func (c Config) open(call, path string) (*Recording, error) {
	if c.Open != nil {
		return c.Open(call, path)
	}
	return OpenAudio(path, c.CallerRight)
}

// callID names the call of a recording after the file and what is in it: the
// same file has the same id wherever it lies, and two files that share a name
// have two.
func callID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return token(name) + "-" + hex.EncodeToString(h.Sum(nil)[:4]), nil
}

// token makes name a legal NATS subject token that is also a safe file name.
func token(name string) string {
	var b strings.Builder
	for _, r := range name {
		if b.Len() >= 60 {
			break
		}
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		default:
			if s := b.String(); s != "" && s[len(s)-1] != '-' {
				b.WriteByte('-')
			}
		}
	}
	if out := strings.Trim(b.String(), "-"); out != "" {
		return out
	}
	return "call"
}

// paced hands a recording out no faster than it was spoken.
type paced struct {
	r     audio.Reader
	speed float64
	began time.Time
}

func (p *paced) ReadFrame(ctx context.Context) (audio.Frame, error) {
	f, err := p.r.ReadFrame(ctx)
	if err != nil {
		return f, err
	}
	if p.began.IsZero() {
		p.began = time.Now()
	}
	due := time.Until(p.began.Add(time.Duration(float64(f.End()) / p.speed)))
	if due <= 0 {
		return f, nil
	}
	t := time.NewTimer(due)
	defer t.Stop()
	select {
	case <-t.C:
		return f, nil
	case <-ctx.Done():
		return audio.Frame{}, ctx.Err()
	}
}
