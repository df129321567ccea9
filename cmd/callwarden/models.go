package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/models"
)

func (a *app) store() (*models.Store, error) {
	dir, err := models.DataDir(a.dataDir)
	if err != nil {
		return nil, err
	}
	return models.Open(dir), nil
}

func newModels(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Speech models and native libraries: list, install, verify, path",
		Example: `  callwarden models install
  callwarden models list
  callwarden models verify --full
  callwarden models path vosk-small-en-us`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(newModelsList(a), newModelsInstall(a), newModelsVerify(a), newModelsPath(a))
	return cmd
}

func newModelsList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the models and libraries that are known, and which are installed",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			all := store.List()
			if asJSON {
				enc := json.NewEncoder(a.out)
				for _, s := range all {
					if err := enc.Encode(s); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tKIND\tLANGUAGE\tRATE\tSIZE\tINSTALLED\tLICENCE")
			for _, s := range all {
				rate := "-"
				if s.RateHz > 0 {
					rate = fmt.Sprintf("%d Hz", s.RateHz)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f MB\t%s\t%s\n", s.Name, s.Kind, orDash(s.Language), rate, float64(s.Bytes())/1e6, yesNo(s.Installed), s.Licence)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return cmd
}

func newModelsInstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "install [NAME…]",
		Short: "Install models and libraries with npm; by default all but the optional ones",
		Long: `Installs models and libraries from their npm packages with the npm client,
checks their SHA-256 and puts them into the data folder. What is there already
is left alone, and then no network is needed.`,
		RunE: func(c *cobra.Command, names []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			show := newInstallProgress(a.err)
			err = store.Install(c.Context(), models.InstallOptions{Names: names, Progress: show.update})
			show.close()
			return err
		},
	}
}

func newModelsVerify(a *app) *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "verify [NAME…]",
		Short: "Check that what is installed is complete; --full reads every byte",
		RunE: func(c *cobra.Command, names []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				for _, s := range store.List() {
					if !s.Optional || s.Installed {
						names = append(names, s.Name)
					}
				}
			}
			var firstErr error
			for _, name := range names {
				if err := store.Verify(name, full); err != nil {
					fmt.Fprintln(a.err, "callwarden:", err)
					if firstErr == nil {
						firstErr = &quietError{err}
					}
					continue
				}
				fmt.Fprintf(a.out, "%s: ok\n", name)
			}
			return firstErr
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "compare the SHA-256 of every file")
	return cmd
}

func newModelsPath(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "path [NAME]",
		Short: "Print where a model or library is installed; the data folder without NAME",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				dir, err := models.DataDir(a.dataDir)
				if err == nil {
					fmt.Fprintln(a.out, dir)
				}
				return err
			}
			store, err := a.store()
			if err != nil {
				return err
			}
			path, err := store.Path(args[0])
			if err == nil {
				fmt.Fprintln(a.out, path)
			}
			return err
		},
	}
}

// installProgress shows bars on a terminal and a line a phase elsewhere.
type installProgress struct {
	w     io.Writer
	bars  progress.Writer // nil where w is no terminal
	track map[string]*progress.Tracker
	last  map[string]models.Phase
}

func newInstallProgress(w io.Writer) *installProgress {
	p := &installProgress{w: w, track: map[string]*progress.Tracker{}, last: map[string]models.Phase{}}
	if width, ok := terminal(w); ok {
		p.bars = newBars(w, width)
		go p.bars.Render() // ends with close, which waits for it
	}
	return p
}

func (p *installProgress) update(s models.Progress) {
	if p.bars == nil {
		if p.last[s.Name] != s.Phase {
			p.last[s.Name] = s.Phase
			fmt.Fprintln(p.w, strings.TrimPrefix(s.Name+": ", ": ")+string(s.Phase))
		}
		return
	}
	key := s.Name + string(s.Phase)
	t := p.track[key]
	if t == nil {
		t = &progress.Tracker{Message: strings.TrimPrefix(s.Name+" ", " ") + string(s.Phase), Units: progress.UnitsBytes}
		p.track[key] = t
		p.bars.AppendTracker(t)
	}
	t.UpdateTotal(s.Total)
	t.SetValue(s.Done)
	for k, other := range p.track {
		if k != key && !other.IsDone() {
			other.MarkAsDone()
		}
	}
	if s.Phase == models.Installed || s.Phase == models.Present {
		t.MarkAsDone()
	}
}

func (p *installProgress) close() {
	if p.bars == nil {
		return
	}
	for _, t := range p.track {
		t.MarkAsDone()
	}
	stopBars(p.bars)
}

func newBars(w io.Writer, width int) progress.Writer {
	bars := progress.NewWriter()
	bars.SetOutputWriter(w)
	bars.SetTrackerLength(max(10, min(30, width/4)))
	bars.SetMessageLength(max(10, min(40, width/3)))
	bars.SetUpdateFrequency(200 * time.Millisecond)
	bars.SetTrackerPosition(progress.PositionRight)
	bars.SetStyle(progress.StyleBlocks)
	bars.Style().Options.TimeInProgressPrecision = time.Second
	bars.Style().Options.TimeDonePrecision = time.Second
	bars.Style().Options.Separator = "  "
	bars.Style().Options.DoneString = "done"
	bars.Style().Visibility.Speed = false
	return bars
}

// stopBars draws the bars a last time and waits until they stand.
func stopBars(bars progress.Writer) {
	bars.Stop()
	for bars.IsRenderInProgress() {
		<-time.After(10 * time.Millisecond)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
