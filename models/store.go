package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DataDir is the per-user data folder: override where it is not empty, else
// $CALLWARDEN_DATA, else $XDG_DATA_HOME/callwarden, else
// ~/.local/share/callwarden. The folder need not exist.
func DataDir(override string) (string, error) {
	switch {
	case override != "":
		return filepath.Abs(override)
	case os.Getenv("CALLWARDEN_DATA") != "":
		return filepath.Abs(os.Getenv("CALLWARDEN_DATA"))
	case filepath.IsAbs(os.Getenv("XDG_DATA_HOME")): // the XDG specification ignores relative ones
		return filepath.Join(os.Getenv("XDG_DATA_HOME"), "callwarden"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the data folder: %w; set CALLWARDEN_DATA to a folder", err)
	}
	return filepath.Join(home, ".local", "share", "callwarden"), nil
}

// Store is the folder that models and libraries are installed in. It keeps no
// state of its own: any number of stores and processes may use one folder.
type Store struct {
	dir     string
	entries []Entry
}

// Open gives the store in dataDir (see [DataDir]). It touches no file.
func Open(dataDir string) *Store {
	entries, err := parseManifest(manifest)
	if err != nil {
		panic(err) // the manifest is compiled in: a wiring fault that a test finds
	}
	return &Store{dir: filepath.Join(dataDir, "models"), entries: entries}
}

// Status is an entry of the manifest and what is on the disk of it.
type Status struct {
	Entry
	Path      string // where it is or would be: a model's folder, a library's file
	Installed bool   // as Verify says without looking into the files
}

// List gives the status of every entry of the manifest, in its order.
func (s *Store) List() []Status {
	list := make([]Status, len(s.entries))
	for i, e := range s.entries {
		list[i] = Status{Entry: e, Path: s.path(e), Installed: s.quick(e) == nil}
	}
	return list
}

// Path is where the named entry is installed: a model's folder, a library's
// file. It is an [*Error] where the entry is unknown, not installed, or does
// not have the sizes that the manifest says.
func (s *Store) Path(name string) (string, error) {
	e, err := s.entry(name)
	if err != nil {
		return "", err
	}
	if err := s.quick(e); err != nil {
		return "", err
	}
	return s.path(e), nil
}

// Locate is [Store.Path] for a name of the manifest; anything with a path
// separator in it, or that is no such name but exists on the disk, is the
// user's own folder or file and is returned as an absolute path. It must
// exist and be of the right sort; its contents are the caller's to check.
func (s *Store) Locate(kind Kind, nameOrPath string) (string, error) {
	e, err := s.entry(nameOrPath)
	if err == nil && e.Kind == kind {
		return s.Path(nameOrPath)
	}
	if nameOrPath == "" {
		return "", &Error{nameOrPath, ErrUnknown, "give a " + string(kind) + " by name or path", nil}
	}
	info, statErr := os.Stat(nameOrPath)
	switch {
	case statErr != nil && !strings.ContainsRune(nameOrPath, filepath.Separator):
		return "", &Error{nameOrPath, ErrUnknown, fmt.Sprintf("give one of %s, or the path of your own %s", s.names(kind), kind), nil}
	case statErr != nil:
		return "", &Error{nameOrPath, ErrMissing, "check the path of the " + string(kind), statErr}
	case kind == Model && !info.IsDir():
		return "", &Error{nameOrPath, ErrMissing, "give the folder of the model, not a file", nil}
	case kind == Library && !info.Mode().IsRegular():
		return "", &Error{nameOrPath, ErrMissing, "give the shared object file of the library", nil}
	}
	return filepath.Abs(nameOrPath)
}

// Verify checks the named entry against the manifest: with full false the
// marker that a finished install leaves and the size of each file, which is
// cheap enough for every start; with full true the SHA-256 of each file too.
func (s *Store) Verify(name string, full bool) error {
	e, err := s.entry(name)
	if err != nil {
		return err
	}
	if err := s.quick(e); err != nil || !full {
		return err
	}
	for _, f := range e.Files {
		if err := checkFile(filepath.Join(s.dir, e.folder(), filepath.FromSlash(f.Path)), f.Bytes, f.SHA256); err != nil {
			return &Error{name, ErrDamaged, installFix, err}
		}
	}
	return nil
}

const installFix = "type: callwarden models install"

func (s *Store) quick(e Entry) error {
	dir := filepath.Join(s.dir, e.folder())
	marker, err := os.ReadFile(filepath.Join(dir, markerName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Error{e.Name, ErrMissing, installFix, nil}
	case err != nil:
		return &Error{e.Name, ErrDamaged, installFix, err}
	case string(marker) != e.marker():
		return &Error{e.Name, ErrDamaged, installFix, errors.New("installed from another manifest")}
	}
	for _, f := range e.Files {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return &Error{e.Name, ErrDamaged, installFix, err}
		}
		if info.Size() != f.Bytes {
			return &Error{e.Name, ErrDamaged, installFix, fmt.Errorf("%s has %d bytes, not %d", f.Path, info.Size(), f.Bytes)}
		}
	}
	return nil
}

// markerName is written last into an entry's folder, before the folder gets
// its name. It ties what is there to the manifest it came from.
const markerName = ".callwarden-installed"

func (e Entry) marker() string {
	data, err := json.Marshal(e.Files)
	if err != nil {
		panic(err) // strings and integers only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) + "\n"
}

func (s *Store) path(e Entry) string {
	if e.Kind == Library {
		return filepath.Join(s.dir, e.folder(), filepath.FromSlash(e.Files[0].Path))
	}
	return filepath.Join(s.dir, e.folder())
}

func (s *Store) entry(name string) (Entry, error) {
	i := slices.IndexFunc(s.entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, &Error{name, ErrUnknown, "type: callwarden models list", nil}
	}
	return s.entries[i], nil
}

func (s *Store) names(kind Kind) string {
	var names []string
	for _, e := range s.entries {
		if e.Kind == kind {
			names = append(names, e.Name)
		}
	}
	return strings.Join(names, ", ")
}

// checkFile reads the whole file and compares size and checksum.
func checkFile(name string, bytes int64, sum string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return fmt.Errorf("%s: %d bytes with SHA-256 %s, not %d with %s", filepath.Base(name), n, got, bytes, sum)
	}
	return nil
}
