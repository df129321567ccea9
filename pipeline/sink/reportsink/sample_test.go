package reportsink

import (
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callwarden/callwarden/pipeline/sink"
	callwardenv1 "github.com/callwarden/callwarden/proto/callwarden/v1"
	"github.com/callwarden/callwarden/transcribe/audio"
)

const (
	caller = callwardenv1.Leg_LEG_CALLER
	callee = callwardenv1.Leg_LEG_CALLEE
	mixed  = callwardenv1.Leg_LEG_UNSPECIFIED

	provisional = callwardenv1.FindingState_FINDING_STATE_PROVISIONAL
	confirmed   = callwardenv1.FindingState_FINDING_STATE_CONFIRMED
	retracted   = callwardenv1.FindingState_FINDING_STATE_RETRACTED

	none     = callwardenv1.Level_LEVEL_NONE
	notice   = callwardenv1.Level_LEVEL_NOTICE
	warning  = callwardenv1.Level_LEVEL_WARNING
	critical = callwardenv1.Level_LEVEL_CRITICAL

	listening = callwardenv1.Hearing_HEARING_LISTENING
	degraded  = callwardenv1.Hearing_HEARING_DEGRADED
	deaf      = callwardenv1.Hearing_HEARING_DEAF
)

var thresholds = Thresholds{Notice: 20, Warning: 50, Critical: 90}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s*1000)) * time.Millisecond }

func at(s float64) *durationpb.Duration { return durationpb.New(seconds(s)) }

// story writes the events of a call by hand, the way the pipeline does.
type story struct {
	call      string
	events    []sink.Event
	utterance int32
	score     float64
	level     callwardenv1.Level
	parts     []*callwardenv1.Contribution
	turns     []*callwardenv1.TranscriptSegment
}

func begin(call string, attributes map[string]string, legs ...callwardenv1.Leg) *story {
	s := &story{call: call, level: none}
	s.add(sink.CallStarted, &callwardenv1.CallStarted{
		Context: &callwardenv1.CallContext{Tenant: "default", Call: call, Source: "file"}, Legs: legs, Attributes: attributes,
		Backend: "vosk", Model: "vosk-small-en-us", Listen: "full",
	})
	s.hear(0, listening, "", legs...)
	return s
}

func (s *story) add(typ sink.Type, data proto.Message) {
	s.events = append(s.events, sink.Event{
		ID: sink.EventID("default", s.call, typ, len(s.events)), Type: typ, Tenant: "default", Call: s.call,
		Source: "callwarden/file", At: sink.At(data), Data: data,
	})
}

func (s *story) hear(when float64, h callwardenv1.Hearing, reason string, legs ...callwardenv1.Leg) {
	ev := &callwardenv1.CallStatus{At: at(when), Hearing: h, Reason: reason}
	for _, l := range legs {
		ev.Legs = append(ev.Legs, &callwardenv1.LegStatus{Leg: l, Hearing: h, Heard: at(when), Reason: reason})
	}
	s.add(sink.CallStatus, ev)
}

// say is a turn whose words take equal time.
func (s *story) say(leg callwardenv1.Leg, from, to float64, text string) {
	words := strings.Fields(text)
	s.utterance++
	seg := &callwardenv1.TranscriptSegment{Leg: leg, Utterance: s.utterance, Final: true, Start: at(from), End: at(to), Text: text}
	each := (to - from) / float64(len(words))
	for i, w := range words {
		seg.Words = append(seg.Words, &callwardenv1.Word{Text: w, Start: at(from + each*float64(i)), End: at(from + each*float64(i+1)), Confidence: 0.9})
	}
	s.turns = append(s.turns, seg)
	s.add(sink.TranscriptSegment, seg)
}

// find is a finding in the last turn that has its words.
func (s *story) find(id, tactic string, stage callwardenv1.Stage, words string, gain float64, change func(*callwardenv1.Finding)) {
	f := &callwardenv1.Finding{
		Id: id, Tactic: tactic, Stage: stage, Words: words, Confidence: 0.91, State: confirmed, Points: gain,
		Rule: tactic + "/" + strings.Join(strings.Fields(words)[:1], ""), Pack: tactic + "/en@1",
	}
	for _, t := range s.turns {
		before, _, ok := strings.Cut(t.GetText(), words)
		if !ok {
			continue
		}
		i := len(strings.Fields(before))
		f.Leg, f.Start, f.End = t.GetLeg(), t.GetWords()[i].GetStart(), t.GetWords()[i+len(strings.Fields(words))-1].GetEnd()
	}
	if change != nil {
		change(f)
	}
	s.tell(f, f.GetEnd().AsDuration()+400*time.Millisecond)
}

