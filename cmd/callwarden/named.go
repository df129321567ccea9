package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/callwarden/callwarden/transcribe"
	"github.com/callwarden/callwarden/transcribe/route"
)

// namedBackends are backends under names of their own: each by the flags that
// it would be chosen with, without the dashes.
type namedBackends map[string]map[string]string

// backendsFile is the file of --backends.
type backendsFile struct {
	Backends namedBackends `yaml:"backends"`
	Routing  route.Config  `yaml:"routing"`
}

// maxBackendsFile keeps a wrong file from being read whole.
const maxBackendsFile = 1 << 20

// readBackends reads the file of --backends; without one there are no names.
func readBackends(path string) (backendsFile, error) {
	file := backendsFile{Routing: route.DefaultConfig()}
	if path == "" {
		return file, nil
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxBackendsFile {
		err = fmt.Errorf("%s: %d bytes must be at most %d", path, info.Size(), maxBackendsFile)
	}
	if err != nil {
		return file, usagef("--backends: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return file, usagef("--backends: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return file, usagef("--backends: %s: %w", path, err)
	}
	if err := file.Backends.Validate(); err != nil {
		return file, usagef("--backends: %s: %w", path, err)
	}
	return file, nil
}

// Validate says which keys are wrong and what they must be.
func (n namedBackends) Validate() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if strings.ContainsAny(name, ", \t\n") || name == "" {
			errs = append(errs, fmt.Errorf("backends: %q must be a name without spaces and commas", name))
		}
		if _, err := n.flags(name); err != nil {
			errs = append(errs, fmt.Errorf("backends.%s.%w", name, err))
		}
	}
	return errors.Join(errs...)
}

// flags are those of a named backend.
func (n namedBackends) flags(name string) (*hearFlags, error) {
	f := &hearFlags{}
	set := f.flagSet()
	if n[name]["backend"] == "" {
		return nil, fmt.Errorf("backend: must be one of %s", strings.Join(backendNames(), ", "))
	}
	if b := n[name]["backend"]; !slices.Contains(backendNames(), b) || b == routeBackend || b == scriptBackend {
		return nil, fmt.Errorf("backend: %q must be one of %s, and neither %s nor %s", b, strings.Join(backendNames(), ", "), routeBackend, scriptBackend)
	}
	for _, key := range slices.Sorted(maps.Keys(n[name])) {
		if set.Lookup(key) == nil || slices.Contains(notOfNamed, key) {
			return nil, fmt.Errorf("%s: is no setting of a backend; there are %s", key, strings.Join(backendKeys(set), ", "))
		}
		if err := set.Set(key, n[name][key]); err != nil {
			return nil, fmt.Errorf("%s: %q %w", key, n[name][key], err)
		}
	}
	return f, nil
}

// notOfNamed are flags of how calls are heard and not of a backend.
var notOfNamed = []string{"backends", "listen"}

// flagSet are the flags of f alone, by their names.
func (f *hearFlags) flagSet() *pflag.FlagSet {
	c := &cobra.Command{}
	f.add(c)
	return c.Flags()
}

func backendKeys(set *pflag.FlagSet) []string {
	var keys []string
	set.VisitAll(func(flag *pflag.Flag) {
		if !slices.Contains(notOfNamed, flag.Name) {
			keys = append(keys, flag.Name)
		}
	})
	return keys
}

// as are the flags of the backend called name: of the file of --backends, or
// one that is linked in with the flags that f was given.
func (f *hearFlags) as(name string) (*hearFlags, error) {
	file, err := readBackends(f.backendsFile)
	if err != nil {
		return nil, err
	}
	if _, ok := file.Backends[name]; ok {
		own, err := file.Backends.flags(name)
		if err != nil {
			return nil, usagef("--backends: %s: backends.%s.%w", f.backendsFile, name, err)
		}
		own.listen = f.listen
		return own, nil
	}
	if !slices.Contains(backendNames(), name) {
		known := append(backendNames(), slices.Sorted(maps.Keys(file.Backends))...)
		return nil, usagef("--backend: %q is none of %s", name, strings.Join(known, ", "))
	}
	own := &hearFlags{}
	to := own.flagSet()
	var errs []error
	f.flags.VisitAll(func(flag *pflag.Flag) {
		other := to.Lookup(flag.Name)
		if other == nil {
			return
		}
		if list, ok := flag.Value.(pflag.SliceValue); ok { // it writes what it does not read
			errs = append(errs, other.Value.(pflag.SliceValue).Replace(list.GetSlice())) //nolint:forcetypeassert // the same flag
			return
		}
		errs = append(errs, other.Value.Set(flag.Value.String()))
	})
	own.backend = name
	if name != routeBackend {
		own.backendsFile = "" // it has been looked up
	}
	return own, errors.Join(errs...)
}

// several are the backends of a --backend that may list more than one, by
// their names.
func (f *hearFlags) several() (names []string, each []*hearFlags, err error) {
	for name := range strings.SplitSeq(f.backend, ",") {
		name = strings.TrimSpace(name)
		if slices.Contains(names, name) {
			return nil, nil, usagef("--backend: %q stands there twice", name)
		}
		own, err := f.as(name)
		if err != nil {
			return nil, nil, err
		}
		names, each = append(names, name), append(each, own)
	}
	return names, each, nil
}

// Backends that are more than a recogniser: one has others behind it, the
// other needs a transcript beside each call.
const (
	routeBackend  = "route"
	scriptBackend = "script"
)

// openRoute opens the backends that the rules of --backends name.
func openRoute(a *app, f *hearFlags, log *slog.Logger) (transcribe.Engine, error) {
	if f.backendsFile == "" {
		return nil, usagef("--backend %s: needs --backends FILE with backends and the rules of their routing", routeBackend)
	}
	file, err := readBackends(f.backendsFile)
	if err != nil {
		return nil, err
	}
	e, err := file.Backends.route(a, file.Routing, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.backendsFile, err)
	}
	return e, nil
}

// check says which key of a routing between the backends is wrong.
func (n namedBackends) check(cfg route.Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("routing.%w", err)
	}
	for _, name := range cfg.Backends() {
		if _, ok := n[name]; !ok {
			return fmt.Errorf("routing.rules: %q must be one of the backends: %s", name, strings.Join(slices.Sorted(maps.Keys(n)), ", "))
		}
	}
	return nil
}

// route opens the backends that cfg uses and routes between them.
func (n namedBackends) route(a *app, cfg route.Config, log *slog.Logger) (_ transcribe.Engine, err error) {
	if err := n.check(cfg); err != nil {
		return nil, &usageError{err}
	}
	engines := map[string]transcribe.Engine{}
	defer func() {
		if err != nil {
			for _, e := range engines {
				err = errors.Join(err, e.Close())
			}
		}
	}()
	for _, name := range cfg.Backends() {
		own, err := n.flags(name)
		if err != nil {
			return nil, usagef("backends.%s.%w", name, err)
		}
		if engines[name], err = own.engine(a, log); err != nil {
			delete(engines, name)
			return nil, fmt.Errorf("backend %s: %w", name, err)
		}
	}
	return route.New(cfg, engines, log)
}
