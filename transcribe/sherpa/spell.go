package sherpa

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// speller writes words in a model's tokens.
type speller struct {
	tokens map[string]bool
	lower  bool // whether the tokens know small letters
	// Of the model's bpe.model; nil without one: then words that are tokens
	// are all that can be spelled.
	scores map[string]float32
	merges bool // byte-pair merges; else the likeliest division (unigram)
}

// wordMark begins the first token of a word.
const wordMark = "▁"

// newSpeller reads the tokens, and the bpe.model beside them if there is one.
func newSpeller(tokens, bpeModel string) (*speller, error) {
	data, err := readWhole(tokens)
	if err != nil {
		return nil, err
	}
	s := &speller{tokens: make(map[string]bool)}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			s.tokens[fields[0]] = true
			s.lower = s.lower || len(fields[0]) > 2 && fields[0][0] != '<' && strings.ToUpper(fields[0]) != fields[0]
		}
	}
	data, err = readWhole(bpeModel)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, err
	}
	if s.scores, s.merges, err = parsePieces(data); err != nil {
		return nil, fmt.Errorf("%s: %w", bpeModel, err)
	}
	return s, nil
}

const maxSpelling = 16 << 20 // bytes of a file; models for speech have 1 MB

func readWhole(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSpelling {
		return nil, fmt.Errorf("%s: %d bytes, limit %d", path, info.Size(), maxSpelling)
	}
	return os.ReadFile(path)
}

// Fields of sentencepiece.ModelProto (sentencepiece_model.proto).
const (
	modelPieces, modelTrainer              = 1, 2
	pieceText, pieceScore, pieceType       = 1, 2, 3
	trainerKind                            = 3
	kindUnigram, kindBPE                   = 1, 2
	pieceNormal, pieceUserDefined    int64 = 1, 4
)

var errPieces = errors.New("is no sentencepiece model")

// parsePieces reads a sentencepiece model: its pieces with their scores.
func parsePieces(data []byte) (scores map[string]float32, merges bool, err error) {
	scores = make(map[string]float32)
	kind := uint64(kindUnigram)
	err = eachField(data, func(number protowire.Number, value []byte, _ uint64) error {
		switch number {
		case modelPieces:
			var text string
			var score float32
			sort := pieceNormal
			err := eachField(value, func(number protowire.Number, value []byte, n uint64) error {
				switch number {
				case pieceText:
					text = string(value)
				case pieceScore:
					score = math.Float32frombits(uint32(n))
				case pieceType:
					sort = int64(n)
				}
				return nil
			})
			if err == nil && text != "" && (sort == pieceNormal || sort == pieceUserDefined) && score == score {
				scores[text] = score
			}
			return err
		case modelTrainer:
			return eachField(value, func(number protowire.Number, _ []byte, n uint64) error {
				if number == trainerKind {
					kind = n
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, false, err
	case kind != kindUnigram && kind != kindBPE || len(scores) == 0:
		return nil, false, fmt.Errorf("%w of subwords", errPieces)
	}
	return scores, kind == kindBPE, nil
}

// eachField calls f with the fields of a message: bytes, or a number.
func eachField(data []byte, f func(number protowire.Number, value []byte, n uint64) error) error {
	for len(data) > 0 {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return errPieces
		}
		data = data[tag:]
		var value []byte
		var n uint64
		var length int
		switch kind {
		case protowire.BytesType:
			value, length = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			n, length = protowire.ConsumeVarint(data)
		case protowire.Fixed32Type:
			var v uint32
			v, length = protowire.ConsumeFixed32(data)
			n = uint64(v)
		case protowire.Fixed64Type:
			n, length = protowire.ConsumeFixed64(data)
		default:
			return errPieces
		}
		if length < 0 {
			return errPieces
		}
		if err := f(number, value, n); err != nil {
			return err
		}
		data = data[length:]
	}
	return nil
}

// maxWord is longer than any word; spelling takes time by its square.
const maxWord = 64

// spell writes a lower-case word in tokens; ok is false for a word that they
// cannot write.
func (s *speller) spell(word string) (pieces []string, ok bool) {
	if word == "" || len(word) > maxWord || !utf8.ValidString(word) {
		return nil, false
	}
	if !s.lower {
		word = strings.ToUpper(word)
	}
	switch text := wordMark + word; {
	case s.scores == nil:
		pieces = []string{text}
	case s.merges:
		pieces = s.merged(text)
	default:
		pieces = s.likeliest(text)
	}
	for _, p := range pieces {
		// "/" would end the phrase on its way into the library.
		if !s.tokens[p] || strings.Contains(p, "/") {
			return nil, false
		}
	}
	return pieces, len(pieces) > 0
}

// merged joins letters the way they were joined in training: of all neighbours
// whose union is a piece, the ones of the highest score first.
func (s *speller) merged(text string) []string {
	var parts []string
	for _, r := range text {
		parts = append(parts, string(r))
	}
	for {
		best := -1
		var most float32
		for i := 0; i+1 < len(parts); i++ {
			if score, ok := s.scores[parts[i]+parts[i+1]]; ok && (best < 0 || score > most) {
				best, most = i, score
			}
		}
		if best < 0 {
			return parts
		}
		parts[best] += parts[best+1]
		parts = append(parts[:best+1], parts[best+2:]...)
	}
}

// likeliest divides text so that the scores of its pieces sum to the most.
func (s *speller) likeliest(text string) []string {
	type way struct {
		sum  float32
		from int
		ok   bool
	}
	ways := make([]way, len(text)+1)
	ways[0].ok = true
	for end := 1; end <= len(text); end++ {
		for from := range end {
			score, ok := s.scores[text[from:end]]
			if sum := ways[from].sum + score; ok && ways[from].ok && (!ways[end].ok || sum > ways[end].sum) {
				ways[end] = way{sum, from, true}
			}
		}
	}
	if !ways[len(text)].ok {
		return nil
	}
	var pieces []string
	for end := len(text); end > 0; end = ways[end].from {
		pieces = append([]string{text[ways[end].from:end]}, pieces...)
	}
	return pieces
}
