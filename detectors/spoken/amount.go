package spoken

import (
	"strconv"
	"strings"
)

// Number is a number read from tokens.
type Number struct {
	First, Last int // token indices, inclusive
	Value       float64
	Currency    string // ISO 4217 code; empty for a plain number
}

// NumberAt reads the number that begins with token i: "forty seven", "four
// hundred and twelve", "two lakh", "472", "a hundred", "four point five".
// Prices said in pairs are one number: "four ninety nine" is 499.
func NumberAt(tokens []string, i int) (Number, bool) {
	v, n := valueAt(tokens, i)
	if n == 0 {
		return Number{}, false
	}
	return Number{First: i, Last: i + n - 1, Value: v}, true
}

// AmountAt reads the amount of money that begins with token i. The currency
// stands before the number ("$500", "rs 500", "usd 500") or after it ("five
// hundred dollar", "20 quid", "two lakh rupees", "five grand"); cents after it
// belong to it.
func AmountAt(tokens []string, i int) (Number, bool) {
	if i < 0 || i >= len(tokens) {
		return Number{}, false
	}
	if a, ok := signed(tokens[i]); ok {
		return trailing(tokens, i, 1, a.Value, a.Currency), true
	}
	if c := currencyBefore(tokens[i]); c != "" {
		if v, n := valueAt(tokens, i+1); n > 0 {
			return trailing(tokens, i, n+1, v, c), true
		}
		return Number{}, false
	}
	v, n := valueAt(tokens, i)
	if n == 0 {
		if v = kilo(tokens[i]); v == 0 {
			return Number{}, false
		}
		end := i + 1
		if end < len(tokens) {
			if c := currencyAfter(tokens[end]); c != "" {
				return Number{First: i, Last: end, Value: v, Currency: c}, true
			}
		}
		return Number{First: i, Last: i, Value: v, Currency: "USD"}, true
	}
	end := i + n
	currency := ""
	if end < len(tokens) && (tokens[end] == "k" || tokens[end] == "grand") {
		v *= 1000
		end++
		currency = "USD" // said where dollars and pounds are; a currency that follows wins
	}
	if end < len(tokens) {
		if c := currencyAfter(tokens[end]); c != "" {
			currency = c
			end++
		}
	}
	if currency == "" {
		return Number{}, false
	}
	a := Number{First: i, Last: end - 1, Value: v, Currency: currency}
	if end-1 >= i && isCents(tokens[end-1]) {
		a.Value /= 100
		return a, true
	}
	return cents(tokens, a), true
}

// trailing adds a scale or a currency word that follows a number which has its
// currency already: "$5 million", "$500 dollars".
func trailing(tokens []string, i, n int, v float64, currency string) Number {
	end := i + n
	if end < len(tokens) {
		if k, exp := classify(tokens[end]); k == scale {
			v *= float64(pow10(exp))
			end++
		} else if tokens[end] == "k" {
			v *= 1000
			end++
		}
	}
	if end < len(tokens) && currencyAfter(tokens[end]) != "" {
		end++
	}
	return cents(tokens, Number{First: i, Last: end - 1, Value: v, Currency: currency})
}

// cents adds "and ninety nine cents".
func cents(tokens []string, a Number) Number {
	j := a.Last + 1
	if j < len(tokens) && tokens[j] == "and" {
		j++
	}
	v, n := valueAt(tokens, j)
	if n == 0 || v >= 100 || j+n >= len(tokens) || !isCents(tokens[j+n]) {
		return a
	}
	a.Value += v / 100
	a.Last = j + n
	return a
}

// valueAt reads a number and returns its value and how many tokens it takes.
func valueAt(tokens []string, i int) (v float64, n int) {
	if i < 0 || i >= len(tokens) {
		return 0, 0
	}
	article := 0
	if tokens[i] == "a" && i+1 < len(tokens) {
		if k, _ := classify(tokens[i+1]); k != scale {
			return 0, 0
		}
		article = 1
	}
	i += article
	c, n := cardinal(tokens, i)
	if n == 0 {
		if k, _ := classify(tokens[i]); k != numeral {
			return 0, 0
		}
		w, ok := written(tokens[i])
		if !ok {
			return 0, 0
		}
		v, n = w, 1
		if i+1 < len(tokens) {
			if k, exp := classify(tokens[i+1]); k == scale {
				v *= float64(pow10(exp))
				n++
			}
		}
		return v, n + article
	}
	v = float64(c)
	if k, _ := classify(tokens[i+n-1]); k != scale {
		// "four ninety nine", "one fifty", "nineteen ninety five"
		if w, m := below100(tokens, i+n); m > 0 && w >= 10 && c > 0 && c < 100 && w < 100 {
			v, n = v*100+float64(w), n+m
		}
	}
	if i+n+1 < len(tokens) && tokens[i+n] == "point" {
		f, m := below100(tokens, i+n+1)
		if m > 0 && f < 100 {
			part := float64(f) / 10
			if f >= 10 {
				part /= 10
			}
			v, n = v+part, n+m+1
		}
	}
	return v, n + article
}

// written reads a numeral with commas and a decimal point.
func written(tok string) (float64, bool) {
	tok = strings.Trim(tok, ".,:-/'")
	if strings.ContainsAny(tok, ":/-'") || len(tok) > 18 {
		return 0, false
	}
	if strings.Contains(tok, ",") {
		tok = strings.ReplaceAll(tok, ",", "")
	}
	v, err := strconv.ParseFloat(tok, 64)
	return v, err == nil
}

// signed reads a token with a currency sign: "$500", "£1,200.50", "500€", "$5k".
func signed(tok string) (Number, bool) {
	for _, s := range [...]struct{ sign, code string }{
		{"$", "USD"}, {"£", "GBP"}, {"€", "EUR"}, {"₹", "INR"},
	} {
		rest, ok := strings.CutPrefix(tok, s.sign)
		if !ok {
			rest, ok = strings.CutSuffix(tok, s.sign)
		}
		if !ok {
			continue
		}
		if v := kilo(rest); v > 0 {
			return Number{Value: v, Currency: s.code}, true
		}
		if !isNumeral(rest) {
			return Number{}, false
		}
		v, ok := written(rest)
		return Number{Value: v, Currency: s.code}, ok
	}
	return Number{}, false
}

// kilo reads "5k"; anything else is 0.
func kilo(tok string) float64 {
	rest, ok := strings.CutSuffix(tok, "k")
	if !ok || !isNumeral(rest) {
		return 0
	}
	v, _ := written(rest)
	return v * 1000
}

func currencyBefore(tok string) string {
	switch tok {
	case "$", "usd":
		return "USD"
	case "£", "gbp":
		return "GBP"
	case "€", "eur":
		return "EUR"
	case "₹", "rs", "rs.", "inr":
		return "INR"
	}
	return ""
}

func currencyAfter(tok string) string {
	switch tok {
	case "dollar", "dollars", "bucks", "buck", "usd", "$", "cent", "cents":
		return "USD"
	case "pound", "pounds", "quid", "gbp", "£", "sterling", "pence", "p":
		return "GBP"
	case "euro", "euros", "eur", "€":
		return "EUR"
	case "rupee", "rupees", "inr", "rs", "₹":
		return "INR"
	}
	return ""
}

func isCents(tok string) bool {
	switch tok {
	case "cent", "cents", "pence", "p", "paise":
		return true
	}
	return false
}
