package media

// concealer makes up what was lost from the sound before it: the last period of
// the voice again and again, fading to silence, in the manner of ITU-T G.711
// Appendix I. A recogniser takes a hole for the end of a word; a vowel that goes
// on for the length of a packet it does not mind.
type concealer struct {
	rateHz  int
	history []int16 // the last historyMs, oldest first; shorter at the start
	period  int     // samples; 0 where nothing is being made up
	made    int     // samples since the loss began
}

const (
	historyMs = 40
	steadyMs  = 10      // at full level
	fadedMs   = 60      // nothing is left
	blendMs   = 4       // from what was made up to what came
	lowestHz  = 66      // voices
	highestHz = 400     //
	coarse    = 2       // lags are tried at every other sample,
	enough    = 20      // over so many ms
	maxScale  = 1 << 14 // of the fade
)

// remember takes note of what was heard last.
func (c *concealer) remember(pcm []int16, rateHz int) {
	size := rateHz * historyMs / 1000
	if rateHz != c.rateHz || cap(c.history) < size {
		c.rateHz, c.history = rateHz, make([]int16, 0, size)
	}
	c.period = 0
	if n := len(pcm); n >= size {
		c.history = append(c.history[:0], pcm[n-size:]...)
		return
	}
	if over := len(c.history) + len(pcm) - size; over > 0 {
		c.history = c.history[:copy(c.history, c.history[over:])]
	}
	c.history = append(c.history, pcm...)
}

// forget begins anew: what comes next does not go on from what was.
func (c *concealer) forget() { c.history, c.period = c.history[:0], 0 }

// conceal appends n made-up samples to dst. Called again it goes on.
func (c *concealer) conceal(dst []int16, n int) []int16 {
	if c.period == 0 {
		c.period, c.made = c.pitch(), 0
	}
	for range n {
		dst = append(dst, c.next())
	}
	return dst
}

// next is the next made-up sample.
func (c *concealer) next() int16 {
	steady, faded := c.rateHz*steadyMs/1000, c.rateHz*fadedMs/1000
	if len(c.history) == 0 || c.made >= faded {
		c.made++
		return 0
	}
	scale := maxScale
	if c.made > steady {
		scale = maxScale * (faded - c.made) / (faded - steady)
	}
	v := int(c.history[len(c.history)-c.period+c.made%c.period])
	c.made++
	return int16(v * scale / maxScale)
}

// blend fades from what was made up into what came after it.
func (c *concealer) blend(pcm []int16) {
	if c.period == 0 {
		return
	}
	n := min(len(pcm), c.rateHz*blendMs/1000)
	for i := range n {
		made := int(c.next())
		pcm[i] = int16(made + (int(pcm[i])-made)*(i+1)/(n+1))
	}
}

// pitch is the lag at which the history is most like itself.
func (c *concealer) pitch() int {
	shortest, longest := c.rateHz/highestHz, c.rateHz/lowestHz
	span := min(c.rateHz*enough/1000, len(c.history)-longest)
	if span < longest {
		return max(1, len(c.history)) // not enough heard to tell
	}
	recent := c.history[len(c.history)-span:]
	best, bestScore := longest, 0.0
	for lag := shortest; lag <= longest; lag += coarse {
		past := c.history[len(c.history)-span-lag:]
		var dot, power float64
		for i := 0; i < span; i += coarse {
			dot += float64(recent[i]) * float64(past[i])
			power += float64(past[i]) * float64(past[i])
		}
		if dot <= 0 || power == 0 {
			continue
		}
		// The square of the correlation, by powers that it is compared with.
		if score := dot * dot / power; score > bestScore {
			best, bestScore = lag, score
		}
	}
	return best
}
