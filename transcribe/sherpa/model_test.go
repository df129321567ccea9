package sherpa

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// The model of these tests is a streaming transducer like any other to the
// library, of its kind "lstm", and small enough to be written by hand. It hears
// two words: a low chord is "hello", a high one "world". Neither follows
// itself, so a chord is one word however long it lasts.

// message is a protobuf message in the making.
type message []byte

func (m message) str(number protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), s)
}

func (m message) num(number protowire.Number, v int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(v))
}

func (m message) sub(number protowire.Number, s message) message {
	return m.str(number, string(s))
}

const elementFloat, elementInt64 = 1, 7 // onnx.TensorProto.DataType

func tensor(name string, dims []int64, kind int64, raw []byte) message {
	var m message
	for _, d := range dims {
		m = m.num(1, d)
	}
	return m.num(2, kind).str(8, name).str(9, string(raw))
}

func floats(values ...float32) (raw []byte) {
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

// value is a named tensor of a graph; a dimension of 0 is the batch.
func value(name string, kind int64, dims ...int64) message {
	var shape message
	for _, d := range dims {
		if d == 0 {
			shape = shape.sub(1, message{}.str(2, "N"))
		} else {
			shape = shape.sub(1, message{}.num(1, d))
		}
	}
	return message{}.str(1, name).sub(2, message{}.sub(1, message{}.num(1, kind).sub(2, shape)))
}

func node(op string, inputs []string, output string, attributes ...message) message {
	var m message
	for _, in := range inputs {
		m = m.str(1, in)
	}
	m = m.str(2, output).str(3, op+output).str(4, op)
	for _, a := range attributes {
		m = m.sub(5, a)
	}
	return m
}

func integer(name string, v int64) message { return message{}.str(1, name).num(3, v).num(20, 2) }
func integers(name string, v int64) message {
	return message{}.str(1, name).num(8, v).num(20, 7)
}

type graph struct {
	nodes, constants, inputs, outputs []message
	notes                             [][2]string
}

func (g graph) encode() []byte {
	m := message{}.str(2, "g")
	for _, n := range g.nodes {
		m = m.sub(1, n)
	}
	for _, c := range g.constants {
		m = m.sub(5, c)
	}
	for _, v := range g.inputs {
		m = m.sub(11, v)
	}
	for _, v := range g.outputs {
		m = m.sub(12, v)
	}
	model := message{}.num(1, 7).str(2, "callwarden").sub(7, m).sub(8, message{}.str(1, "").num(2, 13))
	for _, n := range g.notes {
		model = model.sub(14, message{}.str(1, n[0]).str(2, n[1]))
	}
	return model
}

const bands = 80

func encoderGraph() graph {
	return graph{
		nodes: []message{
			node("ReduceMean", []string{"x"}, "encoder_out", integers("axes", 1), integer("keepdims", 1)),
			node("Identity", []string{"h"}, "new_h"),
			node("Identity", []string{"c"}, "new_c"),
		},
		inputs:  []message{value("x", elementFloat, 0, 4, bands), value("h", elementFloat, 1, 0, 1), value("c", elementFloat, 1, 0, 1)},
		outputs: []message{value("encoder_out", elementFloat, 0, 1, bands), value("new_h", elementFloat, 1, 0, 1), value("new_c", elementFloat, 1, 0, 1)},
		notes: [][2]string{
			{"model_type", "lstm"}, {"num_encoder_layers", "1"}, {"T", "4"}, {"decode_chunk_len", "4"}, {"rnn_hidden_size", "1"}, {"d_model", "1"},
		},
	}
}

func decoderGraph() graph {
	const never = -1000
	return graph{
		nodes: []message{
			node("Gather", []string{"y", "last"}, "previous", integer("axis", 1)),
			node("Gather", []string{"bias", "previous"}, "decoder_out", integer("axis", 0)),
		},
		constants: []message{
			tensor("last", nil, elementInt64, binary.LittleEndian.AppendUint64(nil, 1)),
			tensor("bias", []int64{3, 3}, elementFloat, floats(0, 0, 0, 0, never, 0, 0, 0, never)),
		},
		inputs:  []message{value("y", elementInt64, 0, 2)},
		outputs: []message{value("decoder_out", elementFloat, 0, 3)},
		notes:   [][2]string{{"vocab_size", "3"}, {"context_size", "2"}},
	}
}

func joinerGraph() graph {
	weights := make([]float32, bands*3)
	for i := 8; i < 14; i++ {
		weights[3*i+1] = 1.0 / 6
	}
	for i := 46; i < 53; i++ {
		weights[3*i+2] = 1.0 / 7
	}
	return graph{
		nodes: []message{
			node("MatMul", []string{"encoder_out", "weights"}, "heard"),
			node("Add", []string{"heard", "offset"}, "likely"),
			node("Add", []string{"likely", "decoder_out"}, "logit"),
		},
		constants: []message{
			tensor("weights", []int64{bands, 3}, elementFloat, floats(weights...)),
			tensor("offset", []int64{3}, elementFloat, floats(0, 3, 1)),
		},
		inputs:  []message{value("encoder_out", elementFloat, 0, bands), value("decoder_out", elementFloat, 0, 3)},
		outputs: []message{value("logit", elementFloat, 0, 3)},
		notes:   [][2]string{{"joiner_dim", "80"}},
	}
}

const tokens = "<blk> 0\n▁HELLO 1\n▁WORLD 2\n"

// writeModel writes the model into a folder, as change has it.
func writeModel(t testing.TB, change func(files map[string][]byte)) string {
	t.Helper()
	files := map[string][]byte{
		"encoder-epoch-1.onnx": encoderGraph().encode(),
		"decoder-epoch-1.onnx": decoderGraph().encode(),
		"joiner-epoch-1.onnx":  joinerGraph().encode(),
		"tokens.txt":           []byte(tokens),
	}
	if change != nil {
		change(files)
	}
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// spoken is said in the model's words: h and w, and pauses of 1.2 s.
func spoken(said string) (pcm []int16) {
	for _, word := range said {
		var hz []float64
		length := rate * 3 / 10
		switch word {
		case 'h':
			hz = []float64{250, 300, 350}
		case 'w':
			hz = []float64{2300, 2500, 2700}
		default:
			length = rate * 6 / 5
		}
		for i := range length {
			var v float64
			for _, f := range hz {
				v += 3000 * math.Sin(2*math.Pi*f*float64(i)/rate)
			}
			pcm = append(pcm, int16(v))
		}
	}
	return pcm
}
