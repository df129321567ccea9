package vosk

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
