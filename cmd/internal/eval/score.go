package eval

import (
	"math"
	"slices"
)

// detected is how many digits of a code must be heard for it to count.
const detected = 4

// Score counts rows. What is not in them is left zero: bad lines, skipped
// items and times.
func Score(rows []Row, mode, alertLevel string) Summary {
	s := Summary{AlertLevel: alertLevel, PerTactic: map[string]TacticScore{}}
	var (
		delays, lags         []float64
		noticed, hookNoticed int
		falseNotices         int
		losses, inTime       int
		benignS              float64
		within, wrong, said  int
	)
	for _, row := range rows {
		s.Calls++
		s.AudioS += row.DurationS
		if row.Error != "" {
			s.Failed++
			continue
		}
		alerted, notice := row.AlertAtS != nil, row.Level != "none"
		switch row.Label {
		case Scam:
			s.Scam++
			count(&s.TrueAlerts, alerted)
			count(&s.Missed, !alerted)
			count(&noticed, notice)
		case ScamHook:
			s.ScamHook++
			count(&noticed, notice)
			count(&hookNoticed, notice)
		case Benign:
			s.Benign++
			benignS += row.DurationS
			count(&s.FalseAlarms, alerted)
			count(&falseNotices, notice)
		case Unclear:
			s.Unclear++
		}
		lags = append(lags, row.lags...)
		if row.DelayS != nil {
			delays = append(delays, *row.DelayS)
		}
		if row.BeforeCompliance != nil {
			losses++
			count(&inTime, *row.BeforeCompliance)
		}
		if row.labelled && row.Label != Unclear {
			scoreTactics(s.PerTactic, row)
		}
		if row.WER != nil {
			s.WER.Errors += row.WER.Errors
			s.WER.Words += row.WER.Words
		}
		if c := row.Code; c != nil {
			s.Digits.Codes++
			count(&s.Digits.Detected, c.Heard >= detected)
			count(&s.Digits.Right, c.Errors == 0)
			count(&within, c.Heard-c.Spoken >= -1 && c.Heard-c.Spoken <= 1)
			wrong, said = wrong+c.Errors, said+c.Spoken
		}
	}
	s.AudioS = round(s.AudioS, 1)
	s.Recall = ratio(s.TrueAlerts, s.Scam)
	s.Precision = ratio(s.TrueAlerts, s.TrueAlerts+s.FalseAlarms)
	s.FalsePer100 = percent(s.FalseAlarms, s.Benign)
	s.FalseNoticePer100 = percent(falseNotices, s.Benign)
	if mode == Audio && benignS > 0 { // written words have no hours
		perHour := round(float64(s.FalseAlarms)/(benignS/3600), 2)
		s.FalsePerHour = &perHour
	}
	s.NoticeRecall = ratio(noticed, s.Scam+s.ScamHook)
	s.HookRecall = ratio(hookNoticed, s.ScamHook)
	s.BeforeCompliance = ratio(inTime, losses)
	s.TimeToAlert = Spread{quantile(delays, 0.5), quantile(delays, 0.9)}
	s.WordLag = Spread{quantile(lags, 0.5), quantile(lags, 0.9)}
	for name, t := range s.PerTactic {
		t.Precision, t.Recall = ratio(t.TP, t.TP+t.FP), ratio(t.TP, t.TP+t.FN)
		s.PerTactic[name] = t
	}
	s.WER.Rate = ratio(s.WER.Errors, s.WER.Words)
	s.Digits.Rate = ratio(s.Digits.Detected, s.Digits.Codes)
	s.Digits.CountWithinOne = ratio(within, s.Digits.Codes)
	s.Digits.DigitErrors = ratio(wrong, said)
	return s
}

func scoreTactics(per map[string]TacticScore, row Row) {
	for _, name := range row.Expected {
		t := per[name]
		found := slices.Contains(row.Tactics, name)
		count(&t.TP, found)
		count(&t.FN, !found)
		per[name] = t
	}
	for _, name := range row.Tactics {
		t := per[name]
		count(&t.FP, !slices.Contains(row.Expected, name))
		per[name] = t
	}
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}

func ratio(n, of int) *float64 {
	if of == 0 {
		return nil
	}
	r := round(float64(n)/float64(of), 4)
	return &r
}

func percent(n, of int) *float64 {
	if of == 0 {
		return nil
	}
	r := round(100*float64(n)/float64(of), 2)
	return &r
}

func round(x float64, places int) float64 {
	p := math.Pow(10, float64(places))
	return math.Round(x*p) / p
}

// quantile is the value at the nearest rank; nil of nothing.
func quantile(xs []float64, q float64) *float64 {
	if len(xs) == 0 {
		return nil
	}
	xs = slices.Sorted(slices.Values(xs))
	rank := int(math.Ceil(q * float64(len(xs))))
	x := round(xs[max(rank, 1)-1], 2)
	return &x
}
