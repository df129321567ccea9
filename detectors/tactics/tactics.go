// Package tactics holds the tactic packs: what each tactic sounds like, what
// cancels it, and what a person should do about it. All of it is data, embedded
// here or read from a folder of the same shape:
//
//	en/<tactic>.yaml       a pack, see docs/phrases.md
//	en/common.yaml         classes and guards that the packs share
//	confusions/*.yaml      what a recogniser writes for what is said
//	advice/en.yaml         what to tell a person
package tactics

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/callwarden/callwarden/detectors/phrase"
)

//go:embed en confusions advice
var embedded embed.FS

const (
	language     = "en" // of the packs; advice may be given in others
	commonFile   = "common.yaml"
	maxFileBytes = 1 << 20 // as phrase.ParsePack has it
	maxFiles     = 500
)

// Library is everything that was loaded together. It is immutable and safe for
// all goroutines.
type Library struct {
	Set *phrase.Set
	// Fingerprint is the SHA-256 of the files' names and contents, in hex.
	Fingerprint string

	advice []*adviceFile
}

// Load reads the packs of a folder, or the embedded ones when dir is empty. A
// folder must hold the packs that are to be used, all of them; where it has no
// confusions or no advice, the embedded ones serve.
//
// An error says everything that is wrong, one line each, with file, line and
// column.
func Load(dir string) (*Library, error) {
	if dir == "" {
		return load(embedded, "")
	}
	return load(os.DirFS(dir), dir)
}

// file is a file that was read; name is what errors call it.
type file struct {
	name string
	data []byte
}

func load(fsys fs.FS, dir string) (*Library, error) {
	folders := make(map[string][]file)
	hash := sha256.New()
	for _, folder := range []string{language, "confusions", "advice"} {
		files, err := readFolder(fsys, dir, folder)
		if err == nil && len(files) == 0 && folder != language {
			files, err = readFolder(embedded, "", folder)
		}
		if err != nil {
			return nil, err
		}
		folders[folder] = files
		for _, f := range files {
			fmt.Fprintf(hash, "%s %d\n", f.name, len(f.data))
			hash.Write(f.data)
		}
	}
	lib := &Library{Fingerprint: fmt.Sprintf("%x", hash.Sum(nil))}
	var (
		packs  []*phrase.Pack
		shared *phrase.Shared
		conf   []*phrase.Confusions
		errs   []error
	)
	note := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	}
	for _, f := range folders[language] {
		if path.Base(f.name) == commonFile {
			s, err := phrase.ParseShared(f.name, f.data)
			note(err)
			shared = s
			continue
		}
		if p, err := phrase.ParsePack(f.name, f.data); note(err) {
			packs = append(packs, p)
		}
	}
	for _, f := range folders["confusions"] {
		if c, err := phrase.ParseConfusions(f.name, f.data); note(err) {
			conf = append(conf, c)
		}
	}
	for _, f := range folders["advice"] {
		if a, err := parseAdvice(f.name, f.data); note(err) {
			lib.advice = append(lib.advice, a)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(packs) == 0 {
		return nil, fmt.Errorf("%s: no tactic packs (*.yaml) in it", path.Join(dir, language))
	}
	set, err := phrase.Compile(packs, shared, conf)
	if err != nil {
		return nil, err
	}
	lib.Set = set
	return lib, nil
}

// readFolder reads the YAML files of a folder in the order of their names. A
// folder that does not exist has none.
func readFolder(fsys fs.FS, dir, folder string) ([]file, error) {
	entries, err := fs.ReadDir(fsys, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading tactic packs: %w", err)
	}
	var files []file
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml"}, path.Ext(name)) {
			continue
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("%s: more than %d files", path.Join(dir, folder), maxFiles)
		}
		data, err := readFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("reading tactic packs: %w", err)
		}
		files = append(files, file{path.Join(dir, name), data})
	}
	return files, nil
}

// readFile reads a file up to a byte over the limit: whoever parses it says so.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(f, maxFileBytes+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.Bytes(), nil
}
