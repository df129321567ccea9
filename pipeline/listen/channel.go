package listen

import "github.com/callwarden/callwarden/transcribe/audio"

// Channel is what has been found out of the leg's channel. It belongs to the
// goroutine that calls Hear for the leg.
func (c *Call) Channel(side audio.Leg) audio.Channel {
	if front := c.byLeg[side].front; front != nil {
		return front.Channel()
	}
	return audio.Channel{}
}
