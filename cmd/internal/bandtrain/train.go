package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/callwarden/callwarden/transcribe/audio/extend"
)

// stream is speech as it came through one channel, and what was there before.
type stream struct {
	in     [][extend.Inputs]float32
	want   [][extend.Outputs]float32
	weight []float32               // of each frame
	lacks  [extend.Outputs]float32 // weight of each output: 0 where the channel carries it
}

// trainConfig says how a net is trained.
type trainConfig struct {
	Hidden   int     `json:"hidden"`
	Passes   int     `json:"passes"`
	Rate     float64 `json:"rate"`
	Batch    int     `json:"batch"`
	Variants int     `json:"variants"` // lines that each clip is sent through
	Noisy    float64 `json:"noisy"`    // share of clips spoken in noise
	Seed     uint64  `json:"seed"`
}

func defaultTraining() trainConfig {
	return trainConfig{Hidden: 40, Passes: 5, Rate: 3e-3, Batch: 8, Variants: 1, Noisy: 0.4, Seed: 1}
}

// train makes a net of streams. The same streams and configuration give the
// same net, and mean square error of its last pass: gradients are summed in order, whoever computed them.
func train(cfg trainConfig, streams []stream, log io.Writer) (net *extend.Net, square float64) {
	net = extend.NewNet(cfg.Hidden)
	normalise(net, streams)
	random := rand.New(rand.NewPCG(cfg.Seed, 1))
	start(net, random)

	weights := net.Weights()
	opt := newAdam(len(weights))
	learners := make([]*learner, cfg.Batch)
	for i := range learners {
		learners[i] = newLearner(net)
	}
	order := make([]int, len(streams))
	steps := cfg.Passes * (len(streams) / cfg.Batch)
	step := 0
	for pass := range cfg.Passes {
		for i := range order {
			order[i] = i
		}
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		var loss, count float64
		for at := 0; at+cfg.Batch <= len(order); at += cfg.Batch {
			var wg sync.WaitGroup
			for i, l := range learners {
				wg.Go(func() { l.learn(&streams[order[at+i]]) })
			}
			wg.Wait()
			sum := learners[0].gradient
			n := learners[0].count
			for i, l := range learners {
				loss, count = loss+l.loss, count+l.count
				if i == 0 {
					continue
				}
				n += l.count
				for j, g := range l.gradient {
					sum[j] += g
				}
			}
			scale := float32(1 / max(n, 1))
			for j := range sum {
				sum[j] *= scale
			}
			rate := cfg.Rate * (0.02 + 0.98*(0.5+0.5*math.Cos(math.Pi*float64(step)/float64(steps))))
			opt.step(weights, sum, min(rate, cfg.Rate*float64(step+1)/50))
			step++
		}
		fmt.Fprintf(log, "pass %d of %d: mean square error %.4f\n", pass+1, cfg.Passes, loss/count)
		square = loss / count
	}
	return net, square
}

// normalise lets inputs and outputs have mean 0 and variance 1.
func normalise(net *extend.Net, streams []stream) {
	var in [extend.Inputs]moments
	var out [extend.Outputs]moments
	for _, s := range streams {
		for t := range s.in {
			for i, v := range s.in[t] {
				in[i].add(v)
			}
			for i, v := range s.want[t] {
				out[i].add(v)
			}
		}
	}
	for i, m := range in {
		mean, dev := m.result()
		net.InMean[i], net.InScale[i] = float32(mean), float32(1/dev)
	}
	for i, m := range out {
		mean, dev := m.result()
		net.OutMean[i], net.OutScale[i] = float32(mean), float32(dev)
	}
}

type moments struct{ n, sum, squares float64 }

func (m *moments) add(v float32) {
	m.n++
	m.sum += float64(v)
	m.squares += float64(v) * float64(v)
}

func (m *moments) result() (mean, dev float64) {
	mean = m.sum / max(m.n, 1)
	return mean, math.Sqrt(max(m.squares/max(m.n, 1)-mean*mean, 1e-4))
}

