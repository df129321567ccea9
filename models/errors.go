package models

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// ErrNotInstalled is wrapped by every error of this package that a user mends
// by installing something or making room: exit code 3.
var ErrNotInstalled = errors.New("not installed")

// Reasons; each is found with errors.Is in an [*Error].
var (
	ErrUnknown  = errors.New("no such model or library")
	ErrMissing  = errors.New("not there")
	ErrDamaged  = errors.New("installed files are damaged")
	ErrPlatform = errors.New("not available for this platform")
	ErrNoNPM    = errors.New("npm is not in PATH")
	ErrNetwork  = errors.New("the package registry cannot be reached")
	ErrDownload = errors.New("npm could not fetch the package")
	ErrChecksum = errors.New("wrong checksum")
	ErrNoSpace  = errors.New("no space left")
	ErrNoAccess = errors.New("data folder cannot be written")
)

// Error says which entry is missing or could not be installed, why, and what
// to type. errors.Is finds ErrNotInstalled, the reason and the cause in it.
type Error struct {
	Name   string // of the entry
	Reason error  // one of the reasons above
	Fix    string // one sentence: what the user does about it
	Err    error  // the cause; may be nil
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %v", e.Name, e.Reason)
	if e.Err != nil {
		s += fmt.Sprintf(" (%v)", e.Err)
	}
	return s + ": " + e.Fix
}

func (e *Error) Unwrap() []error { return []error{ErrNotInstalled, e.Reason, e.Err} }

// writing turns what the operating system said about a write into an Error.
func writing(name, dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return &Error{name, ErrNoSpace, noSpaceFix(dir), err}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return &Error{name, ErrNoAccess, "make " + dir + " a folder that you can write, or set CALLWARDEN_DATA to one", err}
	}
	return fmt.Errorf("installing %s: %w", name, err)
}

func noSpaceFix(dir string) string {
	return "free about 250 MB on the disk of " + dir + ", or set CALLWARDEN_DATA to a folder on another, and install again"
}
