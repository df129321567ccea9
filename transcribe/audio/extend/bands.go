package extend

import "math"

const (
	// lowBins are the bins below 300 Hz that are predicted one by one.
	lowBins = 5
	// highBands are those above 3 kHz.
	highBands = 8
	// Outputs is how many log energies a [Net] predicts: bins 1 to 5 (62 to
	// 312 Hz), then the bands from 3.1 to 7.1 kHz.
	Outputs = lowBins + highBands

	lowFeatures  = 3 // 62 to 250 Hz; masked where the channel lacks them
	midFeatures  = 23
	highFeatures = 2 // 3.4 to 4 kHz; masked as well
	// Inputs is how many numbers a Net hears of each frame: log energies of
	// bands and whether the channel carries the low and the high ones.
	Inputs = lowFeatures + midFeatures + highFeatures + 2

	// powerFloor keeps the logarithm of digital silence finite. Speech is at
	// about 2000², the noise of a good line at 10².
	powerFloor = 10
)

// layout says which bins make up the bands.
type layout struct {
	features [lowFeatures + midFeatures + highFeatures]triangle
	targets  [highBands]triangle
	// For each bin, the predicted band below it and how far it is on the way to
	// the next.
	below [Bins]uint8
	way   [Bins]float32
}

// triangle weighs bins from first on; the weights sum to one.
type triangle struct {
	first  int
	weight []float32
}

var bands = newLayout()

func mel(hz float64) float64    { return 1127 * math.Log(1+hz/700) }
func unmel(mel float64) float64 { return 700 * (math.Exp(mel/1127) - 1) }

// The recogniser's own bands: 23 triangles from 20 to 8000 Hz, evenly spaced
// by mel. Those that a telephone takes away are what is predicted.
func modelBandHz(k int) float64 {
	low, high := mel(20), mel(8000)
	return unmel(low + (high-low)*float64(k+1)/24)
}

const firstHighBand = 23 - highBands // 3.1 kHz

func newLayout() *layout {
	l := &layout{}
	for i := range lowFeatures {
		l.features[i] = newTriangle(float64(i)*75, 75+float64(i)*75, 150+float64(i)*75)
	}
	low, high := mel(280), mel(3400)
	step := (high - low) / (midFeatures + 1)
	for i := range midFeatures {
		m := low + float64(i)*step
		l.features[lowFeatures+i] = newTriangle(unmel(m), unmel(m+step), unmel(m+2*step))
	}
	l.features[lowFeatures+midFeatures] = newTriangle(3350, 3500, 3750)
	l.features[lowFeatures+midFeatures+1] = newTriangle(3500, 3750, 4000)
	for i := range highBands {
		k := firstHighBand + i
		l.targets[i] = newTriangle(modelBandHz(k-1), modelBandHz(k), modelBandHz(k+1))
	}
	for b := range Bins {
		hz := float64(b) * binHz
		for i := range highBands - 1 {
			at, next := modelBandHz(firstHighBand+i), modelBandHz(firstHighBand+i+1)
			if hz >= at {
				l.below[b] = uint8(i)
				l.way[b] = float32(min(1, (hz-at)/(next-at)))
			}
		}
	}
	return l
}

func newTriangle(left, centre, right float64) triangle {
	var t triangle
	sum := float32(0)
	for b := range Bins {
		hz := float64(b) * binHz
		w := float32(max(0, min((hz-left)/(centre-left), (right-hz)/(right-centre))))
		if w == 0 {
			continue
		}
		if t.weight == nil {
			t.first = b
		}
		t.weight = append(t.weight, w)
		sum += w
	}
	if sum == 0 { // narrower than a bin
		return triangle{int(math.Round(centre / binHz)), []float32{1}}
	}
	for i := range t.weight {
		t.weight[i] /= sum
	}
	return t
}

func (t triangle) of(p *Power) float32 {
	sum := float32(0)
	in := p[t.first : t.first+len(t.weight)]
	for i, w := range t.weight {
		sum += w * in[i]
	}
	return sum
}

func logPower(p float32) float32 { return float32(math.Log(float64(p) + powerFloor)) }

// Features fills x with what a Net hears of a frame.
//
//go:norace
func Features(x *[Inputs]float32, p *Power, e Edges) {
	low, high := float32(0), float32(0)
	if !e.lacksLow() {
		low = 1
	}
	if !e.lacksHigh() {
		high = 1
	}
	for i, t := range bands.features {
		switch {
		case i < lowFeatures && low == 0, i >= lowFeatures+midFeatures && high == 0:
			x[i] = unheard
		default:
			x[i] = logPower(t.of(p))
		}
	}
	x[Inputs-2], x[Inputs-1] = low, high
}

// unheard stands for a band that the channel does not carry.
const unheard = 6

// Targets fills y with what a Net is to predict, from the same frame before
// the channel took its share.
func Targets(y *[Outputs]float32, p *Power) {
	for i := range lowBins {
		y[i] = logPower(p[i+1])
	}
	for i, t := range bands.targets {
		y[lowBins+i] = logPower(t.of(p))
	}
}
