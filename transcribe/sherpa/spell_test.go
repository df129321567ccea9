package sherpa

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// pieces writes a sentencepiece model.
func pieces(kind int64, list ...string) []byte {
	var m message
	for i, p := range list {
		piece := message{}.str(pieceText, p)
		piece = protowire.AppendFixed32(protowire.AppendTag(piece, pieceScore, protowire.Fixed32Type), math.Float32bits(-float32(i)))
		m = m.sub(modelPieces, piece.num(pieceType, pieceNormal))
	}
	return m.sub(modelTrainer, message{}.num(trainerKind, kind))
}

func newTestSpeller(t testing.TB, tokens string, bpe []byte) *speller {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens.txt")
	if err := os.WriteFile(path, []byte(tokens), 0o600); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "bpe.model")
	if bpe != nil {
		if err := os.WriteFile(model, bpe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newSpeller(path, model)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWordsAreWrittenInTheModelsTokens(t *testing.T) {
	list := []string{"IF", "▁G", "▁GIF", "GI", "FT", "▁GIFT", "▁", "G", "I", "F", "T", "/", "▁C", "A", "R", "D"}
	var tokens strings.Builder
	for i, p := range list {
		if p != "▁GIFT" { // in the pieces and not among the outputs
			tokens.WriteString(p + " " + string(rune('0'+i%10)) + "\n")
		}
	}
	for _, tt := range []struct {
		name, word, want string
		kind             int64
	}{
		// Merges: IF is the likeliest pair, then ▁G, then ▁G with IF; the T
		// joins to what is no output.
		{"merges", "gif", "▁GIF", kindBPE},
		{"merges to what the model does not have", "gift", "", kindBPE},
		{"merges letter by letter", "car", "▁C A R", kindBPE},
		{"the likeliest division", "gif", "▁G IF", kindUnigram},
		{"letters that are none", "café", "", kindBPE},
		{"letters that are none, divided", "café", "", kindUnigram},
		{"the end of a phrase", "c/a", "", kindBPE},
		{"too long", strings.Repeat("a", maxWord+1), "", kindBPE},
		{"nothing", "", "", kindBPE},
		{"no text", "\xff", "", kindUnigram},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestSpeller(t, tokens.String(), pieces(tt.kind, list...))
			got, ok := s.spell(tt.word)
			if want := strings.Fields(tt.want); !slices.Equal(got, want) || ok != (len(want) > 0) {
				t.Errorf("%q, %v, want %q", got, ok, want)
			}
		})
	}
	s := newTestSpeller(t, "▁hello 1\n", nil)
	if got, ok := s.spell("hello"); !ok || !slices.Equal(got, []string{"▁hello"}) {
		t.Errorf("%q, %v: a token that is the word", got, ok)
	}
}

func TestPhrasesAreListedOnceAndWhole(t *testing.T) {
	s := newTestSpeller(t, tokens, nil)
	list, err := s.list([]string{"Hello  World", "hello world", "… world", "hello … world", "hello anydesk", "…", ""})
	if err != nil || !slices.Equal(list.phrases, []string{"hello world", "world"}) || !slices.Equal(list.unheard, []string{"anydesk"}) {
		t.Errorf("%+v, %v", list, err)
	}
	if want := "▁HELLO ▁WORLD @p0/▁WORLD @p1"; list.text != want {
		t.Errorf("%q, want %q", list.text, want)
	}
}

// Whatever is asked for, each line for the library is made of the model's
// tokens and a name, or the library would end the process.
func FuzzSpell(f *testing.F) {
	for _, p := range []string{"hello world", "… hello", "a/b", "hello @p7 :9 #1", "\x00", "\xff", "▁HELLO"} {
		f.Add(p)
	}
	s := newTestSpeller(f, tokens, nil)
	f.Fuzz(func(t *testing.T, phrase string) {
		list, err := s.list([]string{phrase, "world"})
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(list.text, "/") {
			fields := strings.Fields(line)
			if n := len(fields) - 1; n < 1 || !strings.HasPrefix(fields[n], "@"+ours) || i >= len(list.phrases) {
				t.Fatalf("line %q", line)
			}
			for _, token := range fields[:len(fields)-1] {
				if !s.tokens[token] {
					t.Fatalf("token %q in %q", token, line)
				}
			}
		}
	})
}

// Whatever a file holds, it is a model with scores that can be compared, or
// none.
func FuzzPieces(f *testing.F) {
	f.Add(pieces(kindBPE, "▁", "a"))
	f.Add(pieces(kindUnigram, "a"))
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		scores, _, err := parsePieces(data)
		if err == nil && len(scores) == 0 {
			t.Fatal("a model of nothing")
		}
		for p, score := range scores {
			if p == "" || score != score {
				t.Fatalf("%q: %g", p, score)
			}
		}
	})
}
