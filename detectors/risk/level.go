// Package risk turns findings into a level with its explanation and advice.
package risk

// Level is how far a call has gone towards fraud.
type Level uint8

const (
	None     Level = iota
	Notice         // a weak sign: look when there is time
	Warning        // a fraud is likely: warn
	Critical       // the other side is giving it: act now
)

func (l Level) String() string {
	switch l {
	case None:
		return "none"
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "invalid"
}