// start draws the first weights.
func start(net *extend.Net, random *rand.Rand) {
	draw := func(w []float32, size float64) {
		for i := range w {
			w[i] = float32(random.NormFloat64() * size)
		}
	}
	l := net.Layers()
	draw(l.FromIn, 1/math.Sqrt(extend.Inputs))
	draw(l.FromState, 1/math.Sqrt(float64(net.Hidden())))
	draw(l.OutState, 0.3/math.Sqrt(float64(net.Hidden())))
	for i := range net.Hidden() {
		l.Bias[i] = 1 // remember, at first
	}
}

// learner computes the gradient of one stream at a time, by going through it
// and back again.
type learner struct {
	net      *extend.Net
	gradient []float32
	g        extend.Layers
	loss     float64
	count    float64

	x             [][extend.Inputs]float32
	state, a, b   [][]float32 // state[t] is that before frame t
	err           [][extend.Outputs]float32
	dState, dFrom []float32
}

func newLearner(net *extend.Net) *learner {
	l := &learner{net: net, gradient: make([]float32, len(net.Weights()))}
	l.g = extend.Slice(l.gradient, net.Hidden())
	h := net.Hidden()
	l.dState, l.dFrom = make([]float32, h), make([]float32, h)
	return l
}

func (l *learner) grow(frames int) {
	h := l.net.Hidden()
	for len(l.state) < frames+1 {
		l.state = append(l.state, make([]float32, h))
		l.a = append(l.a, make([]float32, 3*h))
		l.b = append(l.b, make([]float32, 3*h))
		l.x = append(l.x, [extend.Inputs]float32{})
		l.err = append(l.err, [extend.Outputs]float32{})
	}
}

func (l *learner) learn(s *stream) {
	l.grow(len(s.in))
	clear(l.gradient)
	l.loss, l.count = 0, 0
	l.forward(s)
	l.backward(len(s.in))
}

func (l *learner) forward(s *stream) {
	h, w := l.net.Hidden(), l.net.Layers()
	clear(l.state[0])
	for t := range s.in {
		l.x[t] = s.in[t]
		l.net.Normalise(&l.x[t])
		a, b := l.a[t], l.b[t]
		copy(a, w.Bias)
		extend.MatVec(a, w.FromIn, l.x[t][:])
		clear(b)
		extend.MatVec(b, w.FromState, l.state[t])
		next := l.state[t+1]
		for i, old := range l.state[t] {
			z := extend.Sigmoid(a[i] + b[i])
			r := extend.Sigmoid(a[h+i] + b[h+i])
			c := extend.Tanh(a[2*h+i] + r*b[2*h+i])
			next[i] = z*old + (1-z)*c
		}
		var y [extend.Outputs]float32
		copy(y[:], w.OutBias)
		extend.MatVec(y[:], w.OutState, next)
		extend.MatVec(y[:], w.OutIn, l.x[t][:])
		l.err[t] = [extend.Outputs]float32{}
		if t == 0 {
			continue
		}
		// A frame's prediction comes one frame later.
		for i, v := range y {
			weight := s.lacks[i] * s.weight[t-1]
			d := v - (s.want[t-1][i]-l.net.OutMean[i])/l.net.OutScale[i]
			// In units of the logarithm, so that no band counts more.
			scale := l.net.OutScale[i] * l.net.OutScale[i]
			l.loss += float64(weight * scale * d * d)
			l.count += float64(weight)
			l.err[t][i] = weight * scale * d
		}
	}
}

