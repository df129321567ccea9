package audio

import (
	"math"
	"time"
)

// Survey looks at one leg of a recording with the eyes of the front end and
// adds what only the whole of it can tell: for a person who wonders why it is
// heard badly. It is used by one goroutine at a time.
type Survey struct {
	front   *FrontEnd
	report  Report
	blocks  [noLevel + 1]levelBlocks // by level: block d lies at -d to -d-1 dBFS
	sizes   [1 << 15]int32           // samples by their size
	samples int
	sum     float64
	silent  int // blocks of nothing but zeros
	coded   [2]int
	loud    int // samples that could tell a codec

	n          int // of the block that is being filled
	blockSum   float64
	blockPower float64
	at         time.Duration
}

type levelBlocks struct {
	n     int
	power float64
}

// noLevel is below all that 16 bits can hold.
const noLevel = 100

// Report is what a Survey found. Levels are in dBFS; those of what was not
// there are [math.Inf](-1).
type Report struct {
	Heard    time.Duration
	Speaking time.Duration // of it, loud enough to be speech
	Channels []ChannelSince
	// SpeechDB is the mean level while somebody speaks, NoiseDB that of the
	// quietest sixth, PeakDB the largest sample.
	SpeechDB, NoiseDB, PeakDB float64
	Direct                    float64 // direct current, of full scale
	Clipped                   float64 // share of the samples of speech that lie at the very top
	Silent                    float64 // share of the time that is digital silence
	Codec                     string  // that it went through, if that shows: "G.711 µ-law", "G.711 A-law"
}

// ChannelSince is a channel and when it was found.
type ChannelSince struct {
	At time.Duration
	Channel
}

// surveySettled is how long a channel must be the same to be told.
const surveySettled = 5 * time.Second

// NewSurvey returns a survey of one leg for a model of rateHz.
func NewSurvey(rateHz int) (*Survey, error) {
	front, err := NewFrontEnd(FrontEndConfig{RateHz: rateHz, Filling: Unfilled})
	if err != nil {
		return nil, err
	}
	return &Survey{front: front}, nil
}

// Hear takes the leg's next frame. The error is that of [FrontEnd.Process].
func (s *Survey) Hear(f Frame) error {
	if _, err := s.front.Process(f); err != nil {
		return err
	}
	s.at = f.End()
	s.report.Heard += Span(len(f.PCM), f.Rate)
	if ch := s.front.Channel(); ch.Known() {
		s.note(ch, f.Start)
	}
	for _, v := range f.PCM {
		s.sizes[min(max(int(v), -int(v)), len(s.sizes)-1)]++
		s.sum += float64(v)
		if v > codecLoud || v < -codecLoud {
			s.loud++
			for law := MuLaw; law <= ALaw; law++ {
				if law.says(v) {
					s.coded[law]++
				}
			}
		}
		s.blockSum += float64(v)
		s.blockPower += float64(v) * float64(v)
		if s.n++; s.n >= f.Rate/100 {
			s.endBlock()
		}
	}
	s.samples += len(f.PCM)
	return nil
}

// note keeps a channel that is another than the last one. What was there for
// less than a moment was a guess.
func (s *Survey) note(ch Channel, at time.Duration) {
	all := s.report.Channels
	n := len(all)
	if n > 0 && all[n-1].Same(ch) {
		all[n-1].NoiseDB = ch.NoiseDB
		return
	}
	if n > 0 && at-all[n-1].At < surveySettled {
		at, all = all[n-1].At, all[:n-1]
		if n--; n > 0 && all[n-1].Same(ch) {
			s.report.Channels = all
			return
		}
	}
	all = append(all, ChannelSince{at, ch})
	s.report.Channels = all
}

func (s *Survey) endBlock() {
	mean := s.blockSum / float64(s.n)
	power := max(0, s.blockPower/float64(s.n)-mean*mean)
	if s.blockPower == 0 {
		s.silent++
	}
	b := &s.blocks[int(min(max(-decibel(power), 0), noLevel))]
	b.n++
	b.power += power
	s.n, s.blockSum, s.blockPower = 0, 0, 0
}

// decibel is a power of 16-bit samples in dBFS, -Inf for none.
func decibel(power float64) float64 { return 10 * math.Log10(power/(32768*32768)) }

const (
	codecLoud    = 2000 // sizes where G.711 says one number in 64 or fewer
	codecSamples = 200  // of them that prove it
	surveyOver   = 10   // dB over the noise is speech
	surveyLeast  = 75   // and no quieter than this many dB below full scale
	topShare     = 0.99 // of the peak is the very top
	topLeast     = 1000 // a peak under it is too coarse to tell
)

// Report is what was found so far.
func (s *Survey) Report() Report {
	r := s.report
	r.Channels = append([]ChannelSince(nil), r.Channels...)
	all := 0
	for _, b := range s.blocks {
		all += b.n
	}
	noise, speech := s.split(all - s.silent)
	r.NoiseDB, r.SpeechDB = decibel(noise.power/float64(max(1, noise.n))), decibel(speech.power/float64(max(1, speech.n)))
	r.Speaking = time.Duration(speech.n) * 10 * time.Millisecond
	if all > 0 {
		r.Silent = float64(s.silent) / float64(all)
	}
	peak := 0
	for size, n := range s.sizes {
		if n > 0 {
			peak = size
		}
	}
	r.PeakDB = decibel(float64(peak) * float64(peak))
	if s.samples > 0 {
		r.Direct = s.sum / float64(s.samples) / 32768
	}
	if speech.n > 0 && peak >= topLeast {
		top := 0
		for size := int(math.Ceil(topShare * float64(peak))); size < len(s.sizes); size++ {
			top += int(s.sizes[size])
		}
		r.Clipped = float64(top) / (float64(s.samples) * float64(speech.n) / float64(all))
	}
	for law, n := range s.coded {
		if s.loud >= codecSamples && n == s.loud {
			r.Codec = [...]string{MuLaw: "G.711 µ-law", ALaw: "G.711 A-law"}[law]
		}
	}
	return r
}

// split tells the blocks of noise, the quietest sixth of those that are not
// silent, from those of speech.
func (s *Survey) split(sounding int) (noise, speech levelBlocks) {
	quiet := noLevel
	for ; quiet > 0; quiet-- {
		b := s.blocks[quiet]
		if quiet == noLevel {
			b.n = max(0, b.n-s.silent)
		}
		noise.n += b.n
		noise.power += b.power
		if noise.n*6 >= sounding {
			break
		}
	}
	for level := 0; level < min(quiet-surveyOver, surveyLeast); level++ {
		speech.n += s.blocks[level].n
		speech.power += s.blocks[level].power
	}
	return noise, speech
}

// says reports whether v is a number that the codec can say.
func (g G711) says(v int16) bool {
	var b [1]byte
	var back [1]int16
	return g.Decode(back[:0], g.Encode(b[:0], []int16{v}))[0] == v
}
