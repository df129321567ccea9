package websock

import (
	"fmt"

	"github.com/callwarden/callwarden/pipeline/source"
	"github.com/callwarden/callwarden/transcribe/audio"
)

// Resample is what a prompt says, at another rate.
func Resample(p source.Prompt, rateHz int) ([]int16, error) {
	if p.Rate == rateHz {
		return p.PCM, nil
	}
	r, err := audio.NewResampler(p.Rate, rateHz)
	if err != nil {
		return nil, fmt.Errorf("prompt %s: %w", p.ID, err)
	}
	in := make([]float32, len(p.PCM))
	for i, v := range p.PCM {
		in[i] = float32(v)
	}
	out := r.Flush(r.Process(nil, in))
	pcm := make([]int16, len(out))
	for i, v := range out {
		pcm[i] = int16(min(max(v, -32768), 32767))
	}
	return pcm, nil
}
