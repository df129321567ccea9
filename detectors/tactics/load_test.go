package tactics_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callwarden/callwarden/detectors/tactics"
)

const smallPack = `tactic: urgency
language: en
version: 3
points: 1
patterns:
  - {name: now, phrase: right now}
`

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoadTakesTheFolderInsteadOfTheEmbeddedPacks(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "en/urgency.yaml", smallPack)
	put(t, dir, "en/notes.txt", "not a pack")
	lib, err := tactics.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	packs := lib.Set.Packs()
	if len(packs) != 1 || packs[0].ID() != "urgency/en@3" {
		t.Errorf("packs are %v", packs)
	}
	if _, ok := lib.Advice("urgency", "en", "", "notice"); !ok {
		t.Error("a folder without advice has not the embedded advice")
	}
}

func TestLoadErrorsNameFileLineAndColumn(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no packs":        {nil, []string{"no tactic packs"}},
		"unknown tactic":  {map[string]string{"en/a.yaml": strings.Replace(smallPack, "urgency", "hurry", 1)}, []string{"en/a.yaml:1:9: unknown tactic"}},
		"unclosed group":  {map[string]string{"en/a.yaml": strings.Replace(smallPack, "right now", "(right | now", 1)}, []string{"en/a.yaml:6:", "is not closed"}},
		"unknown class":   {map[string]string{"en/a.yaml": strings.Replace(smallPack, "right now", "<soon> now", 1)}, []string{"en/a.yaml:6:", "unknown class <soon>"}},
		"two files wrong": {map[string]string{"en/a.yaml": "tactic: urgency\n", "confusions/x.yaml": "backend: vosk\n"}, []string{"en/a.yaml:", "confusions/x.yaml:"}},
		"two packs alike": {map[string]string{"en/a.yaml": smallPack, "en/b.yaml": smallPack}, []string{"en/b.yaml:", "has a pack already"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				put(t, dir, file, text)
			}
			_, err := tactics.Load(dir)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the error:\n%v", want, err)
				}
			}
		})
	}
}

func TestWatcherTakesGoodPacksAndRefusesBadOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir, "en/urgency.yaml", smallPack)
		var log bytes.Buffer
		w, err := tactics.NewWatcher(dir, time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		look := func() string { // lets the watcher look once more
			<-time.After(time.Second)
			synctest.Wait()
			return w.Library().Set.Packs()[0].ID()
		}
		if id := look(); id != "urgency/en@3" {
			t.Errorf("at first the pack is %s", id)
		}
		put(t, dir, "en/urgency.yaml", strings.Replace(smallPack, "right now", "right (now", 1))
		for range 3 {
			if id := look(); id != "urgency/en@3" {
				t.Errorf("after a bad change the pack is %s", id)
			}
		}
		if n := strings.Count(log.String(), "refused"); n != 1 {
			t.Errorf("the bad pack was logged %d times", n)
		}
		if !strings.Contains(log.String(), "urgency.yaml:6:") {
			t.Errorf("the log does not say where:\n%s", &log)
		}
		put(t, dir, "en/urgency.yaml", strings.Replace(smallPack, "version: 3", "version: 4", 1))
		if id := look(); id != "urgency/en@4" {
			t.Errorf("after a good change the pack is %s", id)
		}
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}
