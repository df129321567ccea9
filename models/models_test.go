package models

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v4"
)

// pkg is a package of the pretended registry: an archive and the entry that
// describes it.
type pkg struct {
	entry   Entry
	archive []byte
}

type member struct {
	name string
	kind byte
	data string
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// pack builds an archive of members and an entry for those of them that are
// files below package/data.
func pack(t *testing.T, members ...member) pkg {
	t.Helper()
	e := Entry{Name: "m", Kind: Model, Version: "1.0", Licence: "ours", Source: Source{Package: "pkg", Version: "1.0", Path: "package/data"}}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Mode: 0o644, Size: int64(len(m.data))}
		if m.kind == tar.TypeSymlink {
			h.Size, h.Linkname = 0, m.data
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if m.kind != tar.TypeReg {
			continue
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(m.name, "package/data/"); ok {
			e.Files = append(e.Files, File{name, int64(len(m.data)), sum([]byte(m.data))})
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	e.Source.Bytes, e.Source.SHA256 = int64(b.Len()), sum(b.Bytes())
	return pkg{e, b.Bytes()}
}

func file(name, data string) member { return member{name, tar.TypeReg, data} }

func goodPackage(t *testing.T) pkg {
	return pack(t,
		file("package/package.json", "{}"),
		file("package/data/am/final.mdl", strings.Repeat("model", 50_000)),
		file("package/data/conf/mfcc.conf", "--x=1\n"),
		file("package/lib/other.so", "not ours"),
	)
}

// npm puts an npm of our own first in PATH: a shell script, run in the folder
// that the archive must go to with ARCHIVE being where the archive is.
func npm(t *testing.T, p pkg, script string) {
	t.Helper()
	bin := t.TempDir()
	archive := filepath.Join(bin, "archive")
	if err := os.WriteFile(archive, p.archive, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\nset -e\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("ARCHIVE", archive)
	t.Setenv("BIN", bin)
}

// delivers is an npm that does what it is asked, and notes each time.
const delivers = `
[ "$1 $2" = "pack pkg@1.0" ]
echo run >> "$BIN/runs"
cp "$ARCHIVE" pkg-1.0.tgz
`

func runs(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(os.Getenv("BIN"), "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte("\n"))
}

func store(dir string, p pkg) *Store {
	return &Store{dir: filepath.Join(dir, "models"), entries: []Entry{p.entry}}
}

// leftovers are the names in the store's folder that are neither an entry's
// nor the lock.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		if d.Name() != ".lock" && d.Name() != s.entries[0].folder() {
			names = append(names, d.Name())
		}
	}
	return names
}

func TestManifestIsSound(t *testing.T) {
	entries, err := parseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	s := Open(t.TempDir())
	for kind, name := range map[Kind]string{Library: DefaultLibrary, Model: DefaultModel} {
		if e, err := s.entry(name); err != nil || e.Kind != kind {
			t.Errorf("default %s %q: %v, %v", kind, name, e.Kind, err)
		}
	}
	if len(s.List()) != len(entries) {
		t.Errorf("%d listed, %d in the manifest", len(s.List()), len(entries))
	}
}

func TestManifestThatWouldEscapeOrSkipChecksIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(e *Entry){
		"no files":              func(e *Entry) { e.Files = nil },
		"path upwards":          func(e *Entry) { e.Files[0].Path = "../x" },
		"path through upwards":  func(e *Entry) { e.Files[0].Path = "a/../../x" },
		"absolute path":         func(e *Entry) { e.Files[0].Path = "/etc/x" },
		"no checksum":           func(e *Entry) { e.Files[0].SHA256 = "" },
		"short checksum":        func(e *Entry) { e.Source.SHA256 = "abcd" },
		"no archive size":       func(e *Entry) { e.Source.Bytes = 0 },
		"name upwards":          func(e *Entry) { e.Name = ".." },
		"name with a folder":    func(e *Entry) { e.Name = "a/b" },
		"option for a package":  func(e *Entry) { e.Source.Package = "--registry=x" },
		"unknown kind":          func(e *Entry) { e.Kind = "thing" },
		"no licence":            func(e *Entry) { e.Licence = "" },
		"library of many files": func(e *Entry) { e.Kind = Library },
	} {
		e := goodPackage(t).entry
		data, err := yaml.Marshal([]Entry{e})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(data); err != nil {
			t.Fatalf("unspoilt: %v", err)
		}
		spoil(&e)
		if data, err = yaml.Marshal([]Entry{e}); err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := parseManifest([]byte("- {name: a, sha255: b}")); err == nil {
		t.Error("unknown key: accepted")
	}
}

func TestInstallIsCompleteVerifiedAndDoneOnce(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, delivers)
	s := store(t.TempDir(), p)
	if _, err := s.Path("m"); !errors.Is(err, ErrMissing) || !errors.Is(err, ErrNotInstalled) {
		t.Errorf("Path before: %v", err)
	}
	var phases []Phase
	install := func() {
		t.Helper()
		phases = nil
		err := s.Install(t.Context(), InstallOptions{Progress: func(p Progress) {
			if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
			if p.Done > p.Total {
				t.Errorf("%+v", p)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	install()
	if want := []Phase{Downloading, Checking, Extracting, Installed}; !slices.Equal(phases, want) {
		t.Errorf("phases %q, want %q", phases, want)
	}
	dir, err := s.Path("m")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify("m", true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other.so")); err == nil {
		t.Error("a file that is not listed was installed")
	}
	if left := leftovers(t, s); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	t.Setenv("PATH", "/nonexistent") // offline, without npm
	install()
	if want := []Phase{Present}; !slices.Equal(phases, want) {
		t.Errorf("phases the second time %q, want %q", phases, want)
	}
	if n := runs(t); n != 1 {
		t.Errorf("npm ran %d times", n)
	}
}

func TestDamageIsFoundAndMended(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, delivers)
	s := store(t.TempDir(), p)
	install := func() {
		t.Helper()
		if err := s.Install(t.Context(), InstallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	install()
	dir, err := s.Path("m")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf", "mfcc.conf")

	if err := os.WriteFile(conf, []byte("--x=2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify("m", false); err != nil {
		t.Errorf("quick verify reads files: %v", err)
	}
	if err := s.Verify("m", true); !errors.Is(err, ErrDamaged) {
		t.Errorf("full verify: %v, want ErrDamaged", err)
	}
	for what, damage := range map[string]func() error{
		"a file gone":       func() error { return os.Remove(conf) },
		"a file cut":        func() error { return os.Truncate(conf, 1) },
		"marker gone":       func() error { return os.Remove(filepath.Join(dir, markerName)) },
		"other manifest":    func() error { return os.WriteFile(filepath.Join(dir, markerName), []byte("x"), 0o644) },
		"a file for folder": func() error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify("m", false); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%s: %v, want ErrNotInstalled", what, err)
		}
		install()
		if err := s.Verify("m", true); err != nil {
			t.Errorf("%s: after install: %v", what, err)
		}
		if left := leftovers(t, s); len(left) > 0 {
			t.Errorf("%s: left behind: %q", what, left)
		}
	}
}

func TestInstallFailuresSayWhatToType(t *testing.T) {
	good := goodPackage(t)
	spoilt := func(spoil func(p *pkg)) pkg {
		p := goodPackage(t)
		spoil(&p)
		return p
	}
	for _, tt := range []struct {
		name   string
		pkg    pkg
		npm    string // empty: none in PATH
		reason error
		fix    string // part of the message
	}{
		{"no npm", good, "", ErrNoNPM, "apt install npm"},
		{"no network", good, "echo 'npm error code ENOTFOUND' >&2; exit 1", ErrNetwork, "npm config"},
		{"refused", good, "echo 'npm ERR! code ECONNREFUSED' >&2; exit 1", ErrNetwork, "npm config"},
		{"no such package", good, "echo 'npm error code E404' >&2; exit 1", ErrDownload, "npm pack pkg@1.0"},
		{"npm finds the disk full", good, "echo 'npm error code ENOSPC' >&2; exit 1", ErrNoSpace, "CALLWARDEN_DATA"},
		{"npm finds damage", good, "echo 'npm error code EINTEGRITY' >&2; exit 1", ErrChecksum, "install again"},
		{"npm leaves nothing", good, "exit 0", ErrDownload, "pack pkg@1.0"},
		{"npm leaves two", good, "touch a.tgz b.tgz", ErrDownload, "pack pkg@1.0"},
		{"other archive", spoilt(func(p *pkg) { p.archive = append(p.archive, 0) }), delivers, ErrChecksum, "registry"},
		{"cut archive", spoilt(func(p *pkg) { p.archive = p.archive[:100] }), delivers, ErrChecksum, "registry"},
		{"other file in the archive", spoilt(func(p *pkg) { p.entry.Files[0].SHA256 = sum(nil) }), delivers, ErrChecksum, "report"},
		{"other size in the archive", spoilt(func(p *pkg) { p.entry.Files[0].Bytes++ }), delivers, ErrChecksum, "report"},
		{"file missing in the archive", spoilt(func(p *pkg) { p.entry.Files = append(p.entry.Files, File{"gone", 0, sum(nil)}) }), delivers, ErrChecksum, "report"},
		{"other platform", spoilt(func(p *pkg) { p.entry.Platforms = []string{"plan9/mips"} }), delivers, ErrPlatform, "--backend remote"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			npm(t, tt.pkg, tt.npm)
			if tt.npm == "" {
				t.Setenv("PATH", t.TempDir())
			}
			s := store(t.TempDir(), tt.pkg)
			err := s.Install(t.Context(), InstallOptions{Names: []string{"m"}})
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrNotInstalled) || !errors.Is(err, tt.reason) || !strings.Contains(err.Error(), tt.fix) {
				t.Fatalf("%v, want %v with %q in it", err, tt.reason, tt.fix)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := s.Path("m"); err == nil {
				t.Error("installed all the same")
			}
		})
	}
}

// Names in an archive never decide where something is written, and what is no
// plain file is not followed.
func TestArchiveCannotWriteElsewhere(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	p := pack(t,
		file("../../../escape", "x"),
		file(outside, "x"),
		member{"package/data/conf", tar.TypeSymlink, filepath.Dir(outside)},
		file("package/data/conf/outside", "harmless"),
	)
	npm(t, p, delivers)
	s := store(t.TempDir(), p)
	if err := s.Install(t.Context(), InstallOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("written outside")
	}
	if err := s.Verify("m", true); err != nil {
		t.Error(err)
	}

	linked := pack(t, member{"package/data/x", tar.TypeSymlink, "/etc/passwd"})
	linked.entry.Files = []File{{"x", 0, sum(nil)}}
	npm(t, linked, delivers)
	if err := store(t.TempDir(), linked).Install(t.Context(), InstallOptions{}); !errors.Is(err, ErrChecksum) {
		t.Errorf("a link for a file: %v, want ErrChecksum", err)
	}
}

func TestTwoInstallsAtOnceDownloadOnce(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, delivers+`cat "$BIN/go"`)
	gate := filepath.Join(os.Getenv("BIN"), "go")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var group sync.WaitGroup
	var open sync.Once
	for range 3 {
		group.Go(func() {
			err := store(dir, p).Install(context.Background(), InstallOptions{Progress: func(p Progress) {
				if p.Phase == Waiting { // whoever downloads may end once another waits
					open.Do(func() {
						if err := os.WriteFile(gate, nil, 0o600); err != nil {
							t.Error(err)
						}
					})
				}
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := runs(t); n != 1 {
		t.Errorf("npm ran %d times", n)
	}
	if err := store(dir, p).Verify("m", true); err != nil {
		t.Error(err)
	}
}

func TestCancelEndsNPMAndTheWaitForIt(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, `exec sleep 600`)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	err := store(dir, p).Install(ctx, InstallOptions{Progress: func(p Progress) {
		if p.Phase != Downloading {
			return
		}
		// The lock is held here: a second install waits, and stops waiting.
		waiting, stop := context.WithCancel(t.Context())
		err := store(dir, goodPackage(t)).Install(waiting, InstallOptions{Progress: func(Progress) { stop() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v, want context.Canceled", err)
		}
		cancel()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	if left := leftovers(t, store(dir, p)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestMain is also the body of the processes that the tests below start and
// kill or limit.
func TestMain(m *testing.M) {
	if dir := os.Getenv("INSTALL_INTO"); dir != "" {
		os.Exit(installChild(dir))
	}
	os.Exit(m.Run())
}

func installChild(dir string) int {
	data, err := os.ReadFile(os.Getenv("ENTRY"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	entries, err := parseManifest(data)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if limit := os.Getenv("FILE_LIMIT"); limit != "" {
		n, err := strconv.ParseUint(limit, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// Go ignores the signal that comes with it, so writes fail with EFBIG.
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	s := &Store{dir: filepath.Join(dir, "models"), entries: entries}
	err = s.Install(context.Background(), InstallOptions{Progress: func(p Progress) {
		if string(p.Phase) == os.Getenv("STOP_AT") && (p.Phase != Extracting || p.Done > 0) {
			fmt.Println("stopped")
			select {} // until killed
		}
	}})
	var e *Error
	switch {
	case errors.Is(err, ErrNoSpace):
		return 28
	case errors.As(err, &e):
		fmt.Fprintln(os.Stderr, err)
		return 3
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func child(t *testing.T, p pkg, dir string, env ...string) *exec.Cmd {
	t.Helper()
	data, err := yaml.Marshal([]Entry{p.entry})
	if err != nil {
		t.Fatal(err)
	}
	entry := filepath.Join(t.TempDir(), "entry.yaml")
	if err := os.WriteFile(entry, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "INSTALL_INTO="+dir, "ENTRY="+entry)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestKilledInstallIsMendedByTheNext(t *testing.T) {
	for _, phase := range []Phase{Downloading, Checking, Extracting} {
		t.Run(string(phase), func(t *testing.T) {
			p := goodPackage(t)
			npm(t, p, delivers)
			dir := t.TempDir()
			cmd := child(t, p, dir, "STOP_AT="+string(phase))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 8)
			if _, err := io.ReadFull(out, line); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("not killed")
			}
			s := store(dir, p)
			if len(leftovers(t, s)) == 0 {
				t.Error("nothing half-way was there to be cleaned")
			}
			if _, err := s.Path("m"); err == nil {
				t.Error("half an install counts as one")
			}
			if err := s.Install(t.Context(), InstallOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Verify("m", true); err != nil {
				t.Error(err)
			}
			if left := leftovers(t, s); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestFullDiskIsSaid(t *testing.T) {
	p := goodPackage(t) // extracted a hundred times the size of its archive
	npm(t, p, delivers)
	dir := t.TempDir()
	cmd := child(t, p, dir, "FILE_LIMIT=100000")
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 28 {
		t.Errorf("exit code %d (%v), want that of ErrNoSpace", code, err)
	}
	if left := leftovers(t, store(dir, p)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Files and links for folders are refused to every user, permissions not to
// root, so those are tested where they mean something.
func TestFolderThatCannotBeWrittenIsSaid(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, delivers)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{"a file": file, "below a file": filepath.Join(file, "data"), "no such device": "/proc/callwarden"}
	if os.Geteuid() != 0 {
		locked := t.TempDir()
		if err := os.Chmod(locked, 0o500); err != nil {
			t.Fatal(err)
		}
		dirs["read-only"] = locked
	}
	for name, dir := range dirs {
		err := store(dir, p).Install(t.Context(), InstallOptions{})
		if !errors.Is(err, ErrNoAccess) || !strings.Contains(err.Error(), "CALLWARDEN_DATA") {
			t.Errorf("%s: %v, want ErrNoAccess", name, err)
		}
	}
}

func TestLocateTakesNamesAndOnesOwnPaths(t *testing.T) {
	p := goodPackage(t)
	npm(t, p, delivers)
	s := store(t.TempDir(), p)
	if err := s.Install(t.Context(), InstallOptions{}); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	lib := filepath.Join(own, "libvosk.so")
	if err := os.WriteFile(lib, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		kind   Kind
		in     string
		want   string
		reason error
	}{
		{Model, "m", s.path(p.entry), nil},
		{Model, own, own, nil},
		{Library, lib, lib, nil},
		{Model, lib, "", ErrMissing},
		{Library, own, "", ErrMissing},
		{Model, filepath.Join(own, "gone"), "", ErrMissing},
		{Model, "nonesuch", "", ErrUnknown},
		{Library, "m", "", ErrUnknown},
		{Model, "", "", ErrUnknown},
	} {
		got, err := s.Locate(tt.kind, tt.in)
		if got != tt.want || !errors.Is(err, tt.reason) {
			t.Errorf("Locate(%s, %q) = %q, %v, want %q, %v", tt.kind, tt.in, got, err, tt.want, tt.reason)
		}
	}
}

func TestDataDirPrefersFlagThenEnvironment(t *testing.T) {
	t.Setenv("HOME", "/home/u")
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("CALLWARDEN_DATA", "")
	check := func(override, want string) {
		t.Helper()
		if got, err := DataDir(override); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	check("", "/home/u/.local/share/callwarden")
	t.Setenv("XDG_DATA_HOME", "relative")
	check("", "/home/u/.local/share/callwarden")
	t.Setenv("XDG_DATA_HOME", "/x")
	check("", "/x/callwarden")
	t.Setenv("CALLWARDEN_DATA", "/c")
	check("", "/c")
	check("/f", "/f")
}