// tell publishes a finding, and the change of level that it brings.
func (s *story) tell(f *callwardenv1.Finding, known time.Duration) {
	f = proto.Clone(f).(*callwardenv1.Finding)
	if f.GetState() == retracted {
		s.parts = slicesDelete(s.parts, f.GetId())
	} else if f.GetMutedBy() == "" && f.GetPoints() > 0 {
		s.parts = append(s.parts, &callwardenv1.Contribution{
			FindingId: f.GetId(), Tactic: f.GetTactic(), Points: f.GetPoints(),
			Why: "weight " + points(f.GetPoints()/0.91) + " × confidence 0.91",
		})
	}
	s.score = 0
	for _, p := range s.parts {
		s.score += p.GetPoints()
	}
	level := none
	switch {
	case s.score >= thresholds.Critical:
		level = critical
	case s.score >= thresholds.Warning:
		level = warning
	case s.score >= thresholds.Notice:
		level = notice
	}
	s.add(sink.RiskFinding, &callwardenv1.RiskFinding{At: durationpb.New(known), Finding: f, Score: s.score, Level: level})
	if level == s.level {
		return
	}
	ev := &callwardenv1.RiskLevel{At: durationpb.New(known), Level: level, Previous: s.level, Score: s.score}
	for i := len(s.parts) - 1; i >= 0; i-- {
		ev.Contributions = append(ev.Contributions, s.parts[i])
	}
	if level > none {
		ev.Advice = &callwardenv1.Advice{Id: "otp", Language: "en", Text: adviceAt[level]}
	}
	s.level = level
	s.add(sink.RiskLevel, ev)
}

var adviceAt = map[callwardenv1.Level]string{
	notice:   "Take your time. Nobody honest minds if you hang up and call back.",
	warning:  "Do not read out the code. Nobody who calls you needs it, also not to cancel an order.",
	critical: "Hang up now. Call your bank on the number on your card and say that a code was given away.",
}

func slicesDelete(parts []*callwardenv1.Contribution, id string) []*callwardenv1.Contribution {
	var out []*callwardenv1.Contribution
	for _, p := range parts {
		if p.GetFindingId() != id {
			out = append(out, p)
		}
	}
	return out
}

func (s *story) end(length float64, reason string, complete bool, legs ...callwardenv1.Leg) {
	ev := &callwardenv1.CallEnded{Duration: at(length), Reason: reason, Complete: complete, Level: s.level, Score: s.score}
	for _, l := range legs {
		ev.Legs = append(ev.Legs, &callwardenv1.LegStatus{Leg: l, Hearing: listening, Heard: at(length)})
	}
	s.add(sink.CallEnded, ev)
}

// sound is a waveform that is loud where a leg speaks.
func (s *story) sound(leg audio.Leg, length float64) Waveform {
	w := Waveform{Leg: leg, Step: 50 * time.Millisecond, Peaks: make([]int16, int(length*20))}
	noise := uint32(7)
	rnd := func() float64 {
		noise = noise*1664525 + 1013904223
		return float64(noise>>8) / (1 << 24)
	}
	for i := range w.Peaks {
		w.Peaks[i] = int16(30 + 60*rnd())
	}
	for _, t := range s.turns {
		if t.GetLeg() != legOf(leg) {
			continue
		}
		for _, word := range t.GetWords() {
			from, to := int(word.GetStart().AsDuration()/w.Step), int(word.GetEnd().AsDuration()/w.Step)
			for i := from; i < to && i < len(w.Peaks); i++ {
				phase := float64(i-from+1) / float64(to-from+1)
				w.Peaks[i] = int16(1200 + (5000+6000*rnd())*math.Sin(math.Pi*phase))
			}
		}
	}
	return w
}

func (s *story) report(waves ...Waveform) Report {
	return Report{Tenant: "default", Call: s.call, Events: s.events, Waveforms: waves, Thresholds: thresholds}
}

