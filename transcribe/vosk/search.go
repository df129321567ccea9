package vosk

import (
	"path/filepath"
	"strconv"
)

// widest is how far the open vocabulary is searched. The small US English model
// says 10 and 3000 for itself: this takes 22 % less time through a telephone and
// 12 % at 16 kHz, for word error rates of 54.3 against 54.3 and 23.4 against
// 22.8 % on six spoken calls.
var widest = []struct {
	setting string
	value   float64
}{{"beam", 9.5}, {"max-active", 1500}}

// openSearch are the lines that narrow the search of a model whose own is wider.
func openSearch(model string) ([]string, error) {
	own, err := readConf(filepath.Join(model, "conf", "model.conf"))
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, w := range widest {
		if v, err := strconv.ParseFloat(own[w.setting], 64); err == nil && v > w.value {
			lines = append(lines, "--"+w.setting+"="+strconv.FormatFloat(w.value, 'f', -1, 64))
		}
	}
	return lines, nil
}

// thriftySearch is how thrifty sessions search. Against a list of a thousand
// phrases, with the settings of the model, the search takes two thirds of what
// the acoustic model takes; with these a sixth. A chunk, in frames of 10 ms, is
// what the acoustic model is given at once: with six times the usual 20 it
// takes less than six tenths of the time. Bursts wait for the end of an
// utterance as it is, so words are not heard later for it.
func thriftySearch() []string {
	return []string{"--beam=7", "--max-active=600", "--min-active=20", "--frames-per-chunk=120"}
}

// thriftyEngine returns the engine of thrifty sessions and loads it the first
// time. The library keeps the settings of the search with the model, so this
// is a second copy of the model: 50 MB for the process, however many the legs.
func (e *Engine) thriftyEngine() (*Engine, error) {
	e.second.Do(func() {
		cfg := e.cfg
		cfg.search = thriftySearch()
		e.thrifty, e.lacking = New(cfg, e.log)
	})
	return e.thrifty, e.lacking
}
