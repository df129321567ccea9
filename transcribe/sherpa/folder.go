package sherpa

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// folder is a model: the files of a streaming transducer.
type folder struct {
	encoder, decoder, joiner, tokens string
	modelType                        string
	spots                            bool   // it is a keyword spotter
	lastToken                        string // that of the highest number
}

// What the library reads from each model file's own notes, by kind of encoder.
// It ends the process where one is missing.
var (
	encoderNotes = map[string][]string{
		"lstm":          {"num_encoder_layers", "T", "decode_chunk_len", "rnn_hidden_size", "d_model"},
		"conformer":     {"num_encoder_layers", "T", "decode_chunk_len", "left_context", "encoder_dim", "pad_length", "cnn_module_kernel"},
		"ebranchformer": {"T", "decode_chunk_len"},
		"zipformer":     {"encoder_dims", "attention_dims", "num_encoder_layers", "cnn_module_kernels", "left_context_len", "T", "decode_chunk_len"},
		"zipformer2":    {"encoder_dims", "query_head_dims", "value_head_dims", "num_heads", "num_encoder_layers", "cnn_module_kernels", "left_context_len", "T", "decode_chunk_len"},
	}
	decoderNotes = []string{"vocab_size", "context_size"}
)

// readFolder finds the files of a model and looks for all that the library
// would end the process for.
func readFolder(dir string) (*folder, error) {
	if dir == "" {
		return nil, errors.New("no folder is named")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var f folder
	for _, part := range []struct {
		name string
		path *string
	}{{"encoder", &f.encoder}, {"decoder", &f.decoder}, {"joiner", &f.joiner}} {
		if *part.path, err = findPart(dir, entries, part.name); err != nil {
			return nil, err
		}
	}
	f.tokens = filepath.Join(dir, "tokens.txt")
	notes, err := readNotes(f.encoder)
	if err != nil {
		return nil, err
	}
	f.modelType = notes["model_type"]
	needed, ok := encoderNotes[f.modelType]
	if !ok {
		return nil, fmt.Errorf("%s: model_type is %q; streaming transducers are lstm, conformer, ebranchformer, zipformer or zipformer2", f.encoder, f.modelType)
	}
	if err := hasNotes(f.encoder, notes, needed); err != nil {
		return nil, err
	}
	if notes, err = readNotes(f.decoder); err != nil {
		return nil, err
	}
	if err := hasNotes(f.decoder, notes, decoderNotes); err != nil {
		return nil, err
	}
	if _, err := readNotes(f.joiner); err != nil {
		return nil, err
	}
	vocabulary, err := strconv.Atoi(notes["vocab_size"])
	if err != nil {
		return nil, fmt.Errorf("%s: vocab_size %q is no number", f.decoder, notes["vocab_size"])
	}
	if f.lastToken, err = checkTokens(f.tokens, vocabulary); err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(dir, "keywords.txt"))
	f.spots = err == nil
	return &f, nil
}

// findPart is the one file of a part of the model; of a quantised and a whole
// one the quantised.
func findPart(dir string, entries []os.DirEntry, part string) (string, error) {
	var whole, quantised []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case !strings.Contains(name, part) || filepath.Ext(name) != ".onnx":
		case strings.Contains(name, "int8"):
			quantised = append(quantised, name)
		default:
			whole = append(whole, name)
		}
	}
	found := quantised
	if len(found) == 0 {
		found = whole
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: has %d files %s*.onnx, a streaming transducer has one: %s", dir, len(found), part, strings.Join(found, ", "))
	}
	return filepath.Join(dir, found[0]), nil
}

func hasNotes(path string, notes map[string]string, needed []string) error {
	for _, key := range needed {
		if v := notes[key]; v == "" || strings.ContainsFunc(v, func(r rune) bool { return (r < '0' || r > '9') && r != ',' && r != ' ' && r != '-' }) {
			return fmt.Errorf("%s: its metadata has no number for %s: was it made for sherpa-onnx?", path, key)
		}
	}
	return nil
}

// Fields of onnx.ModelProto and onnx.StringStringEntryProto (onnx.proto).
const (
	onnxGraph    = 7
	onnxMetadata = 14
	entryKey     = 1
	entryValue   = 2

	maxNote = 1 << 20 // bytes of one
)

// readNotes reads the metadata of an ONNX file, passing over the rest of it.
// It fails where the file is cut short or is none.
func readNotes(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	notes, err := parseNotes(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return notes, nil
}

var errONNX = errors.New("is no whole ONNX file")

func parseNotes(r io.ReadSeeker, size int64) (map[string]string, error) {
	notes := make(map[string]string)
	graph := false
	var at int64
	head := make([]byte, 2*10) // a tag and a length
	for at < size {
		if _, err := r.Seek(at, io.SeekStart); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, head[:min(int64(len(head)), size-at)])
		if err != nil {
			return nil, err
		}
		number, kind, tag := protowire.ConsumeTag(head[:n])
		if tag < 0 {
			return nil, errONNX
		}
		var length int64
		switch kind {
		case protowire.VarintType:
			_, v := protowire.ConsumeVarint(head[tag:n])
			if v < 0 {
				return nil, errONNX
			}
			length = int64(v)
		case protowire.BytesType:
			body, v := protowire.ConsumeVarint(head[tag:n])
			if v < 0 || body > uint64(size) || at+int64(tag+v)+int64(body) > size {
				return nil, errONNX
			}
			length = int64(v) + int64(body)
			graph = graph || number == onnxGraph
			if number == onnxMetadata {
				if body > maxNote {
					return nil, fmt.Errorf("%w: metadata of %d bytes, limit %d", errONNX, body, maxNote)
				}
				data := make([]byte, body)
				if _, err := r.Seek(at+int64(tag+v), io.SeekStart); err != nil {
					return nil, err
				}
				if _, err := io.ReadFull(r, data); err != nil {
					return nil, err
				}
				key, value, err := parseEntry(data)
				if err != nil {
					return nil, err
				}
				notes[key] = value
			}
		default:
			return nil, errONNX
		}
		at += int64(tag) + length
	}
	if !graph {
		return nil, errONNX
	}
	return notes, nil
}

func parseEntry(data []byte) (key, value string, err error) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 || kind != protowire.BytesType {
			return "", "", errONNX
		}
		text, m := protowire.ConsumeBytes(data[n:])
		if m < 0 {
			return "", "", errONNX
		}
		switch number {
		case entryKey:
			key = string(text)
		case entryValue:
			value = string(text)
		}
		data = data[n+m:]
	}
	return key, value, nil
}

// maxVocabulary is far above what a transducer has.
const maxVocabulary = 1_000_000

// checkTokens looks whether each of the model's outputs has a symbol, and
// returns the last.
func checkTokens(path string, vocabulary int) (last string, err error) {
	if vocabulary < 1 || vocabulary > maxVocabulary {
		return "", fmt.Errorf("%s: for a vocabulary of %d", path, vocabulary)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	has := make([]bool, vocabulary)
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		id, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil || len(fields) > 2 || id < 0 {
			return "", fmt.Errorf("%s: line %d must have a symbol and its number", path, n)
		}
		if id < vocabulary {
			if has[id] {
				return "", fmt.Errorf("%s: line %d: number %d has a symbol already", path, n, id)
			}
			has[id] = true
			if id == vocabulary-1 {
				last = fields[0]
			}
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if id := slices.Index(has, false); id >= 0 {
		return "", fmt.Errorf("%s: number %d of %d has no symbol", path, id, vocabulary)
	}
	return last, nil
}