func (l *learner) backward(frames int) {
	h, w := l.net.Hidden(), l.net.Layers()
	clear(l.dState)
	for t := frames - 1; t >= 0; t-- {
		e := l.err[t][:]
		old, a, b := l.state[t], l.a[t], l.b[t]
		vecMat(l.dState, e, w.OutState)
		clear(l.dFrom)
		for i, d := range l.dState {
			pz, pr := a[i]+b[i], a[h+i]+b[h+i]
			z, r := extend.Sigmoid(pz), extend.Sigmoid(pr)
			pc := a[2*h+i] + r*b[2*h+i]
			c := extend.Tanh(pc)
			dz := d * (old[i] - c) * extend.SigmoidSlope(pz)
			dc := d * (1 - z) * extend.TanhSlope(pc)
			dr := dc * b[2*h+i] * extend.SigmoidSlope(pr)
			// The gradients take the place of what they are of.
			a[i], a[h+i], a[2*h+i] = dz, dr, dc
			b[i], b[h+i], b[2*h+i] = dz, dr, dc*r
			l.dFrom[i] = d * z
		}
		vecMat(l.dFrom, b, w.FromState)
		l.dState, l.dFrom = l.dFrom, l.dState
	}
	// Of weights, four frames at a time.
	one := []float32{1}
	for t := 0; t < frames; t += 4 {
		n := min(4, frames-t)
		var e, x, ones [4][]float32
		for k := range n {
			e[k], x[k], ones[k] = l.err[t+k][:], l.x[t+k][:], one
		}
		outer(l.g.OutState, e[:n], l.state[t+1:t+1+n])
		outer(l.g.OutIn, e[:n], x[:n])
		outer(l.g.OutBias, e[:n], ones[:n])
		outer(l.g.FromIn, l.a[t:t+n], x[:n])
		outer(l.g.FromState, l.b[t:t+n], l.state[t:t+n])
		outer(l.g.Bias, l.a[t:t+n], ones[:n])
	}
}

// outer adds the outer products of rows and columns to dst.
func outer(dst []float32, rows, cols [][]float32) {
	n := len(cols[0])
	if len(rows) < 4 {
		for k, r := range rows {
			for i, v := range r {
				row := dst[i*n:][:n]
				for j, c := range cols[k] {
					row[j] += v * c
				}
			}
		}
		return
	}
	c0, c1, c2, c3 := cols[0][:n], cols[1][:n], cols[2][:n], cols[3][:n]
	for i := range rows[0] {
		r0, r1, r2, r3 := rows[0][i], rows[1][i], rows[2][i], rows[3][i]
		row := dst[i*n:][:n]
		for j := range row {
			row[j] += r0*c0[j] + r1*c1[j] + r2*c2[j] + r3*c3[j]
		}
	}
}

// vecMat adds the product of row vector v and matrix w to dst.
func vecMat(dst, v, w []float32) {
	n := len(dst)
	i := 0
	for ; i+4 <= len(v); i += 4 {
		v0, v1, v2, v3 := v[i], v[i+1], v[i+2], v[i+3]
		w0, w1, w2, w3 := w[i*n:][:n], w[(i+1)*n:][:n], w[(i+2)*n:][:n], w[(i+3)*n:][:n]
		for j := range dst {
			dst[j] += v0*w0[j] + v1*w1[j] + v2*w2[j] + v3*w3[j]
		}
	}
	for ; i < len(v); i++ {
		for j := range dst {
			dst[j] += v[i] * w[i*n+j]
		}
	}
}

// adam is the optimiser of Kingma and Ba, 2015, with gradients clipped.
type adam struct {
	mean, square []float32
	steps        int
}

func newAdam(n int) *adam { return &adam{mean: make([]float32, n), square: make([]float32, n)} }

func (a *adam) step(w, g []float32, rate float64) {
	const keepMean, keepSquare, most = 0.9, 0.999, 1.0
	size := 0.0
	for _, v := range g {
		size += float64(v) * float64(v)
	}
	clip := float32(1)
	if size = math.Sqrt(size); size > most {
		clip = float32(most / size)
	}
	a.steps++
	n := float64(a.steps)
	r := float32(rate * math.Sqrt(1-math.Pow(keepSquare, n)) / (1 - math.Pow(keepMean, n)))
	for i, v := range g {
		v *= clip
		a.mean[i] += (v - a.mean[i]) * (1 - keepMean)
		a.square[i] += (v*v - a.square[i]) * (1 - keepSquare)
		w[i] -= r * a.mean[i] / (float32(math.Sqrt(float64(a.square[i]))) + 1e-8)
	}
}
