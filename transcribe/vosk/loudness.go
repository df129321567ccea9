package vosk

// loudness finds pauses in an utterance that the model hears none in.
type loudness struct {
	mean  float64 // energy per sample, averaged over about 3 s
	steps int
}

// add hears one step and reports whether it is a pause: 12 dB below the mean
// of the seconds before.
func (l *loudness) add(pcm []int16) (pause bool) {
	var sum float64
	for _, v := range pcm {
		sum += float64(v) * float64(v)
	}
	energy := sum / float64(len(pcm))
	pause = l.steps >= 30 && energy < l.mean/16
	l.steps++
	l.mean += (energy - l.mean) / float64(min(l.steps, 30))
	return pause
}
