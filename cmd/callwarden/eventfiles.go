package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/callwarden/callwarden/pipeline/sink"
	"github.com/callwarden/callwarden/pipeline/sink/jsonsink"
	"github.com/callwarden/callwarden/pipeline/sink/reportsink"
)

// eventFiles writes the events of each call into events.jsonl beside its
// report.
type eventFiles struct {
	dir string
	cfg jsonsink.Config

	mu   sync.Mutex
	open map[string]*eventFile // by folder
}

type eventFile struct {
	*jsonsink.Sink
	file *os.File
}

var _ sink.Sink = (*eventFiles)(nil)

func newEventFiles(dir string, cfg jsonsink.Config) *eventFiles {
	return &eventFiles{dir: dir, cfg: cfg, open: make(map[string]*eventFile)}
}

func (s *eventFiles) Publish(ctx context.Context, ev sink.Event) error {
	folder := reportsink.Folder(ev.Tenant, ev.Call)
	f, err := s.of(folder)
	if err != nil {
		return err
	}
	err = f.Publish(ctx, ev)
	if ev.Type == sink.CallEnded {
		s.mu.Lock()
		delete(s.open, folder)
		s.mu.Unlock()
		err = errors.Join(err, f.close(ctx))
	}
	return err
}

func (s *eventFiles) of(folder string) (*eventFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.open[folder]; f != nil {
		return f, nil
	}
	dir := filepath.Join(s.dir, folder)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making folder for events: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("making file for events: %w", err)
	}
	f := &eventFile{jsonsink.New(file, s.cfg), file}
	s.open[folder] = f
	return f, nil
}

func (f *eventFile) close(ctx context.Context) error {
	return errors.Join(f.Sink.Close(ctx), f.file.Close())
}

// Close closes the files of calls that have not ended.
func (s *eventFiles) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for folder, f := range s.open {
		delete(s.open, folder)
		errs = append(errs, f.close(ctx))
	}
	return errors.Join(errs...)
}
