package main

import "slices"

// change is what the learned filling heard of a clip and the simple one did
// not, and the other way round.
type change struct {
	Name                   string
	Said                   int // words of the reference
	Right, RightWithSimple int
	Gained, Lost           []string
}

// changes lists the rows that want it.
func changes(ways []way, rows []row) []change {
	simple := slices.IndexFunc(ways, func(w way) bool { return w.name == "simple" })
	learned := slices.IndexFunc(ways, func(w way) bool { return w.name == "learned" })
	if simple < 0 || learned < 0 {
		return nil
	}
	var out []change
	for _, r := range rows {
		if !r.words {
			continue
		}
		for i, c := range r.clips {
			before, after := right(c.text, r.heard[simple][i]), right(c.text, r.heard[learned][i])
			ch := change{Name: r.set + " " + r.line.name + ": " + c.name, Said: len(c.text)}
			for k, w := range c.text {
				if before[k] {
					ch.RightWithSimple++
				}
				if after[k] {
					ch.Right++
				}
				switch {
				case after[k] && !before[k]:
					ch.Gained = append(ch.Gained, w)
				case before[k] && !after[k]:
					ch.Lost = append(ch.Lost, w)
				}
			}
			out = append(out, ch)
		}
	}
	return out
}

// What an alignment costs: as with NIST's sclite, two words are rather put in
// and left out than changed into each other twice.
const (
	costOfMissing = 3
	costOfOther   = 4
)

// right says which words of said were heard, by the cheapest alignment.
func right(said, heard []string) []bool {
	// cost[i][j] is that of the first i said and j heard words.
	cost := make([][]int, len(said)+1)
	for i := range cost {
		cost[i] = make([]int, len(heard)+1)
		for j := range cost[i] {
			switch {
			case i == 0:
				cost[i][j] = j * costOfMissing
			case j == 0:
				cost[i][j] = i * costOfMissing
			default:
				cost[i][j] = min(cost[i-1][j]+costOfMissing, cost[i][j-1]+costOfMissing, cost[i-1][j-1]+differ(said[i-1], heard[j-1]))
			}
		}
	}
	out := make([]bool, len(said))
	for i, j := len(said), len(heard); i > 0 && j > 0; {
		switch d := differ(said[i-1], heard[j-1]); cost[i][j] {
		case cost[i-1][j-1] + d:
			i, j = i-1, j-1
			out[i] = d == 0
		case cost[i-1][j] + costOfMissing:
			i--
		default:
			j--
		}
	}
	return out
}

func differ(a, b string) int {
	if a == b {
		return 0
	}
	return costOfOther
}