// codeFraud is a fraud of a minute and a half that ends with a code given away.
func codeFraud() Report {
	s := begin("order-cancel", map[string]string{"file": "calls/order-cancel.wav", "encoding": "µ-law", "rate": "8000", "channels": "2", "duration": "1m34s"}, caller, callee)
	lure, ask, pressure, comply := callwardenv1.Stage_STAGE_LURE, callwardenv1.Stage_STAGE_ASK, callwardenv1.Stage_STAGE_PRESSURE, callwardenv1.Stage_STAGE_COMPLY
	s.say(callee, 1.2, 2.0, "hello")
	s.say(caller, 2.4, 8.9, "good morning this is the order security desk an order for a phone of # hundred dollars was placed on your account")
	s.find("f-charge", "lure_charge", lure, "an order for a phone", 14, nil)
	s.find("f-imp", "impersonation", lure, "this is the order security desk", 8, func(f *callwardenv1.Finding) { f.Confidence = 0.84 })
	s.say(callee, 9.6, 12.1, "what no i did not order a phone")
	s.say(caller, 12.8, 19.5, "do not worry madam i can cancel it for you but it must be done within ten minutes before it is shipped")
	s.find("f-urg", "urgency", pressure, "it must be done within ten minutes", 9, nil)
	s.say(callee, 20.3, 22.8, "all right what do you need from me")
	s.say(caller, 23.5, 29.8, "are you at home you do not need to buy any gift card or anything this is free of charge")
	s.find("f-card", "gift_card_request", ask, "buy any gift card", 0, func(f *callwardenv1.Finding) { f.MutedBy = "never"; f.Confidence = 0.88 })
	s.say(callee, 30.6, 32.0, "okay i am at home")
	s.say(caller, 33.0, 40.4, "very good i have just sent a text to your phone please read me the code that is in it so that the order is stopped")
	rd := &callwardenv1.Finding{
		Id: "f-rd", Tactic: "remote_access_request", Stage: ask, Leg: caller, Start: at(33.4), End: at(34.4),
		Words: "go to any desk", Confidence: 0.52, State: provisional, Points: 12, Rule: "remote_access_request/tool", Pack: "remote_access_request/en@1",
	}
	s.tell(rd, seconds(34.6))
	rd.State = retracted
	s.tell(rd, seconds(35.3))
	otp := &callwardenv1.Finding{}
	s.find("f-otp", "otp_request", ask, "read me the code that is in it", 34, func(f *callwardenv1.Finding) {
		f.State, f.Confidence, f.Rule = provisional, 0.95, "otp_request/read_back"
		proto.Merge(otp, f)
	})
	otp.State, otp.Points = confirmed, 0
	s.add(sink.RiskFinding, &callwardenv1.RiskFinding{At: at(41.1), Finding: otp, Score: s.score, Level: s.level})
	s.say(callee, 41.5, 46.9, "it says do not share this code with anyone")
	s.find("f-adv", "official_counter_advice", callwardenv1.Stage_STAGE_PROTECTIVE, "do not share this code with anyone", 0, nil)
	s.say(caller, 47.6, 54.0, "yes with anyone else madam please do not tell your bank about this either they would block the cancellation")
	s.find("f-sec", "secrecy", pressure, "do not tell your bank", 15, nil)
	s.say(callee, 55.0, 58.2, "oh well let me look for my glasses")
	s.say(caller, 58.9, 62.0, "please hurry the order leaves in a few minutes")
	s.find("f-urg2", "urgency", pressure, "please hurry", 4, func(f *callwardenv1.Finding) { f.Confidence = 0.71 })
	s.say(callee, 66.3, 72.4, "here it is # # # then # # #")
	s.find("f-read", "otp_readback", comply, "# # # then # # #", 48, func(f *callwardenv1.Finding) { f.Rule, f.Confidence = "dialogue/otp_readback", 0.97 })
	s.say(caller, 73.2, 79.6, "thank you madam the order is cancelled you will receive another code in a moment")
	s.find("f-otp2", "otp_request", ask, "you will receive another code", 11, func(f *callwardenv1.Finding) { f.Confidence = 0.66 })
	s.say(callee, 80.4, 82.1, "thank you so much")
	s.say(caller, 83.0, 86.2, "good bye and have a nice day")
	s.end(93.6, "end of audio", true, caller, callee)
	return s.report(s.sound(audio.Caller, 93.6), s.sound(audio.Callee, 93.6))
}

// honest is a call in which nothing is wrong.
func honest() Report {
	s := begin("opening-hours", map[string]string{"file": "calls/opening-hours.wav", "encoding": "PCM 16 bit", "rate": "8000", "channels": "2"}, caller, callee)
	s.say(callee, 0.8, 3.1, "good afternoon city library how can i help")
	s.say(caller, 3.9, 7.2, "hello are you open on saturday afternoon")
	s.say(callee, 8.0, 12.5, "yes we are open from nine until five on saturdays")
	s.say(caller, 13.1, 16.0, "lovely and can i return books at night")
	s.say(callee, 16.8, 21.3, "of course there is a box beside the door")
	s.say(caller, 22.0, 24.0, "thank you bye")
	s.end(25.5, "end of audio", true, caller, callee)
	return s.report(s.sound(audio.Caller, 25.5), s.sound(audio.Callee, 25.5))
}

