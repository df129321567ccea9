package spoken

import (
	"strings"
	"testing"
	"unicode"
)

// fields is how the tests cut text into tokens.
func fields(text string) []string {
	return strings.Fields(strings.ReplaceAll(strings.ToLower(text), "-", " "))
}

var digitRuns = []struct {
	text string
	want string // runs, separated by spaces
}{
	// one by one, in pairs, in hundreds
	{"four seven two nine", "4729"},
	{"forty seven twenty nine", "4729"},
	{"sixty five four", "654"},
	{"forty", "40"},
	{"nineteen eighty four", "1984"},
	{"double five", "55"},
	{"triple oh", "000"},
	{"double oh seven", "007"},
	{"treble six double two", "66622"},
	{"four double five nine", "4559"},
	{"zero nought nil oh", "0000"},
	{"oh four seven two", "0472"},
	{"four o seven two", "4072"},
	{"niner niner fife fower", "9954"},
	{"four hundred", "400"},
	{"twelve hundred", "1200"},
	{"four hundred and twelve", "412"},
	{"four hundred twelve", "412"},
	{"four thousand seven hundred and twenty nine", "4729"},
	{"eight hundred five five five", "800555"},
	{"eight hundred five", "805"},
	{"four hundred five thousand", "405000"},
	{"two thousand five thousand", "20005000"},
	{"a hundred", "100"},
	{"two lakh fifty thousand", "250000"},
	{"one million two hundred thousand", "1200000"},

	// what stands between
	{"four seven and then um two nine", "4729"},
	{"four seven dash two nine", "4729"},
	{"four seven yes two nine", "4729"},
	{"472 913", "472913"},
	{"four seven 29", "4729"},
	{"it is four seven two and the rest is nine one three", "472 913"},

	// restarts
	{"four seven no four eight", "48"},
	{"four seven two no three", "473"},
	{"four seven sorry four seven two nine", "4729"},
	{"four seven wait two nine", "4729"},
	{"four seven i mean four eight two one", "4821"},
	{"four seven two nine no", "4729"},

	// sound-alikes only inside a run
	{"seven two for nine one", "72491"},
	{"seven two to nine one one", "722911"},
	{"nine to five", "9 5"},
	{"four for ten", "4 10"},
	{"ten to fifteen", "10 15"},
	{"one for you", "1"},
	{"send it to seven two nine one to me", "7291"},

	// no digits
	{"oh really", ""},
	{"o t p", ""},
	{"the twenty first of may", ""},
	{"double check", ""},
	{"amz0987", ""},
	{"$500", ""},
	{"hundreds of people", ""},
	{"", ""},
}

