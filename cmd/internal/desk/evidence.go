package desk

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/callwarden/callwarden/cmd/internal/board"
)

// complete is a call with all of its segments.
func (d *Desk) complete(key board.Key) (board.Call, error) {
	if c, ok := d.board.Whole(key); ok {
		return c, nil
	}
	c, _, err := d.whole(key)
	return c, err
}

// exportCall sends all that is known of a call as a file.
func (d *Desk) exportCall(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	c, err := d.complete(key)
	if err != nil {
		return err
	}
	d.note(r, u, entry{What: "exported", Tenant: key.Tenant, Call: key.Call})
	w.Header().Set("Content-Disposition", `attachment; filename="`+fileName(key.Call)+`.json"`)
	return d.send(w, r, http.StatusOK, c)
}

func fileName(s string) string {
	return "call-" + strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_') {
			return r
		}
		return '-'
	}, s)
}

// evidence is a call in plain words, to be copied into a report.
func (d *Desk) evidence(w http.ResponseWriter, r *http.Request, u *user) error {
	key, err := d.key(r, u)
	if err != nil {
		return err
	}
	c, err := d.complete(key)
	if err != nil {
		return err
	}
	d.note(r, u, entry{What: "took evidence", Tenant: key.Tenant, Call: key.Call})
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(evidenceText(c))) // the browser may be gone
	return nil
}

func evidenceText(c board.Call) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	row := c.Row
	line("Call %s (tenant %s, by %s)", row.ID, row.Tenant, row.Source)
	if row.Start != 0 {
		line("Began %s, %s long, %s", row.Start.Time().Format(time.RFC3339), clock(row.Dur), row.State)
	}
	party := func(what, number, name string) {
		if number+name != "" {
			line("%s: %s", what, strings.TrimSpace(number+" "+name))
		}
	}
	party("From", row.From, row.FromName)
	party("To", row.To, row.ToName)
	line("Level %s, highest %s (score %.1f)", row.Level, row.Peak, row.PeakScore)
	line("Heard: %s", strings.TrimSpace(strings.ReplaceAll(row.Hearing, "_", " ")+" "+row.Reason))
	line("\nFindings")
	for _, f := range c.Findings {
		if f.State == "retracted" {
			continue
		}
		muted := ""
		if f.MutedBy != "" {
			muted = ", does not count: " + f.MutedBy
		}
		line("  %s  %s  %s: %q (%s, %.1f points, rule %s%s)", clock(f.Start), f.Leg, f.Tactic, f.Words, f.State, f.Points, f.Rule, muted)
	}
	if len(c.Steps) > 0 {
		line("\nLevels")
		for _, s := range c.Steps {
			line("  %s  %s, before %s (score %.1f)", clock(s.At), s.Level, s.Previous, s.Score)
		}
	}
	if len(c.Actions) > 0 {
		line("\nWhat people did")
		for _, a := range c.Actions {
			undone := ""
			if a.Undone != 0 {
				undone = ", taken back by " + a.UndoneBy
			}
			line("  %s  %s: %s %s%s", a.When.Time().Format(time.RFC3339), a.Who, strings.ReplaceAll(a.Action, "_", " "), a.Note, undone)
		}
	}
	if len(c.Segments) > 0 {
		line("\nTranscript")
		for _, s := range c.Segments {
			if s.Final {
				line("  %s  %s: %s", clock(s.Start), s.Leg, s.Text)
			}
		}
	}
	return b.String()
}

// clock writes a time of the media clock as 1:02:03.
func clock(s board.Seconds) string {
	n := int(s)
	if n >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
	}
	return fmt.Sprintf("%d:%02d", n/60, n%60)
}
