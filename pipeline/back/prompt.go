package back

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Names of the prompts that come with callwarden, in English.
const (
	Customer = "customer" // warns who is being called, in the words of the advice
	Agent    = "agent"    // warns the bank's agent
)

//go:embed prompts/*.wav prompts/*.txt
var shipped embed.FS

// Own is a prompt of the operator's. One named like a shipped one takes its
// place where it fits.
type Own struct {
	Name     string `yaml:"name"`
	File     string `yaml:"file"`     // WAV or FLAC, one channel
	Text     string `yaml:"text"`     // what it says, for those who read; empty: the advice of the moment
	Language string `yaml:"language"` // BCP 47; empty fits any
	Tenant   string `yaml:"tenant"`   // empty fits any
}

// promptMost is how long a prompt may be: longer, and nobody listens.
const promptMost = time.Minute

func (o Own) validate() error {
	switch {
	case o.Name == "" || isFile(o.Name) || strings.ContainsAny(o.Name, "\"\\ \t\n"):
		return fmt.Errorf("name: %q must be a word without blanks or quotes", o.Name)
	case o.File == "":
		return errors.New(`file: "" must be the name of a recording`)
	}
	return nil
}

// isFile tells a recording from the name of a prompt.
func isFile(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".wav" || ext == ".flac"
}

// names are those that a way's prompt may have, beside files.
func (c Config) names() []string {
	all := []string{Customer, Agent}
	for _, p := range c.Prompts {
		if !slices.Contains(all, p.Name) {
			all = append(all, p.Name)
		}
	}
	return all
}

// prompts are all that can be said, the operator's own before those that are
// shipped.
type prompts []prompt

type prompt struct {
	Own
	sound source.Prompt
}

// Check reads the files that c names as New does, and says what is wrong with
// them, each fault as "key: value rule".
func (c Config) Check() error {
	_, err := c.load()
	return err
}

func (c Config) load() (all prompts, err error) {
	var errs []error
	add := func(key string, o Own) {
		sound, err := readPrompt(o.File)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			return
		}
		sound.ID, sound.Text = o.Name, o.Text
		all = append(all, prompt{o, sound})
	}
	for i, o := range c.Prompts {
		add(fmt.Sprintf("prompts[%d].file", i), o)
	}
	read := make(map[string]bool)
	for _, name := range sorted(c.Sources) {
		if w := c.Sources[name]; isFile(w.Prompt) && !read[w.Prompt] {
			read[w.Prompt] = true
			add("sources."+name+".prompt", Own{Name: w.Prompt, File: w.Prompt})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, name := range []string{Customer, Agent} {
		p, err := shippedPrompt(name)
		if err != nil {
			return nil, err // a fault of the build
		}
		all = append(all, p)
	}
	return all, nil
}

const shippedLanguage = "en"

func shippedPrompt(name string) (prompt, error) {
	base := "prompts/" + name + "." + shippedLanguage
	text, err := shipped.ReadFile(base + ".txt")
	if err != nil {
		return prompt{}, err
	}
	wav, err := shipped.ReadFile(base + ".wav")
	if err != nil {
		return prompt{}, err
	}
	f, err := audio.NewFile(bytes.NewReader(wav), base+".wav", int64(len(wav)), audio.FileOptions{})
	if err != nil {
		return prompt{}, err
	}
	sound, err := sayable(f, base)
	sound.ID, sound.Text = name, strings.TrimSpace(string(text))
	return prompt{Own{Name: name, Language: shippedLanguage, Text: sound.Text}, sound}, err
}

// readPrompt reads a recording. Its errors name the file and the rule.
func readPrompt(path string) (source.Prompt, error) {
	f, err := audio.OpenFile(path, audio.FileOptions{})
	if err != nil {
		return source.Prompt{}, err
	}
	defer f.Close()
	return sayable(f, path)
}

func sayable(f *audio.File, name string) (source.Prompt, error) {
	info := f.Info()
	if info.Channels != 1 {
		return source.Prompt{}, fmt.Errorf("%s: %d channels must be 1", name, info.Channels)
	}
	p := source.Prompt{Rate: info.RateHz}
	for {
		frame, err := f.ReadFrame(context.Background())
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return source.Prompt{}, fmt.Errorf("%s: %w", name, err)
		}
		if p.PCM = append(p.PCM, frame.PCM...); audio.Span(len(p.PCM), p.Rate) > promptMost {
			return source.Prompt{}, fmt.Errorf("%s: longer than %v, which is the most that is spoken into a call", name, promptMost)
		}
	}
}

// fitting is the prompt of that name which fits a call best: one of its own
// tenant's before one for all, one in its language before one for any, and that
// before another: a warning in English is better than none. Of equals the first.
func (all prompts) fitting(name, tenant, language string) (source.Prompt, bool) {
	best, most := -1, -1
	for i, p := range all {
		if p.Name != name || p.Tenant != "" && p.Tenant != tenant {
			continue
		}
		fits := 0
		if p.Tenant != "" {
			fits += 10
		}
		switch {
		case p.Language == "":
			fits++
		case strings.EqualFold(p.Language, language):
			fits += 3
		case strings.EqualFold(base(p.Language), base(language)):
			fits += 2
		}
		if fits > most {
			best, most = i, fits
		}
	}
	if best < 0 {
		return source.Prompt{}, false
	}
	return all[best].sound, true
}

// base is the language without its country.
func base(language string) string {
	b, _, _ := strings.Cut(language, "-")
	return b
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
