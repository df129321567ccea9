package audio

// Channel is what a leg's audio carries on its way to the recogniser, as far
// as it is known yet. It may change in mid call: a transfer from a wide-band
// phone to a narrow one. The zero value is a channel of which nothing is known.
type Channel struct {
	RateHz int // of the audio as it came; 8000 for most telephone calls
	// LowHz and HighHz are the edges of the band that carries speech: about
	// 300 and 3400 for an analogue line, 0 and 4000 for an 8 kHz recording, 0
	// and half the rate for true wide-band audio. Rates say little: recordings
	// of telephone calls are often stored at 16 kHz.
	LowHz, HighHz int
	// NoiseDB is the level of what is heard between words, in dBFS of the audio
	// as it came. 0 where nothing is known yet.
	NoiseDB float64
	// HumHz is the frequency of the mains, 50 or 60, whose hum is being taken
	// out; 0 where there is none.
	HumHz int
	// Clipped says that loud speech was cut off before it came here.
	Clipped bool
}

// Known reports whether anything but the rate is known of the channel: that
// takes some words.
func (c Channel) Known() bool { return c.HighHz > 0 }

// Same reports whether two channels carry the same band. Their noise may
// differ.
func (c Channel) Same(d Channel) bool {
	c.NoiseDB, d.NoiseDB = 0, 0
	return c == d
}
