package load

import (
	"encoding/json"
	"math"
	"os"
	"time"
)

// Results are what a run measured. Memory is what the process held; figures
// that were not measured are zero or missing.
type Results struct {
	Version     string    `json:"version"`
	Backend     string    `json:"backend"`
	Model       string    `json:"model"`
	Cores       int       `json:"cores"`
	Began       time.Time `json:"began"`
	SpeechShare float64   `json:"speech_share"` // of each leg's time
	FraudShare  float64   `json:"fraud_share"`  // of the calls
	LagLimitMS  float64   `json:"lag_limit_ms"`
	Partial     bool      `json:"partial,omitempty"`
	Bare        *Bare     `json:"bare,omitempty"`
	Ways        []*Way    `json:"ways"`
	Churn       *Churned  `json:"churn,omitempty"`
}

// Bare is the recogniser alone, decoding everything.
type Bare struct {
	CallsPerCore     float64 `json:"calls_per_core"`
	CPUPerCallMinute float64 `json:"cpu_s_per_call_minute"`
	CallSeconds      float64 `json:"call_s"` // decoded, of two legs
}

// Way is one way of listening.
type Way struct {
	Listen string `json:"listen"`
	Note   string `json:"note,omitempty"` // why it is another than was asked for
	// Calls is the most that were held at once; 0 if none were.
	Calls            int     `json:"calls"`
	CallsPerCore     float64 `json:"calls_per_core"`
	LegsPerCore      float64 `json:"legs_per_core"`
	CPUPerCallMinute float64 `json:"cpu_s_per_call_minute"`
	// CPUPerSpoken is the same per second in which somebody spoke: the forward
	// pass of the acoustic model alone is about 0.015.
	CPUPerSpoken float64 `json:"cpu_s_per_spoken_s"`
	// CPUCallsPerCore is how many calls would take the whole of a core.
	CPUCallsPerCore float64 `json:"cpu_calls_per_core"`
	MemoryPerCallMB float64 `json:"memory_per_call_mb"`
	MemoryBeforeMB  float64 `json:"memory_before_mb"` // without calls
	MemoryAfterMB   float64 `json:"memory_after_mb"`  // when all had ended
	// TimesBare is the calls held, against what the bare recogniser would do;
	// CPUTimesBare the same by processor time.
	TimesBare    float64 `json:"times_bare,omitempty"`
	CPUTimesBare float64 `json:"cpu_times_bare,omitempty"`
	Held         *Step   `json:"held,omitempty"` // the step with Calls calls
	Steps        []*Step `json:"steps"`
}

// Step is some calls at once.
type Step struct {
	Calls int  `json:"calls"`
	Held  bool `json:"held"` // lag below the limit, nothing shed, refused or dropped
	// Lag is from the arrival of audio to the end of its decoding.
	LagP50MS         float64     `json:"lag_p50_ms"`
	LagP95MS         float64     `json:"lag_p95_ms"`
	LagMaxMS         float64     `json:"lag_max_ms"`
	CPU              float64     `json:"cpu_s_per_s"`
	CPUPerCallMinute float64     `json:"cpu_s_per_call_minute"`
	MemoryMB         float64     `json:"memory_mb"`
	Transcribing     int         `json:"transcribing"` // calls, at the end
	Wakes            int         `json:"wakes"`
	Sheds            int         `json:"sheds"`
	Refused          int         `json:"refused"`
	DroppedS         float64     `json:"dropped_s"`
	Incomplete       int         `json:"incomplete"` // calls that were not heard whole
	Ended            int         `json:"ended"`      // calls played from beginning to end
	Frauds           int         `json:"frauds"`     // of them
	Alerted          int         `json:"alerted"`    // of the frauds, at warning or above
	FalseAlarms      int         `json:"false_alarms"`
	Delay            *Percentile `json:"delay_ms,omitempty"`         // end of the words to the published event
	TimeToAlert      *Percentile `json:"time_to_alert_ms,omitempty"` // beginning of the fraud to its first warning
}

// Honest are the ended calls that were no frauds.
func (s *Step) Honest() int { return s.Ended - s.Frauds }

// Percentile are quantiles in milliseconds.
type Percentile struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func percentiles(ds []time.Duration) *Percentile {
	if len(ds) == 0 {
		return nil
	}
	return &Percentile{len(ds), ms(quantile(ds, 0.5)), ms(quantile(ds, 0.9)), ms(quantile(ds, 0.95)), ms(quantile(ds, 0.99))}
}

// conclude finds the most calls that were held.
func (w *Way) conclude() {
	for _, s := range w.Steps {
		if s.Held && (w.Held == nil || s.Calls > w.Held.Calls) {
			w.Held = s
		}
	}
	if w.Held == nil {
		return
	}
	w.Calls = w.Held.Calls
	w.CPUPerCallMinute = w.Held.CPUPerCallMinute
	w.CPUCallsPerCore = round(60/max(w.CPUPerCallMinute, 1e-3), 1)
	w.MemoryPerCallMB = round(max(0, w.Held.MemoryMB-w.MemoryBeforeMB)/float64(w.Calls), 2)
}

// add relates a way to the machine and the bare recogniser.
func (r *Results) add(w *Way) {
	r.Ways = append(r.Ways, w)
	w.CallsPerCore = round(float64(w.Calls)/float64(r.Cores), 2)
	w.LegsPerCore = 2 * w.CallsPerCore
	w.CPUPerSpoken = round(w.CPUPerCallMinute/(60*2*max(r.SpeechShare, 1e-3)), 4)
	if r.Bare == nil || w.Held == nil {
		return
	}
	w.TimesBare = round(w.CallsPerCore/max(r.Bare.CallsPerCore, 1e-3), 2)
	w.CPUTimesBare = round(r.Bare.CPUPerCallMinute/max(w.CPUPerCallMinute, 1e-3), 2)
}

// Write writes the results as indented JSON.
func (r *Results) Write(name string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

func ms(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 1) }

func round(v float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(v*p) / p
}
