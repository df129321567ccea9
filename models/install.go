package models

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Phase is where an install stands.
type Phase string

const (
	Waiting     Phase = "waiting for another install"
	Downloading Phase = "downloading"
	Checking    Phase = "checking"
	Extracting  Phase = "extracting"
	Installed   Phase = "installed"
	Present     Phase = "already installed"
)

// Progress is one step of an install. While downloading, Done is what npm has
// put on the disk so far, which may stand still at the beginning and the end.
type Progress struct {
	Name        string // of the entry; empty while waiting
	Phase       Phase
	Done, Total int64 // bytes; 0 where the phase has none
}

// InstallOptions say what to install.
type InstallOptions struct {
	Names    []string       // entries of the manifest; none means all
	Progress func(Progress) // may be nil; called by one goroutine at a time
}

// Install puts the named entries into the store; what is there already and
// verifies quickly is left alone, without network or lock. Only one install
// works in a data folder at a time, others wait for it. An entry appears
// complete or not at all, and what a killed install left is removed by the
// next. Failures that the user can mend are an [*Error]; ctx.Err() is
// returned when ctx ends first.
func (s *Store) Install(ctx context.Context, opt InstallOptions) error {
	progress := opt.Progress
	if progress == nil {
		progress = func(Progress) {}
	}
	wanted, err := s.wanted(opt.Names)
	if err != nil {
		return err
	}
	if missing := s.missing(wanted, progress); len(missing) == 0 {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return writing(wanted[0].Name, s.dir, err)
	}
	unlock, err := lock(ctx, filepath.Join(s.dir, ".lock"), func() { progress(Progress{Phase: Waiting}) })
	if err != nil {
		return writing(wanted[0].Name, s.dir, err)
	}
	defer unlock()
	s.sweep()
	for _, e := range wanted {
		if s.quick(e) == nil { // another process was faster
			continue
		}
		if err := s.install(ctx, e, progress); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		progress(Progress{Name: e.Name, Phase: Installed, Done: e.Bytes(), Total: e.Bytes()})
	}
	return nil
}

func (s *Store) wanted(names []string) ([]Entry, error) {
	var wanted []Entry
	if len(names) == 0 {
		for _, e := range s.entries {
			if !e.Optional {
				wanted = append(wanted, e)
			}
		}
		return wanted, nil
	}
	for _, name := range names {
		e, err := s.entry(name)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, e)
	}
	return wanted, nil
}

func (s *Store) missing(wanted []Entry, progress func(Progress)) []Entry {
	var missing []Entry
	for _, e := range wanted {
		if s.quick(e) != nil {
			missing = append(missing, e)
			continue
		}
		progress(Progress{Name: e.Name, Phase: Present, Done: e.Bytes(), Total: e.Bytes()})
	}
	return missing
}

// tempPrefix begins the names of folders that an install works in. Whoever
// holds the lock may remove them all.
const tempPrefix = ".tmp-"

// sweep removes what killed installs left. A folder that cannot be removed
// now (an orphaned npm may still write into it) is left to the next sweep.
func (s *Store) sweep() {
	old, _ := filepath.Glob(filepath.Join(s.dir, tempPrefix+"*"))
	for _, dir := range old {
		os.RemoveAll(dir)
	}
}

func (s *Store) install(ctx context.Context, e Entry, progress func(Progress)) (err error) {
	if !e.Supported() {
		return &Error{e.Name, ErrPlatform, fmt.Sprintf("it runs on %s and this is %s/%s; use a recogniser on another machine (--backend remote)",
			strings.Join(e.Platforms, ", "), runtime.GOOS, runtime.GOARCH), nil}
	}
	tmp, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return writing(e.Name, s.dir, err)
	}
	defer os.RemoveAll(tmp)

	archive, err := download(ctx, e, tmp, progress)
	if err != nil {
		return err
	}
	progress(Progress{Name: e.Name, Phase: Checking, Total: e.Source.Bytes})
	if err := checkFile(archive, e.Source.Bytes, e.Source.SHA256); err != nil {
		return &Error{e.Name, ErrChecksum, "what npm delivered is not what was published: check its registry setting (npm config get registry) and install again", err}
	}
	content := filepath.Join(tmp, "content")
	if err := extract(ctx, e, archive, content, progress); err != nil {
		var bad *Error
		if errors.As(err, &bad) {
			return err
		}
		return writing(e.Name, s.dir, err)
	}
	if err := writeSynced(filepath.Join(content, markerName), strings.NewReader(e.marker())); err != nil {
		return writing(e.Name, s.dir, err)
	}
	if err := syncDirs(content); err != nil {
		return writing(e.Name, s.dir, err)
	}
	return writing(e.Name, s.dir, s.publish(content, filepath.Join(s.dir, e.folder()), filepath.Join(tmp, "old")))
}

// publish gives content its final name. A damaged install that stands there
// is moved into the temporary folder first, so a process that has it mapped
// keeps its files.
func (s *Store) publish(content, final, old string) error {
	if err := os.Rename(final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(content, final); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// extract writes the files that e lists, and nothing else, from the archive
// to dir, and checks each on its way.
func extract(ctx context.Context, e Entry, archive, dir string, progress func(Progress)) error {
	left := map[string]File{}
	for _, f := range e.Files {
		left[path.Join(e.Source.Path, f.Path)] = f
	}
	broken := func(err error) error {
		return &Error{e.Name, ErrChecksum, "please report this: the archive does not hold what the manifest says", err}
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	zip, err := gzip.NewReader(in)
	if err != nil {
		return broken(err)
	}
	var done int64
	for r := tar.NewReader(zip); len(left) > 0; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := r.Next()
		if err != nil { // io.EOF too: files are missing
			return broken(err)
		}
		f, ok := left[h.Name]
		if !ok {
			continue
		}
		delete(left, h.Name)
		if h.Typeflag != tar.TypeReg || h.Size != f.Bytes {
			return broken(fmt.Errorf("%s: type %q with %d bytes, not a file with %d", f.Path, h.Typeflag, h.Size, f.Bytes))
		}
		progress(Progress{e.Name, Extracting, done, e.Bytes()})
		// The name on disk is the manifest's, checked when it was read; the
		// archive's own names never reach the file system.
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		sum := sha256.New()
		if err := writeSynced(name, io.TeeReader(r, sum)); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
			return broken(fmt.Errorf("%s: SHA-256 %s, not %s", f.Path, got, f.SHA256))
		}
		done += f.Bytes
	}
	progress(Progress{e.Name, Extracting, done, e.Bytes()})
	return nil
}

// writeSynced writes r to a new file and waits until it is on the disk.
func writeSynced(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDirs makes the names in dir and in all folders below it durable.
func syncDirs(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(name)
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// pollEvery is how often a wait looks again: often enough for a progress bar,
// seldom enough to cost nothing.
const pollEvery = 200 * time.Millisecond
