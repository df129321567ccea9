package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/callwarden/callwarden/detectors/phrase"
	"github.com/callwarden/callwarden/detectors/tactics"
	"github.com/callwarden/callwarden/models"
	"github.com/callwarden/callwarden/transcribe"
)

func newTactics(a *app) *cobra.Command {
	var packs string
	cmd := &cobra.Command{
		Use:   "tactics",
		Short: "Tactic packs: list, run their examples, lint, explain a match",
		Example: `  callwarden tactics test
  callwarden tactics test --packs my-packs/
  callwarden tactics lint
  callwarden tactics explain "do not share this code with anyone but me"`,
		Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.PersistentFlags().StringVar(&packs, "packs", "", "folder of tactic packs instead of the built-in ones")
	load := func() (*phrase.Set, error) {
		lib, err := tactics.Load(packs)
		if err != nil {
			return nil, usagef("%w", err)
		}
		return lib.Set, nil
	}
	cmd.AddCommand(newTacticsList(a, load), newTacticsTest(a, load), newTacticsLint(a, load), newTacticsExplain(a, load))
	return cmd
}

type loadSet func() (*phrase.Set, error)

func newTacticsList(a *app, load loadSet) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the packs",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			set, err := load()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TACTIC\tLANGUAGE\tVERSION\tSTAGE\tPATTERNS\tEXAMPLES")
			for _, p := range set.Packs() {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d match, %d not\n", p.Tactic, p.Language, p.Version, p.Stage,
					len(p.Patterns), len(p.Match), len(p.NoMatch))
			}
			return w.Flush()
		},
	}
}

func newTacticsTest(a *app, load loadSet) *cobra.Command {
	return &cobra.Command{
		Use:   "test",
		Short: "Run every pack's own positive and negative examples",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			set, err := load()
			if err != nil {
				return err
			}
			n := 0
			for _, p := range set.Packs() {
				n += len(p.Match) + len(p.NoMatch)
			}
			failures := set.TestExamples()
			for _, f := range failures {
				fmt.Fprintln(a.out, f)
			}
			fmt.Fprintf(a.out, "%d packs, %d examples, %d failed\n", len(set.Packs()), n, len(failures))
			if len(failures) > 0 {
				return &quietError{fmt.Errorf("%d examples failed", len(failures))}
			}
			return nil
		},
	}
}

func newTacticsLint(a *app, load loadSet) *cobra.Command {
	var notes bool
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "Find patterns that never match, overlap, or hold words that the model cannot hear",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			set, err := load()
			if err != nil {
				return err
			}
			var knows func(string) bool
			f := hearFlags{backend: "vosk", model: models.DefaultModel, library: models.DefaultLibrary}
			engine, err := f.engine(a, a.log())
			switch {
			case err == nil:
				defer engine.Close()
				if v, ok := engine.(transcribe.Vocabulary); ok {
					knows = v.Knows
				}
			case errors.Is(err, models.ErrNotInstalled):
				fmt.Fprintln(a.err, "callwarden: words are not compared with the model's:", err)
			default:
				return err
			}
			warnings, told := 0, 0
			for _, r := range set.Lint(knows) {
				if r.Severity == phrase.Warning {
					warnings++
				} else if !notes {
					continue
				}
				told++
				fmt.Fprintln(a.out, r)
			}
			fmt.Fprintf(a.out, "%d packs, %d remarks, %d of them warnings\n", len(set.Packs()), told, warnings)
			if warnings > 0 {
				return &quietError{fmt.Errorf("%d warnings", warnings)}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&notes, "notes", false, "also what is only worth knowing")
	return cmd
}

func newTacticsExplain(a *app, load loadSet) *cobra.Command {
	return &cobra.Command{
		Use:   "explain TEXT…",
		Short: "Show which pattern matches which words, and which guard mutes it",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := load()
			if err != nil {
				return err
			}
			fmt.Fprint(a.out, set.Explain(strings.Join(args, " ")))
			return nil
		},
	}
}
