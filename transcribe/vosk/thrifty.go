package vosk

import "time"

// thriftySearch is how thrifty sessions search. Against a list of a thousand
// phrases, with the settings of the model, the search takes two thirds of what
// the acoustic model takes; with these a sixth. A chunk, in frames of 10 ms, is
// what the acoustic model is given at once: with three times the usual 20 it
// takes two thirds of the time, with six times less than six tenths. Words are
// heard up to a second later, though never later than their utterance ends;
// what they wake is transcribed from the ring, so nothing is lost by it.
func thriftySearch() []string {
	return []string{"--beam=7", "--max-active=600", "--min-active=20", "--frames-per-chunk=120"}
}

// thriftyPartials is how often thrifty sessions look at the unfinished
// hypothesis, at the most: a chunk brings something new.
const thriftyPartials = 1200 * time.Millisecond

// thriftyEngine returns the engine of thrifty sessions and loads it the first
// time. The library keeps the settings of the search with the model, so this
// is a second copy of the model: 50 MB for the process, however many the legs.
func (e *Engine) thriftyEngine() (*Engine, error) {
	e.second.Do(func() {
		cfg := e.cfg
		cfg.search = thriftySearch()
		if cfg.PartialEvery > 0 {
			cfg.PartialEvery = max(cfg.PartialEvery, thriftyPartials)
		}
		e.thrifty, e.lacking = New(cfg, e.log)
	})
	return e.thrifty, e.lacking
}