// longMono is forty minutes of one channel with findings in a few places.
func longMono() Report {
	s := begin("helpdesk-mono", map[string]string{"file": "helpdesk-mono.wav", "channels": "1", "rate": "16000"}, mixed)
	lines := []string{
		"so the first thing that i would like to check is whether the cable is in", "yes it is i can see the light",
		"good then please restart it and tell me when it is back", "it takes a while on this machine you know",
		"that is fine we have time", "my daughter usually does this for me", "is the light green now or still orange",
		"it is orange and blinking", "then we wait a little longer",
	}
	t := 4.0
	for i := 0; t < 2380; i++ {
		text := lines[i%len(lines)]
		if i == 60 {
			text = "now please go to the website and download any desk so that i can see your screen"
		}
		if i == 61 {
			text = "okay it is downloading it says allow"
		}
		if i == 130 {
			text = "do not tell anyone that i am on your computer"
		}
		length := 0.36 * float64(len(strings.Fields(text)))
		s.say(mixed, t, t+length, text)
		switch i {
		case 60:
			s.find("r1", "remote_access_request", callwardenv1.Stage_STAGE_ASK, "download any desk", 31, nil)
			s.find("r2", "remote_access_request", callwardenv1.Stage_STAGE_INSTRUCT, "see your screen", 12, nil)
		case 61:
			s.find("r3", "remote_access_compliance", callwardenv1.Stage_STAGE_COMPLY, "it says allow", 22, nil)
		case 130:
			s.find("r4", "secrecy", callwardenv1.Stage_STAGE_PRESSURE, "do not tell anyone", 10, nil)
			s.find("r5", "house_rule_7", callwardenv1.Stage_STAGE_UNSPECIFIED, "on your computer", 3, nil)
		}
		t += length + 2.5
		if i%40 == 39 {
			t += 45
		}
	}
	s.end(2400, "end of audio", true, mixed)
	return s.report(s.sound(audio.Unknown, 2400))
}

// wordless is a call in which nobody said anything that was recognised.
func wordless() Report {
	s := begin("silence", map[string]string{"file": "silence.wav", "warning": "the file ends in the middle of a sample: 3 bytes are left out"}, caller, callee)
	s.end(31, "end of audio", true, caller, callee)
	return s.report(s.sound(audio.Caller, 31), s.sound(audio.Callee, 31))
}

// cutOff is a call that was stopped in the middle of a turn, after the callee
// was no longer heard.
func cutOff() Report {
	s := begin("refund-cut", map[string]string{"file": "refund-cut.wav", "duration": "6m12s"}, caller, callee)
	s.say(caller, 1, 6.5, "hello i am calling about the refund that we owe you for the protection plan")
	s.find("c1", "lure_refund", callwardenv1.Stage_STAGE_LURE, "the refund that we owe you", 22, nil)
	s.say(callee, 7, 9, "oh which plan is that")
	ev := &callwardenv1.CallStatus{At: at(15), Hearing: degraded, Reason: "the recogniser of one leg failed", Legs: []*callwardenv1.LegStatus{
		{Leg: caller, Hearing: listening, Heard: at(15)},
		{Leg: callee, Hearing: deaf, Heard: at(14.2), Dropped: at(0.8), Reason: "vosk: recogniser failed twice"},
	}}
	s.add(sink.CallStatus, ev)
	s.say(caller, 10, 18, "it is the one on your computer now please open the store and search for quick support")
	s.find("c2", "remote_access_request", callwardenv1.Stage_STAGE_ASK, "search for quick support", 33, func(f *callwardenv1.Finding) { f.State = provisional })
	s.utterance++
	s.add(sink.TranscriptSegment, &callwardenv1.TranscriptSegment{Leg: caller, Utterance: s.utterance, Start: at(19), End: at(21.4), Text: "and then you press"})
	legs := ev.GetLegs()
	s.add(sink.CallEnded, &callwardenv1.CallEnded{Duration: at(22), Reason: "cancelled", Level: warning, Score: 55, Legs: legs})
	return s.report(s.sound(audio.Caller, 22), s.sound(audio.Callee, 15))
}

// unheard is a call that no recogniser could be opened for.
func unheard() Report {
	s := begin("no-ears", map[string]string{"file": "no-ears.wav"}, caller, callee)
	s.hear(0, deaf, "opening a recogniser: out of memory", caller, callee)
	s.add(sink.CallEnded, &callwardenv1.CallEnded{Duration: at(0), Reason: "end of audio", Level: none, Legs: []*callwardenv1.LegStatus{
		{Leg: caller, Hearing: deaf, Reason: "opening a recogniser: out of memory"}, {Leg: callee, Hearing: deaf},
	}})
	return s.report()
}

func samples() []Report {
	return []Report{codeFraud(), honest(), longMono(), wordless(), cutOff(), unheard()}
}
