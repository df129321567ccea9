package reportsink

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
)

// clock is a place on the media clock, to the second: 4:07 or 1:04:07.
func clock(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// fineClock is clock to the nearest tenth of a second.
func fineClock(d time.Duration) string {
	d = max(d, 0).Round(100 * time.Millisecond)
	return fmt.Sprintf("%s.%d", clock(d), d%time.Second/(100*time.Millisecond))
}

// span is a length of time in words: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		if s := d / time.Second % 60; s != 0 {
			return fmt.Sprintf("%d min %d s", d/time.Minute, s)
		}
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d/time.Minute%60)
}

// machineTime is the datetime attribute of a time element (HTML, "valid
// duration string").
func machineTime(d time.Duration) string {
	return "PT" + strconv.FormatFloat(max(d, 0).Seconds(), 'f', 1, 64) + "S"
}

// points is a score: one decimal where it is not whole.
func points(p float64) string {
	s := strings.TrimSuffix(strconv.FormatFloat(p, 'f', 1, 64), ".0")
	if s == "-0" {
		return "0"
	}
	return strings.Replace(s, "-", "−", 1)
}

func percent(p float64) string { return strconv.FormatFloat(100*p, 'f', 0, 64) + " %" }

// num is a coordinate: at most two decimals, no trailing zeros.
func num(v float64) string {
	s := strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0")
	s = strings.TrimSuffix(s, ".")
	if s == "-0" {
		return "0"
	}
	return s
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// style is an inline style of numbers only, such as left:12.5%.
func style(property string, v float64) template.CSS {
	return template.CSS(property + ":" + num(v) + "%")
}

// who is a leg as a person would say it.
func who(l callwardenv1.Leg) string {
	switch l {
	case callwardenv1.Leg_LEG_CALLER:
		return "Caller"
	case callwardenv1.Leg_LEG_CALLEE:
		return "Callee"
	}
	return "Speaker"
}

// levelWord is how a level is told.
type levelWord struct {
	Class string // of the style sheet, and the icon's name
	Name  string
	Means string
}

var unheardWord = levelWord{"unheard", "Not heard", "The call could not be listened to."}

func levelOf(l callwardenv1.Level) levelWord {
	switch l {
	case callwardenv1.Level_LEVEL_NOTICE:
		return levelWord{"notice", "Notice", "A weak sign: look when there is time."}
	case callwardenv1.Level_LEVEL_WARNING:
		return levelWord{"warning", "Warning", "A fraud is likely."}
	case callwardenv1.Level_LEVEL_CRITICAL:
		return levelWord{"critical", "Critical", "This goes the way of a fraud: act now."}
	}
	return levelWord{"none", "No sign", "Nothing that points to a fraud was heard."}
}

// ownAdvice stands in where no event carried advice.
func ownAdvice(l levelWord) string {
	switch l.Class {
	case "unheard":
		return "This call was not heard. Nothing can be said about it."
	case "none":
		return "No sign of fraud was heard. That is no proof that the call is honest."
	case "notice":
		return "A weak sign was heard. Read the marked words before you judge."
	}
	return "Stop, hang up, and call back on a number that you know to be right."
}

func stageWord(s callwardenv1.Stage) string {
	switch s {
	case callwardenv1.Stage_STAGE_LURE:
		return "lure"
	case callwardenv1.Stage_STAGE_ASK:
		return "ask"
	case callwardenv1.Stage_STAGE_INSTRUCT:
		return "instruction"
	case callwardenv1.Stage_STAGE_PRESSURE:
		return "pressure"
	case callwardenv1.Stage_STAGE_COMPLY:
		return "compliance"
	case callwardenv1.Stage_STAGE_LOSS:
		return "loss"
	case callwardenv1.Stage_STAGE_PROTECTIVE:
		return "protective"
	}
	return ""
}

func hearingWord(h callwardenv1.Hearing) string {
	switch h {
	case callwardenv1.Hearing_HEARING_LISTENING:
		return "heard"
	case callwardenv1.Hearing_HEARING_DEGRADED:
		return "partly heard"
	case callwardenv1.Hearing_HEARING_DEAF:
		return "not heard"
	case callwardenv1.Hearing_HEARING_NOT_MONITORED:
		return "not monitored"
	}
	return "unknown"
}