func TestRunsReadsEverySpokenForm(t *testing.T) {
	for _, tt := range digitRuns {
		tokens := fields(tt.text)
		var got []string
		for _, r := range Runs(tokens, nil) {
			got = append(got, r.Digits())
			if r.First < 0 || r.Last < r.First || r.Last >= len(tokens) {
				t.Errorf("%q: run %d-%d outside %d tokens", tt.text, r.First, r.Last, len(tokens))
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("Runs(%q) = %q, want %q", tt.text, s, tt.want)
		}
	}
}

func TestDigitsAtBeginsWhereAsked(t *testing.T) {
	tokens := fields("my code is forty seven two nine thanks")
	r, ok := DigitsAt(tokens, 3)
	if !ok || r.Digits() != "4729" || r.First != 3 || r.Last != 6 {
		t.Errorf("DigitsAt 3 = %q %d-%d %v", r.Digits(), r.First, r.Last, ok)
	}
	if _, ok := DigitsAt(tokens, 2); ok {
		t.Error("DigitsAt reads a run at a word that is no digit")
	}
	if _, ok := DigitsAt(tokens, len(tokens)); ok {
		t.Error("DigitsAt reads past the end")
	}
}

func TestRunsDoesNotAllocate(t *testing.T) {
	tokens := fields("so i have four seven two nine here and forty seven thousand three hundred dollars for you")
	runs := make([]Run, 0, 8)
	if n := testing.AllocsPerRun(100, func() { runs = Runs(tokens, runs[:0]) }); n > 0 {
		t.Errorf("Runs allocates %v times", n)
	}
	if len(runs) != 2 {
		t.Errorf("got %d runs, want 2", len(runs))
	}
}

var amounts = []struct {
	text     string
	last     int
	value    float64
	currency string
}{
	{"five hundred dollars", 2, 500, "USD"},
	{"five hundred dollar cards", 2, 500, "USD"},
	{"500 dollars", 1, 500, "USD"},
	{"$500 card", 0, 500, "USD"},
	{"$1,499.99", 0, 1499.99, "USD"},
	{"$ 500", 1, 500, "USD"},
	{"£20", 0, 20, "GBP"},
	{"20 quid", 1, 20, "GBP"},
	{"twenty five pounds", 2, 25, "GBP"},
	{"fifty bucks", 1, 50, "USD"},
	{"two lakh rupees", 2, 200000, "INR"},
	{"rs 500", 1, 500, "INR"},
	{"a hundred dollars", 2, 100, "USD"},
	{"a thousand euros", 2, 1000, "EUR"},
	{"four ninety nine dollars", 3, 499, "USD"},
	{"one fifty dollars", 2, 150, "USD"},
	{"fourteen ninety nine dollars", 3, 1499, "USD"},
	{"five hundred and ninety nine dollars and ninety nine cents", 9, 599.99, "USD"},
	{"ninety nine cents", 2, .99, "USD"},
	{"fifty pence", 1, .5, "GBP"},
	{"5k", 0, 5000, "USD"},
	{"five k", 1, 5000, "USD"},
	{"five grand", 1, 5000, "USD"},
	{"$5 million", 1, 5000000, "USD"},
	{"five hundred", -1, 0, ""},
	{"dollars", -1, 0, ""},
	{"a dollar", -1, 0, ""},
	{"$", -1, 0, ""},
	{"k", -1, 0, ""},
}

func TestAmountAtReadsCurrencies(t *testing.T) {
	for _, tt := range amounts {
		a, ok := AmountAt(fields(tt.text), 0)
		if !ok {
			a.Last = -1
		}
		if a.Last != tt.last || a.Value != tt.value || a.Currency != tt.currency {
			t.Errorf("AmountAt(%q) = %+v, want last %d, %v %s", tt.text, a, tt.last, tt.value, tt.currency)
		}
	}
}

func TestNumberAtReadsCardinals(t *testing.T) {
	for _, tt := range []struct {
		text  string
		value float64
		last  int
	}{
		{"forty seven", 47, 1},
		{"seven two", 7, 0},
		{"four hundred and twelve people", 412, 3},
		{"nineteen ninety five", 1995, 2},
		{"four point five", 4.5, 2},
		{"472", 472, 0},
		{"1,200", 1200, 0},
		{"2.5 million", 2500000, 1},
		{"a hundred", 100, 1},
		{"a few", 0, -1},
		{"", 0, -1},
	} {
		n, ok := NumberAt(fields(tt.text), 0)
		if !ok {
			n.Last = -1
		}
		if n.Value != tt.value || n.Last != tt.last {
			t.Errorf("NumberAt(%q) = %+v, want %v to token %d", tt.text, n, tt.value, tt.last)
		}
	}
}

var spelled = []struct{ text, want string }{
	{"a b c as in charlie", ""}, // "a" begins nothing: two letters are no code
	{"q a b c as in charlie", "qabc"},
	{"it is b c as in charlie seven four", "bc74"},
	{"x for xray nine k nine", "x9k9"},
	{"bravo tango four seven double x", "bt47xx"},
	{"x7k9 m2p4", "x7k9m2p4"},
	{"four seven two nine", ""},
	{"i have a four", ""},
	{"plan b for you", ""},
}

func TestCodesReadsSpelledLetters(t *testing.T) {
	for _, tt := range spelled {
		got := ""
		for _, c := range Codes(fields(tt.text), nil) {
			got += c.Text()
		}
		if got != tt.want {
			t.Errorf("Codes(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

var masked = []struct{ text, want string }{
	{"four seven, two nine.", "# #, # #."},
	{"Forty-seven twenty-nine", "#-# #-#"},
	{"forty seven", "# #"},
	{"forty", "##"},
	{"twelve", "##"},
	{"double five", "# #"},
	{"triple oh", "## #"},
	{"my code is 472913", "my code is ######"},
	{"G-472 913", "G-### ###"},
	{"order amz-0987", "order amz-####"},
	{"the 6-digit code", "the #-digit code"},
	{"four hundred", "# ##"},
	{"four hundred and twelve", "# hundred and ##"},
	{"a hundred and five", "a ## and #"},
	{"four thousand five hundred", "# thousand # ##"},
	{"four thousand and five", "# ## and #"},
	{"two hundred thousand", "# ## ###"},
	{"a hundred dollars", "a ### dollars"},
	{"four seven no four eight", "# # no # #"},
	{"fo- four sev- seven", "#- # #- #"},
	{"seven two for nine one", "# # # # #"},
	{"waiting for you to call", "waiting for you to call"},
	{"four", "#"},
	{"oh", "#"},
	{"oh really", "oh really"},
	{"oh four", "# #"},
	{"yes nine", "yes #"},
	{"one time password", "one time password"},
	{"no one", "no one"},
	{"four seven no one", "# # no #"},
	{"press one now", "press one now"},
	{"press one two three four", "press # # # #"},
	{"one of them", "one of them"},
	{"just one second", "just one second"},
	{"the six digit code", "the six digit code"},
	{"two factor, two-step", "two factor, two-step"},
	{"the twenty first", "the twenty first"},
	{"on the first", "on the first"},
	{"٤٧٢ ४७ ²", "### ## #"},
	{"call 02081.449696 or +1 (555) 010-9999", "call #####.###### or +# (###) ###-####"},
	{"twenty four seven", "# # #"},
	{"", ""},
	{"# hundred", "# hundred"},
}

func TestMaskKeepsTheCountOfDigits(t *testing.T) {
	for _, tt := range masked {
		if got := Mask(tt.text); got != tt.want {
			t.Errorf("Mask(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestMaskWordsKeepsWordsApart(t *testing.T) {
	got := MaskWords([]string{"no", "one", "asked", "for", "four", "seven", "no", "one", "9-1"})
	if s := strings.Join(got, "|"); s != "no|one|asked|for|#|#|no|#|#-#" {
		t.Errorf("got %s", s)
	}
}

func FuzzSpoken(f *testing.F) {
	for _, tt := range digitRuns {
		f.Add(tt.text)
	}
	for _, tt := range masked {
		f.Add(tt.text)
	}
	for _, tt := range amounts {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens := fields(text)
		end := -1
		for _, r := range Runs(tokens, nil) {
			if r.First <= end || r.Last < r.First || r.Last >= len(tokens) {
				t.Fatalf("run %d-%d after %d in %d tokens of %q", r.First, r.Last, end, len(tokens), text)
			}
			end = r.Last
			if r.Count < 1 || r.Count > MaxDigits {
				t.Fatalf("run of %d digits in %q", r.Count, text)
			}
			for _, c := range r.Digits() {
				if c < '0' || c > '9' {
					t.Fatalf("digit %q in %q", c, text)
				}
			}
		}
		for _, c := range Codes(tokens, nil) {
			if c.Last >= len(tokens) || len(c.Text()) < 3 {
				t.Fatalf("code %q to token %d of %d in %q", c.Text(), c.Last, len(tokens), text)
			}
		}
		for i := range tokens {
			for _, read := range []func([]string, int) (Number, bool){NumberAt, AmountAt} {
				if n, ok := read(tokens, i); ok && (n.First != i || n.Last < i || n.Last >= len(tokens)) {
					t.Fatalf("number %+v at %d of %d tokens of %q", n, i, len(tokens), text)
				}
			}
		}
		m := Mask(text)
		for _, c := range m {
			if unicode.IsNumber(c) {
				t.Fatalf("digit %q survives in %q, from %q", c, m, text)
			}
		}
		if again := Mask(m); again != m {
			t.Fatalf("masked twice: %q, %q, %q", text, m, again)
		}
		words := strings.Fields(text)
		if got := MaskWords(words); len(got) != len(words) {
			t.Fatalf("%d words became %d", len(words), len(got))
		}
	})
}

func BenchmarkRuns(b *testing.B) {
	for _, bb := range []struct{ name, text string }{
		{"none", "hello there this is a call about the parcel that we could not bring to your house last week"},
		{"code", "sure it says four seven two nine one three and then it says do not tell anybody about it"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			tokens := fields(bb.text)
			runs := make([]Run, 0, 4)
			b.ReportAllocs()
			for b.Loop() {
				runs = Runs(tokens, runs[:0])
			}
		})
	}
}

func BenchmarkMask(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Mask("sure it says four seven two nine one three and then it says do not tell anybody about it")
	}
}

// Every chain below was once read again from each of its tokens.
func TestMaskTakesLongText(t *testing.T) {
	for _, unit := range []string{"o ", "oh and ", "four to ", "hundred ", "fo- ", "4,"} {
		text := strings.Repeat(unit, 20000)
		if m := Mask(text); strings.ContainsAny(m, "0123456789") || Mask(m) != m {
			t.Errorf("%q repeated is not masked", unit)
		}
	}
}
