package extend

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Net predicts the log energies of the bands that a channel does not carry
// from those that it does, frame by frame: one layer of gated recurrent units
// (Cho et al., 2014, with the reset gate behind the matrix), and from it and
// from the input itself a linear layer. It does not change once made.
type Net struct {
	Record []byte // JSON: what it was trained on and how

	hidden int
	// Mean and scale of the inputs and outputs.
	InMean, InScale   [Inputs]float32
	OutMean, OutScale [Outputs]float32
	// Weights, rows one after the other; Slices names them.
	weights []float32
	layers  Layers
}

// Layers are a net's matrices and vectors, rows one after the other: of the
// update gate, the reset gate and the candidate, each hidden rows, from the
// input and from the state; of the outputs from the state and the input.
type Layers struct {
	FromIn, FromState, Bias  []float32
	OutState, OutIn, OutBias []float32
}

// NewNet is a net of weights that are all zero.
func NewNet(hidden int) *Net {
	n := &Net{hidden: hidden}
	n.weights = make([]float32, weightCount(hidden))
	n.layers = Slice(n.weights, hidden)
	return n
}

func weightCount(hidden int) int {
	return 3*hidden*(Inputs+hidden+1) + Outputs*(hidden+Inputs+1)
}

// Slice cuts weights, or their gradients, into layers.
func Slice(weights []float32, hidden int) Layers {
	cut := func(n int) (part []float32) {
		part, weights = weights[:n:n], weights[n:]
		return part
	}
	return Layers{
		FromIn: cut(3 * hidden * Inputs), FromState: cut(3 * hidden * hidden), Bias: cut(3 * hidden),
		OutState: cut(Outputs * hidden), OutIn: cut(Outputs * Inputs), OutBias: cut(Outputs),
	}
}

// Hidden is how many units the net has.
func (n *Net) Hidden() int { return n.hidden }

// Weights are all weights, to be trained.
func (n *Net) Weights() []float32 { return n.weights }

// Layers are the same weights by layer.
func (n *Net) Layers() Layers { return n.layers }

// Normalise scales a frame's features in place to what the weights expect.
func (n *Net) Normalise(x *[Inputs]float32) {
	for i := range x {
		x[i] = (x[i] - n.InMean[i]) * n.InScale[i]
	}
}

// step is one frame: the state changes, y becomes the prediction. x is
// normalised. work has 6·hidden numbers.
//
//go:norace
func (n *Net) step(y *[Outputs]float32, state, work []float32, x *[Inputs]float32) {
	h := n.hidden
	a, b := work[:3*h], work[3*h:6*h]
	copy(a, n.layers.Bias)
	MatVec(a, n.layers.FromIn, x[:])
	clear(b)
	MatVec(b, n.layers.FromState, state)
	az, ar, ac := a[:h], a[h:2*h], a[2*h:]
	bz, br, bc := b[:h], b[h:2*h], b[2*h:]
	for i, s := range state {
		z := Sigmoid(az[i] + bz[i])
		r := Sigmoid(ar[i] + br[i])
		c := Tanh(ac[i] + r*bc[i])
		state[i] = z*s + (1-z)*c
	}
	copy(y[:], n.layers.OutBias)
	MatVec(y[:], n.layers.OutState, state)
	MatVec(y[:], n.layers.OutIn, x[:])
	for i := range y {
		y[i] = y[i]*n.OutScale[i] + n.OutMean[i]
	}
}

// MatVec adds the product of matrix w, len(x) columns, and x to dst. Four rows
// at a time share the loads of x.
//
//go:norace
func MatVec(dst, w, x []float32) {
	n := len(x)
	i := 0
	for ; i+4 <= len(dst); i += 4 {
		w0, w1, w2, w3 := w[i*n:][:n], w[(i+1)*n:][:n], w[(i+2)*n:][:n], w[(i+3)*n:][:n]
		var s0, s1, s2, s3 float32
		for j, v := range x {
			s0 += w0[j] * v
			s1 += w1[j] * v
			s2 += w2[j] * v
			s3 += w3[j] * v
		}
		dst[i] += s0
		dst[i+1] += s1
		dst[i+2] += s2
		dst[i+3] += s3
	}
	for ; i < len(dst); i++ {
		s := float32(0)
		for j, v := range x {
			s += w[i*n+j] * v
		}
		dst[i] += s
	}
}

// Tanh is a rational function close to the hyperbolic tangent, with the same
// slope everywhere; it costs a tenth.
func Tanh(x float32) float32 {
	x = min(max(x, -3), 3)
	return x * (27 + x*x) / (27 + 9*x*x)
}

// TanhSlope is the derivative of [Tanh].
func TanhSlope(x float32) float32 {
	if x < -3 || x > 3 {
		return 0
	}
	d := 27 + 9*x*x
	return ((27+3*x*x)*d - 18*x*x*(27+x*x)) / (d * d)
}

// Sigmoid goes from 0 to 1 as [Tanh] does from -1 to 1.
func Sigmoid(x float32) float32 { return 0.5 + 0.5*Tanh(x/2) }

// SigmoidSlope is the derivative of [Sigmoid].
func SigmoidSlope(x float32) float32 { return 0.25 * TanhSlope(x/2) }

// A net's file: the magic, the length of the record, the record, the number of
// hidden units, and all numbers as little-endian float32.
const magic = "callwarden band 1\n"

var errNotANet = errors.New("not the file of a band extension")

// MarshalBinary implements [encoding.BinaryMarshaler].
func (n *Net) MarshalBinary() ([]byte, error) {
	b := []byte(magic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(n.Record)))
	b = append(b, n.Record...)
	b = binary.LittleEndian.AppendUint32(b, uint32(n.hidden))
	for _, s := range n.slices() {
		for _, v := range s {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return b, nil
}

func (n *Net) slices() [][]float32 {
	return [][]float32{n.InMean[:], n.InScale[:], n.OutMean[:], n.OutScale[:], n.weights}
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It takes only whole
// files of finite numbers.
func (n *Net) UnmarshalBinary(data []byte) error {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok || len(rest) < 4 {
		return errNotANet
	}
	size := uint64(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	if size+4 > uint64(len(rest)) {
		return fmt.Errorf("%w: a record of %d bytes in %d", errNotANet, size, len(rest))
	}
	record := bytes.Clone(rest[:size])
	if !json.Valid(record) {
		return fmt.Errorf("%w: its record is not JSON", errNotANet)
	}
	hidden := binary.LittleEndian.Uint32(rest[size:])
	rest = rest[size+4:]
	if hidden == 0 || hidden > 1024 {
		return fmt.Errorf("%w: %d units", errNotANet, hidden)
	}
	if want := 4 * (2*Inputs + 2*Outputs + weightCount(int(hidden))); len(rest) != want {
		return fmt.Errorf("%w: %d bytes of weights, %d expected", errNotANet, len(rest), want)
	}
	m := NewNet(int(hidden))
	m.Record = record
	for _, s := range m.slices() {
		for i := range s {
			s[i] = math.Float32frombits(binary.LittleEndian.Uint32(rest))
			if s[i]-s[i] != 0 {
				return fmt.Errorf("%w: a weight is not finite", errNotANet)
			}
			rest = rest[4:]
		}
	}
	*n = *m
	return nil
}
