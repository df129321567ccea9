package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Results is what a results file holds.
type Results struct {
	// Name is what a backend was called in a run that compares several; the
	// others are in ComparedWith, each heard and judged by itself.
	Name    string `json:"name,omitempty"`
	Version string `json:"version"`
	Backend string `json:"backend"`
	Model   string `json:"model"`
	Listen  string `json:"listen"`
	Mode    string `json:"mode"` // [Audio] or [Text]
	Packs   string `json:"packs"`
	// Partial results are those of a run that was interrupted: items that were
	// not heard to their end are missing.
	Partial bool    `json:"partial,omitempty"`
	Summary Summary `json:"summary"`
	Items   []Row   `json:"items"`

	ComparedWith []Results `json:"compared_with,omitempty"`
}

// Summary counts a corpus. Rates are null where nothing was scored.
type Summary struct {
	Calls    int `json:"calls"`
	Scam     int `json:"scam"`
	ScamHook int `json:"scam_hook"`
	Benign   int `json:"benign"`
	Unclear  int `json:"unclear"`
	Failed   int `json:"failed"`    // items that were not heard, and bad lines
	BadLines int `json:"bad_lines"` // of the manifests
	Skipped  int `json:"skipped"`   // items without what the mode needs

	AlertLevel  string `json:"alert_level"`
	TrueAlerts  int    `json:"true_alerts"` // of scam; an opening is held to notice
	Missed      int    `json:"missed"`
	FalseAlarms int    `json:"false_alarms"`

	Recall            *float64               `json:"recall"`
	Precision         *float64               `json:"precision"`
	FalsePer100       *float64               `json:"false_alarms_per_100_benign"`
	FalsePerHour      *float64               `json:"false_alarms_per_hour"` // of audio
	NoticeRecall      *float64               `json:"notice_recall"`         // of scam and scam_hook
	HookRecall        *float64               `json:"hook_notice_recall"`
	FalseNoticePer100 *float64               `json:"false_notices_per_100_benign"`
	BeforeCompliance  *float64               `json:"alert_before_compliance"`
	TimeToAlert       Spread                 `json:"time_to_alert_s"`
	WordLag           Spread                 `json:"word_lag_s"` // from the end of an utterance until its final words, in call time; of recordings
	PerTactic         map[string]TacticScore `json:"per_tactic"`
	WER               WER                    `json:"wer"`
	Digits            Digits                 `json:"digits"`
	AudioS            float64                `json:"audio_s"`
	WallS             float64                `json:"wall_s"`
	CPUS              float64                `json:"cpu_s"`
}

// Spread is a distribution by its nearest ranks, in seconds.
type Spread struct {
	P50 *float64 `json:"p50"`
	P90 *float64 `json:"p90"`
}

// TacticScore counts items in which a tactic was rightly found (TP), found
// where it is not (FP), or missed (FN).
type TacticScore struct {
	TP        int      `json:"tp"`
	FP        int      `json:"fp"`
	FN        int      `json:"fn"`
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"`
}

// WER is the word error rate: words substituted, left out and put in, by the
// words of the reference.
type WER struct {
	Errors int      `json:"errors"`
	Words  int      `json:"words"`
	Rate   *float64 `json:"rate"`
}

// Digits scores spoken codes.
type Digits struct {
	Codes          int      `json:"codes"`
	Detected       int      `json:"detected"` // four digits or more were heard
	Rate           *float64 `json:"rate"`
	CountWithinOne *float64 `json:"count_within_one"`
	Right          int      `json:"right"`
	DigitErrors    *float64 `json:"digit_errors"` // edit distance by digits spoken
}

// Row is how one item went.
type Row struct {
	Backend string `json:"backend,omitempty"` // of a line of --json, where several are compared

	ID          string   `json:"id"`
	Label       string   `json:"label"`
	Level       string   `json:"level"` // the highest
	AlertAtS    *float64 `json:"alert_at_s"`
	AlertAtTurn *int     `json:"alert_at_turn"` // 0-based; in which the words were said
	Tactics     []string `json:"tactics"`       // confirmed and not muted
	Error       string   `json:"error"`
	Findings    []Found  `json:"findings"`

	Score            float64   `json:"score"` // the highest
	DurationS        float64   `json:"duration_s"`
	Expected         []string  `json:"expected_tactics,omitempty"`
	DelayS           *float64  `json:"time_to_alert_s,omitempty"`
	BeforeCompliance *bool     `json:"alert_before_compliance,omitempty"`
	Scores           []ScoreAt `json:"scores,omitempty"`
	WER              *WER      `json:"wer,omitempty"`
	Code             *Code     `json:"code,omitempty"`
	Warnings         []string  `json:"warnings,omitempty"` // about the recording

	labelled bool // Expected is known, be it empty
	heard    []line
	said     []line   // as the manifest has it, where that is not what was heard
	why      []reason // of the highest level
	// actionable is when the first actionable turn begins, in seconds.
	actionable *float64
	lags       []float64 // of each utterance, in seconds
	skipped    bool
	undone     bool // the run ended before it was heard
}

// Found is one finding of an item.
type Found struct {
	Tactic     string  `json:"tactic"`
	Leg        string  `json:"leg"`
	StartS     float64 `json:"start_s"`
	EndS       float64 `json:"end_s"`
	Words      string  `json:"words"` // digits masked
	Confidence float64 `json:"confidence"`
	State      string  `json:"state"`
	AtS        float64 `json:"at_s"` // when it was known first
	Rule       string  `json:"rule"`
	MutedBy    string  `json:"muted_by,omitempty"`
	Points     float64 `json:"points"`
}

// ScoreAt is a score higher than any before it, and when it was reached.
type ScoreAt struct {
	AtS   float64 `json:"at_s"`
	Score float64 `json:"score"`
}

// Code is what was heard of a spoken code. The digits themselves are the
// corpus's business and are left out.
type Code struct {
	Spoken int `json:"spoken"` // digits
	Heard  int `json:"heard"`
	Errors int `json:"errors"` // edit distance
}

// line is one utterance as it was heard.
type line struct {
	Leg          string
	StartS, EndS float64
	Text         string // digits masked
}

// reason is one share of a score.
type reason struct {
	Tactic string
	Points float64
	Why    string
}

// Read reads a results file.
func Read(path string) (Results, error) {
	var r Results
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: no results: %w", path, err)
	}
	if r.Items == nil {
		return r, fmt.Errorf("%s: no results: it has no items", path)
	}
	return r, nil
}

// Write writes a results file whole or not at all.
func (r Results) Write(path string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("encoding results: %w", err)
	}
	part := path + ".part"
	if err := os.WriteFile(part, b.Bytes(), 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}
